# SPDX-License-Identifier: MIT
"""Who is let in: client keys in all their places, before the body is read."""

import http.client
import json
import socket
import time

import pytest

from harness import (CLAUDE, CLIENT_KEY, DIALECTS, GEMINI, OPENAI, OTHER_KEY,
                     SLOW, as_json, each_dialect, pool, read_until_quiet)


@pytest.mark.parametrize("headers", (
    {"Authorization": f"Bearer {CLIENT_KEY}"},
    {"Authorization": f"bEARER   {CLIENT_KEY}  "},
    {"Authorization": CLIENT_KEY},
    {"X-Api-Key": CLIENT_KEY},
    {"X-Goog-Api-Key": CLIENT_KEY},
    {"Authorization": "Bearer canary-no", "X-Api-Key": CLIENT_KEY},
    {"X-Goog-Api-Key": "canary-no", "X-Api-Key": OTHER_KEY},
    {"Authorization": "Basic eDp5", "X-Goog-Api-Key": CLIENT_KEY},
))
def test_key_is_found_in_each_header(shared_daemon, stub, headers):
    answer = shared_daemon.post(OPENAI.path(), OPENAI.body("hi"), headers)
    assert answer.status == 200, answer


@pytest.mark.parametrize("query", (
    f"key={CLIENT_KEY}", f"auth_token={OTHER_KEY}", f"a=b&key={CLIENT_KEY}",
    f"key=canary-no&auth_token={CLIENT_KEY}",
    f"key={CLIENT_KEY.replace('-', '%2D')}"))
def test_key_is_found_in_the_query(shared_daemon, stub, query):
    answer = shared_daemon.post(GEMINI.path() + "?" + query,
                                GEMINI.body("hi"), key=None)
    assert answer.status == 200, answer


@each_dialect
def test_missing_key(shared_daemon, stub, dialect):
    answer = shared_daemon.post(dialect.path(), dialect.body("hi"), key=None)
    dialect.check_error(answer, 401, "missing_api_key")
    assert stub.log == []


@each_dialect
@pytest.mark.parametrize("key", (
    "canary-wrong", CLIENT_KEY + "x", CLIENT_KEY[:-1], CLIENT_KEY.upper(),
    "x" * 5000))
def test_wrong_key(shared_daemon, stub, dialect, key):
    answer = shared_daemon.post(dialect.path(), dialect.body("hi"), key=key,
                                auth=dialect.auth)
    message = dialect.check_error(answer, 401, "invalid_api_key")
    assert key not in message
    assert stub.log == []


def test_model_lists_ask_for_a_key_too(shared_daemon, stub):
    for path, headers in (("/v1/models", {}), ("/v1beta/models", {}),
                          ("/v1/models", {"anthropic-version": "2023"}),
                          ("/v1beta/models/gemini-stub", {})):
        assert shared_daemon.get(path, headers, key=None).status == 401


def test_healthz_and_probes_need_no_key(shared_daemon):
    with shared_daemon.client(None) as client:
        answer = client.get("/healthz")
        assert answer.status == 200
        assert as_json(answer) == {"status": "ok"}
        assert client.request("HEAD", "/healthz").body == b""
        assert client.request("HEAD", "/").status == 200
        assert client.request("HEAD", "/api/hello").status == 200
        assert client.get("/").status == 200


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_wrong_key_is_answered_before_the_body_is_read(shared_daemon, stub,
                                                       dialect):
    """The head alone, with a body announced that never comes."""
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", shared_daemon.port),
                                  timeout=10) as sock:
        sock.sendall(f"POST {dialect.path()} HTTP/1.1\r\nHost: x\r\n"
                     "Authorization: Bearer canary-wrong\r\n"
                     "Content-Length: 60000000\r\n\r\n".encode())
        reply = sock.recv(65536)
    assert reply.startswith(b"HTTP/1.1 401 "), reply
    assert b"connection: close" in reply.lower()
    assert time.monotonic() - start < 2 * SLOW
    head, _, body = reply.partition(b"\r\n\r\n")
    assert json.loads(body)
    assert head


def test_wrong_key_with_expect_gets_no_100(shared_daemon):
    with socket.create_connection(("127.0.0.1", shared_daemon.port),
                                  timeout=10) as sock:
        sock.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n"
                     b"X-Api-Key: canary-wrong\r\nExpect: 100-continue\r\n"
                     b"Content-Length: 10\r\n\r\n")
        reply = read_until_quiet(sock, 1)
    assert reply.startswith(b"HTTP/1.1 401 "), reply
    assert b" 100 " not in reply


def test_a_big_body_with_a_wrong_key_still_sees_the_answer(shared_daemon):
    """Clients that write the body first must not meet a reset."""
    connection = http.client.HTTPConnection("127.0.0.1", shared_daemon.port,
                                            timeout=20)
    body = b"x" * (1 << 20)
    try:
        connection.request("POST", "/v1/messages", body, {
            "x-api-key": "canary-wrong", "content-type": "application/json"})
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may close early; the answer must be there to read
    assert connection.getresponse().status == 401
    connection.close()


def test_anonymous_is_let_in_only_when_configured(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "api-keys": [],
                          "allow-anonymous": True})
    assert daemon.ask(OPENAI, "hi", key=None).status == 200
    assert daemon.ask(OPENAI, "hi", key="canary-any").status == 200
    assert "canary-any" not in repr(stub.log)


def test_keys_are_trimmed_and_changed_by_reload(daemon, stub):
    daemon.with_config(api_keys=["  canary-new  ", "canary-new"])
    daemon.reload()
    assert daemon.ask(CLAUDE, "hi", key="canary-new").status == 200
    assert daemon.ask(CLAUDE, "hi", key=CLIENT_KEY).status == 401


def test_keys_never_reach_lmdb(daemon, stub):
    """Client keys are kept as digests."""
    assert daemon.ask(OPENAI, "hi", headers={"x-session-id": "s"}
                      ).status == 200
    for path in daemon.state_dir.rglob("*"):
        if path.is_file():
            assert CLIENT_KEY.encode() not in path.read_bytes(), path
    for path in daemon.runtime_dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"canary-" not in data, path
