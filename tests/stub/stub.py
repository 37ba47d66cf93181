#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A scriptable stand-in for the providers, in all four dialects.

Accounts are recognised by their key and have a prompt cache each; faults are
queued by account, model and number of times; every request is logged.

    python3 tests/stub/stub.py --port 0 --accounts k1,k2,k3

prints "listening PORT" and serves until it is killed.  Control, as JSON:

    POST /_stub/faults   {account?, model?, path?, kind, times?, opts?} or a list
    GET  /_stub/log      every request seen; ?since=N from that number on
    GET  /_stub/info     ports, accounts, prompts seen per account
    POST /_stub/reset    forget log, faults and caches; {"keep":["cache"]}

Responses: what an account gave out (ids of responses, encrypted content)
another one does not know.  STUB:reason in a prompt asks for a reasoning item
with encrypted content, STUB:compact for a compaction item.  call_tool() has
the model call a tool of the client's, once.

Fault kinds and their opts (after = content events sent before it happens):

    status     code, body, headers, secs
    html       502 with an HTML page, secs
    drop_start rst, secs                drop_mid   after, rst
    trunc      after                    overloaded an error inside a 200
    sse_error_first, sse_error_mid      after, code
    silent     secs, before the head    head_silent secs, after the head
    slow_head  ms, per 16 bytes         delay      ms, before the head
    stall_mid  after, secs              ping_slow  secs, every
    pace       count, ms                huge       mb, piece
    headers    headers                  body       body, type
    reuse_drop closes a connection that has served before
    close      answers with Connection: close      eof  body ended by close
    gzip       answers encoded          raw        text, sent as it is
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import hashlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

import dialects
from dialects import Call, Dialect, Event, PromptCache, Reply, Usage, dump
from http1 import Connection, PeerGone, Request
from proxies import HttpProxy, Socks5Proxy, SocksConnection
from tokens import PATH as TOKEN_PATH
from tokens import Tokens

BODY_KEPT = 8 << 20
JSON_TYPE = ("content-type", "application/json")


@dataclass
class Fault:
    """One queued misbehaviour, used `times` times (-1: for ever)."""
    kind: str
    account: str | None = None
    model: str | None = None
    path: str | None = None
    times: int = 1
    opts: dict = field(default_factory=dict)

    def suits(self, account: str, model: str, path: str) -> bool:
        return (self.times != 0
                and self.account in (None, account)
                and self.model in (None, model)
                and (self.path is None or self.path in path))


@dataclass
class ToolCall:
    """What the model calls in its first answer to a prompt that holds
    `marker`, of those that offer the tool."""
    marker: str
    name: str
    arguments: dict
    namespace: str = ""

    def suits(self, body: dict, prompt: str) -> bool:
        """Tools of a namespace are offered by what a search has found."""
        place = body.get("input" if self.namespace else "tools", [])
        return self.marker in prompt and dump(self.name) in dump(place)

    def filled(self, value: Any, prompt: str) -> Any:
        """Arguments, with what their patterns find in the prompt."""
        if isinstance(value, re.Pattern):
            found = value.search(prompt)
            return found[1] if found else ""
        if isinstance(value, dict):
            return {key: self.filled(item, prompt)
                    for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item, prompt) for item in value]
        return value


@dataclass
class Exchange:
    """One request while it is answered."""
    conn: Connection
    request: Request
    account: str
    entry: dict
    dialect: Dialect
    call: Call | None = None
    reply: Reply | None = None
    fault: Fault | None = None

    @property
    def kind(self) -> str:
        return self.fault.kind if self.fault else ""

    def opt(self, name: str, default: Any) -> Any:
        return self.fault.opts.get(name, default) if self.fault else default


def openssl(*argv: str) -> None:
    subprocess.run(("openssl",) + argv, check=True, capture_output=True)


def make_certificates(directory: str) -> dict[str, str]:
    """A throw-away CA and a certificate for loopback, as PEM files."""
    path = {name: os.path.join(directory, name + ".pem")
            for name in ("ca", "ca-key", "cert", "key", "csr")}
    ext = os.path.join(directory, "ext.cnf")
    with open(ext, "w", encoding="ascii") as out:
        out.write("subjectAltName=DNS:localhost,DNS:provider.test,"
                  "IP:127.0.0.1,IP:::1\n")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=fairlead test CA", "-keyout", path["ca-key"],
            "-out", path["ca"])
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
            "-keyout", path["key"], "-out", path["csr"])
    openssl("x509", "-req", "-in", path["csr"], "-CA", path["ca"], "-CAkey",
            path["ca-key"], "-CAcreateserial", "-days", "2", "-extfile", ext,
            "-out", path["cert"])
    return path


def account_of(request: Request) -> tuple[str, str]:
    """(key, where it stood) of a request."""
    bearer = request.get("authorization")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip(), "bearer"
    for header in ("x-api-key", "x-goog-api-key"):
        if request.get(header):
            return request.get(header), header
    query = urllib.parse.parse_qs(request.query)
    if "key" in query:
        return query["key"][0], "query"
    return "", ""


class Stub:
    """The provider.  Use it as a module with start() and stop(), which run it
    on a thread of its own; the other methods may be called from any thread."""

    def __init__(self, accounts: list[str] | None = None, port: int = 0,
                 tls_dir: str | None = None,
                 proxy_user: str | None = None,
                 resolve: dict[str, str] | None = None):
        self.keys: dict[str, str] = {}
        for account in accounts or []:
            name, _, key = account.partition("=")
            self.keys[key or name] = name
        self.tokens = Tokens(self)
        self.log: list[dict] = []
        self.faults: list[Fault] = []
        self.tool_calls: list[ToolCall] = []
        self.caches: dict[str, PromptCache] = {}
        self.owners: dict[str, str] = {}  # of response ids
        self.proxy_uses: list[dict] = []
        self.models = ["stub-model"]
        self.events = 4
        self.port = port
        self.tls_port = 0
        self.certificates: dict[str, str] = {}
        self.http_proxy = HttpProxy(self.proxy_uses, proxy_user, resolve)
        self.socks_proxy = Socks5Proxy(self.proxy_uses, proxy_user, resolve)
        self.proxy_port = 0
        self.tls_proxy_port = 0
        self.socks_port = 0
        self._tls_dir = tls_dir
        self._servers: list[asyncio.base_events.Server] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._count = 0
        self._open: set[Connection] = set()

    # -- for tests ----------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://localhost:{self.tls_port}"

    def fault(self, kind: str, account: str | None = None,
              times: int = 1, model: str | None = None,
              path: str | None = None, **opts: Any) -> None:
        self.faults.append(Fault(kind, account, model, path, times, opts))

    def call_tool(self, marker: str, name: str, *, namespace: str = "",
                  **arguments: Any) -> None:
        self.tool_calls.append(ToolCall(marker, name, arguments, namespace))

    def reset(self, keep_cache: bool = False) -> None:
        self.log = []
        self.faults = []
        self.tool_calls = []
        self.tokens.reset()
        self.models = ["stub-model"]
        self.events = 4
        del self.proxy_uses[:]
        self.http_proxy.refuse = self.socks_proxy.refuse = False
        if not keep_cache:
            self.caches = {}

    def start(self) -> Stub:
        ready = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
            try:
                self._loop.run_until_complete(self.listen())
            except BaseException as error:  # handed to the caller below
                failed.append(error)
                ready.set()
                return
            ready.set()
            self._loop.run_forever()
            self._loop.run_until_complete(self.close())
            self._loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        ready.wait()
        if failed:
            raise failed[0]
        return self

    def stop(self) -> None:
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None

    def drop_connections(self) -> None:
        """Close every connection now open, idle ones included."""
        done = threading.Event()

        def drop() -> None:
            for conn in list(self._open):
                conn.close()
            done.set()

        assert self._loop
        self._loop.call_soon_threadsafe(drop)
        done.wait()

    # -- listening ----------------------------------------------------------

    async def _server(self, factory, port: int = 0,
                      context: ssl.SSLContext | None = None) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", port,
                                          ssl=context, backlog=1024)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    def _connection(self) -> Connection:
        conn = Connection(self.handle)
        self._open = {old for old in self._open if old.gone_at is None}
        self._open.add(conn)
        return conn

    async def listen(self) -> None:
        self.port = await self._server(self._connection, self.port)
        self.proxy_port = await self._server(
            lambda: Connection(self.http_proxy.handle))
        self.socks_port = await self._server(
            lambda: SocksConnection(self.socks_proxy))
        if not self._tls_dir:
            return
        self.certificates = make_certificates(self._tls_dir)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates["cert"],
                                self.certificates["key"])
        self.tls_port = await self._server(self._connection, 0, context)
        self.tls_proxy_port = await self._server(
            lambda: Connection(self.http_proxy.handle), 0, context)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for task in asyncio.all_tasks()
                 if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- requests -----------------------------------------------------------

    async def handle(self, conn: Connection, request: Request) -> None:
        if request.path.startswith("/_stub/"):
            await conn.read_body(request)
            await self._control(conn, request)
            return
        if request.path == TOKEN_PATH:
            await conn.read_body(request)
            await self.tokens.answer(conn, request)
            return
        entry = self._note(conn, request)
        try:
            await conn.read_body(request)
            self._note_body(entry, request)
            await self._answer(conn, request, entry)
            entry["done"] = True
        except PeerGone:
            entry["client_gone"] = conn.gone_at
            raise
        finally:
            entry["end"] = time.time()

    def _note(self, conn: Connection, request: Request) -> dict:
        key, where = account_of(request)
        self._count += 1
        entry = {"n": self._count, "conn": conn.number,
                 "conn_served": conn.served, "key": key, "key_from": where,
                 "account": self.keys.get(key, key),
                 "method": request.method, "path": request.path,
                 "query": request.query, "headers": request.headers,
                 "head_at": request.head_at, "status": None, "fault": None,
                 "events": 0, "done": False, "client_gone": None,
                 "model": "", "cached": 0}
        self.log.append(entry)
        return entry

    def _note_body(self, entry: dict, request: Request) -> None:
        body = request.body
        entry["body_at"] = request.body_at
        entry["size"] = len(body)
        entry["sha256"] = hashlib.sha256(body).hexdigest()
        if len(body) > BODY_KEPT:
            return
        try:
            entry["body"] = body.decode()
        except UnicodeDecodeError:
            entry["body_b64"] = base64.b64encode(body).decode()

    def _take_fault(self, account: str, model: str,
                    path: str) -> Fault | None:
        for fault in self.faults:
            if fault.suits(account, model, path):
                if fault.times > 0:
                    fault.times -= 1
                return fault
        return None

    async def _answer(self, conn: Connection, request: Request,
                      entry: dict) -> None:
        known = dialects.route(request.path)
        dialect = known[0] if known else self._list_dialect(request)
        exchange = Exchange(conn, request, entry["account"], entry, dialect)
        if self.keys and entry["key"] not in self.keys:
            await self._error(exchange, 401, "invalid api key")
            return
        if known and request.method == "POST":
            await self._model_call(exchange, known)
        elif request.method in ("GET", "HEAD"):
            await self._list(exchange)
        else:
            await self._error(exchange, 404, "no such route")

    async def _model_call(self, ex: Exchange, known) -> None:
        dialect, kind, model = known
        try:
            body = json.loads(ex.request.body)
            if not isinstance(body, dict):
                raise ValueError("not an object")
        except ValueError as error:
            await self._error(ex, 400, f"body is not JSON: {error}")
            return
        model = model or str(body.get("model", ""))
        query = dict(urllib.parse.parse_qsl(ex.request.query))
        stream = (kind == "stream" if dialect is dialects.GEMINI
                  else body.get("stream") is True)
        ex.entry["model"] = model
        ex.call = Call(dialect, kind, model, stream, body, query)
        ex.fault = self._take_fault(ex.account, model, ex.request.path)
        ex.entry["fault"] = ex.kind or None
        if not model:
            await self._error(ex, 400, "model: field required")
            return
        if kind == "codex" and not await self._codex_accepts(ex):
            return
        if ex.fault and await self._fail_early(ex):
            return
        if dialect is dialects.RESPONSES:
            foreign = dialect.foreign(body, ex.account, self.owners)
            if foreign:
                await self._json(ex, 400, foreign)
                return
        ex.reply = self._reply(ex)
        self.owners["resp_" + ex.reply.ident] = ex.account
        if ex.call.stream and kind not in ("count", "compact",
                                           "input_tokens", "embeddings"):
            await self._stream(ex)
        else:
            await self._whole(ex)

    async def _codex_accepts(self, ex: Exchange) -> bool:
        assert ex.call
        for key, wanted, word in (("stream", True, "Stream"),
                                  ("store", False, "Store")):
            if ex.call.body.get(key) is not wanted:
                await self._json(ex, 400, {
                    "detail": f"{word} must be set to {str(wanted).lower()}"})
                return False
        return True

    # -- replies ------------------------------------------------------------

    def _reply(self, ex: Exchange) -> Reply:
        assert ex.call
        cache = self.caches.setdefault(ex.account, PromptCache())
        turns = ex.dialect.turns(ex.call.body)
        total, cached = cache.look(ex.call.model, turns)
        ex.entry["cached"] = cached
        ex.entry["input"] = total
        if ex.kind == "pace":
            pieces = [f"word{i} " for i in range(ex.opt("count", 10))]
        else:
            pieces = self._pieces(ex.account)
        prompt = dialects.as_text(turns)
        tool = self._tool(ex.call.body, prompt)
        return Reply(f"stub{ex.entry['n']}", ex.call.model, pieces,
                     Usage(total, cached, max(1, len(pieces) * 2)), tool,
                     self._sealed(ex, prompt))

    def _tool(self, body: dict, prompt: str) -> dict | None:
        call = next((call for call in self.tool_calls
                     if call.suits(body, prompt)), None)
        if call:
            self.tool_calls.remove(call)
        elif "STUB:tool" in prompt:
            call = ToolCall("", "get_weather", {"city": "Kiel"})
        return call and {"id": f"call_{self._count}", "name": call.name,
                         "arguments": call.filled(call.arguments, prompt),
                         "namespace": call.namespace}

    def _sealed(self, ex: Exchange, prompt: str) -> dict | None:
        assert ex.call
        compacts = ex.call.kind == "compact" or "STUB:compact" in prompt
        if not compacts and "STUB:reason" not in prompt:
            return None
        number = ex.entry["n"]
        return {"id": f"{'cmp' if compacts else 'rs'}_{number}",
                "type": "compaction" if compacts else "reasoning",
                **({} if compacts else {"summary": []}),
                "encrypted_content": f"sealed.{ex.account}.{number}"}

    def _pieces(self, account: str) -> list[str]:
        label = re.sub(r"^canary-", "", account)
        words = ["Hello ", "from ", "account ", label + ". "]
        return (words + [f"More {i}. " for i in range(4, self.events)])[
            :max(4, self.events)]

    def _head(self, ex: Exchange, *more: tuple[str, str]) -> list[
            tuple[str, str]]:
        out = list(more) + [("request-id", f"req_{ex.entry['n']}"),
                            ("x-request-id", f"req_{ex.entry['n']}"),
                            ("server", "stub")]
        if ex.call and ex.call.kind == "codex":
            out.append(("x-codex-turn-state", f"turn-{ex.entry['n']}"))
        out += [(name, str(value))
                for name, value in ex.opt("headers", {}).items()]
        if ex.kind == "close":
            out.append(("connection", "close"))
            ex.conn.keep = False
        return out

    async def _json(self, ex: Exchange, status: int, value: Any,
                    *headers: tuple[str, str]) -> None:
        await self._bytes(ex, status, dump(value), JSON_TYPE, *headers)

    async def _bytes(self, ex: Exchange, status: int, body: bytes,
                     *headers: tuple[str, str]) -> None:
        ex.entry["status"] = status
        await ex.conn.send_head(
            status, self._head(ex, *headers, (
                "content-length", str(len(body)))),
            ex.opt("ms", 20) if ex.kind == "slow_head" else 0)
        if ex.request.method != "HEAD":
            await ex.conn.send(body)

    async def _error(self, ex: Exchange, status: int, message: str) -> None:
        await self._json(ex, status, ex.dialect.error(status, message))

    # -- faults -------------------------------------------------------------

    async def _fail_early(self, ex: Exchange) -> bool:
        """Faults that need no answer of ours; True when it is settled."""
        conn, kind = ex.conn, ex.kind
        if ex.opt("secs", 0) and kind in ("status", "html", "drop_start"):
            await conn.sleep(ex.opt("secs", 0))
        if kind == "status":
            code = ex.opt("code", 500)
            body = ex.opt("body", None)
            if body is None:
                body = ex.dialect.error(code, f"stub says {code}")
            raw = body.encode() if isinstance(body, str) else dump(body)
            await self._bytes(ex, code, raw, (
                "content-type", ex.opt("type", "application/json")))
            return True
        if kind == "html":
            page = b"<html><body><h1>502 Bad Gateway</h1></body></html>\n"
            await self._bytes(ex, ex.opt("code", 502), page,
                              ("content-type", "text/html"))
            return True
        if kind == "raw":
            await conn.send(ex.opt("text", "garbage\r\n\r\n").encode(
                "latin-1"))
            conn.close()
            return True
        if kind == "drop_start" or (kind == "reuse_drop" and conn.served):
            ex.entry["fault"] = "drop_start"
            if ex.opt("rst", False):
                conn.reset()
            conn.close()
            return True
        if kind in ("silent", "delay"):
            await conn.sleep(ex.opt("secs", ex.opt("ms", 0) / 1000))
        return False

    # -- whole answers ------------------------------------------------------

    async def _whole(self, ex: Exchange) -> None:
        assert ex.call and ex.reply
        answer: Any = ex.dialect.answer(ex.call, ex.reply)
        if ex.kind == "overloaded":
            answer = ex.dialect.overloaded_answer()
        if ex.kind == "huge":
            await self._huge_whole(ex)
            return
        body = dump(answer)
        headers = [JSON_TYPE]
        if ex.kind == "body":
            text = ex.opt("body", "")
            body = text.encode() if isinstance(text, str) else dump(text)
            headers = [("content-type", ex.opt("type", "application/json"))]
        if ex.kind == "gzip":
            body = gzip.compress(body)
            headers.append(("content-encoding", "gzip"))
        if ex.kind in ("drop_mid", "trunc"):
            ex.entry["status"] = 200
            await ex.conn.send_head(200, self._head(ex, JSON_TYPE, (
                "content-length", str(len(body)))))
            await ex.conn.send(body[:ex.opt("bytes", len(body) // 2)])
            self._break(ex)
            return
        if ex.kind == "head_silent":
            ex.entry["status"] = 200
            await ex.conn.send_head(200, self._head(ex, JSON_TYPE, (
                "content-length", str(len(body)))))
            await ex.conn.sleep(ex.opt("secs", 1))
            await ex.conn.send(body)
            return
        if ex.kind == "eof":
            ex.entry["status"] = 200
            await ex.conn.send_head(200, self._head(
                ex, JSON_TYPE, ("connection", "close")))
            await ex.conn.send(body)
            ex.conn.close()
            return
        await self._bytes(ex, 200, body, *headers)

    async def _huge_whole(self, ex: Exchange) -> None:
        assert ex.call and ex.reply
        ex.reply.pieces = ["x" * (int(ex.opt("mb", 12)) << 20)]
        await self._bytes(ex, 200, dump(
            ex.dialect.answer(ex.call, ex.reply)), JSON_TYPE)

    def _break(self, ex: Exchange) -> None:
        if ex.opt("rst", False):
            ex.conn.reset()
        ex.conn.close()

    # -- streams ------------------------------------------------------------

    async def _stream(self, ex: Exchange) -> None:
        assert ex.call and ex.reply
        array = (ex.dialect is dialects.GEMINI
                 and ex.call.query.get("alt") != "sse")
        kind = "application/json" if array else ex.dialect.stream_type
        headers = [("content-type", kind), ("cache-control", "no-cache"),
                   ("transfer-encoding", "chunked")]
        if ex.kind == "gzip":
            await self._gzip_stream(ex, headers)
            return
        ex.entry["status"] = 200
        await ex.conn.send_head(
            200, self._head(ex, *headers),
            ex.opt("ms", 20) if ex.kind == "slow_head" else 0)
        if ex.kind == "head_silent":
            await ex.conn.sleep(ex.opt("secs", 1))
        if array:
            await self._array(ex)
            return
        if await self._frames(ex):
            await ex.conn.send(b"0\r\n\r\n")

    async def _gzip_stream(self, ex: Exchange, headers) -> None:
        assert ex.call and ex.reply
        whole = b"".join(ex.dialect.frame(event) for event in
                         ex.dialect.events(ex.call, ex.reply))
        whole += ex.dialect.finish(ex.call)
        ex.entry["status"] = 200
        await ex.conn.send_head(200, self._head(
            ex, *headers, ("content-encoding", "gzip")))
        await ex.conn.send_chunk(gzip.compress(whole))
        await ex.conn.send(b"0\r\n\r\n")

    async def _array(self, ex: Exchange) -> None:
        assert ex.call and ex.reply
        mark = b"["
        for event in ex.dialect.events(ex.call, ex.reply):
            await ex.conn.send_chunk(mark + dump(event.data))
            ex.entry["events"] += 1
            mark = b",\r\n"
        await ex.conn.send_chunk(b"]")
        await ex.conn.send(b"0\r\n\r\n")

    async def _frames(self, ex: Exchange) -> bool:
        """Send the events of a stream; False when it was cut off."""
        assert ex.call and ex.reply
        events = ex.dialect.events(ex.call, ex.reply)
        if ex.kind == "sse_error_first":
            await self._frame(ex, self._error_event(ex))
            return True
        sent = 0
        first = next((i for i, event in enumerate(events)
                      if event.content or event.opens), len(events))
        after = ex.opt("after", 2)
        for index, event in enumerate(events):
            if index == first and ex.kind == "huge":
                await self._huge(ex)
            if index >= first and sent == after:
                sent += 1  # happens once
                if not await self._midway(ex):
                    return ex.kind != "drop_mid"
            if event.content:
                sent += 1
                if ex.kind == "pace":
                    await ex.conn.sleep(ex.opt("ms", 100) / 1000)
            await self._frame(ex, event)
        last = ex.dialect.finish(ex.call)
        if last:
            await ex.conn.send_chunk(last)
        return True

    async def _midway(self, ex: Exchange) -> bool:
        """The fault that waits for `after` content events; False ends it."""
        assert ex.reply
        if ex.kind == "drop_mid":
            self._break(ex)
            return False
        if ex.kind == "trunc":
            return False
        if ex.kind == "sse_error_mid":
            await self._frame(ex, self._error_event(ex))
            return False
        if ex.kind == "overloaded":
            await self._frame(ex, ex.dialect.overloaded(ex.reply))
            return False
        if ex.kind == "stall_mid":
            await ex.conn.sleep(ex.opt("secs", 1))
        if ex.kind == "ping_slow":
            end = time.monotonic() + ex.opt("secs", 1)
            while time.monotonic() < end:
                await ex.conn.send_chunk(ex.dialect.ping())
                await ex.conn.sleep(ex.opt("every", 0.1))
        return True

    def _error_event(self, ex: Exchange) -> Event:
        assert ex.reply
        if ex.opt("data", None):
            return dialects.Event(ex.opt("data", None), ex.opt("name", ""))
        return ex.dialect.error_event(ex.opt("message", "stub broke"),
                                      ex.reply)

    async def _frame(self, ex: Exchange, event: Event) -> None:
        await ex.conn.send_chunk(ex.dialect.frame(event))
        ex.entry["events"] += 1

    async def _huge(self, ex: Exchange) -> None:
        """N MB of content events, as fast as the caller takes them."""
        assert ex.call and ex.reply
        piece = "x" * ex.opt("piece", 16384)
        ex.reply.pieces = [piece]
        frame = next(event for event in ex.dialect.events(ex.call, ex.reply)
                     if event.content)
        data = ex.dialect.frame(frame)
        left = int(ex.opt("mb", 12) * (1 << 20))
        while left > 0:
            await ex.conn.send_chunk(data)
            ex.entry["events"] += 1
            left -= len(data)

    # -- lists and control --------------------------------------------------

    def _list_dialect(self, request: Request) -> Dialect:
        if request.path.startswith("/v1beta") or request.get(
                "x-goog-api-client"):
            return dialects.GEMINI
        if request.get("anthropic-version"):
            return dialects.CLAUDE
        return dialects.OPENAI

    async def _list(self, ex: Exchange) -> None:
        if ex.request.path.rsplit("/", 1)[-1] != "models":
            await self._error(ex, 404, "no such route")
            return
        if ex.dialect is dialects.GEMINI:
            value: Any = {"models": [{
                "name": "models/" + model, "displayName": model,
                "supportedGenerationMethods": ["generateContent"]}
                for model in self.models]}
        elif ex.dialect is dialects.CLAUDE:
            value = {"data": [{"type": "model", "id": model,
                               "display_name": model,
                               "created_at": "2026-01-01T00:00:00Z"}
                              for model in self.models],
                     "has_more": False, "first_id": self.models[0],
                     "last_id": self.models[-1]}
        else:
            value = {"object": "list", "data": [
                {"id": model, "object": "model", "created": 1700000000,
                 "owned_by": "stub"} for model in self.models]}
        await self._json(ex, 200, value)

    def _info(self) -> dict:
        accounts: dict[str, dict] = {
            name: {"requests": 0, "input": 0, "cached": 0}
            for name in self.keys.values()}
        for entry in self.log:
            row = accounts.setdefault(entry["account"], {
                "requests": 0, "input": 0, "cached": 0})
            row["requests"] += 1
            row["input"] += entry.get("input", 0)
            row["cached"] += entry["cached"]
        return {"port": self.port, "tls_port": self.tls_port,
                "proxy_port": self.proxy_port,
                "tls_proxy_port": self.tls_proxy_port,
                "socks_port": self.socks_port, "accounts": accounts,
                "faults": [vars(fault) for fault in self.faults
                           if fault.times]}

    async def _control(self, conn: Connection, request: Request) -> None:
        verb = (request.method, request.path[len("/_stub/"):])
        status, value = 200, {}  # type: tuple[int, Any]
        given = json.loads(request.body) if request.body else {}
        if verb == ("POST", "faults"):
            for row in given if isinstance(given, list) else [given]:
                self.faults.append(Fault(**row))
        elif verb == ("POST", "reset"):
            self.reset("cache" in given.get("keep", []))
        elif verb == ("GET", "log"):
            query = urllib.parse.parse_qs(request.query)
            since = int(query.get("since", ["0"])[0])
            value = [entry for entry in self.log if entry["n"] > since]
        elif verb == ("GET", "info"):
            value = self._info()
        else:
            status, value = 404, {"error": "no such control"}
        body = dump(value)
        await conn.send_head(status, [JSON_TYPE, (
            "content-length", str(len(body)))])
        await conn.send(body)


async def serve(stub: Stub) -> None:
    await stub.listen()
    print(f"listening {stub.port}", flush=True)
    print(f"proxy {stub.proxy_port}", flush=True)
    print(f"socks {stub.socks_port}", flush=True)
    if stub.tls_port:
        print(f"tls {stub.tls_port}", flush=True)
        print(f"ca {stub.certificates['ca']}", flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await stub.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--accounts", default="",
                        help="KEY or NAME=KEY, comma separated; "
                             "none: every key is an account")
    parser.add_argument("--tls-dir", help="make a CA there and serve TLS too")
    parser.add_argument("--proxy-user", help="USER:PASSWORD of the proxies")
    args = parser.parse_args()
    accounts = [part for part in args.accounts.split(",") if part]
    asyncio.run(serve(Stub(accounts, args.port, args.tls_dir,
                           args.proxy_user)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
