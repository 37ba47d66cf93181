# SPDX-License-Identifier: MIT
"""The vendors' own SDKs, through the daemon, streaming and not."""

import asyncio

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from harness import CLIENT_KEY, SLOW, merged, pool

TOOL = {"type": "object", "properties": {"city": {"type": "string"}},
        "required": ["city"]}
HELLO = "Hello from account "


def openai_client(daemon, key: str = CLIENT_KEY, **more) -> openai.OpenAI:
    client = openai.OpenAI(base_url=daemon.url + "/v1", api_key=key,
                           timeout=30 * SLOW, **{"max_retries": 0, **more})
    daemon.closers.append(client.close)
    return client


def claude_client(daemon, key: str | None = CLIENT_KEY,
                  **more) -> anthropic.Anthropic:
    client = anthropic.Anthropic(base_url=daemon.url, api_key=key,
                                 max_retries=0, timeout=30 * SLOW, **more)
    daemon.closers.append(client.close)
    return client


def gemini_client(daemon, key: str = CLIENT_KEY,
                  version: str | None = "v1beta") -> genai.Client:
    """It is closed with the daemon; unreferenced it would close itself."""
    client = genai.Client(api_key=key, http_options=types.HttpOptions(
        base_url=daemon.url, api_version=version))
    daemon.closers.append(client.close)
    return client


def say(text: str = "hi", role: str = "user") -> dict:
    return {"role": role, "content": text}


# -- OpenAI chat ------------------------------------------------------------

def test_openai_chat(shared_daemon, stub):
    answer = openai_client(shared_daemon).chat.completions.create(
        model="gpt-stub", messages=[say()])
    assert answer.choices[0].message.content.startswith(HELLO)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 0


def test_openai_chat_stream(shared_daemon, stub):
    chunks = list(openai_client(shared_daemon).chat.completions.create(
        model="gpt-stub", messages=[say()], stream=True,
        stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in chunks
                   for choice in chunk.choices)
    assert text.startswith(HELLO)
    assert chunks[-1].usage.total_tokens > 0


def test_openai_chat_tools(shared_daemon, stub):
    client = openai_client(shared_daemon)
    tools = [{"type": "function", "function": {
        "name": "get_weather", "parameters": TOOL}}]
    messages = [say("STUB:tool please")]
    answer = client.chat.completions.create(
        model="gpt-stub", messages=messages, tools=tools)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    with client.chat.completions.stream(
            model="gpt-stub", messages=messages, tools=tools) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments


def test_openai_prompt_cache_is_reported(shared_daemon, stub):
    client = openai_client(shared_daemon)
    messages = [say("a long question " * 50)]
    for _ in range(2):  # both accounts
        client.chat.completions.create(model="gpt-stub", messages=messages)
    answer = client.chat.completions.create(
        model="gpt-stub", messages=messages + [say("x", "assistant"),
                                               say("more")])
    assert answer.usage.prompt_tokens_details.cached_tokens > 100


def test_openai_completions_and_embeddings(shared_daemon, stub):
    client = openai_client(shared_daemon)
    answer = client.completions.create(model="gpt-stub", prompt="hi")
    assert answer.choices[0].text.startswith(HELLO)
    text = "".join(chunk.choices[0].text for chunk in
                   client.completions.create(model="gpt-stub", prompt="hi",
                                             stream=True))
    assert text.startswith(HELLO)
    rows = client.embeddings.create(model="gpt-stub", input=["a", "b"])
    assert [row.embedding for row in rows.data] == [[0.25, -0.5, 1.0]] * 2


def test_openai_models(shared_daemon):
    names = [row.id for row in openai_client(shared_daemon).models.list()]
    assert "gpt-stub" in names


def test_openai_async_fifty_at_once(shared_daemon, stub):
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(
                base_url=shared_daemon.url + "/v1", api_key=CLIENT_KEY,
                max_retries=0) as client:
            async def one(n: int) -> str:
                stream = await client.chat.completions.create(
                    model="gpt-stub", messages=[say(f"n {n}")], stream=True)
                return "".join([chunk.choices[0].delta.content or ""
                                async for chunk in stream])
            return await asyncio.gather(*map(one, range(50)))

    assert all(text.startswith(HELLO) for text in asyncio.run(run()))


# -- OpenAI responses -------------------------------------------------------

@pytest.mark.parametrize("model", ("codex-stub", "gpt-stub"),
                         ids=("codex", "compatible"))
def test_responses(shared_daemon, stub, model):
    client = openai_client(shared_daemon)
    answer = client.responses.create(model=model, input="hi")
    assert answer.status == "completed"
    assert answer.output_text.startswith(HELLO)
    with client.responses.stream(model=model, input="STUB:tool") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output[1].name == "get_weather"


def test_responses_chain(make_daemon, stub):
    """Each turn names the answer before it, and nothing else."""
    daemon = make_daemon(merged(pool(stub, "codex", count=3), {
        "routing": {"session-affinity": True}}))
    client = openai_client(daemon)
    for _ in range(3):
        answer = client.responses.create(model="codex-stub", input="one")
        home = stub.log[-1]["account"]
        for turn in range(4):
            with client.responses.stream(
                    model="codex-stub", input=f"turn {turn} of {answer.id}",
                    previous_response_id=answer.id) as stream:
                stream.until_done()
                answer = stream.get_final_response()
            assert stub.log[-1]["account"] == home


def test_responses_compact(shared_daemon, stub):
    answer = openai_client(shared_daemon).responses.compact(
        model="codex-stub", input="a long history")
    assert answer.output[0].type == "compaction"


def test_responses_collected_from_codex_oauth(make_daemon, stub):
    """The provider only streams; the SDK did not ask for a stream."""
    daemon = make_daemon({}, start=False)
    daemon.auth_file("codex.json", {
        "type": "codex", "access_token": "canary-file1", "account_id": "a",
        "base_url": stub.url + "/backend-api/codex"})
    daemon.start()
    answer = openai_client(daemon).responses.create(model="gpt-5.5",
                                                    input="hi")
    assert answer.output_text.startswith(HELLO)
    with openai_client(daemon).responses.stream(
            model="gpt-5.5", input="hi") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text.startswith(HELLO)


# -- Claude -----------------------------------------------------------------

def test_claude(shared_daemon, stub):
    answer = claude_client(shared_daemon).messages.create(
        model="claude-stub", max_tokens=64, messages=[say()],
        system="Be brief.", metadata={"user_id": "u"})
    assert answer.content[0].text.startswith(HELLO)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0


def test_claude_stream_with_tools(shared_daemon, stub):
    with claude_client(shared_daemon).messages.stream(
            model="claude-stub", max_tokens=64,
            messages=[say("STUB:tool")], tools=[{
                "name": "get_weather", "input_schema": TOOL}]) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.startswith(HELLO)
    assert final.stop_reason == "tool_use"
    assert final.content[1].input == {"city": "Kiel"}


def test_claude_count_tokens_is_the_providers(shared_daemon, stub):
    answer = claude_client(shared_daemon).messages.count_tokens(
        model="claude-stub", messages=[say("word " * 100)])
    assert answer.input_tokens == stub.log[-1]["input"]


def test_claude_auth_token_and_beta(shared_daemon, stub):
    client = claude_client(shared_daemon, None, auth_token=CLIENT_KEY)
    answer = client.beta.messages.create(
        model="claude-stub", max_tokens=9, messages=[say()],
        betas=["context-management-2025-06-27"],
        extra_query={"beta": "true"})
    assert answer.content[0].text.startswith(HELLO)
    assert stub.log[-1]["query"] == "beta=true"


def test_claude_models(shared_daemon):
    rows = list(claude_client(shared_daemon).models.list(limit=1000))
    assert "claude-stub" in [row.id for row in rows]
    assert all(row.type == "model" and row.display_name for row in rows)


# -- Gemini -----------------------------------------------------------------

@pytest.mark.parametrize("version", ("v1beta", None),
                         ids=("v1beta", "sdk-default"))
@pytest.mark.parametrize("model", ("gemini-stub", "vertex-stub"))
def test_gemini(shared_daemon, stub, version, model):
    client = gemini_client(shared_daemon, version=version)
    answer = client.models.generate_content(model=model, contents="hi")
    assert answer.text.startswith(HELLO)
    assert answer.usage_metadata.prompt_token_count > 0
    text = "".join(chunk.text or "" for chunk in
                   client.models.generate_content_stream(model=model,
                                                         contents="hi"))
    assert text.startswith(HELLO)
    count = client.models.count_tokens(model=model, contents="hi")
    assert count.total_tokens > 0


def test_gemini_tools_and_chat(shared_daemon, stub):
    client = gemini_client(shared_daemon)
    answer = client.models.generate_content(
        model="gemini-stub", contents="STUB:tool",
        config=types.GenerateContentConfig(
            system_instruction="Be brief.",
            tools=[types.Tool(function_declarations=[
                types.FunctionDeclaration(
                    name="get_weather", parameters_json_schema=TOOL)])],
            automatic_function_calling=(
                types.AutomaticFunctionCallingConfig(disable=True))))
    assert answer.function_calls[0].name == "get_weather"
    chat = client.chats.create(model="gemini-stub")
    for _ in range(3):
        assert chat.send_message("next").text.startswith(HELLO)


@pytest.mark.parametrize("version", ("v1beta", None),
                         ids=("v1beta", "sdk-default"))
def test_gemini_models(shared_daemon, version):
    client = gemini_client(shared_daemon, version=version)
    names = [row.name for row in client.models.list()]
    assert "models/gemini-stub" in names
    assert client.models.get(model="gemini-stub").name == (
        "models/gemini-stub")


# -- what SDKs make of our errors -------------------------------------------

def test_wrong_key_is_an_authentication_error(shared_daemon):
    with pytest.raises(openai.AuthenticationError) as error:
        openai_client(shared_daemon, "canary-no").models.list()
    assert error.value.code == "invalid_api_key"
    with pytest.raises(anthropic.AuthenticationError):
        claude_client(shared_daemon, "canary-no").messages.create(
            model="claude-stub", max_tokens=9, messages=[say()])
    with pytest.raises(genai_errors.ClientError) as error:
        gemini_client(shared_daemon, "canary-no").models.generate_content(
            model="gemini-stub", contents="hi")
    assert (error.value.code, error.value.status) == (401,
                                                      "UNAUTHENTICATED")


def test_unknown_model_is_not_found(shared_daemon):
    with pytest.raises(openai.NotFoundError) as error:
        openai_client(shared_daemon).chat.completions.create(
            model="nobody", messages=[say()])
    assert error.value.code == "model_not_found"
    with pytest.raises(anthropic.NotFoundError):
        claude_client(shared_daemon).messages.create(
            model="nobody", max_tokens=9, messages=[say()])
    with pytest.raises(genai_errors.ClientError) as error:
        gemini_client(shared_daemon).models.generate_content(
            model="nobody", contents="hi")
    assert error.value.code == 404


def test_all_cooling_is_a_rate_limit_with_its_time(make_daemon, stub):
    daemon = make_daemon(pool(stub, count=1))
    stub.fault("status", code=429, times=3, headers={"retry-after": "33"})
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as error:
            openai_client(daemon).chat.completions.create(
                model="gpt-stub", messages=[say()])
        assert 30 <= int(error.value.response.headers["retry-after"]) <= 33
        with pytest.raises(anthropic.RateLimitError):
            claude_client(daemon).messages.create(
                model="claude-stub", max_tokens=9, messages=[say()])
        with pytest.raises(genai_errors.ClientError) as gone:
            gemini_client(daemon).models.generate_content(
                model="gemini-stub", contents="hi")
        assert gone.value.code == 429
    assert len(stub.log) == 3


def test_sdk_retry_meets_a_ready_pool(make_daemon, stub):
    """The SDK waits what we say, and then it works."""
    daemon = make_daemon(pool(stub, "openai", count=1))
    stub.fault("status", code=429, headers={"retry-after": "1"})
    client = openai_client(daemon, max_retries=2)
    answer = client.chat.completions.create(model="gpt-stub",
                                            messages=[say()])
    assert answer.choices[0].message.content.startswith(HELLO)


@pytest.mark.parametrize("kind", ("drop_mid", "trunc"))
def test_broken_stream_raises_in_every_sdk(daemon, stub, kind):
    """A clean end would be taken for a complete answer."""
    stub.fault(kind, times=-1, after=2)
    with pytest.raises(openai.APIError):
        list(openai_client(daemon).chat.completions.create(
            model="gpt-stub", messages=[say()], stream=True))
    with pytest.raises(anthropic.APIError):
        with claude_client(daemon).messages.stream(
                model="claude-stub", max_tokens=9,
                messages=[say()]) as stream:
            stream.get_final_message()
    with pytest.raises(genai_errors.APIError):
        list(gemini_client(daemon).models.generate_content_stream(
            model="gemini-stub", contents="hi"))
    outcome = []
    try:
        with openai_client(daemon).responses.stream(
                model="codex-stub", input="hi") as stream:
            outcome = [event.type for event in stream]
    except (openai.APIError, RuntimeError):
        outcome = ["raised"]
    assert outcome[-1] in ("raised", "response.failed", "error")


@pytest.mark.parametrize("kind", ("status", "drop_start", "sse_error_first",
                                  "overloaded"))
def test_failover_is_invisible_to_every_sdk(daemon, stub, kind):
    def again() -> None:
        stub.fault(kind, after=0)

    again()
    chunks = list(openai_client(daemon).chat.completions.create(
        model="gpt-stub", messages=[say()], stream=True))
    assert "".join(chunk.choices[0].delta.content or ""
                   for chunk in chunks).startswith(HELLO)
    again()
    with claude_client(daemon).messages.stream(
            model="claude-stub", max_tokens=9, messages=[say()]) as stream:
        assert stream.get_final_text().startswith(HELLO)
    again()
    assert "".join(chunk.text or "" for chunk in gemini_client(
        daemon).models.generate_content_stream(
            model="gemini-stub", contents="hi")).startswith(HELLO)
    again()
    with openai_client(daemon).responses.stream(
            model="codex-stub", input="hi") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text.startswith(HELLO)


def test_pings_disturb_no_sdk(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub), {
        "keepalive-interval": "100ms"}))
    stub.fault("silent", secs=0.7, times=4)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in
                   openai_client(daemon).chat.completions.create(
                       model="gpt-stub", messages=[say()], stream=True))
    assert text.startswith(HELLO)
    with claude_client(daemon).messages.stream(
            model="claude-stub", max_tokens=9, messages=[say()]) as stream:
        assert stream.get_final_text().startswith(HELLO)
    text = "".join(chunk.text or "" for chunk in gemini_client(
        daemon).models.generate_content_stream(model="gemini-stub",
                                               contents="hi"))
    assert text.startswith(HELLO)
    with openai_client(daemon).responses.stream(
            model="codex-stub", input="hi") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text.startswith(HELLO)
    assert len(stub.log) == 4


def test_agent_loop_keeps_its_prompt_cache(make_daemon, stub):
    """The point of it all: turn after turn finds its prefix cached."""
    daemon = make_daemon(merged(pool(stub, count=3), {
        "routing": {"session-affinity": True}}))
    client = claude_client(daemon)
    for session in range(4):
        messages = [say(f"session {session}: " + "context " * 400)]
        cached = []
        for turn in range(4):
            answer = client.messages.create(
                model="claude-stub", max_tokens=64, messages=messages)
            cached.append(answer.usage.cache_read_input_tokens)
            messages += [say(answer.content[0].text, "assistant"),
                         say(f"turn {turn}")]
        assert all(value > 500 for value in cached[1:]), cached
