# SPDX-License-Identifier: MIT
"""Our own refusals: status, code and shape in the caller's dialect."""

import json
from urllib.parse import quote

import pytest

from harness import (CLAUDE, CLIENT_KEY, GEMINI, OPENAI, RESPONSES, Answer,
                     as_json, each_dialect, free_port, header, pool,
                     raw_exchange)


@each_dialect
@pytest.mark.parametrize("body", (
    b"", b"{", b"nonsense", b'{"model":"m"', b'{"model":"m"} x',
    b'{"model":"m",}', b'{"a":01,"model":"m"}', b"[1,2]", b'"text"', b"null",
    b'{"a":"\xff","model":"m"}', b'{"a":"\x01","model":"m"}',
    b'{"a":"\\ud800","model":"m"', b'{"model":"m","a":tru}',
    b'\xef\xbb\xbf{"model":"m"', b"{\x00}", b"[" * 100000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
), ids=lambda body: repr(body[:14]))
def test_invalid_json(shared_daemon, stub, dialect, body):
    answer = shared_daemon.post(dialect.path(), body, auth=dialect.auth)
    dialect.check_error(answer, 400, "invalid_json")
    assert stub.log == []


@pytest.mark.parametrize("dialect", (CLAUDE, OPENAI, RESPONSES),
                         ids=lambda d: d.name)
@pytest.mark.parametrize("twice", (
    b'"model":"gpt-stub","model":"gpt-stub"',
    b'"model":"gpt-stub","\\u006dodel":"other"',
    b'"model":"gpt-stub","stream":true,"stream":false'))
def test_duplicate_model_or_stream(shared_daemon, stub, dialect, twice):
    body = b'{"messages":[],"input":"x",%b}' % twice
    answer = shared_daemon.post(dialect.path(), body, auth=dialect.auth)
    message = dialect.check_error(answer, 400, "invalid_json")
    assert "model" in message or "stream" in message
    assert stub.log == []


@pytest.mark.parametrize("dialect", (CLAUDE, OPENAI, RESPONSES),
                         ids=lambda d: d.name)
@pytest.mark.parametrize("extra", (
    {}, {"model": ""}, {"model": None}, {"model": 7}, {"model": ["m"]},
    {"model": {"id": "m"}}, {"model": "   "}))
def test_model_required(shared_daemon, stub, dialect, extra):
    answer = shared_daemon.post(dialect.path(), {
        "messages": [], "input": "x", **extra}, auth=dialect.auth)
    dialect.check_error(answer, 400, "model_required")
    assert stub.log == []


@each_dialect
@pytest.mark.parametrize("model", ("no-such-model", "x" * 200, "Köln-1",
                                   "a/b"))
def test_model_nobody_knows_is_named(shared_daemon, stub, dialect, model):
    path = dialect.path(model=quote(model))
    answer = shared_daemon.post(path, dialect.body("hi", model=model),
                                auth=dialect.auth)
    message = dialect.check_error(answer, 404, "model_not_found")
    assert model[:40] in message
    assert stub.log == []


@pytest.mark.parametrize("dialect, model", (
    (CLAUDE, "gpt-stub"), (CLAUDE, "gemini-stub"), (CLAUDE, "codex-stub"),
    (OPENAI, "claude-stub"), (OPENAI, "gemini-stub"), (OPENAI, "codex-stub"),
    (RESPONSES, "claude-stub"), (RESPONSES, "gemini-stub"),
    (GEMINI, "claude-stub"), (GEMINI, "gpt-stub")),
    ids=lambda value: getattr(value, "name", value))
def test_model_of_another_dialect_says_so(shared_daemon, stub, dialect,
                                          model):
    answer = shared_daemon.ask(dialect, "hi", model=model)
    message = dialect.check_error(answer, 400, "dialect_not_served")
    assert model in message
    assert stub.log == []


def test_responses_on_a_compatible_provider_that_does_not_say_so(
        make_daemon, stub):
    config = pool(stub, "openai", count=1)
    del config["openai-compatibility"][0]["responses"]
    daemon = make_daemon(config)
    answer = daemon.ask(RESPONSES, "hi", model="gpt-stub")
    RESPONSES.check_error(answer, 400, "dialect_not_served")


@pytest.mark.parametrize("path, dialect", (
    ("/v1/messages/nothing", CLAUDE), ("/v1/nothing", OPENAI),
    ("/v1beta/nothing", GEMINI), ("/nothing", OPENAI),
    ("/v1//messages", CLAUDE), ("/v1/messages/", CLAUDE),
    ("/v1/x/../messages", CLAUDE), ("/V1/messages", OPENAI),
    ("/v1/chat/completions/x", OPENAI), ("/v1/responses/x", RESPONSES),
    ("/v1beta/models/gemini-stub:makeCoffee", GEMINI),
    ("/v1beta/models/:generateContent", GEMINI),
    ("/%76%31/messages", OPENAI), ("/v1/messages%2f", OPENAI)))
def test_unknown_path(shared_daemon, stub, path, dialect):
    answer = shared_daemon.post(path, {"model": "claude-stub"})
    assert answer.status == 404, answer
    data = as_json(answer)
    if dialect is GEMINI:
        assert data["error"]["status"] == "NOT_FOUND"
    assert "not" in json.dumps(data).lower()
    assert stub.log == []


@pytest.mark.parametrize("header_row, dialect", (
    ({"anthropic-version": "2023-06-01"}, CLAUDE),
    ({"x-goog-api-client": "genai"}, GEMINI), ({}, OPENAI)))
def test_unknown_path_is_refused_in_the_guessed_dialect(
        shared_daemon, header_row, dialect):
    answer = shared_daemon.get("/somewhere", header_row)
    dialect.check_error(answer, 404, "not_found")


@pytest.mark.parametrize("method, path, dialect", (
    ("GET", "/v1/messages", CLAUDE), ("PUT", "/v1/messages", CLAUDE),
    ("DELETE", "/v1/chat/completions", OPENAI),
    ("GET", "/v1/chat/completions", OPENAI),
    ("GET", "/v1/responses", RESPONSES), ("POST", "/v1/models", OPENAI),
    ("PATCH", "/v1/embeddings", OPENAI),
    ("POST", "/healthz", OPENAI),
    ("GET", "/v1beta/models/gemini-stub:generateContent", GEMINI)))
def test_wrong_method(shared_daemon, stub, method, path, dialect):
    with shared_daemon.client() as client:
        answer = client.request(method, path)
    dialect.check_error(answer, 405, "method_not_allowed")
    assert header(answer, "allow")
    assert stub.log == []


@each_dialect
def test_body_too_large_is_refused_before_it_is_sent(make_daemon, stub,
                                                     dialect):
    daemon = make_daemon({**pool(stub, dialect.provider),
                          "limits": {"body": "100K"}})
    with daemon.client() as client:
        response = client.open(
            "POST", dialect.path(), b"", {"content-length": "200000"},
            auth=dialect.auth)
        body = response.read()
        answer = Answer(response.status, response.getheaders(), body)
    dialect.check_error(answer, 413, "body_too_large")
    assert stub.log == []
    assert daemon.post(dialect.path(), dialect.body("x" * 90000),
                       auth=dialect.auth).status == 200


def test_chunked_body_too_large(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"),
                          "limits": {"body": "100K"}})

    def pieces():
        return b"".join(b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
                        for _ in range(8))

    reply = raw_exchange(
        daemon.port, b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n%b"
        % (CLIENT_KEY.encode(), pieces()))
    assert reply.startswith(b"HTTP/1.1 413 "), reply[:200]
    assert stub.log == []


@each_dialect
def test_all_cooling_says_when(make_daemon, stub, dialect):
    """429 in the caller's dialect, with the true number of seconds."""
    daemon = make_daemon(pool(stub, dialect.provider))
    stub.fault("status", code=429, times=2, headers={"retry-after": "40"})
    first = daemon.ask(dialect, "hi")
    assert first.status == 429
    assert len(stub.log) == 2
    answer = daemon.ask(dialect, "hi")
    message = dialect.check_error(answer, 429, "model_cooldown")
    assert 38 <= int(header(answer, "retry-after")) <= 40
    assert dialect.model in message
    assert any(f"{n}" in message for n in (38, 39, 40)), message
    assert len(stub.log) == 2


@each_dialect
def test_all_blocked_is_503(make_daemon, stub, dialect):
    daemon = make_daemon(pool(stub, dialect.provider))
    stub.fault("status", code=401, times=2)
    assert daemon.ask(dialect, "hi").status == 401
    answer = daemon.ask(dialect, "hi")
    dialect.check_error(answer, 503, "auth_unavailable")
    assert len(stub.log) == 2


@each_dialect
def test_empty_pool_starts_and_answers_503(make_daemon, stub, dialect):
    daemon = make_daemon({})
    assert daemon.log_count(r"(?i)no credential") >= 1
    answer = daemon.ask(dialect, "hi", model="claude-sonnet-4-6")
    dialect.check_error(answer, 503, "auth_unavailable")
    assert daemon.get("/healthz").status == 200


def test_last_upstream_error_is_passed_when_all_were_tried(daemon, stub):
    stub.fault("status", code=500, body={"error": {"message": "first"}})
    stub.fault("status", code=529, body={"type": "error", "error": {
        "type": "overloaded_error", "message": "second"}})
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status == 529
    assert as_json(answer)["error"]["message"] == "second"
    assert len(stub.log) == 2


@each_dialect
def test_unreachable_provider_is_502_in_the_dialect(make_daemon, stub,
                                                    dialect):
    daemon = make_daemon(pool(stub, dialect.provider, count=1,
                              url=f"http://127.0.0.1:{free_port()}"))
    answer = daemon.ask(dialect, "hi")
    assert answer.status in (502, 503), answer
    data = as_json(answer)
    assert data["error"]["message"]
    assert header(answer, "content-type").startswith("application/json")


def test_websocket_upgrade_is_426(shared_daemon, stub):
    for path in ("/v1/responses", "/backend-api/codex/responses"):
        answer = shared_daemon.get(path, {
            "Connection": "Upgrade", "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "eHh4eA==",
            "openai-beta": "responses_websockets=2026-02-06"})
        assert answer.status == 426, answer
        assert (header(answer, "upgrade") or "HTTP/1.1")
    assert stub.log == []
