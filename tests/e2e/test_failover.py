# SPDX-License-Identifier: MIT
"""Another credential takes over before the client has seen a byte; what is
the request's own fault is passed on; and what each failure costs."""

import concurrent.futures
import email.utils
import json
import resource
import time
from datetime import datetime, UTC

import pytest

from harness import (ACCOUNTS, CLAUDE, GEMINI, OPENAI, RESPONSES, SLOW,
                     accounts_used, as_json, each_dialect, frame_data,
                     free_port, header, merged, pool, wait_for)

# name -> fault kind and opts.  Failures that have an HTTP status or come
# inside an answer: they cost the credential something.
COUNTED = {
    "401": ("status", {"code": 401}), "402": ("status", {"code": 402}),
    "403": ("status", {"code": 403}), "404": ("status", {"code": 404}),
    "408": ("status", {"code": 408}), "429": ("status", {"code": 429}),
    "500": ("status", {"code": 500}), "502-html": ("html", {}),
    "503": ("status", {"code": 503}), "504": ("status", {"code": 504}),
    "529": ("status", {"code": 529}),
}
IN_BAND = {
    "sse-error-first": ("sse_error_first", {}),
    "sse-error-after-preamble": ("sse_error_mid", {"after": 0}),
    "overloaded-inside-200": ("overloaded", {"after": 0}),
    "clean-end-without-content": ("trunc", {"after": 0}),
}
WHOLE_IN_BAND = {
    "overloaded-inside-200": ("overloaded", {}),
    "empty": ("body", {"body": ""}),
    "no-content": ("raw", {"text": "HTTP/1.1 204 No Content\r\n\r\n"}),
    "page": ("body", {"body": "<html></html>", "type": "text/html"}),
    "head-beyond-its-bound": ("raw", {
        "text": "HTTP/1.1 200 OK\r\n"
                + ("x-filler: " + "a" * 1000 + "\r\n") * 100 + "\r\n"}),
}
# No status: these belong to the path, which all accounts share here.
PATH = {
    "closed-before-head": ("drop_start", {}),
    "reset-before-head": ("drop_start", {"rst": True}),
    "garbage-instead-of-http": ("raw", {"text": "SSH-2.0-x\r\n\r\n"}),
}
PATH_STREAM = {
    "closed-after-preamble": ("drop_mid", {"after": 0}),
    "reset-after-preamble": ("drop_mid", {"after": 0, "rst": True}),
}


def ready(daemon) -> dict[str, str]:
    return {row: value["state"] for row, value in
            daemon.credentials().items()}


def states_of(daemon, provider: str) -> list[str]:
    name = "openai-compat" if provider == "openai" else provider
    return sorted(state for ident, state in ready(daemon).items()
                  if ident.startswith(name))


@each_dialect
@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_status_fails_over_unseen(daemon, stub, dialect, name, stream):
    kind, opts = COUNTED[name]
    stub.fault(kind, **opts)
    if stream:
        status, frames = daemon.stream(dialect, "hi")
        assert status == 200 and dialect.complete(frames), frames
        text = dialect.stream_text(frames)
    else:
        answer = daemon.ask(dialect, "hi")
        assert answer.status == 200, answer
        text = dialect.text(as_json(answer))
    first, second = accounts_used(stub)
    assert first != second
    assert f"account {second}." in text
    bad = [state for state in states_of(daemon, dialect.provider)
           if state != "ready"]
    assert bad == ["cooling" if name == "429" else "blocked"]


@each_dialect
@pytest.mark.parametrize("name", WHOLE_IN_BAND)
def test_error_instead_of_a_whole_answer_fails_over_unseen(daemon, stub,
                                                           dialect, name):
    kind, opts = WHOLE_IN_BAND[name]
    stub.fault(kind, **opts)
    answer = daemon.ask(dialect, "hi")
    assert answer.status == 200, answer
    first, second = accounts_used(stub)
    assert first != second
    assert f"account {second}." in dialect.text(as_json(answer))
    assert sorted(set(states_of(daemon, dialect.provider))) == [
        "blocked", "ready"]


def test_whole_answer_that_blames_the_request_passes_as_it_is(daemon, stub):
    said = {"object": "response", "status": "failed", "output": [],
            "error": {"code": "invalid_prompt", "message": "not this"}}
    stub.fault("body", body=said)
    answer = daemon.ask(RESPONSES, "hi")
    assert (answer.status, as_json(answer)) == (200, said)
    assert len(stub.log) == 1
    assert set(ready(daemon).values()) == {"ready"}


@each_dialect
@pytest.mark.parametrize("name", IN_BAND)
def test_error_inside_a_stream_fails_over_unseen(daemon, stub, dialect,
                                                 name):
    kind, opts = IN_BAND[name]
    stub.fault(kind, **opts)
    status, frames = daemon.stream(dialect, "hi")
    assert status == 200 and dialect.complete(frames), frames
    first, second = accounts_used(stub)
    assert first != second
    assert f"account {second}." in dialect.stream_text(frames)
    starts = sum("message_start" in frame or "response.created" in frame
                 for frame in frames if frame.startswith("event:"))
    assert starts <= 1, frames


@each_dialect
@pytest.mark.parametrize("name", PATH)
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_broken_shared_path_is_tried_again_and_benches_nobody(
        daemon, stub, dialect, name, stream):
    kind, opts = PATH[name]
    stub.fault(kind, **opts)
    if stream:
        status, frames = daemon.stream(dialect, "hi")
        assert status == 200 and dialect.complete(frames), frames
    else:
        assert daemon.ask(dialect, "hi").status == 200
    assert len(stub.log) == 2
    assert set(states_of(daemon, dialect.provider)) == {"ready"}


@each_dialect
@pytest.mark.parametrize("name", PATH_STREAM)
def test_stream_broken_before_content_is_started_again(daemon, stub, dialect,
                                                       name):
    kind, opts = PATH_STREAM[name]
    stub.fault(kind, **opts)
    status, frames = daemon.stream(dialect, "hi")
    assert status == 200 and dialect.complete(frames), frames
    assert len(stub.log) == 2


@each_dialect
def test_whole_answer_cut_short_is_tried_again(daemon, stub, dialect):
    stub.fault("drop_mid")
    answer = daemon.ask(dialect, "hi")
    assert answer.status == 200 and as_json(answer)
    assert len(stub.log) == 2


@each_dialect
def test_reused_connection_that_dies_is_no_outcome(daemon, stub, dialect):
    """The race of every keep-alive: the provider closes as we send."""
    daemon.with_config(workers=1)
    daemon.reload()
    for _ in range(2):
        assert daemon.ask(dialect, "hi").status == 200
    before = len(stub.log)
    stub.fault("reuse_drop")
    assert daemon.ask(dialect, "hi").status == 200
    assert len(stub.log) <= before + 2
    assert set(states_of(daemon, dialect.provider)) == {"ready"}
    rows = daemon.credentials().values()
    assert sum(row["failed"] for row in rows) == 0


def test_connections_closed_by_the_provider_meanwhile(daemon, stub):
    for _ in range(3):
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(
                lambda _: daemon.ask(OPENAI, "hi").status, range(24)))
        assert answers == [200] * 24
        stub.drop_connections()
    assert set(states_of(daemon, "openai")) == {"ready"}


REQUEST_FAULTS = {
    "400": (400, {"error": {"message": "no", "type": "x"}}),
    "409": (409, {"error": {"message": "no"}}),
    "413": (413, {"error": {"message": "no"}}),
    "422": (422, {"error": {"message": "no"}}),
    "403-policy": (403, {"error": {"message": "no",
                                   "code": "cyber_policy"}}),
    "500-context": (500, {"error": {"message": "no", "code":
                                    "context_length_exceeded"}}),
    "404-invalid": (404, {"error": {"message": "no",
                                    "type": "invalid_request_error"}}),
    "400-text": (400, "not even JSON"),
}


@each_dialect
@pytest.mark.parametrize("name", REQUEST_FAULTS)
def test_request_fault_is_passed_on_at_once_and_touches_nothing(
        daemon, stub, dialect, name):
    code, body = REQUEST_FAULTS[name]
    stub.fault("status", code=code, body=body, times=-1)
    for stream in (False, True):
        del stub.log[:]
        with daemon.client() as client:
            response = client.open("POST", dialect.path(stream),
                                   dialect.body("hi", stream=stream),
                                   auth=dialect.auth)
            data = response.read()
        assert response.status == code
        wanted = body.encode() if isinstance(body, str) else json.dumps(
            body, separators=(",", ":")).encode()
        assert data == wanted
        assert len(stub.log) == 1
    assert set(states_of(daemon, dialect.provider)) == {"ready"}


def test_credit_and_rate_are_never_request_faults(daemon, stub):
    """402 and 429 count whatever the body says."""
    body = {"error": {"message": "no", "type": "invalid_request_error"}}
    for code in (402, 429):
        stub.fault("status", code=code, body=body)
        assert daemon.ask(OPENAI if code == 402 else CLAUDE,
                          "hi").status == 200
    assert len(stub.log) == 4


def test_authentication_error_401_is_the_credentials_fault(daemon, stub):
    stub.fault("status", code=401, body={"type": "error", "error": {
        "type": "authentication_error", "message": "invalid x-api-key"}})
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert len(stub.log) == 2


# -- how long ---------------------------------------------------------------

def seconds_until(row: dict) -> float:
    until = datetime.fromisoformat(row["until"].replace("Z", "+00:00"))
    return (until - datetime.now(UTC)).total_seconds()


def one_claude(make_daemon, stub, **more):
    return make_daemon(merged(pool(stub, "claude", count=1), more))


@pytest.mark.parametrize("code, seconds", (
    (401, 1800), (402, 1800), (403, 1800), (404, 12 * 3600), (408, 60),
    (500, 60), (502, 60), (503, 60), (504, 60), (529, 60)))
def test_failure_benches_for_its_time(make_daemon, stub, code, seconds):
    daemon = one_claude(make_daemon, stub)
    stub.fault("status", code=code)
    assert daemon.ask(CLAUDE, "hi").status == code
    (row,) = daemon.credentials().values()
    assert row["state"] == "blocked"
    assert row["failed"] == 1 and row["reason"]
    assert seconds - 5 * SLOW <= seconds_until(row) <= seconds + 1
    assert daemon.ask(CLAUDE, "hi").status == 503
    assert len(stub.log) == 1


@pytest.mark.parametrize("value, seconds", (
    ("7", 7), ("90", 90), ("0.5", 1), ("2.5", 3)))
def test_retry_after_is_honoured(make_daemon, stub, value, seconds):
    daemon = one_claude(make_daemon, stub)
    stub.fault("status", code=429, headers={"retry-after": value})
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status == 429
    assert header(answer, "retry-after") == value
    answer = daemon.ask(CLAUDE, "hi")
    CLAUDE.check_error(answer, 429, "model_cooldown")
    assert seconds - 2 <= int(header(answer, "retry-after")) <= seconds


def test_retry_after_as_a_date_is_against_the_answers_own_clock(
        make_daemon, stub):
    daemon = one_claude(make_daemon, stub)
    wrong = time.time() - 86400
    stub.fault("status", code=429, headers={
        "date": email.utils.formatdate(wrong, usegmt=True),
        "retry-after": email.utils.formatdate(wrong + 30, usegmt=True)})
    daemon.ask(CLAUDE, "hi")
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status == 429
    assert 27 <= int(header(answer, "retry-after")) <= 31


def test_retry_after_is_bounded_by_cooldown_max(make_daemon, stub):
    daemon = one_claude(make_daemon, stub, **{"cooldown-max": "20s"})
    stub.fault("status", code=429, headers={"retry-after": "864000"})
    daemon.ask(CLAUDE, "hi")
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status == 429
    assert int(header(answer, "retry-after")) <= 20


def test_429_without_a_hint_climbs_a_ladder(make_daemon, stub):
    """1 s, then 2 s, and a success takes it back to the start."""
    daemon = one_claude(make_daemon, stub)

    def cool_and_wait() -> int:
        stub.fault("status", code=429)
        assert daemon.ask(CLAUDE, "hi").status == 429
        answer = daemon.ask(CLAUDE, "hi")
        assert answer.status == 429
        seconds = int(header(answer, "retry-after"))
        wait_for(lambda: states_of(daemon, "claude") == ["ready"], 5)
        return seconds

    assert cool_and_wait() == 1
    assert cool_and_wait() == 2
    assert daemon.ask(CLAUDE, "hi").status == 200
    for _ in range(2):  # the master lowers the level, then answers us
        daemon.credentials()
    assert cool_and_wait() == 1


def test_cooled_credential_comes_back_by_itself(make_daemon, stub):
    daemon = one_claude(make_daemon, stub)
    stub.fault("status", code=429, headers={"retry-after": "1"})
    assert daemon.ask(CLAUDE, "hi").status == 429
    wait_for(lambda: daemon.ask(CLAUDE, "hi").status == 200, 5)


def test_benched_for_one_model_serves_another(make_daemon, stub):
    config = pool(stub, "claude", count=1)
    config["claude-api-key"][0]["models"] = [
        {"name": "model-a"}, {"name": "model-b"}]
    daemon = make_daemon(config)
    stub.fault("status", code=429, model="model-a")
    assert daemon.ask(CLAUDE, "hi", model="model-a").status == 429
    assert daemon.ask(CLAUDE, "hi", model="model-b").status == 200
    assert daemon.ask(CLAUDE, "hi", model="model-a").status == 429
    models = daemon.models()
    assert models["model-a"]["ready"] == 0
    assert models["model-b"]["ready"] == 1
    assert models["model-a"]["candidates"] == 1


def test_word_raised_by_one_worker_counts_in_all(make_daemon, stub):
    """The board is shared: no other worker asks a benched credential."""
    daemon = make_daemon({**pool(stub, "claude"), "workers": 4})
    bad = ACCOUNTS["claude1"]
    stub.fault("status", account="claude1", code=401, times=-1)
    stub.fault("status", account="claude2", code=401, times=0)
    assert bad
    for _ in range(2):
        assert daemon.ask(CLAUDE, "hi").status == 200
    for _ in range(40):  # a new connection each: all workers
        assert daemon.ask(CLAUDE, "hi").status == 200
    assert accounts_used(stub).count("claude1") == 1


def test_disable_cooling_tries_again_each_time(make_daemon, stub):
    daemon = one_claude(make_daemon, stub, **{"disable-cooling": True})
    stub.fault("status", code=500, times=3)
    for _ in range(3):
        assert daemon.ask(CLAUDE, "hi").status == 500
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert len(stub.log) == 4


def test_transient_error_cooldown_is_configurable(make_daemon, stub):
    daemon = one_claude(make_daemon, stub,
                        **{"transient-error-cooldown": "1s"})
    stub.fault("status", code=500)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert daemon.ask(CLAUDE, "hi").status == 503
    wait_for(lambda: daemon.ask(CLAUDE, "hi").status == 200, 5)


# -- budgets ----------------------------------------------------------------

def test_each_credential_at_most_once_in_a_round(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=4))
    stub.fault("status", code=500, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert sorted(accounts_used(stub)) == [
        "claude1", "claude2", "claude3", "claude4"]


def test_max_retry_credentials_bounds_a_round(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "claude", count=4),
                          "max-retry-credentials": 2})
    stub.fault("status", code=500, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert len(stub.log) == 2


def test_max_attempts_bounds_a_request(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "claude", count=4),
                          "max-attempts": 3})
    stub.fault("drop_start", times=-1)
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status in (502, 503), answer
    assert len(stub.log) <= 3


# -- paths of one's own -----------------------------------------------------

def test_dead_path_of_ones_own_benches_and_moves(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["base-url"] = (
        f"http://127.0.0.1:{free_port()}")
    config["claude-api-key"][0]["priority"] = 5
    daemon = make_daemon(config)
    for _ in range(3):
        assert daemon.ask(CLAUDE, "hi").status == 200
    assert accounts_used(stub) == ["claude2"] * 3
    assert sorted(ready(daemon).values()) == ["blocked", "ready"]


def test_dead_shared_path_benches_nobody(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", url="http://127.0.0.1:"
                              f"{free_port()}"))
    for _ in range(2):
        assert daemon.ask(CLAUDE, "hi").status in (502, 503)
    assert set(ready(daemon).values()) == {"ready"}


def test_no_descriptor_left_is_nobodys_fault(make_daemon, stub):
    """Also where the path is the credential's own, the request waits a
    little and nobody is benched."""
    daemon = make_daemon({**pool(stub, "claude", count=1), "workers": 1})
    worker, = daemon.settled_workers(1)
    with daemon.client() as client, \
            concurrent.futures.ThreadPoolExecutor(1) as threads:
        assert client.get("/v1/models").status == 200
        limit = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (1, limit[1]))
        waiting = threads.submit(client.post, CLAUDE.path(),
                                 CLAUDE.body("hi"))
        daemon.log_has("cannot connect .*Too many open files")
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limit)
        assert waiting.result().status == 200
    assert set(ready(daemon).values()) == {"ready"}


def test_unresolvable_host_fails_without_stopping_the_loop(make_daemon, stub):
    config = merged(pool(stub, "claude", url="http://no-such-host.invalid"),
                    pool(stub, "openai"))
    daemon = make_daemon({**config, "workers": 1, "limits": {
        "upstream-connect-timeout": "2s"}})
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(daemon.ask, CLAUDE, "hi")
        start = time.monotonic()
        assert daemon.ask(OPENAI, "hi").status == 200
        assert time.monotonic() - start < 1.5 * SLOW
        assert waiting.result().status in (502, 503, 504)


# -- nothing is spliced over ------------------------------------------------

@each_dialect
def test_no_failover_once_content_was_sent(daemon, stub, dialect):
    stub.fault("sse_error_mid", after=2)
    status, frames = daemon.stream(dialect, "hi")
    assert status == 200
    assert len(stub.log) == 1
    assert not dialect.complete(frames)
    assert "Hello from " in dialect.stream_text(
        [frame for frame in frames if not dialect.error_frame(frame)])
    assert any("stub broke" in json.dumps(frame_data(frame))
               for frame in frames)


def test_preamble_is_held_back_but_not_lost(daemon, stub):
    """message_start of the failed try is never seen, that of the other is."""
    stub.fault("overloaded", after=0)
    _, frames = daemon.stream(CLAUDE, "hi")
    events = [frame_data(frame)["type"] for frame in frames]
    assert events[:2] == ["message_start", "content_block_start"]
    assert events.count("message_start") == 1
    start = frame_data(frames[0])["message"]
    assert start["id"] == f"msg_stub{stub.log[-1]['n']}"


@pytest.mark.parametrize("dialect", (CLAUDE, OPENAI, RESPONSES, GEMINI),
                         ids=lambda d: d.name)
def test_parallel_failover(daemon, stub, dialect):
    """Thirty at once while one account is out: all are answered."""
    stub.fault("status", account=f"{dialect.provider}1", code=503, times=-1)
    with concurrent.futures.ThreadPoolExecutor(15) as threads:
        answers = list(threads.map(
            lambda _: daemon.ask(dialect, "hi").status, range(30)))
    assert answers == [200] * 30
