# SPDX-License-Identifier: MIT
"""Rounds: who is asked again after everybody has failed, how often, and how
long a request waits for that.  Counting is exact; nothing here is timed."""

import pytest

from harness import (CLAUDE, OPENAI, accounts_used, each_dialect,
                     free_port, merged, pool)

# Nobody is benched, so that rounds follow each other at once.
WARM = {"disable-cooling": True, "max-attempts": 100, "request-retry": 3}


def counts(stub) -> dict[str, int]:
    used = accounts_used(stub)
    return {name.removeprefix("claude"): used.count(name)
            for name in sorted(set(used))}


def with_retries(stub, *retries: int | None, **more) -> dict:
    """Accounts of Claude with a request-retry of their own each."""
    config = pool(stub, "claude", count=len(retries))
    for row, retry in zip(config["claude-api-key"], retries):
        if retry is not None:
            row["request-retry"] = retry
    return merged(config, {**WARM, **more})


@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
@pytest.mark.parametrize("retry", (0, 1, 3))
def test_single_failing_credential_is_asked_once_more_a_round(
        make_daemon, stub, retry, stream):
    daemon = make_daemon(with_retries(stub, None, **{"request-retry": retry}))
    stub.fault("status", code=502, times=-1)
    ask = daemon.stream if stream else daemon.ask
    assert ask(CLAUDE, "hi")[0] == 502
    assert len(stub.log) == retry + 1


@pytest.mark.parametrize("code, calls", (
    (403, 2), (408, 2), (429, 2), (500, 2), (502, 2), (503, 2), (504, 2),
    (401, 1), (402, 1), (404, 1), (529, 1), (400, 1), (413, 1), (422, 1)))
def test_only_what_may_pass_is_asked_again(make_daemon, stub, code, calls):
    daemon = make_daemon(with_retries(stub, 1))
    stub.fault("status", code=code, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == code
    assert len(stub.log) == calls


def test_credentials_have_rounds_of_their_own(make_daemon, stub):
    daemon = make_daemon(with_retries(stub, 3, 2, 2))
    stub.fault("status", code=500, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert counts(stub) == {"1": 4, "2": 3, "3": 3}


def test_round_is_not_begun_for_who_weighs_nothing(make_daemon, stub):
    """The only one that takes part is back in a second: it is waited for."""
    config = pool(stub, "claude")
    config["claude-api-key"][1]["weight"] = 0
    daemon = make_daemon(merged(config, {
        "request-retry": 1, "routing": {"strategy": "weighted-round-robin"}}))
    stub.fault("status", code=429, headers={"retry-after": "1"})
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert counts(stub) == {"1": 2}


def test_capped_rounds_age_who_was_never_asked(make_daemon, stub):
    """Cap 3: three, three, and only the fourth has a third round."""
    daemon = make_daemon(with_retries(
        stub, 1, 1, 1, 2, **{"max-retry-credentials": 3}))
    stub.fault("status", code=500, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == 500
    used = accounts_used(stub)
    assert len(used) == 7
    assert used[-1] == "claude4"
    assert len(set(used[:3])) == len(set(used[3:6])) == 3


def test_zero_of_its_own_takes_no_further_part(make_daemon, stub):
    daemon = make_daemon(with_retries(stub, 0, None, **{"request-retry": 1}))
    stub.fault("status", code=500, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert counts(stub) == {"1": 1, "2": 2}


def test_own_rounds_of_others_grant_none(make_daemon, stub):
    """What is disabled, or serves another model, gives nobody a round."""
    config = with_retries(stub, 0, 3, 3)
    config["claude-api-key"][1]["models"] = [{"name": "other"}]
    daemon = make_daemon(config)
    rows = sorted(daemon.credentials())
    for ident in rows:
        models = daemon.credentials()[ident]["models"]
        if models == ["other"]:
            continue
        daemon.ctl("credential", ident, "disable")
        stub.fault("status", code=500, times=-1)
        daemon.ask(CLAUDE, "hi")
        daemon.ctl("credential", ident, "enable")
        del stub.faults[:]
    used = counts(stub)
    assert "2" not in used
    # Alone, the first was asked once and the third four times.
    assert used == {"1": 1, "3": 4}


def test_max_attempts_ends_the_rounds(make_daemon, stub):
    daemon = make_daemon(with_retries(stub, 9, 9, **{"max-attempts": 5}))
    stub.fault("status", code=500, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert len(stub.log) == 5


@each_dialect
def test_short_cooldown_is_waited_for(make_daemon, stub, dialect):
    daemon = make_daemon(merged(
        pool(stub, dialect.provider, count=1), {"request-retry": 1}))
    stub.fault("status", code=429)
    answer = daemon.ask(dialect, "hi")
    assert answer.status == 200
    assert len(stub.log) == 2
    assert stub.log[1]["head_at"] - stub.log[0]["end"] >= 0.95


def test_pool_that_cools_already_is_waited_for(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=1), {
        "request-retry": 1}))
    stub.fault("status", code=429, headers={"retry-after": "2"}, times=2)
    assert daemon.ask(CLAUDE, "hi").status == 429
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert len(stub.log) == 3


def test_other_credential_is_not_waited_for(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=2), {
        "request-retry": 1, "max-retry-credentials": 1}))
    stub.fault("status", code=429, headers={"retry-after": "20"})
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert sorted(accounts_used(stub)) == ["claude1", "claude2"]


@pytest.mark.parametrize("interval", ("0s", "3s"))
def test_longer_cooldown_is_told_instead(make_daemon, stub, interval):
    daemon = make_daemon(merged(pool(stub, "claude", count=1), {
        "request-retry": 3, "max-retry-interval": interval}))
    stub.fault("status", code=429, headers={"retry-after": "40"})
    for wanted in ("rate_limit_error", "model_cooldown"):
        answer = daemon.ask(CLAUDE, "hi")
        assert answer.status == 429, wanted
    assert len(stub.log) == 1


@pytest.mark.parametrize("code", (401, 402, 404))
def test_lasting_failures_are_never_waited_for(make_daemon, stub, code):
    """Not even when the longest wait would reach beyond them."""
    daemon = make_daemon(merged(pool(stub, "claude", count=1), {
        "request-retry": 3, "max-retry-interval": "24h",
        "cooldown-max": "1s"}))
    stub.fault("status", code=code, times=-1)
    assert daemon.ask(CLAUDE, "hi").status == code
    assert daemon.ask(CLAUDE, "hi").status == 503
    assert len(stub.log) == 1


@each_dialect
def test_stream_is_kept_alive_while_it_waits(make_daemon, stub, dialect):
    daemon = make_daemon(merged(pool(stub, dialect.provider, count=1), {
        "request-retry": 1, "keepalive-interval": "200ms"}))
    stub.fault("status", code=429)
    status, frames = daemon.stream(dialect, "hi")
    assert status == 200 and dialect.complete(frames), frames
    assert len(stub.log) == 2


def test_client_that_leaves_ends_the_wait(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=1), {
        "request-retry": 1, "workers": 1}))
    stub.fault("status", code=429, headers={"retry-after": "2"})
    with daemon.client(timeout=0.5) as client:
        with pytest.raises(TimeoutError):
            client.open("POST", CLAUDE.path(), CLAUDE.body("hi"),
                        auth=CLAUDE.auth)
    daemon.log_has("failed: status")
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert [entry["fault"] for entry in stub.log] == ["status", None]


def test_session_is_back_where_it_was_bound(make_daemon, stub):
    """A round that ends well for the first credential keeps the session."""
    daemon = make_daemon(merged(with_retries(stub, 1), {
        "routing": {"session-affinity": True}}))
    stub.fault("status", code=500)
    for _ in range(2):
        assert daemon.ask(CLAUDE, "hi", headers={
            "X-Session-ID": "s1"}).status == 200
    assert accounts_used(stub) == ["claude1"] * 3


def test_dead_shared_path_is_given_up_within_seconds(make_daemon, stub):
    """Five pauses, three seconds in all; nothing is benched."""
    config = pool(stub, "openai", url=f"http://127.0.0.1:{free_port()}")
    daemon = make_daemon(merged(config, {"max-attempts": 100}))
    assert daemon.ask(OPENAI, "hi").status == 502
    assert daemon.log_count("failed: network") == 6
    assert {row["state"] for row in daemon.credentials().values()} == {
        "ready"}
