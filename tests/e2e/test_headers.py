# SPDX-License-Identifier: MIT
"""Which headers go upstream, and which come back."""

import re
import uuid

import pytest

from harness import (CLAUDE, CLIENT_KEY, GEMINI, OPENAI, OTHER_KEY,
                     RESPONSES, ACCOUNTS, each_dialect, header, pool)


def sent(entry: dict) -> dict[str, list[str]]:
    """Header values as the stub saw them, by lower-case name."""
    out: dict[str, list[str]] = {}
    for name, value in entry["headers"]:
        out.setdefault(name.lower(), []).append(value)
    return out


@each_dialect
def test_client_headers_go_upstream(shared_daemon, stub, dialect):
    """Everything a client says that is not about our connection with it."""
    given = {"User-Agent": "claude-cli/2.1.330 (external, sdk-cli)",
             "X-Stainless-Arch": "x64", "anthropic-version": "2023-06-01",
             "anthropic-beta": "a-1,b-2", "session-id": "s-1",
             "x-client-request-id": "r-1", "x_under_score": "kept",
             "X-Empty": "", "Accept": "application/json",
             "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7-01",
             "openai-organization": "org", "Content-Type":
             "application/json; charset=utf-8"}
    answer = shared_daemon.post(dialect.path(), dialect.body("hi"), given,
                                auth=dialect.auth)
    assert answer.status == 200
    seen = sent(stub.log[-1])
    for name, value in given.items():
        assert seen.get(name.lower()) == [value], name


@each_dialect
def test_headers_that_stay_behind(shared_daemon, stub, dialect):
    given = {"Cookie": "a=b", "Forwarded": "for=10.0.0.1",
             "X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "https",
             "X-Forwarded-Host": "inside", "X-Forwarded-Anything": "1",
             "Connection": "keep-alive, X-Hop", "X-Hop": "1",
             "Keep-Alive": "timeout=5", "Proxy-Authorization": "Basic eA==",
             "TE": "trailers", "Upgrade": "h2c", "Proxy-Connection": "close",
             "Host": "evil.test", "Accept-Encoding": "gzip"}
    answer = shared_daemon.post(dialect.path(), dialect.body("hi"),
                                list(given.items()), auth=dialect.auth)
    assert answer.status == 200
    seen = sent(stub.log[-1])
    for name in given:
        if name not in ("Host", "Accept-Encoding"):
            assert name.lower() not in seen, name
    assert seen["host"] == [f"127.0.0.1:{stub.port}"]


def test_repeated_headers_keep_their_number_and_order(shared_daemon, stub):
    rows = [("anthropic-beta", "first"), ("x-other", "1"),
            ("anthropic-beta", "second")]
    shared_daemon.post(CLAUDE.path(), CLAUDE.body("hi"), rows)
    assert sent(stub.log[-1])["anthropic-beta"] == ["first", "second"]


AUTHS = (("Authorization", "Bearer "), ("authorization", "bearer "),
         ("Authorization", ""), ("x-api-key", ""), ("X-Goog-Api-Key", ""))


@each_dialect
@pytest.mark.parametrize("name, scheme", AUTHS)
def test_client_key_never_goes_upstream(shared_daemon, stub, dialect, name,
                                        scheme):
    answer = shared_daemon.post(
        dialect.path(), dialect.body("hi"), {name: scheme + CLIENT_KEY})
    assert answer.status == 200, answer
    (seen,) = stub.log
    text = seen["query"] + repr(seen["headers"]) + seen.get("body", "")
    assert CLIENT_KEY not in text
    assert seen["key"] in ACCOUNTS.values()


def test_client_key_in_every_place_at_once_goes_nowhere(shared_daemon, stub):
    answer = shared_daemon.post(
        f"/v1/messages?key={CLIENT_KEY}&auth_token={OTHER_KEY}",
        CLAUDE.body("hi"),
        {"Authorization": "Bearer " + CLIENT_KEY, "x-api-key": OTHER_KEY,
         "x-goog-api-key": CLIENT_KEY})
    assert answer.status == 200
    assert "canary-client" not in repr(stub.log[-1])


@pytest.mark.parametrize("dialect, where", (
    (CLAUDE, "x-api-key"), (OPENAI, "authorization"),
    (RESPONSES, "authorization"), (GEMINI, "x-goog-api-key")),
    ids=lambda value: getattr(value, "name", ""))
def test_credential_goes_where_its_provider_wants_it(shared_daemon, stub,
                                                     dialect, where):
    shared_daemon.ask(dialect, "hi")
    seen = sent(stub.log[-1])
    key = ACCOUNTS[stub.log[-1]["account"]]
    wanted = "Bearer " + key if where == "authorization" else key
    assert seen[where] == [wanted]
    others = {"authorization", "x-api-key", "x-goog-api-key"} - {where}
    assert not others & set(seen)


@each_dialect
def test_idempotency_key_goes_exactly_when_it_was_sent(shared_daemon, stub,
                                                       dialect):
    assert shared_daemon.ask(dialect, "hi").status == 200
    assert "idempotency-key" not in sent(stub.log[-1])
    value = str(uuid.uuid4())
    shared_daemon.ask(dialect, "hi", headers={"Idempotency-Key": value})
    assert sent(stub.log[-1])["idempotency-key"] == [value]


@each_dialect
def test_idempotency_key_is_the_same_on_failover(daemon, stub, dialect):
    stub.fault("status", code=500)
    value = str(uuid.uuid4())
    answer = daemon.ask(dialect, "hi", headers={"Idempotency-Key": value})
    assert answer.status == 200
    first, second = stub.log
    assert first["account"] != second["account"]
    assert sent(first)["idempotency-key"] == [value]
    assert sent(second)["idempotency-key"] == [value]


def test_failover_repeats_the_request_unchanged(daemon, stub):
    """But for the credential, both providers see the same request."""
    stub.fault("status", code=503)
    assert daemon.post("/v1/messages?beta=true", CLAUDE.body("hi"),
                       {"anthropic-beta": "x", "x-custom": "y"}).status == 200
    first, second = stub.log

    def rest(entry):
        return [row for row in entry["headers"] if row[0] != "x-api-key"]

    assert rest(first) == rest(second)
    for key in ("path", "query", "sha256", "method"):
        assert first[key] == second[key]


def test_headers_of_the_credential_win(make_daemon, stub):
    config = pool(stub, "claude", count=1)
    config["claude-api-key"][0]["headers"] = {
        "anthropic-beta": "ours", "X-Added": "yes", "User-Agent": "agent/1"}
    daemon = make_daemon(config)
    daemon.ask(CLAUDE, "hi", headers={"anthropic-beta": "theirs",
                                      "X-Added": "no"})
    seen = sent(stub.log[-1])
    assert seen["anthropic-beta"] == ["ours"]
    assert seen["x-added"] == ["yes"]
    assert seen["user-agent"] == ["agent/1"]


def test_dollar_value_copies_a_client_header_or_omits_it(make_daemon, stub):
    config = pool(stub, "claude", count=1)
    config["claude-api-key"][0]["headers"] = {"X-Team": "$X-Group"}
    daemon = make_daemon(config)
    daemon.ask(CLAUDE, "hi", headers={"X-Group": "blue"})
    assert sent(stub.log[-1])["x-team"] == ["blue"]
    daemon.ask(CLAUDE, "hi")
    assert "x-team" not in sent(stub.log[-1])


FROM_UPSTREAM = {
    "retry-after": "7", "x-codex-turn-state": "turn",
    "anthropic-ratelimit-requests-remaining": "5",
    "x-ratelimit-remaining-tokens": "9", "openai-processing-ms": "12",
    "openai-organization": "org", "set-cookie": "a=b", "x-secret": "1",
    "server-timing": "x", "cf-ray": "1", "x-litellm-model": "m",
    "access-control-allow-origin": "*"}
PASSED = {"retry-after", "x-codex-turn-state", "openai-processing-ms",
          "anthropic-ratelimit-requests-remaining", "openai-organization",
          "x-ratelimit-remaining-tokens", "request-id", "x-request-id"}


@each_dialect
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_response_headers_are_an_allow_list(shared_daemon, stub, dialect,
                                            stream):
    stub.fault("headers", headers=FROM_UPSTREAM)
    with shared_daemon.client() as client:
        response = client.open("POST", dialect.path(stream),
                               dialect.body("hi", stream=stream),
                               auth=dialect.auth)
        response.read()
    names = {name.lower() for name, _ in response.getheaders()}
    assert PASSED <= names
    assert names - PASSED <= {"content-type", "content-length", "date",
                              "transfer-encoding", "connection",
                              "cache-control", "x-fairlead-request-id"}


def test_passthrough_headers_lets_the_rest_through(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"),
                          "passthrough-headers": True})
    stub.fault("headers", headers={
        **FROM_UPSTREAM, "keep-alive": "timeout=1", "connection": "x-hop",
        "x-hop": "1"})
    answer = daemon.ask(OPENAI, "hi")
    assert header(answer, "x-secret") == "1"
    assert header(answer, "server-timing") == "x"
    for name in ("x-hop", "keep-alive", "set-cookie"):
        assert header(answer, name) is None, name


def test_error_answers_keep_the_allow_list(shared_daemon, stub):
    stub.fault("status", code=422, headers={**FROM_UPSTREAM})
    answer = shared_daemon.ask(OPENAI, "hi")
    assert answer.status == 422
    assert header(answer, "retry-after") == "7"
    assert header(answer, "x-secret") is None


def test_every_answer_bears_a_request_id(shared_daemon, stub):
    ids = []
    for answer in (shared_daemon.ask(OPENAI, "hi"),
                   shared_daemon.ask(CLAUDE, "hi", key="canary-wrong"),
                   shared_daemon.get("/healthz", key=None),
                   shared_daemon.get("/nowhere"),
                   shared_daemon.get("/v1/models"),
                   shared_daemon.post(OPENAI.path(), b"{bad"),
                   shared_daemon.client().request("HEAD", "/")):
        value = header(answer, "x-fairlead-request-id")
        assert value and re.fullmatch(r"[\w-]{8,64}", value), answer
        ids.append(value)
    assert len(set(ids)) == len(ids)


def test_a_client_cannot_choose_the_request_id(shared_daemon, stub):
    answer = shared_daemon.ask(OPENAI, "hi", headers={
        "x-fairlead-request-id": "mine"})
    assert header(answer, "x-fairlead-request-id") != "mine"
