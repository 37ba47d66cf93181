# SPDX-License-Identifier: MIT
"""What a failure costs whom: hints in every form, quotas of whole accounts,
challenges, side endpoints, the operator's own rules, and cooling switched
off.  The table itself is tested in C; here that it is asked."""

import concurrent.futures
import threading
import time
from datetime import datetime, UTC

import pytest

from harness import (CLAUDE, GEMINI, OPENAI, RESPONSES, SLOW, accounts_used,
                     frame_data, header, merged, pool,
                     wait_for)

UNIFIED = "anthropic-ratelimit-unified-"


def one(make_daemon, stub, provider="claude", **more):
    return make_daemon(merged(pool(stub, provider, count=1), more))


def only_row(daemon) -> dict:
    (row,) = daemon.credentials().values()
    return row


def seconds_until(row: dict) -> float:
    until = datetime.fromisoformat(row["until"].replace("Z", "+00:00"))
    return (until - datetime.now(UTC)).total_seconds()


def check_seconds(row: dict, seconds: float) -> None:
    assert seconds - 5 * SLOW <= seconds_until(row) <= seconds + 1, row


# -- hints ------------------------------------------------------------------

HINTS = {
    "ms": ({"retry-after-ms": "41500"}, None, 41.5),
    "limit-reset": ({"x-ratelimit-remaining-tokens": "0",
                     "x-ratelimit-reset-tokens": "1m3s",
                     "x-ratelimit-remaining-requests": "99",
                     "x-ratelimit-reset-requests": "24h"}, None, 63),
    "google-retry-info": ({}, {"error": {
        "code": 429, "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo",
             "retryDelay": "47.5s"}]}}, 47.5),
    "google-quota-delay": ({}, {"error": {"code": 429, "details": [
        {"metadata": {"quotaResetDelay": "1h2m3s"}}]}}, 3723),
    "google-sentence": ({}, {"error": {
        "code": 429, "message": "Quota will reset after 2m1s."}}, 121),
    "codex-in": ({}, {"error": {"type": "usage_limit_reached",
                                "resets_in_seconds": 3600}}, 3600),
}


@pytest.mark.parametrize("name", HINTS)
def test_hint_is_found_wherever_it_stands(make_daemon, stub, name):
    headers, body, seconds = HINTS[name]
    daemon = one(make_daemon, stub)
    opts = {"body": body} if body else {}
    stub.fault("status", code=429, headers=headers, **opts)
    assert daemon.ask(CLAUDE, "hi").status == 429
    row = only_row(daemon)
    assert (row["state"], row["reason"]) == ("cooling", "quota")
    check_seconds(row, seconds)


def test_codex_reset_is_a_time_of_the_answers_clock(make_daemon, stub):
    daemon = one(make_daemon, stub, "codex")
    stub.fault("status", code=429, body={"error": {
        "type": "usage_limit_reached", "message": "wait",
        "resets_at": int(time.time()) + 100}})
    assert daemon.ask(RESPONSES, "hi", model="codex-stub").status == 429
    check_seconds(only_row(daemon), 100)


def test_hint_inside_a_stream_counts(make_daemon, stub):
    daemon = one(make_daemon, stub, "gemini")
    stub.fault("sse_error_first", data={"error": {
        "code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "x"}, {"retryDelay": "33s"}]}})
    assert daemon.stream(GEMINI, "hi")[0] == 429
    row = only_row(daemon)
    assert row["state"] == "cooling"
    check_seconds(row, 33)


def test_later_shorter_hint_shortens_nothing(make_daemon, stub):
    """Two that are under way together; the second has less to say."""
    daemon = one(make_daemon, stub, workers=1)
    stub.fault("status", code=429, headers={"retry-after": "90"}, secs=0.1)
    stub.fault("status", code=429, headers={"retry-after": "30"}, secs=0.6)
    with daemon.client() as one_client, daemon.client() as other:
        answers = []

        def ask(client):
            answers.append(client.post(
                CLAUDE.path(), CLAUDE.body("hi")).status)
        threads = [threading.Thread(target=ask, args=(c,))
                   for c in (one_client, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [429, 429]
    assert len(stub.log) == 2
    check_seconds(only_row(daemon), 90)


# -- whole accounts ---------------------------------------------------------

def two_models(stub, **more) -> dict:
    config = pool(stub, "claude", count=1, **more)
    config["claude-api-key"][0]["models"] = [
        {"name": "model-a"}, {"name": "model-b"}]
    return config


def test_closed_window_closes_every_model(make_daemon, stub):
    daemon = make_daemon(two_models(stub))
    stub.fault("status", code=429, headers={
        UNIFIED + "status": "rejected", UNIFIED + "5h-status": "rejected",
        UNIFIED + "5h-reset": str(int(time.time()) + 600)})
    assert daemon.ask(CLAUDE, "hi", model="model-a").status == 429
    answer = daemon.ask(CLAUDE, "hi", model="model-b")
    CLAUDE.check_error(answer, 429, "model_cooldown")
    assert 595 <= int(header(answer, "retry-after")) <= 631
    assert len(stub.log) == 1
    daemon.kill9()
    daemon.start()
    assert daemon.ask(CLAUDE, "hi", model="model-b").status == 429
    daemon.reload()
    assert daemon.ask(CLAUDE, "hi", model="model-b").status == 429
    assert len(stub.log) == 1


def test_window_of_one_model_closes_only_that(make_daemon, stub):
    daemon = make_daemon(two_models(stub))
    stub.fault("status", code=429, headers={
        UNIFIED + "status": "rejected",
        UNIFIED + "7d_oi-status": "rejected",
        UNIFIED + "7d_oi-reset": str(int(time.time()) + 600)})
    assert daemon.ask(CLAUDE, "hi", model="model-a").status == 429
    assert daemon.ask(CLAUDE, "hi", model="model-b").status == 200


def test_success_under_way_does_not_open_a_closed_account(make_daemon, stub):
    daemon = make_daemon({**two_models(stub), "workers": 1})
    stub.fault("delay", secs=0.7, model="model-b")
    stub.fault("status", code=429, model="model-a", headers={
        UNIFIED + "7d-status": "rejected",
        UNIFIED + "7d-reset": str(int(time.time()) + 600)})
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        slow = threads.submit(daemon.ask, CLAUDE, "hi", model="model-b")
        wait_for(lambda: any(row["in_flight"] for row
                             in daemon.credentials().values()))
        assert daemon.ask(CLAUDE, "hi", model="model-a").status == 429
        assert slow.result().status == 200
    for _ in range(2):  # the master has read the result, then answers us
        daemon.credentials()
    for model in ("model-a", "model-b"):
        assert daemon.ask(CLAUDE, "hi", model=model).status == 429
    assert len(stub.log) == 2


# -- classes ----------------------------------------------------------------

CLASSES = {
    "challenge-text": ({"code": 403, "type": "text/html", "body":
                        "<html>cloudflare</html>"}, "challenge", 10),
    "challenge-header": ({"code": 403, "headers": {
        "cf-mitigated": "challenge"}}, "challenge", 10),
    "invalid-grant": ({"code": 400, "body": {"error": {
        "type": "invalid_request_error", "code": "invalid_grant"}}},
        "invalid_grant", 1800),
    "unsupported": ({"code": 400, "body": {"error": {
        "message": "The requested model is not supported."}}},
        "model_not_supported", 12 * 3600),
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_class_moves_on_and_benches(make_daemon, stub, name, stream):
    opts, reason, seconds = CLASSES[name]
    daemon = make_daemon(pool(stub, "claude"))
    stub.fault("status", **opts)
    ask = daemon.stream if stream else daemon.ask
    for _ in range(2):
        assert ask(CLAUDE, "hi")[0] == 200
    assert len(stub.log) == 3
    (bad,) = [row for row in daemon.credentials().values()
              if row["state"] != "ready"]
    assert bad["reason"] == reason, bad
    check_seconds(bad, seconds)


@pytest.mark.parametrize("opts", (
    {"code": 429, "headers": {"retry-after": "50"}}, {"code": 403},
    {"code": 500}, {"code": 404}, {"code": 403, "body": "cf-mitigated"},
    {"code": 400, "body": "unsupported model"}),
    ids=("429", "403", "500", "404", "challenge", "unsupported"))
@pytest.mark.parametrize("level", ("global", "section"))
def test_without_cooling_nothing_is_ever_benched(make_daemon, stub, level,
                                                 opts):
    off = {"disable-cooling": True}
    config = pool(stub, "claude", count=1,
                  **(off if level == "section" else {}))
    daemon = make_daemon(merged(config, off if level == "global" else {}))
    stub.fault("status", **opts)
    assert daemon.ask(CLAUDE, "hi").status == opts["code"]
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert only_row(daemon)["state"] == "ready"


def test_section_that_cools_overrules_the_rest(make_daemon, stub):
    config = pool(stub, "claude", count=1, **{"disable-cooling": False})
    daemon = make_daemon(merged(config, {"disable-cooling": True}))
    stub.fault("status", code=500)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert daemon.ask(CLAUDE, "hi").status == 503


def test_switching_cooling_off_ends_what_cools(make_daemon, stub):
    daemon = one(make_daemon, stub)
    stub.fault("status", code=429, headers={"retry-after": "500"})
    for _ in range(2):
        assert daemon.ask(CLAUDE, "hi").status == 429
    daemon.with_config(disable_cooling=True)
    daemon.reload()
    assert daemon.ask(CLAUDE, "hi").status == 200


def test_no_transient_cooldown_leaves_the_others(make_daemon, stub):
    daemon = one(make_daemon, stub, **{"transient-error-cooldown": "0s"})
    stub.fault("status", code=503)
    assert daemon.ask(CLAUDE, "hi").status == 503
    assert daemon.ask(CLAUDE, "hi").status == 200
    stub.fault("status", code=403)
    assert daemon.ask(CLAUDE, "hi").status == 403
    check_seconds(only_row(daemon), 1800)


def test_one_models_429_leaves_its_sibling_alone(make_daemon, stub):
    daemon = make_daemon(two_models(stub))
    stub.fault("status", code=500, model="model-a")
    assert daemon.ask(CLAUDE, "hi", model="model-a").status == 500
    assert daemon.ask(CLAUDE, "hi", model="model-b").status == 200


# -- inside a 200 -----------------------------------------------------------

def claude_error(kind: str) -> tuple:
    return CLAUDE, "error", {"type": "error", "error": {
        "type": kind, "message": "no"}}


def openai_error(**error) -> tuple:
    return OPENAI, "", {"error": {"message": "no", **error}}


def responses_error(**error) -> tuple:
    return RESPONSES, "response.failed", {
        "type": "response.failed", "sequence_number": 1,
        "response": {"status": "failed", "error": {"message": "no",
                                                   **error}}}


def gemini_error(code: int, status: str) -> tuple:
    return GEMINI, "", {"error": {"code": code, "message": "no",
                                  "status": status}}


EVENTS = {  # the event, what it is like, what it costs and for how long
    "claude-overloaded": (claude_error("overloaded_error"), 529,
                          "transient", 60),
    "claude-rate": (claude_error("rate_limit_error"), 429, "quota", 1),
    "claude-key": (claude_error("authentication_error"), 401,
                   "unauthorized", 1800),
    "claude-permission": (claude_error("permission_error"), 403,
                          "forbidden", 1800),
    "claude-api": (claude_error("api_error"), 500, "transient", 60),
    "openai-rate": (openai_error(code="rate_limit_exceeded"), 429, "quota",
                    1),
    "openai-server": (openai_error(type="server_error"), 503, "transient",
                      60),
    "responses-rate": (responses_error(code="rate_limit_exceeded"), 429,
                       "quota", 1),
    "responses-limit": (responses_error(
        type="usage_limit_reached", resets_in_seconds=70), 429, "quota", 70),
    "responses-overloaded": (responses_error(code="server_is_overloaded"),
                             503, "transient", 60),
    "gemini-rate": (gemini_error(429, "RESOURCE_EXHAUSTED"), 429, "quota",
                    1),
    "gemini-unavailable": (gemini_error(503, "UNAVAILABLE"), 503,
                           "transient", 60),
}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("kind", ("sse_error_first", "sse_error_mid"))
def test_event_costs_what_its_status_costs(make_daemon, stub, name, kind):
    """Held back, the other credential serves; too late, it costs as much."""
    (dialect, event, data), status, reason, seconds = EVENTS[name]
    daemon = make_daemon(pool(stub, dialect.provider))
    stub.fault(kind, data=data, name=event, after=1)
    got, frames = daemon.stream(dialect, "hi")
    assert got == 200
    assert dialect.complete(frames) is (kind == "sse_error_first")
    assert len(stub.log) == (2 if kind == "sse_error_first" else 1)
    (bad,) = [row for row in daemon.credentials().values()
              if row["last_error"]]
    assert str(status) in bad["last_error"], bad
    if seconds == 1:  # may be over
        return
    assert bad["reason"] == reason
    check_seconds(bad, seconds)


@pytest.mark.parametrize("event", (
    claude_error("invalid_request_error"),
    openai_error(code="context_length_exceeded"),
    responses_error(code="invalid_prompt"),
    gemini_error(400, "INVALID_ARGUMENT")),
    ids=lambda event: event[0].name)
def test_event_that_blames_the_request_ends_it(make_daemon, stub, event):
    dialect, name, data = event
    daemon = make_daemon(pool(stub, dialect.provider))
    stub.fault("sse_error_first", data=data, name=name, times=-1)
    status, _ = daemon.stream(dialect, "hi")
    assert 400 <= status < 500
    assert len(stub.log) == 1
    assert {row["state"] for row in daemon.credentials().values()} == {
        "ready"}


@pytest.mark.parametrize("kind", ("silent", "head_silent"))
def test_slow_but_200_is_a_failure(make_daemon, stub, kind):
    daemon = make_daemon(merged(pool(stub, "claude"), {
        "limits": {"first-byte-timeout": "700ms"}}))
    stub.fault(kind, secs=30)
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert len(stub.log) == 2
    (bad,) = [row for row in daemon.credentials().values()
              if row["state"] != "ready"]
    assert bad["reason"] == "transient"
    check_seconds(bad, 60)


# -- side endpoints ---------------------------------------------------------

COUNT = "/v1/messages/count_tokens"


@pytest.mark.parametrize("message, benched", (
    ("no such route", False), ("model claude-stub not found", True)))
def test_count_tokens_404_counts_only_for_the_model_it_names(
        make_daemon, stub, message, benched):
    daemon = one(make_daemon, stub)
    stub.fault("status", code=404, path=COUNT, body={
        "type": "error", "error": {"message": message}})
    answer = daemon.post(COUNT, CLAUDE.body("hi"))
    assert answer.status == 404
    assert (only_row(daemon)["state"] == "blocked") is benched
    assert daemon.ask(CLAUDE, "hi").status == (503 if benched else 200)


@pytest.mark.parametrize("code, calls, state", (
    (500, 2, "ready"), (401, 2, "blocked"), (403, 2, "blocked"),
    (429, 2, "cooling"), (400, 1, "ready")))
def test_compact_benches_only_for_what_all_endpoints_share(
        make_daemon, stub, code, calls, state):
    daemon = make_daemon(pool(stub, "codex"))
    stub.fault("status", code=code)
    daemon.post("/v1/responses/compact",
                {"model": "codex-stub", "input": "hi"})
    assert len(stub.log) == calls
    states = sorted(row["state"] for row in daemon.credentials().values())
    assert states == sorted([state, "ready"])


# -- the operator's rules ---------------------------------------------------

RULED = {"error": {"message": "no: region"}}
ACTIONS = {  # calls, states after
    "stop": (1, ["ready", "ready"]),
    "stop-and-cooldown": (1, ["blocked", "ready"]),
    "continue": (2, ["ready", "ready"]),
    "continue-and-cooldown": (2, ["blocked", "ready"]),
}


def rule(action: str, **match) -> list:
    return [{"status": 403, "match": ["never"], "action": "continue"},
            {"status": match.pop("status", 403), "action": action,
             **(match or {"match": ["region"]})}]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
@pytest.mark.parametrize("place", ("global", "section"))
def test_rule_decides(make_daemon, stub, action, stream, place):
    rules = {"request-scoped-errors": rule(action)}
    config = pool(stub, "claude",
                  **(rules if place == "section" else {}))
    daemon = make_daemon(merged(config, {
        **(rules if place == "global" else {}), "request-retry": 3}))
    stub.fault("status", code=403, body=RULED)
    calls, states = ACTIONS[action]
    ask = daemon.stream if stream else daemon.ask
    assert ask(CLAUDE, "hi")[0] == (403 if calls == 1 else 200)
    assert len(stub.log) == calls
    assert sorted(row["state"] for row in
                  daemon.credentials().values()) == states


def test_rule_may_be_an_expression_over_a_compat_section(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai", **{
        "request-scoped-errors": rule(
            "stop", **{"match-regex": ["reg[aio]+n"]})}))
    stub.fault("status", code=403, body=RULED)
    assert daemon.ask(OPENAI, "hi").status == 403
    assert len(stub.log) == 1


def test_other_errors_are_judged_as_ever(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", **{
        "request-scoped-errors": rule("stop")}))
    stub.fault("status", code=403, body={"error": {"message": "else"}})
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert len(stub.log) == 2


def test_rule_that_cools_does_so_where_cooling_is_off(make_daemon, stub):
    daemon = one(make_daemon, stub, **{
        "disable-cooling": True, "transient-error-cooldown": "0s",
        "request-scoped-errors": rule("stop-and-cooldown", status=500)})
    stub.fault("status", code=500, body=RULED)
    assert daemon.ask(CLAUDE, "hi").status == 500
    assert daemon.ask(CLAUDE, "hi").status == 503
    check_seconds(only_row(daemon), 60)


def test_rule_counts_inside_a_stream_that_is_under_way(make_daemon, stub):
    daemon = one(make_daemon, stub, "claude", **{
        "request-scoped-errors": rule(
            "stop-and-cooldown", status=0, match=["stub broke"])})
    stub.fault("sse_error_mid", after=2)
    _, frames = daemon.stream(CLAUDE, "hi")
    assert frame_data(frames[-1])["type"] == "error"
    assert only_row(daemon)["state"] != "ready"


OAUTH_FILE = {"type": "claude", "access_token": "canary-up-claude1",
              "email": "a@example.org", "expired": "2099-01-01T00:00:00Z"}


@pytest.mark.parametrize("key, calls", (
    ("oauth-request-scoped-errors", 1), ("request-scoped-errors", 2)))
def test_credential_files_have_rules_of_their_own(make_daemon, stub, key,
                                                  calls):
    """And those for keys do not hold for them, nor the other way round."""
    rules = rule("stop", status=500)
    daemon = make_daemon({
        "request-retry": 1, "disable-cooling": True,
        key: {"claude": rules} if key.startswith("oauth") else rules},
        start=False)
    daemon.auth_file("a.json", {**OAUTH_FILE, "base_url": stub.url})
    daemon.start()
    stub.fault("status", code=500, body=RULED)
    daemon.ask(CLAUDE, "hi", model="claude-sonnet-4-5-20250929")
    assert accounts_used(stub) == ["claude1"] * calls
