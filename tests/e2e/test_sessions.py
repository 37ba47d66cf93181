# SPDX-License-Identifier: MIT
"""fairleadctl sessions, session, unbind: what is bound, seen and undone."""

import json

import pytest

from harness import CLAUDE, CLIENT_KEY, OPENAI, OTHER_KEY, merged, pool

ID = "a-session-of-some-length"


@pytest.fixture
def bound(make_daemon, stub):
    """Thirty sessions of Claude's model, ten of another's."""
    daemon = make_daemon(merged(pool(stub, "claude", "openai", count=3), {
        "routing": {"session-affinity": True}}))
    for number in range(30):
        assert daemon.ask(CLAUDE, "hi", headers={
            "x-session-id": f"{ID}-{number}"}).status == 200
    for number in range(10):
        assert daemon.ask(OPENAI, "hi", headers={
            "x-amp-thread-id": f"T-{ID}-{number}"}).status == 200
    return daemon


def listed(daemon, *args) -> dict:
    return daemon.ctl("sessions", *args)


def keys(data: dict) -> list[str]:
    return [row["key"] for row in data["sessions"]]


def test_counts_and_rows(bound):
    data = listed(bound)
    assert data["total"] == 40 == len(data["sessions"])
    assert sum(data["by_credential"].values()) == 40
    assert len(data["by_credential"]) == 6
    assert data["next"] is None
    for row in data["sessions"]:
        assert set(row) >= {"key", "source", "model", "credential",
                            "age_s", "expires_s"}
        assert 0 <= row["age_s"] < 60


def test_filters(bound):
    amp = listed(bound, "source=header x-amp")
    assert amp["total"] == 10 == sum(amp["by_credential"].values())
    assert {row["model"] for row in amp["sessions"]} == {"gpt-stub"}
    assert listed(bound, "model=claude-stub")["total"] == 30
    name = amp["sessions"][0]["credential"]
    one = listed(bound, f"credential={name}", "model=gpt-stub")
    assert set(one["by_credential"]) == {name}
    assert 0 < one["total"] < 10
    none = listed(bound, "credential=nobody")
    assert (none["total"], none["sessions"]) == (0, [])


def test_pages_make_up_the_whole(bound):
    done = bound.ctl_run("-j", "sessions")
    assert done.stdout.count("\n") == 1
    whole = keys(json.loads(done.stdout))
    seen, args = [], ()
    while True:
        page = listed(bound, "limit=7", *args)
        assert page["total"] == 40 - len(seen), "what is counted from there"
        assert len(page["sessions"]) <= 7
        seen += keys(page)
        if page["next"] is None:
            break
        args = (f"after={page['next']}",)
    assert seen == whole
    counted = listed(bound, "limit=0")
    assert (counted["total"], counted["sessions"]) == (40, [])
    assert counted["next"] is None
    empty = bound.ctl_run("-j", "sessions", "credential=nobody")
    assert json.loads(empty.stdout)["sessions"] == []
    for args in (("surplus",), ("limit=",), ("limit=x",), ("model",),
                 ("colour=red",)):
        assert bound.ctl_run("sessions", *args).returncode == 2
    done = bound.ctl_run("sessions", "after=zz")
    assert done.returncode == 1 and done.stderr


def test_for_people(bound):
    shown = bound.ctl_run("sessions").stdout
    assert shown.startswith("40 sessions\n")
    assert max(map(len, shown.splitlines())) <= 80
    key = keys(listed(bound))[0]
    assert key[:12] in shown
    one = bound.ctl_run("session", key[:12]).stdout
    assert key[:12] in one and len(one.splitlines()) == 2
    few = bound.ctl_run("sessions", "limit=3").stdout
    assert "after=" in few


def test_one_session(bound):
    row = next(row for row in listed(bound)["sessions"]
               if row["model"] == "claude-stub")
    for ident in (row["key"], row["key"][:7], f"header:{ID}-5"):
        (found,) = bound.ctl("session", ident)["sessions"]
        assert found["model"] == "claude-stub"
        if ident in row["key"]:
            assert found["key"] == row["key"]
    # Shortened, all of them look alike.
    assert len(bound.ctl("session", row["session"])["sessions"]) == 30
    done = bound.ctl_run("session", "header:nobody")
    assert done.returncode == 1 and done.stderr
    done = bound.ctl_run("unbind", "session", row["session"])
    assert done.returncode == 1 and done.stderr


def test_unbind_a_session(bound, stub):
    ident = f"header:{ID}-5"
    before = bound.ctl("session", ident)["sessions"][0]["key"]
    assert bound.ctl_run("unbind", "session", ident).returncode == 0
    assert bound.ctl_run("session", ident).returncode == 1
    assert listed(bound)["total"] == 39
    assert bound.ask(CLAUDE, "hi", headers={
        "x-session-id": f"{ID}-5"}).status == 200
    (row,) = bound.ctl("session", before)["sessions"]
    assert row["age_s"] < 5
    assert bound.ctl_run("unbind", "session", before).returncode == 0
    assert bound.ctl_run("unbind", "session", before).returncode == 1


def test_unbind_takes_every_client_with_that_id(bound):
    for key in (CLIENT_KEY, OTHER_KEY):
        for dialect in (CLAUDE, OPENAI):
            assert bound.ask(dialect, "hi", key=key, headers={
                "x-session-id": "shared"}).status == 200
    data = bound.ctl("session", "header:shared")
    assert len(data["sessions"]) == 4
    assert len({row["key"] for row in data["sessions"]}) == 2
    assert bound.ctl_run("unbind", "session",
                         "header:shared").returncode == 0
    assert bound.ctl_run("session", "header:shared").returncode == 1
    assert listed(bound)["total"] == 40


def test_unbind_a_credential(bound):
    before = listed(bound)["by_credential"]
    name = max(before, key=before.get)
    assert bound.ctl_run("unbind", "credential", name).returncode == 0
    after = listed(bound)["by_credential"]
    assert name not in after
    assert sum(after.values()) == 40 - before[name]
    assert {other: after[other] for other in after} == {
        other: count for other, count in before.items() if other != name}
