# SPDX-License-Identifier: MIT
"""Nobody can serve: what the client is told in its dialect, how many of whom
it hears of, and what the log says once and not for every request."""

from harness import (CLAUDE, each_dialect, header, merged, pool)


def test_all_cooling_is_a_429_that_says_how_long(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=3))
    for seconds in ("70", "40", "55"):
        stub.fault("status", code=429, headers={"retry-after": seconds})
    assert daemon.ask(CLAUDE, "hi").status == 429
    answer = daemon.ask(CLAUDE, "hi")
    text = CLAUDE.check_error(answer, 429, "model_cooldown")
    assert 'All 3 credentials for model "claude-stub"' in text
    assert 35 <= int(header(answer, "retry-after")) <= 40
    assert len(stub.log) == 3


@each_dialect
def test_counts_and_no_names(make_daemon, stub, dialect):
    """One cools, one is blocked: 503, in the caller's dialect."""
    daemon = make_daemon(pool(stub, dialect.provider))
    stub.fault("status", code=429, headers={"retry-after": "40"})
    stub.fault("status", code=401)
    assert daemon.ask(dialect, "hi").status == 401
    for stream in (False, True):
        answer = daemon.post(dialect.path(stream),
                             dialect.body("hi", stream=stream),
                             auth=dialect.auth)
        text = dialect.check_error(answer, 503, "auth_unavailable")
        assert "1 cooling, 1 blocked" in text
        assert 30 <= int(header(answer, "retry-after")) <= 40
        assert not any(ident in answer.body.decode()
                       for ident in daemon.credentials())


def test_log_names_them_once_in_a_while(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude"), {"workers": 1}))
    stub.fault("status", code=429, headers={"retry-after": "500"})
    stub.fault("status", code=403)
    assert daemon.ask(CLAUDE, "hi").status == 403
    for _ in range(20):
        assert daemon.ask(CLAUDE, "hi").status == 503
    line = daemon.log_has("nobody can serve")
    (line,) = [row for row in daemon.log_text().splitlines()
               if "nobody can serve" in row]
    assert " warn: " in line
    for ident in daemon.credentials():
        assert ident in line
    assert "(quota, " in line and "(forbidden, " in line
    assert "claude-stub" in line


def test_single_models_that_are_out_are_listed(make_daemon, stub):
    config = pool(stub, "claude", count=1)
    config["claude-api-key"][0]["models"] = [
        {"name": name} for name in ("model-a", "model-b", "model-c")]
    daemon = make_daemon(config)
    stub.fault("status", code=429, model="model-a",
               headers={"retry-after": "90"})
    stub.fault("status", code=404, model="model-b")
    for model in ("model-a", "model-b", "model-c"):
        daemon.ask(CLAUDE, "hi", model=model)
    (row,) = daemon.credentials().values()
    assert row["state"] == "ready" and row["models_out"] == 2
    assert [(b["model"], b["state"], b["reason"]) for b in row["benched"]] == [
        ("model-a", "cooling", "quota"), ("model-b", "blocked", "not_found")]


def test_last_refusal_says_when_the_first_is_back(make_daemon, stub):
    """Of two that are asked, and of one that was not asked any more."""
    daemon = make_daemon(pool(stub, "claude"))
    stub.fault("status", code=429, headers={"retry-after": "40"})
    stub.fault("status", code=429, headers={"retry-after": "900"})
    answer = daemon.ask(CLAUDE, "hi")
    assert (answer.status, len(stub.log)) == (429, 2)
    assert b"stub says" in answer.body
    assert [name.lower() for name, _ in answer.headers].count(
        "retry-after") == 1
    assert 35 <= int(header(answer, "retry-after")) <= 40

    other = make_daemon(pool(stub, "claude"))
    stub.fault("status", code=429, headers={"retry-after": "40"})
    assert other.ask(CLAUDE, "hi").status == 200
    stub.fault("status", code=429, headers={"retry-after": "900"})
    answer = other.ask(CLAUDE, "hi")
    assert answer.status == 429
    assert 30 <= int(header(answer, "retry-after")) <= 40


def test_refusal_after_a_wait_says_how_long_from_now(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "claude", count=1), "request-retry": 1,
                          "max-retry-interval": "5s"})
    stub.fault("status", code=429, headers={"retry-after": "0.2"})
    stub.fault("status", code=429)
    answer = daemon.ask(CLAUDE, "hi")
    assert (answer.status, len(stub.log)) == (429, 2)
    assert header(answer, "retry-after") == "1"
