# SPDX-License-Identifier: MIT
"""One name, several upstream models of one credential."""

import json

import pytest

from harness import CLAUDE, OPENAI, as_json, pool, wait_for


def pooled(stub, count: int = 1, **more) -> dict:
    config = pool(stub, "openai", count=count)
    config["openai-compatibility"][0]["models"] = [
        {"name": name, "alias": "best"} for name in ("m-1", "m-2", "m-3")]
    return {**config, **more}


def asked(stub, since: int = 0) -> list[str]:
    return [json.loads(row["body"])["model"] for row in stub.log[since:]
            if row["method"] == "POST"]


def ask(daemon) -> int:
    return daemon.ask(OPENAI, "hi", model="best").status


def test_pool_rotates_within_the_credential(make_daemon, stub):
    daemon = make_daemon(pooled(stub))
    rows = as_json(daemon.get("/v1/models"))["data"]
    assert [row["id"] for row in rows] == ["best"]
    for _ in range(7):
        assert ask(daemon) == 200
    assert asked(stub) == ["m-1", "m-2", "m-3", "m-1", "m-2", "m-3", "m-1"]


def test_pool_falls_back_within_the_credential(make_daemon, stub):
    daemon = make_daemon(pooled(stub, count=2, **{
        "max-retry-credentials": 1, "request-retry": 0}))
    stub.fault("status", code=503, model="m-1")
    assert ask(daemon) == 200
    assert asked(stub) == ["m-1", "m-2"]
    assert len({row["account"] for row in stub.log}) == 1


def test_cooling_member_is_skipped_later(make_daemon, stub):
    daemon = make_daemon(pooled(stub))
    stub.fault("status", code=429, model="m-2", headers={"retry-after": "60"})
    for _ in range(6):
        assert ask(daemon) == 200
    assert asked(stub).count("m-2") == 1
    assert asked(stub)[-4:] == ["m-1", "m-3", "m-1", "m-3"]


def test_request_fault_ends_the_pool(make_daemon, stub):
    daemon = make_daemon(pooled(stub))
    stub.fault("status", code=400)
    assert ask(daemon) == 400
    assert asked(stub) == ["m-1"]


def test_blocked_pool_does_not_use_up_the_budget(make_daemon, stub):
    daemon = make_daemon(pooled(stub, count=2, **{
        "max-retry-credentials": 1, "request-retry": 0}))
    first = stub_first(daemon, stub)
    stub.fault("status", code=429, account=first, times=3,
               headers={"retry-after": "60"})
    while True:
        before = len(stub.log)
        status = ask(daemon)
        if any(row["account"] == first for row in stub.log[before:]):
            assert status == 429
            assert len(asked(stub, before)) == 3
            break
    # All of its members cool: the other one serves, at the first attempt.
    for _ in range(3):
        before = len(stub.log)
        assert ask(daemon) == 200
        assert [row["account"] for row in stub.log[before:]] != [first]
        assert len(stub.log) == before + 1


def stub_first(daemon, stub) -> str:
    """The account that served the first request."""
    assert ask(daemon) == 200
    return stub.log[-1]["account"]


def test_pool_survives_reload_and_restart(make_daemon, stub):
    daemon = make_daemon(pooled(stub))
    assert ask(daemon) == 200
    daemon.with_config(**{"request-retry": 2}).reload()
    assert ask(daemon) == 200
    daemon.stop()
    daemon.start()
    wait_for(lambda: ask(daemon) == 200)
    assert asked(stub) == ["m-1", "m-2", "m-3"]


UNSUPPORTED = {"error": {"message": "The requested model is not supported",
                         "type": "invalid_request_error"}}


@pytest.mark.parametrize("code", (400, 422))
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_unsupported_member_gives_way_to_the_next(make_daemon, stub, code,
                                                  stream):
    daemon = make_daemon(pooled(stub))
    stub.fault("status", code=code, model="m-1", body=UNSUPPORTED)
    if stream:
        status, frames = daemon.stream(OPENAI, "hi", model="best")
        assert (status, OPENAI.complete(frames)) == (200, True)
    else:
        assert ask(daemon) == 200
    assert asked(stub) == ["m-1", "m-2"]
    # It is out for half a day, the credential is not.
    for _ in range(4):
        assert ask(daemon) == 200
    assert asked(stub)[2:] == ["m-3", "m-2", "m-3", "m-2"]


@pytest.mark.parametrize("code", (400, 422))
def test_nobody_of_the_pool_is_supported(make_daemon, stub, code):
    daemon = make_daemon(pooled(stub))
    stub.fault("status", code=code, times=3, body=UNSUPPORTED)
    assert ask(daemon) == code
    assert asked(stub) == ["m-1", "m-2", "m-3"]
    assert ask(daemon) == 503
    assert len(asked(stub)) == 3


def test_stream_falls_back_before_its_first_byte(make_daemon, stub):
    daemon = make_daemon(pooled(stub))
    stub.fault("sse_error_first", model="m-1", data={"error": {
        "message": "overloaded", "type": "server_error"}})
    status, frames = daemon.stream(OPENAI, "hi", model="best")
    assert (status, OPENAI.complete(frames)) == (200, True)
    assert not any(OPENAI.error_frame(frame) for frame in frames)
    assert asked(stub) == ["m-1", "m-2"]


def test_request_fault_inside_a_stream_ends_the_pool(make_daemon, stub):
    daemon = make_daemon(pooled(stub))
    stub.fault("sse_error_first", model="m-1", data={"error": {
        "message": "too long", "type": "invalid_request_error",
        "code": "context_length_exceeded"}})
    assert daemon.stream(OPENAI, "hi", model="best")[0] == 400
    assert asked(stub) == ["m-1"]


def counting(stub) -> dict:
    config = pool(stub, "claude", count=1)
    config["claude-api-key"][0]["models"] = [
        {"name": name, "alias": "best"} for name in ("m-1", "m-2", "m-3")]
    return config


def count(daemon) -> int:
    return daemon.post("/v1/messages/count_tokens",
                       CLAUDE.body("hi", model="best")).status


def test_count_tokens_rotates_and_falls_back(make_daemon, stub):
    daemon = make_daemon(counting(stub))
    for _ in range(4):
        assert count(daemon) == 200
    assert asked(stub) == ["m-1", "m-2", "m-3", "m-1"]
    stub.fault("status", code=429, model="m-2", headers={"retry-after": "60"})
    assert count(daemon) == 200
    assert count(daemon) == 200
    assert asked(stub)[4:] == ["m-2", "m-3", "m-1"]
    assert count(daemon) == 200
    assert asked(stub)[-1] == "m-3"


def test_count_tokens_stops_at_a_request_fault(make_daemon, stub):
    daemon = make_daemon(counting(stub))
    stub.fault("status", code=400)
    assert count(daemon) == 400
    assert asked(stub) == ["m-1"]


def test_session_waits_for_a_pool_that_is_back_soon(make_daemon, stub):
    daemon = make_daemon(pooled(stub, count=2, routing={
        "session-affinity": True, "session-affinity-wait": "10s"}))
    headers = {"x-session-id": "a-session"}
    status = daemon.ask(OPENAI, "hi", model="best", headers=headers).status
    assert status == 200
    home = stub.log[-1]["account"]
    stub.fault("status", code=429, account=home, times=3,
               headers={"retry-after": "1"})
    status = daemon.ask(OPENAI, "hi", model="best", headers=headers).status
    assert status == 200
    assert {row["account"] for row in stub.log} == {home}
