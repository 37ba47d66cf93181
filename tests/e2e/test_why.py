# SPDX-License-Identifier: MIT
"""fairleadctl why: how a request found its credential."""

import os
import re
import signal
import uuid

import pytest

from harness import (CLAUDE, CLIENT_KEY, RESPONSES, as_json, header, merged,
                     pool, raw_exchange, read_events, wait_for)

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ID = "x-fairlead-request-id"


@pytest.fixture
def sticky(make_daemon, stub):
    return make_daemon(merged(pool(stub, "claude", count=3), {
        "routing": {"session-affinity": True},
        "log": {"level": "debug"}}))


def why(daemon, answer) -> dict:
    data = daemon.ctl("why", header(answer, ID))
    assert data["schema"] == 1
    return data


def session() -> dict:
    return {"x-session-id": f"a-long-session-{uuid.uuid4()}"}


def test_new_then_hit(sticky, stub):
    headers = session()
    first, second = (sticky.ask(CLAUDE, "hi", headers=headers)
                     for _ in range(2))
    data = why(sticky, first)
    assert set(data) >= {"request_id", "time", "dialect", "model", "session",
                         "decision", "attempts", "passed_over"}
    assert data["request_id"] == header(first, ID)
    assert TIME.fullmatch(data["time"])
    assert (data["dialect"], data["model"]) == ("claude", "claude-stub")
    assert data["session"] == {"source": "header x-session-id",
                               "id": "header:a..."}
    assert data["decision"] == "new" and data["passed_over"] == []
    assert data["tier"] == 0 and data["pin"] is None
    (attempt,) = data["attempts"]
    assert (attempt["status"], attempt["outcome"]) == (200, "ok")
    assert attempt["credential"] in sticky.credentials()
    assert 0 < attempt["ms"] < 60000
    again = why(sticky, second)
    assert again["decision"] == "hit"
    assert again["attempts"][0]["credential"] == attempt["credential"]


def test_without_a_session(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"))
    data = why(daemon, daemon.ask(CLAUDE, "hi"))
    assert data["decision"] == "none"


def test_a_move_tells_from_where_and_why(sticky, stub):
    headers = session()
    home = why(sticky, sticky.ask(CLAUDE, "hi", headers=headers))[
        "attempts"][0]["credential"]
    stub.fault("status", stub.log[-1]["account"], code=429,
               headers={"retry-after": "30"})
    moved = sticky.ask(CLAUDE, "hi", headers=headers)
    data = why(sticky, moved)
    assert data["decision"] == "moved"
    first, second = data["attempts"]
    assert (first["credential"], first["status"], first["outcome"]) == (
        home, 429, "status")
    assert second["status"] == 200 and second["credential"] != home
    assert {"credential": home, "why": "excluded"} in data["passed_over"]
    line = sticky.log_has(r"info: .*moved from credential")
    assert home in line and second["credential"] in line
    assert "failed" in line and header(moved, ID) in line
    # Another session passes it over, and one that is bound is a hit.
    assert why(sticky, sticky.ask(CLAUDE, "hi", headers=headers))[
        "decision"] == "hit"
    sticky.log_has(r"debug: .*decision hit")
    counted = sticky.status()["affinity"]
    assert (counted["new"], counted["hit"], counted["moved"]) == (1, 2, 1)
    assert counted["moved_by"]["failed"] == 1


def test_pinned(make_daemon, stub):
    daemon = make_daemon(pool(stub, RESPONSES.provider, count=2))
    first = daemon.ask(RESPONSES, "one")
    second = daemon.ask(RESPONSES, "two",
                        previous_response_id=as_json(first)["id"])
    assert why(daemon, first)["pin"] is None
    assert why(daemon, second)["pin"] == "previous_response_id"


def test_refused_requests_are_known_too(sticky, stub):
    answer = sticky.post(CLAUDE.path(), CLAUDE.body("hi", model="no-such"),
                         auth=CLAUDE.auth)
    assert answer.status == 404
    data = why(sticky, answer)
    assert data["attempts"] == [] and data["decision"] == "none"
    for name in sticky.credentials():
        sticky.ctl_run("credential", name, "disable")
    answer = sticky.ask(CLAUDE, "hi")
    assert answer.status == 503
    assert why(sticky, answer)["attempts"] == []


def test_unknown_is_refused(sticky):
    done = sticky.ctl_run("why", "nobody")
    assert done.returncode == 1 and "nobody" in done.stderr


def test_for_people(sticky, stub):
    stub.fault("status", code=500)
    answer = sticky.ask(CLAUDE, "hi", headers=session())
    shown = sticky.ctl_run("why", header(answer, ID)).stdout
    assert "header x-session-id" in shown and "500" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_in_flight_and_after_the_death_of_the_worker(sticky, stub):
    stub.fault("pace", count=400, ms=50)
    with sticky.client() as client:
        response = client.open("POST", CLAUDE.path(True),
                               CLAUDE.body("hi", stream=True), session(),
                               CLAUDE.auth)
        ident = response.headers[ID]
        next(read_events(response))
        data = sticky.ctl("why", ident)
        assert data["attempts"][0]["outcome"] is None
        assert data["attempts"][0]["ms"] is None
        for pid in sticky.worker_pids():
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: sticky.ctl("why", ident)["attempts"][0]["outcome"]
             == "worker_died")
    # The ring goes on with the next process on the slot.
    wait_for(lambda: len(sticky.worker_pids()) == 2)
    answer = wait_for(lambda: sticky.ask(CLAUDE, "hi"))
    assert why(sticky, answer)["attempts"][0]["outcome"] == "ok"
    assert sticky.ctl("why", ident)["model"] == "claude-stub"


def test_answers_are_utf_8_whatever_the_client_sends(sticky):
    data = b'{"model":"a' + "界".encode() * 30 + b'","messages":[]}'
    request = (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: "
               + CLIENT_KEY.encode() + b"\r\nx-session-id: \xff\xe7\x95\r\n"
               b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(data)
               + data)
    answer = raw_exchange(sticky.port, request)
    (ident,) = re.findall(rb"x-fairlead-request-id: (\S+)", answer)
    found = sticky.ctl("why", ident.decode())
    assert found["session"]["id"] == "header:???"
    assert found["model"].startswith("a界界")
