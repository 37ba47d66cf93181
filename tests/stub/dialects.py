# SPDX-License-Identifier: MIT
"""The four dialects as providers speak them: answers, events, errors.

Each dialect is one class with the same methods; routes are rows of a table at
the end.  Nothing here does I/O.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False,
                      separators=(",", ":")).encode()


def as_text(content: Any) -> str:
    """The text of a string, a list of parts or a nested object."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(filter(None, (as_text(part) for part in content)))
    if isinstance(content, dict):
        for key in ("text", "content", "parts", "output", "input"):
            if key in content:
                return as_text(content[key])
    return ""


def without_marks(value: Any) -> Any:
    """A copy without cache_control, which clients move between turns."""
    if isinstance(value, dict):
        return {key: without_marks(item) for key, item in value.items()
                if key != "cache_control"}
    if isinstance(value, list):
        return [without_marks(item) for item in value]
    return value


@dataclass
class Event:
    """One frame of a stream: `content` marks what a caller would show, and
    `opens` what comes before it but is more than the preamble."""
    data: Any
    name: str = ""
    content: bool = False
    opens: bool = False


@dataclass
class Usage:
    input: int = 0
    cached: int = 0
    output: int = 0


@dataclass
class Reply:
    """What the model says, independent of a dialect."""
    ident: str
    model: str
    pieces: list[str]
    usage: Usage
    tool: dict | None = None
    sealed: dict | None = None  # an item that only its account can read
    created: int = 1700000000

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass
class Call:
    """What one request asks for."""
    dialect: Dialect
    kind: str
    model: str
    stream: bool
    body: dict
    query: dict = field(default_factory=dict)


class Dialect:
    name = ""
    stream_type = "text/event-stream; charset=utf-8"

    def turns(self, body: dict) -> list[Any]:
        """System text and messages, in the order a prompt cache sees them."""
        raise NotImplementedError

    def answer(self, call: Call, reply: Reply) -> dict:
        raise NotImplementedError

    def events(self, call: Call, reply: Reply) -> list[Event]:
        raise NotImplementedError

    def error(self, status: int, message: str) -> dict:
        raise NotImplementedError

    def error_event(self, message: str, reply: Reply) -> Event:
        """The error frame this provider sends inside a stream."""
        raise NotImplementedError

    def overloaded(self, reply: Reply) -> Event:
        raise NotImplementedError

    def overloaded_answer(self) -> dict:
        return self.error(529, "Overloaded")

    def ping(self) -> bytes:
        return b": ping\n\n"

    def frame(self, event: Event) -> bytes:
        data = event.data if isinstance(event.data, bytes) else dump(
            event.data)
        head = b"event: %b\n" % event.name.encode() if event.name else b""
        return head + b"data: " + data + b"\n\n"

    def finish(self, call: Call) -> bytes:
        return b""


ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error",
               402: "billing_error", 403: "permission_error",
               404: "not_found_error", 408: "timeout_error",
               413: "request_too_large", 429: "rate_limit_error",
               529: "overloaded_error"}


class Claude(Dialect):
    name = "claude"

    def turns(self, body):
        return [body.get("system", "")] + list(body.get("messages", []))

    def _usage(self, usage: Usage) -> dict:
        fresh = usage.input - usage.cached
        return {"input_tokens": min(3, fresh),
                "cache_creation_input_tokens": max(0, fresh - 3),
                "cache_read_input_tokens": usage.cached,
                "output_tokens": usage.output}

    def _blocks(self, reply: Reply) -> list[dict]:
        blocks = [{"type": "text", "text": reply.text}]
        if reply.tool:
            blocks.append({"type": "tool_use", "id": reply.tool["id"],
                           "name": reply.tool["name"],
                           "input": reply.tool["arguments"]})
        return blocks

    def _message(self, reply: Reply) -> dict:
        return {"id": "msg_" + reply.ident, "type": "message",
                "role": "assistant", "model": reply.model, "content": [],
                "stop_reason": None, "stop_sequence": None,
                "usage": self._usage(reply.usage)}

    def answer(self, call, reply):
        if call.kind == "count":
            return {"input_tokens": reply.usage.input}
        message = self._message(reply)
        message["content"] = self._blocks(reply)
        message["stop_reason"] = "tool_use" if reply.tool else "end_turn"
        return message

    def events(self, call, reply):
        def event(name, content=False, /, **data):
            return Event({"type": name, **data}, name, content)

        first = self._message(reply)
        first["usage"]["output_tokens"] = 1
        out = [event("message_start", message=first),
               event("content_block_start", index=0,
                     content_block={"type": "text", "text": ""}),
               event("ping")]
        out += [event("content_block_delta", True, index=0,
                      delta={"type": "text_delta", "text": piece})
                for piece in reply.pieces]
        out.append(event("content_block_stop", index=0))
        if reply.tool:
            text = json.dumps(reply.tool["arguments"])
            out.append(event("content_block_start", True, index=1,
                             content_block={"type": "tool_use",
                                            "id": reply.tool["id"],
                                            "name": reply.tool["name"],
                                            "input": {}}))
            out += [event("content_block_delta", True, index=1,
                          delta={"type": "input_json_delta",
                                 "partial_json": part})
                    for part in (text[:5], text[5:])]
            out.append(event("content_block_stop", index=1))
        out.append(event("message_delta",
                         delta={"stop_reason": "tool_use" if reply.tool
                                else "end_turn", "stop_sequence": None},
                         usage={"output_tokens": reply.usage.output}))
        out.append(event("message_stop"))
        return out

    def error(self, status, message):
        return {"type": "error",
                "error": {"type": ERROR_TYPES.get(status, "api_error"),
                          "message": message},
                "request_id": "req_stub"}

    def error_event(self, message, reply):
        return Event({"type": "error",
                      "error": {"type": "api_error", "message": message}},
                     "error")

    def overloaded(self, reply):
        return Event({"type": "error",
                      "error": {"type": "overloaded_error",
                                "message": "Overloaded"}}, "error")

    def ping(self):
        return b'event: ping\ndata: {"type": "ping"}\n\n'


class OpenAI(Dialect):
    """Chat completions, legacy completions and embeddings."""
    name = "openai"

    def turns(self, body):
        if "messages" in body:
            return list(body["messages"])
        return [body.get("prompt", body.get("input", ""))]

    def _usage(self, usage: Usage) -> dict:
        return {"prompt_tokens": usage.input,
                "completion_tokens": usage.output,
                "total_tokens": usage.input + usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached},
                "completion_tokens_details": {"reasoning_tokens": 0}}

    def _tool_calls(self, tool: dict) -> list[dict]:
        return [{"index": 0, "id": tool["id"], "type": "function",
                 "function": {"name": tool["name"],
                              "arguments": json.dumps(tool["arguments"])}}]

    def _embeddings(self, call: Call, reply: Reply) -> dict:
        given = call.body.get("input", "")
        texts = given if isinstance(given, list) else [given]
        vector: Any = [0.25, -0.5, 1.0]
        if call.body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        return {"object": "list", "model": reply.model,
                "data": [{"object": "embedding", "index": index,
                          "embedding": vector}
                         for index in range(len(texts))],
                "usage": {"prompt_tokens": reply.usage.input,
                          "total_tokens": reply.usage.input}}

    def answer(self, call, reply):
        if call.kind == "embeddings":
            return self._embeddings(call, reply)
        reason = "tool_calls" if reply.tool else "stop"
        if call.kind == "completions":
            choice: dict = {"index": 0, "text": reply.text,
                            "finish_reason": reason, "logprobs": None}
            kind = "text_completion"
        else:
            message: dict = {"role": "assistant", "content": reply.text,
                             "refusal": None}
            if reply.tool:
                message["tool_calls"] = self._tool_calls(reply.tool)
            choice = {"index": 0, "message": message,
                      "finish_reason": reason, "logprobs": None}
            kind = "chat.completion"
        return {"id": "chatcmpl-" + reply.ident, "object": kind,
                "created": reply.created, "model": reply.model,
                "choices": [choice], "usage": self._usage(reply.usage)}

    def _chunk(self, call: Call, reply: Reply, delta: dict,
               reason: str | None = None, content: bool = False) -> Event:
        if call.kind == "completions":
            kind = "text_completion"
            choice: dict = {"index": 0, "text": delta.get("content", ""),
                            "finish_reason": reason, "logprobs": None}
        else:
            kind = "chat.completion.chunk"
            choice = {"index": 0, "delta": delta, "finish_reason": reason,
                      "logprobs": None}
        return Event({"id": "chatcmpl-" + reply.ident, "object": kind,
                      "created": reply.created, "model": reply.model,
                      "choices": [choice]}, "", content)

    def events(self, call, reply):
        out = []
        if call.kind == "chat":
            out.append(self._chunk(call, reply,
                                   {"role": "assistant", "content": ""}))
        out += [self._chunk(call, reply, {"content": piece}, None, True)
                for piece in reply.pieces]
        if reply.tool and call.kind == "chat":
            out.append(self._chunk(
                call, reply, {"tool_calls": self._tool_calls(reply.tool)},
                None, True))
        out.append(self._chunk(call, reply, {},
                               "tool_calls" if reply.tool else "stop"))
        options = call.body.get("stream_options") or {}
        if options.get("include_usage"):
            last = self._chunk(call, reply, {})
            last.data["choices"] = []
            last.data["usage"] = self._usage(reply.usage)
            out.append(last)
        return out

    def finish(self, call):
        return b"data: [DONE]\n\n"

    def error(self, status, message):
        return {"error": {"message": message,
                          "type": ERROR_TYPES.get(status, "server_error"),
                          "param": None, "code": None}}

    def error_event(self, message, reply):
        return Event({"error": {"message": message, "type": "server_error",
                                "param": None, "code": None}})

    def overloaded(self, reply):
        return Event({"error": {"message": "The server is overloaded",
                                "type": "server_error", "param": None,
                                "code": "overloaded"}})


class Responses(Dialect):
    name = "responses"

    def turns(self, body):
        given = body.get("input", "")
        items = list(given) if isinstance(given, list) else [given]
        return [body.get("instructions", "")] + items

    def _usage(self, usage: Usage) -> dict:
        return {"input_tokens": usage.input,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.input + usage.output}

    def _part(self, text: str) -> dict:
        return {"type": "output_text", "text": text, "annotations": [],
                "logprobs": []}

    def _item(self, reply: Reply, done: bool) -> dict:
        return {"id": "msg_" + reply.ident, "type": "message",
                "role": "assistant",
                "status": "completed" if done else "in_progress",
                "content": [self._part(reply.text)] if done else []}

    def _tool_item(self, reply: Reply, done: bool) -> dict:
        tool = reply.tool or {}
        status = "completed" if done else "in_progress"
        if tool["name"] == "tool_search":
            return {"id": "tsc_" + reply.ident, "type": "tool_search_call",
                    "status": status, "call_id": tool["id"],
                    "execution": "client", "arguments": tool["arguments"]}
        item = {"id": "fc_" + reply.ident, "type": "function_call",
                "status": status,
                "call_id": tool["id"], "name": tool["name"],
                "arguments": json.dumps(tool["arguments"]) if done else ""}
        if tool.get("namespace"):
            item["namespace"] = tool["namespace"]
        return item

    def _response(self, call: Call, reply: Reply, status: str) -> dict:
        done = status == "completed"
        output = []
        if done:
            if reply.sealed:
                output.append(reply.sealed)
            output.append(self._item(reply, True))
            if reply.tool:
                output.append(self._tool_item(reply, True))
        return {"id": "resp_" + reply.ident, "object": "response",
                "created_at": reply.created, "status": status,
                "error": None, "incomplete_details": None,
                "instructions": call.body.get("instructions"),
                "max_output_tokens": None, "metadata": {},
                "model": reply.model, "output": output,
                "parallel_tool_calls": True, "previous_response_id": None,
                "store": call.body.get("store", True), "temperature": 1.0,
                "text": {"format": {"type": "text"}},
                "tool_choice": "auto", "tools": [], "top_p": 1.0,
                "truncation": "disabled",
                "usage": self._usage(reply.usage) if done else None}

    def answer(self, call, reply):
        if call.kind == "input_tokens":
            return {"object": "response.input_tokens",
                    "input_tokens": reply.usage.input}
        if call.kind == "compact":
            return {"id": "resp_" + reply.ident,
                    "object": "response.compaction",
                    "created_at": reply.created,
                    "output": [reply.sealed],
                    "usage": self._usage(reply.usage)}
        return self._response(call, reply, "completed")

    def events(self, call, reply):
        out: list[Event] = []

        def event(name, content=False, /, **data):
            out.append(Event({"type": name, "sequence_number": len(out),
                              **data}, name, content))

        place = {"item_id": "msg_" + reply.ident, "output_index": 0,
                 "content_index": 0}
        event("response.created",
              response=self._response(call, reply, "in_progress"))
        event("response.in_progress",
              response=self._response(call, reply, "in_progress"))
        event("response.output_item.added", output_index=0,
              item=self._item(reply, False))
        out[-1].opens = True
        event("response.content_part.added", part=self._part(""), **place)
        for piece in reply.pieces:
            event("response.output_text.delta", True, delta=piece,
                  logprobs=[], **place)
        event("response.output_text.done", text=reply.text, logprobs=[],
              **place)
        event("response.content_part.done", part=self._part(reply.text),
              **place)
        event("response.output_item.done", output_index=0,
              item=self._item(reply, True))
        if reply.sealed:
            event("response.output_item.done", output_index=1,
                  item=reply.sealed)
        if reply.tool:
            where = {"item_id": "fc_" + reply.ident, "output_index": 1}
            text = json.dumps(reply.tool["arguments"])
            event("response.output_item.added", True, output_index=1,
                  item=self._tool_item(reply, False))
            event("response.function_call_arguments.delta", True, delta=text,
                  **where)
            event("response.function_call_arguments.done", arguments=text,
                  name=reply.tool["name"], **where)
            event("response.output_item.done", output_index=1,
                  item=self._tool_item(reply, True))
        event("response.completed",
              response=self._response(call, reply, "completed"))
        return out

    def foreign(self, body: dict, account: str,
                owners: dict[str, str]) -> dict | None:
        """The error for what another account gave out, if there is any."""
        given = body.get("previous_response_id")
        if given and owners.get(given, account) != account:
            return {"error": {
                "message": f"Previous response with id '{given}' not found.",
                "type": "invalid_request_error",
                "param": "previous_response_id",
                "code": "previous_response_not_found"}}
        items = body.get("input")
        for item in items if isinstance(items, list) else []:
            seal = str(item.get("encrypted_content") or "")
            if seal.startswith("sealed.") and seal.split(".")[1] != account:
                return {"error": {
                    "message": f"The encrypted content {seal} could not be "
                               "verified. Reason: Encrypted content could "
                               "not be decrypted or parsed.",
                    "type": "invalid_request_error", "param": None,
                    "code": "invalid_encrypted_content"}}
        return None

    def error(self, status, message):
        return {"error": {"message": message,
                          "type": ERROR_TYPES.get(status, "server_error"),
                          "param": None, "code": None}}

    def _failed(self, code: str, message: str, reply: Reply) -> Event:
        response = {"id": "resp_" + reply.ident, "object": "response",
                    "created_at": reply.created, "status": "failed",
                    "output": [], "model": reply.model, "tools": [],
                    "tool_choice": "auto", "parallel_tool_calls": True,
                    "error": {"code": code, "message": message}}
        return Event({"type": "response.failed", "sequence_number": 2,
                      "response": response}, "response.failed")

    def error_event(self, message, reply):
        return self._failed("server_error", message, reply)

    def overloaded(self, reply):
        return self._failed("server_is_overloaded", "Overloaded", reply)


RPC_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED",
              403: "PERMISSION_DENIED", 404: "NOT_FOUND",
              429: "RESOURCE_EXHAUSTED", 500: "INTERNAL",
              503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


class Gemini(Dialect):
    name = "gemini"
    stream_type = "text/event-stream"

    def turns(self, body):
        if "generateContentRequest" in body:
            body = body["generateContentRequest"]
        return [body.get("systemInstruction", "")] + list(
            body.get("contents", []))

    def _usage(self, usage: Usage) -> dict:
        out = {"promptTokenCount": usage.input,
               "candidatesTokenCount": usage.output,
               "totalTokenCount": usage.input + usage.output}
        if usage.cached:
            out["cachedContentTokenCount"] = usage.cached
        return out

    def _chunk(self, reply: Reply, parts: list[dict],
               finish: str = "", content: bool = True) -> Event:
        candidate: dict = {"content": {"parts": parts, "role": "model"},
                           "index": 0}
        if finish:
            candidate["finishReason"] = finish
        return Event({"candidates": [candidate],
                      "usageMetadata": self._usage(reply.usage),
                      "modelVersion": reply.model,
                      "responseId": reply.ident}, "", content)

    def _tool_part(self, reply: Reply) -> dict:
        tool = reply.tool or {}
        return {"functionCall": {"name": tool["name"],
                                 "args": tool["arguments"]}}

    def answer(self, call, reply):
        if call.kind == "count":
            return {"totalTokens": reply.usage.input}
        parts = [{"text": reply.text}]
        if reply.tool:
            parts.append(self._tool_part(reply))
        return self._chunk(reply, parts, "STOP").data

    def events(self, call, reply):
        out = [self._chunk(reply, [{"text": piece}])
               for piece in reply.pieces]
        if reply.tool:
            out.append(self._chunk(reply, [self._tool_part(reply)]))
        out.append(self._chunk(reply, [{"text": ""}], "STOP", False))
        return out

    def frame(self, event):
        data = event.data if isinstance(event.data, bytes) else dump(
            event.data)
        return b"data: " + data + b"\r\n\r\n"

    def error(self, status, message):
        return {"error": {"code": status, "message": message,
                          "status": RPC_STATUS.get(status, "UNKNOWN")}}

    def error_event(self, message, reply):
        return Event(self.error(500, message))

    def overloaded(self, reply):
        return Event(self.error(503, "The model is overloaded."))

    def overloaded_answer(self):
        return self.error(503, "The model is overloaded.")

    def ping(self):
        return b"\r\n"


CLAUDE, OPENAI, RESPONSES, GEMINI = Claude(), OpenAI(), Responses(), Gemini()

# pattern, dialect, kind.  A prefix such as /v1 is a matter of the base URL a
# client was given, so it is optional where real deployments vary it.
ROUTES: list[tuple[re.Pattern, Dialect, str]] = [
    (re.compile(pattern), dialect, kind) for pattern, dialect, kind in (
        (r"(?:/v1)?/messages/count_tokens", CLAUDE, "count"),
        (r"(?:/v1)?/messages", CLAUDE, "messages"),
        (r"(?:/v1)?/chat/completions", OPENAI, "chat"),
        (r"(?:/v1)?/completions", OPENAI, "completions"),
        (r"(?:/v1)?/embeddings", OPENAI, "embeddings"),
        (r"/backend-api/codex/responses", RESPONSES, "codex"),
        (r"(?:/v1|/backend-api/codex)?/responses/compact", RESPONSES,
         "compact"),
        (r"(?:/v1)?/responses/input_tokens", RESPONSES, "input_tokens"),
        (r"(?:/v1)?/responses", RESPONSES, "responses"),
        (r"/v1(?:beta|beta1|alpha)?(?:/publishers/google)?/models/"
         r"(?P<model>[^/:]+):generateContent", GEMINI, "generate"),
        (r"/v1(?:beta|beta1|alpha)?(?:/publishers/google)?/models/"
         r"(?P<model>[^/:]+):streamGenerateContent", GEMINI, "stream"),
        (r"/v1(?:beta|beta1|alpha)?(?:/publishers/google)?/models/"
         r"(?P<model>[^/:]+):countTokens", GEMINI, "count"),
    )]


def route(path: str) -> tuple[Dialect, str, str] | None:
    """(dialect, kind, model of the path or "") of a path, or None."""
    for pattern, dialect, kind in ROUTES:
        match = pattern.fullmatch(path)
        if match:
            return dialect, kind, match.groupdict().get("model") or ""
    return None


class PromptCache:
    """The prompt cache of one account: prefixes seen, by model."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def look(self, model: str, turns: list[Any]) -> tuple[int, int]:
        """(input tokens, cached tokens); the prompt is remembered."""
        digest = hashlib.sha256(model.encode())
        total = 0
        cached = 0
        prefixes = []
        for turn in turns:
            raw = dump(without_marks(turn))
            digest.update(raw)
            total += max(1, len(raw) // 4)
            prefixes.append((digest.copy().hexdigest(), total))
        for key, tokens in prefixes[:-1]:
            if key in self._seen and tokens > cached:
                cached = tokens
        self._seen.update(prefixes)
        return total, cached
