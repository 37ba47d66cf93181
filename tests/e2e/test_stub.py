# SPDX-License-Identifier: MIT
"""The stub itself, asked directly: what it does wrong, it does on purpose."""

import http.client
import json

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from harness import (ACCOUNTS, BROKEN_OFF, CLAUDE, GEMINI, OPENAI, RESPONSES,
                     Client, as_json, each_dialect, read_events)


def ask(stub, dialect, stream=False, account="", **more):
    key = ACCOUNTS[account or dialect.provider + "1"]
    with Client(stub.port, key) as client:
        response = client.open("POST", dialect.path(stream),
                               dialect.body("hi", stream=stream, **more),
                               auth=dialect.auth)
        if stream and response.status == 200:
            return response.status, list(read_events(response))
        return response.status, response.read()


@each_dialect
def test_streams_are_complete(stub, dialect):
    status, frames = ask(stub, dialect, True)
    assert status == 200 and dialect.complete(frames)
    assert dialect.stream_text(frames).startswith("Hello from account ")


def test_sdks_understand_it(stub):
    key = ACCOUNTS["openai1"]
    first = openai.OpenAI(base_url=stub.url + "/v1", api_key=key)
    with first.responses.stream(model="m", input="STUB:tool") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output[1].name == "get_weather"
    second = anthropic.Anthropic(base_url=stub.url, api_key=key)
    with second.messages.stream(model="m", max_tokens=9, messages=[
            {"role": "user", "content": "STUB:tool"}]) as stream:
        assert stream.get_final_message().content[1].name == "get_weather"
    third = genai.Client(api_key=key, http_options=types.HttpOptions(
        base_url=stub.url))
    assert third.models.generate_content(
        model="m", contents="hi").text.startswith("Hello")


@each_dialect
def test_a_tool_is_called_once_where_it_is_offered(stub, dialect):
    offers = {"openai": {"type": "function", "function": {"name": "Knock"}},
              "gemini": {"functionDeclarations": [{"name": "Knock"}]}}
    tools = [offers.get(dialect.name, {"name": "Knock"})]
    stub.call_tool("hi", "Knock", door="the-left-one")
    assert b"the-left-one" not in ask(stub, dialect)[1]
    assert b"the-left-one" in ask(stub, dialect, tools=tools)[1]
    assert b"the-left-one" not in ask(stub, dialect, tools=tools)[1]
    stub.call_tool("another prompt", "Knock", door="the-left-one")
    assert b"the-left-one" not in ask(stub, dialect, tools=tools)[1]


def test_each_account_has_its_own_cache(stub):
    def cached(account, *turns):
        with Client(stub.port, ACCOUNTS[account]) as client:
            answer = client.post(OPENAI.path(), OPENAI.body(*turns))
        return as_json(answer)["usage"]["prompt_tokens_details"][
            "cached_tokens"]

    long = "a question " * 100
    assert cached("openai1", long) == 0
    assert cached("openai1", long, "answer", "more") > 200
    assert cached("openai2", long, "answer", "more") == 0


def test_unknown_key_is_refused(stub):
    with Client(stub.port, "canary-nobody") as client:
        assert client.post(OPENAI.path(), OPENAI.body("hi")).status == 401


def test_codex_backend_wants_a_stream_that_is_not_stored(stub):
    with Client(stub.port, ACCOUNTS["codex1"]) as client:
        for fields, status in (({}, 400), ({"stream": True}, 400),
                               ({"stream": True, "store": True}, 400),
                               ({"stream": True, "store": False}, 200)):
            answer = client.post("/backend-api/codex/responses", {
                "model": "m", "input": "hi", **fields})
            assert answer.status == status, fields


@pytest.mark.parametrize("kind, opts, status", (
    ("status", {"code": 418}, 418), ("html", {}, 502)))
def test_status_faults(stub, kind, opts, status):
    stub.fault(kind, **opts)
    assert ask(stub, CLAUDE)[0] == status
    assert ask(stub, CLAUDE)[0] == 200


@pytest.mark.parametrize("dialect", (CLAUDE, GEMINI, RESPONSES),
                         ids=lambda d: d.name)
def test_broken_streams(stub, dialect):
    stub.fault("trunc", after=2)
    _, frames = ask(stub, dialect, True)
    assert not dialect.complete(frames)
    assert dialect.stream_text(frames) == "Hello from "
    stub.fault("drop_mid", after=2)
    assert ask(stub, dialect, True)[1][-1] == BROKEN_OFF
    stub.fault("drop_start")
    with pytest.raises((http.client.RemoteDisconnected, OSError)):
        ask(stub, dialect, True)


def test_faults_of_one_account(stub):
    stub.fault("status", account="claude2", code=500, times=2)
    assert ask(stub, CLAUDE, account="claude1")[0] == 200
    assert ask(stub, CLAUDE, account="claude2")[0] == 500
    assert ask(stub, CLAUDE, account="claude2")[0] == 500
    assert ask(stub, CLAUDE, account="claude2")[0] == 200


def test_control_over_http(stub):
    with Client(stub.port, None) as client:
        client.post("/_stub/faults", [{"kind": "status", "opts": {
            "code": 503}, "account": "claude1"}])
        assert ask(stub, CLAUDE)[0] == 503
        rows = as_json(client.get("/_stub/log"))
        assert rows[-1]["status"] == 503
        assert json.loads(rows[-1]["body"])["model"] == CLAUDE.model
        assert as_json(client.get("/_stub/info"))["accounts"][
            "claude1"]["requests"] == 1
        assert client.post("/_stub/reset", {}).status == 200
        assert as_json(client.get("/_stub/log")) == []
