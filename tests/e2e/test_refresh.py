# SPDX-License-Identifier: MIT
"""Tokens: refreshed before they expire, when one is refused, and never
twice."""

import asyncio
import base64
import concurrent.futures
import json
import os
import subprocess
import time
from datetime import datetime, timedelta, timezone

import pytest

from harness import (CANARY, CLAUDE, CLIENT_KEY, GEMINI, SLOW, Client,
                     wait_for)

MODEL = "claude-sonnet-4-6"


def stamp(seconds: float) -> str:
    """A time that many seconds from now, as files have it."""
    when = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def endpoint(stub, **more) -> dict:
    """Every provider's tokens are the stub's."""
    return {"oauth": {name: {"token-endpoint": stub.tokens.url, **more}
                      for name in ("claude", "codex", "gemini", "vertex",
                                   "kimi", "xai")}}


def login_file(stub, name: str, expires: float = 10**7, **more) -> dict:
    login = stub.tokens.logins.get(name) or stub.tokens.login(name)
    return {"type": "claude", "access_token": login.access_token,
            "refresh_token": login.refresh_token, "email": f"{name}@x.test",
            "expired": stamp(expires), "last_refresh": stamp(-3600),
            "base_url": stub.url, "my_own_field": [1, {"kept": True}],
            **more}


@pytest.fixture
def serve(make_daemon, stub):
    """serve(files, config): a daemon with these credential files."""
    def start(files: dict, config: dict | None = None):
        daemon = make_daemon({**endpoint(stub), **(config or {})},
                             start=False)
        for name, content in files.items():
            daemon.auth_file(name, content)
        return daemon.start()
    return start


def content(daemon, name: str) -> dict:
    return json.loads((daemon.auth_dir / name).read_text())


def rotated(daemon, stub, name: str, file: str = "") -> None:
    """Wait until the file holds what the endpoint gave last."""
    wait_for(lambda: content(daemon, file or name + ".json")[
        "refresh_token"] == stub.tokens.logins[name].refresh_token
        and stub.tokens.logins[name].rotations > 0, 10, "the new tokens")


def ask(daemon, **more):
    return daemon.ask(CLAUDE, "hi", model=MODEL, **more)


# -- before it expires ------------------------------------------------------

def test_token_is_refreshed_ahead_of_its_expiry(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a", 3600)})
    rotated(daemon, stub, "a")
    assert ask(daemon).status == 200
    fields = stub.tokens.log[0]["fields"]
    assert fields["grant_type"] == "refresh_token"
    assert fields["client_id"] and "client_secret" not in fields
    assert stub.tokens.log[0]["type"] == "application/json"
    new = content(daemon, "a.json")
    assert new["access_token"] == stub.tokens.logins["a"].access_token
    assert new["my_own_field"] == [1, {"kept": True}]
    assert list(new) == list(login_file(stub, "a"))
    left = datetime.fromisoformat(new["expired"].replace("Z", "+00:00"))
    assert 3500 < (left - datetime.now(timezone.utc)).total_seconds() <= 3600
    assert os.stat(daemon.auth_dir / "a.json").st_mode & 0o777 == 0o600
    row = wait_for(lambda: daemon.credentials()["a.json"]["next_refresh"]
                   and daemon.credentials()["a.json"])
    assert row["state"] == "ready" and row["expires"] == new["expired"]
    assert stub.tokens.requests() == 1
    admin = Client(daemon.admin_port, key=None)
    page = json.loads(admin.get("/status.json").body)["credentials"][0]
    assert page["expires"] == row["expires"]
    assert page["next_refresh"] == row["next_refresh"]
    assert 'fairlead_refreshes_total{outcome="ok"} 1' in (
        admin.get("/metrics").body.decode())
    admin.close()


def test_token_that_lives_long_is_left_alone(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a"),
                    "b.json": login_file(stub, "b", 60, disabled=True),
                    "k.json": {"type": "claude", "api_key": CANARY + "file1",
                               "expired": stamp(-5), "base_url": stub.url}})
    row = wait_for(lambda: daemon.credentials()["a.json"]["next_refresh"]
                   and daemon.credentials())
    assert row["b.json"]["next_refresh"] is None
    assert row["k.json"]["next_refresh"] is None
    assert stub.tokens.requests() == 0


def test_lifetime_below_the_lead_is_no_loop(serve, stub):
    """The lead is at most half of what the token lives."""
    stub.tokens.expires_in = 100
    daemon = serve({"a.json": login_file(stub, "a", -5)})
    rotated(daemon, stub, "a")
    row = wait_for(lambda: daemon.credentials()["a.json"]["next_refresh"]
                   and daemon.credentials()["a.json"])
    assert stamp(20) < row["next_refresh"] < stamp(60)
    assert stub.tokens.requests() == 1


def test_answer_without_a_lifetime_is_no_loop(serve, stub):
    stub.tokens.expires_in = None
    daemon = serve({"a.json": login_file(stub, "a", -5)})
    rotated(daemon, stub, "a")
    assert ask(daemon).status == 200
    assert daemon.credentials()["a.json"]["expires"] is None
    assert stub.tokens.requests() == 1


def test_at_most_so_many_at_once_live_on_reload(serve, stub):
    stub.tokens.fault(None, "delay", -1, secs=0.2)
    files = {f"c{n}.json": login_file(stub, f"c{n}", -5) for n in range(8)}
    daemon = serve(files, {"auth-auto-refresh-workers": 2})
    wait_for(lambda: stub.tokens.requests() == 8, 10)
    assert stub.tokens.most_running == 2
    wait_for(lambda: stub.tokens.running == 0, 10)
    daemon.with_config(auth_auto_refresh_workers=4).reload()
    stub.tokens.most_running = 0
    for n in range(8):
        daemon.auth_file(f"c{n}.json", login_file(stub, f"c{n}", -5))
    wait_for(lambda: stub.tokens.requests() == 16, 10)
    assert stub.tokens.most_running == 4
    assert all(login.reused == 0 for login in stub.tokens.logins.values())


@pytest.mark.parametrize("kind,form", (
    ("codex", True), ("gemini", True), ("kimi", True), ("xai", True),
    ("claude", False)))
def test_providers_differ_by_their_rows(serve, stub, kind, form):
    daemon = serve({"a.json": login_file(stub, "a", -5, type=kind)},
                   endpoint(stub, **{"client-id": "id-of-config"}))
    rotated(daemon, stub, "a")
    entry = stub.tokens.log[0]
    assert entry["type"] == ("application/x-www-form-urlencoded" if form
                             else "application/json")
    assert entry["fields"]["client_id"] == "id-of-config"
    assert ("scope" in entry["fields"]) == (kind == "codex")


def test_file_comes_before_the_configuration(serve, stub):
    daemon = serve(
        {"a.json": login_file(stub, "a", -5, token_endpoint=stub.tokens.url,
                              client_id="own", client_secret="canary-own")},
        {"oauth": {"claude": {"token-endpoint": "http://127.0.0.1:1/no",
                              "client-id": "other", "encoding": "form",
                              "client-secret": "canary-other"}}})
    rotated(daemon, stub, "a")
    fields = stub.tokens.log[0]["fields"]
    assert fields["client_id"] == "own"
    assert fields["client_secret"] == "canary-own"
    assert stub.tokens.log[0]["type"].endswith("urlencoded")


def test_nested_token_is_renewed_where_it_stands(serve, stub):
    login = stub.tokens.login("g")
    daemon = serve({"g.json": {
        "type": "gemini", "project_id": "p", "base_url": stub.url,
        "token": {"access_token": login.access_token, "expiry": stamp(-5),
                  "refresh_token": login.refresh_token, "client_id": "g-id",
                  "client_secret": "canary-g", "token_type": "Bearer"}}})
    wait_for(lambda: login.rotations == 1 and content(daemon, "g.json")[
        "token"]["refresh_token"] == login.refresh_token, 10)
    new = content(daemon, "g.json")
    assert "access_token" not in new and new["token"]["client_id"] == "g-id"
    assert new["token"]["expiry"] > stamp(3000)
    assert stub.tokens.log[0]["fields"]["client_secret"] == "canary-g"


def test_plain_http_endpoint_elsewhere_is_never_asked(serve, stub):
    daemon = serve({"a.json": login_file(
        stub, "a", -5, token_endpoint="http://tokens.example/x")})
    daemon.log_has("a.json: not refreshed: .*neither https nor on loopback")
    assert stub.tokens.requests() == 0
    assert "https" in daemon.credentials()["a.json"]["last_error"]


def test_refresh_goes_through_the_credentials_proxy(serve, stub):
    proxy = f"http://127.0.0.1:{stub.proxy_port}"
    daemon = serve({"a.json": login_file(stub, "a", -5, proxy_url=proxy),
                    "b.json": login_file(stub, "b", -5)})
    rotated(daemon, stub, "a")
    rotated(daemon, stub, "b")
    assert len(stub.proxy_uses) == 1


# -- when it is refused -----------------------------------------------------

def test_refused_token_is_renewed_and_the_same_credential_asked(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a")})
    stub.tokens.expire("a")
    assert ask(daemon).status == 200
    assert [(e["account"], e["status"]) for e in stub.log] == [
        (stub.log[0]["key"], 401), ("a", 200)]
    assert stub.tokens.requests() == 1
    assert daemon.credentials()["a.json"]["state"] == "ready"


def test_refused_token_of_a_stream_likewise(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a")})
    stub.tokens.expire("a")
    status, frames = daemon.stream(CLAUDE, "hi", model=MODEL)
    assert status == 200 and "message_stop" in frames[-1]
    assert stub.tokens.requests() == 1


def test_expired_token_is_renewed_before_it_is_used(serve, stub):
    """Nothing goes out with it, though its refresh takes its time."""
    stub.tokens.fault("a", "delay", secs=0.5)
    daemon = serve({"a.json": login_file(stub, "a", -60)})
    assert ask(daemon).status == 200
    assert [e["account"] for e in stub.log] == ["a"]
    assert stub.tokens.requests() == 1


def test_many_waiting_requests_share_one_refresh(serve, stub):
    stub.tokens.fault("a", "delay", secs=0.5)
    daemon = serve({"a.json": login_file(stub, "a")}, {"workers": 3})
    stub.tokens.expire("a")
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: ask(daemon), range(24)))
    assert [a.status for a in answers] == [200] * 24
    assert stub.tokens.requests() == 1


def test_refused_again_after_the_refresh_is_an_outcome(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a", priority=1),
                    "b.json": login_file(stub, "b")})
    stub.fault("status", "a", times=-1, code=401)
    stub.tokens.expire("a")
    assert ask(daemon).status == 200
    assert [e["account"] for e in stub.log][1:] == ["a", "b"]
    assert ask(daemon).status == 200  # and it is out for that model
    assert [e["account"] for e in stub.log][3:] == ["b"]
    assert stub.tokens.requests("a") == 1


def test_failed_refresh_fails_over(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a", priority=1),
                    "b.json": login_file(stub, "b")})
    stub.tokens.fault("a", "refuse")
    stub.tokens.expire("a")
    assert ask(daemon).status == 200
    assert len(stub.log) == 2 and stub.log[1]["account"] == "b"
    assert stub.tokens.requests() == 1
    assert daemon.credentials()["a.json"]["state"] == "needs-login"


def test_token_without_a_refresh_token_is_never_waited_for(serve, stub):
    file = login_file(stub, "a")
    del file["refresh_token"]
    daemon = serve({"a.json": file})
    stub.tokens.expire("a")
    began = time.monotonic()
    assert ask(daemon).status == 401
    assert time.monotonic() - began < 5 * SLOW
    assert stub.tokens.requests() == 0


def test_same_token_again_is_no_loop(serve, stub):
    stub.tokens.fault("a", "same", -1)
    daemon = serve({"a.json": login_file(stub, "a")})
    stub.tokens.expire("a")
    stub.fault("status", times=-1, code=401)
    assert ask(daemon).status == 401
    assert stub.tokens.requests() == 1


# -- for good ---------------------------------------------------------------

@pytest.mark.parametrize("code,error", (
    (400, "invalid_grant"), (401, "whatever"),
    (400, {"code": "refresh_token_reused"}),
    (403, {"type": "invalid_grant", "message": "x"})))
def test_final_refusal_needs_a_login(serve, stub, code, error):
    stub.tokens.fault("a", "refuse", -1, code=code, error=error)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: daemon.credentials()["a.json"]["state"]
             == "needs-login", 10)
    assert ask(daemon).status == 200  # its token is good until it expires
    daemon.restart()
    row = wait_for(lambda: daemon.credentials()["a.json"]["reason"]
                   and daemon.credentials()["a.json"])
    assert row["state"] == "needs-login" and row["next_refresh"] is None
    assert stub.tokens.requests() == 1
    admin = Client(daemon.admin_port, key=None)
    page = json.loads(admin.get("/status.json").body)["credentials"][0]
    assert page["state"] == "needs-login" and page["next_refresh"] is None
    admin.close()
    stub.tokens.faults = []
    stub.tokens.login("a")
    daemon.auth_file("a.json", login_file(stub, "a", 60))
    rotated(daemon, stub, "a")
    assert daemon.credentials()["a.json"]["state"] == "ready"


def test_dead_login_is_out_of_the_way_when_its_token_expires(serve, stub):
    stub.tokens.fault("a", "refuse", -1)
    daemon = serve({"a.json": login_file(stub, "a", -1, priority=9),
                    "b.json": login_file(stub, "b")})
    wait_for(lambda: daemon.credentials()["a.json"]["state"]
             == "needs-login", 10)
    for _ in range(3):
        assert ask(daemon).status == 200
    assert {e["account"] for e in stub.log} == {"b"}
    assert stub.tokens.requests("a") == 1


def test_reset_and_refresh_by_hand_try_a_refused_login_again(serve, stub):
    stub.tokens.fault("a", "refuse", 2)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: daemon.credentials()["a.json"]["state"]
             == "needs-login", 10)
    done = daemon.ctl_run("credential", "a.json", "refresh")
    assert done.returncode == 1 and "invalid_grant" in done.stderr, done
    assert daemon.ctl_run("credential", "a.json", "reset").returncode == 0
    rotated(daemon, stub, "a")
    assert daemon.credentials()["a.json"]["state"] == "ready"


def test_refresh_by_hand(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a"),
                    "d.json": login_file(stub, "d", disabled=True)})
    assert daemon.ctl("credential", "a.json", "refresh")["ok"] is True
    assert stub.tokens.requests() == 1
    assert content(daemon, "a.json")["access_token"] == (
        stub.tokens.logins["a"].access_token)
    for name, why in (("d.json", "disabled"), ("x.json", "no credential")):
        done = daemon.ctl_run("credential", name, "refresh")
        assert done.returncode == 1 and why in done.stderr, done


def test_passing_failures_back_off(serve, stub):
    stub.tokens.fault("a", "status", 2, code=503)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: stub.tokens.requests() == 2, 10)
    row = wait_for(lambda: daemon.credentials()["a.json"]["last_error"]
                   and daemon.credentials()["a.json"])
    assert "503" in row["last_error"] and row["state"] == "ready"
    assert ask(daemon).status == 200
    rotated(daemon, stub, "a")
    at = [entry["at"] for entry in stub.tokens.log]
    assert at[1] - at[0] > 0.9 and at[2] - at[1] > 4.5


def test_too_many_requests_is_left_alone_as_long_as_it_says(serve, stub):
    stub.tokens.fault("a", "status", 1, code=429,
                      headers={"retry-after": 90})
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    row = wait_for(lambda: daemon.credentials()["a.json"]["last_error"]
                   and daemon.credentials()["a.json"])
    assert stamp(80) < row["next_refresh"] < stamp(95)


# -- exactly once -----------------------------------------------------------

def test_edit_while_a_refresh_is_under_way_survives(serve, stub):
    stub.tokens.fault("a", "delay", secs=1)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: stub.tokens.running == 1, 10)
    daemon.auth_file("a.json", login_file(stub, "a", 60, prefix="mine"))
    wait_for(lambda: daemon.credentials()["a.json"]["prefix"] == "mine")
    rotated(daemon, stub, "a")
    assert content(daemon, "a.json")["prefix"] == "mine"
    assert daemon.credentials()["a.json"]["prefix"] == "mine"
    assert stub.tokens.logins["a"].reused == 0


def test_disable_while_a_refresh_is_under_way_survives(serve, stub):
    stub.tokens.fault("a", "delay", secs=1)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: stub.tokens.running == 1, 10)
    daemon.ctl("credential", "a.json", "disable")
    rotated(daemon, stub, "a")
    assert content(daemon, "a.json")["disabled"] is True
    assert daemon.credentials()["a.json"]["state"] == "disabled"


def test_cooldown_survives_a_refresh(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a")})
    stub.fault("status", "a", code=429, headers={"retry-after": "600"})
    assert ask(daemon).status == 429
    before = daemon.credentials()["a.json"]
    assert before["state"] == "ready" or before["state"] == "cooling"
    daemon.ctl("credential", "a.json", "refresh")
    rotated(daemon, stub, "a")
    assert ask(daemon).status == 429
    assert len(stub.log) == 1


def test_outsider_that_rotates_meanwhile_wins(serve, stub):
    stub.tokens.fault("a", "delay", secs=1)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: stub.tokens.running == 1, 10)
    stub.tokens.login("b")
    daemon.auth_file("a.json", login_file(stub, "b", 10**7))
    wait_for(lambda: stub.tokens.logins["a"].rotations == 1, 10)
    daemon.log_has("a.json: its file was changed meanwhile")
    assert content(daemon, "a.json")["refresh_token"] == (
        stub.tokens.logins["b"].refresh_token)
    assert ask(daemon).status == 200
    assert stub.tokens.requests() == 1


def test_file_deleted_meanwhile_is_not_brought_back(serve, stub):
    stub.tokens.fault("a", "delay", secs=1)
    daemon = serve({"a.json": login_file(stub, "a", 60),
                    "b.json": login_file(stub, "b")})
    wait_for(lambda: stub.tokens.running == 1, 10)
    (daemon.auth_dir / "a.json").unlink()
    wait_for(lambda: stub.tokens.running == 0, 10)
    wait_for(lambda: "a.json" not in daemon.credentials())
    assert not (daemon.auth_dir / "a.json").exists()


def test_file_renamed_meanwhile_gets_the_new_tokens(serve, stub):
    stub.tokens.fault("a", "delay", secs=1)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: stub.tokens.running == 1, 10)
    (daemon.auth_dir / "a.json").rename(daemon.auth_dir / "z.json")
    rotated(daemon, stub, "a", "z.json")
    assert ask(daemon).status == 200
    assert not (daemon.auth_dir / "a.json").exists()
    assert stub.tokens.requests() == 1


def test_file_renamed_as_the_answer_comes_gets_the_new_tokens(serve, stub):
    stub.tokens.fault("a", "delay", secs=1)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: stub.tokens.running == 1, 10)
    wait_for(lambda: time.time() - stub.tokens.log[0]["at"] > 0.97)
    (daemon.auth_dir / "a.json").rename(daemon.auth_dir / "z.json")
    rotated(daemon, stub, "a", "z.json")
    assert stub.tokens.requests() == 1


def test_copies_of_a_file_share_one_refresh(serve, stub):
    """Its refresh token is good once."""
    stub.tokens.fault("a", "delay", secs=0.5)
    names = ("a.json", "b.json", "c.json")
    daemon = serve({name: login_file(stub, "a", 60,
                                     disabled=name == "c.json")
                    for name in names})
    for name in names:
        rotated(daemon, stub, "a", name)
    wait_for(lambda: all(daemon.credentials()[name]["next_refresh"]
                         for name in names[:2]))
    assert ask(daemon).status == 200
    assert content(daemon, "c.json")["disabled"] is True
    assert stub.tokens.requests() == 1


def test_lost_answer_is_not_asked_for_again_while_the_token_is_good(serve,
                                                                    stub):
    stub.tokens.keep_old = True
    stub.tokens.fault("a", "lose", -1)
    daemon = serve({"a.json": login_file(stub, "a", 600)})
    daemon.log_has("a.json: not refreshed: the answer was lost")
    assert ask(daemon).status == 200
    daemon.restart()
    assert ask(daemon).status == 200
    row = wait_for(lambda: daemon.credentials()["a.json"]["next_refresh"]
                   and daemon.credentials()["a.json"])
    assert stamp(500) < row["next_refresh"] < stamp(660)
    assert stub.tokens.requests() == 1
    assert stub.tokens.logins["a"].reused == 0


@pytest.mark.parametrize("body", ({}, {"access_token": ""}, "garbage"))
def test_answer_without_a_token_may_have_used_up_the_old_one(serve, stub,
                                                             body):
    stub.tokens.fault("a", "status", -1, code=200, body=body)
    daemon = serve({"a.json": login_file(stub, "a", 600)})
    daemon.log_has("a.json: not refreshed: .*no access token; again when")
    assert ask(daemon).status == 200
    assert stub.tokens.requests() == 1


def test_master_killed_in_a_refresh_does_not_repeat_it(serve, stub):
    stub.tokens.keep_old = True
    stub.tokens.fault("a", "delay", secs=30)
    daemon = serve({"a.json": login_file(stub, "a", 600)})
    wait_for(lambda: stub.tokens.running == 1, 10)
    daemon.kill9()
    daemon.start()
    assert ask(daemon).status == 200
    row = wait_for(lambda: daemon.credentials()["a.json"]["next_refresh"]
                   and daemon.credentials()["a.json"])
    assert stamp(500) < row["next_refresh"] < stamp(660)
    assert stub.tokens.requests() == 1
    content(daemon, "a.json")


def test_stop_waits_for_the_answer_that_is_on_its_way(serve, stub):
    stub.tokens.fault("a", "delay", secs=1)
    daemon = serve({"a.json": login_file(stub, "a", 60)})
    wait_for(lambda: stub.tokens.running == 1, 10)
    daemon.stop()
    assert content(daemon, "a.json")["refresh_token"] == (
        stub.tokens.logins["a"].refresh_token)
    assert stub.tokens.logins["a"].rotations == 1


def test_no_refresh_where_its_tokens_could_not_be_saved(serve, stub):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    daemon = serve({"a.json": login_file(stub, "a")})
    daemon.auth_dir.chmod(0o500)
    try:
        stub.tokens.expire("a")
        assert ask(daemon).status == 401
        daemon.log_has("a.json: not refreshed: new tokens could not be saved")
        assert stub.tokens.requests() == 0
    finally:
        daemon.auth_dir.chmod(0o700)


# -- many -------------------------------------------------------------------

CREDENTIALS = int(os.environ.get("FAIRLEAD_REFRESH_CREDENTIALS", "12"))
REQUESTS = int(os.environ.get("FAIRLEAD_REFRESH_REQUESTS", "96"))
WORKERS = int(os.environ.get("FAIRLEAD_REFRESH_WORKERS", "3"))


async def ask_all_at_once(daemon, count: int) -> list[int]:
    """The statuses of requests of which none waits for another."""
    body = json.dumps(CLAUDE.body("hi", model=MODEL)).encode()
    head = (f"POST {CLAUDE.path()} HTTP/1.1\r\nHost: x\r\n"
            f"x-api-key: {CLIENT_KEY}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    opening = asyncio.Semaphore(200)

    async def one() -> int:
        async with opening:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", daemon.port)
            writer.write(head + body)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1]) if answer else 0

    return await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.limit(600)
def test_all_expire_in_the_same_second_and_no_request_fails(serve, stub):
    """One token request each, however many requests wait in how many
    workers."""
    stub.tokens.fault(None, "delay", -1, secs=0.2)
    names = [f"c{n:03}" for n in range(CREDENTIALS)]
    daemon = serve({f"{name}.json": login_file(stub, name)
                    for name in names}, {"workers": WORKERS})
    for name in names:
        stub.tokens.expire(name)
        daemon.auth_file(f"{name}.json", login_file(stub, name, -1))
    statuses = asyncio.run(ask_all_at_once(daemon, REQUESTS))
    assert statuses == [200] * REQUESTS
    assert stub.tokens.requests() == CREDENTIALS
    assert all(stub.tokens.requests(name) == 1 for name in names)
    assert all(login.reused == 0 for login in stub.tokens.logins.values())
    assert stub.tokens.most_running <= 16


# -- service accounts -------------------------------------------------------

def service_account(stub, directory, **more) -> dict:
    key = directory / "sa.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"],
                   check=True, capture_output=True)
    return {"type": "vertex", "project_id": "p-1", "base_url": stub.url,
            "location": "europe-west4", "service_account": {
                "client_email": "robot@p-1.test", "private_key_id": "k1",
                "private_key": key.read_text(),
                "token_uri": stub.tokens.url}, **more}


def ask_vertex(daemon):
    return daemon.ask(GEMINI, "hi", model="gemini-2.5-pro")


def test_service_account_signs_for_its_tokens(serve, stub, tmp_path):
    file = service_account(stub, tmp_path)
    daemon = serve({"v.json": file})
    text = (daemon.auth_dir / "v.json").read_text()
    wait_for(lambda: daemon.credentials()["v.json"]["state"] == "ready", 10)
    assert ask_vertex(daemon).status == 200
    seen = stub.log[-1]
    assert seen["path"].startswith("/v1/publishers/google/models/gemini-2.5")
    assert seen["key"] == stub.tokens.logins["robot@p-1.test"].access_token
    made = stub.tokens.assertions[0]
    assert made["head"] == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    claims = made["claims"]
    assert claims["aud"] == stub.tokens.url
    assert claims["scope"].endswith("/auth/cloud-platform")
    assert claims["exp"] - claims["iat"] == 3600
    head, payload, signature = made["text"].split(".")
    (tmp_path / "sig").write_bytes(base64.urlsafe_b64decode(signature + "=="))
    (tmp_path / "signed").write_text(f"{head}.{payload}")
    subprocess.run(["openssl", "dgst", "-sha256", "-prverify",
                    str(tmp_path / "sa.pem"), "-signature",
                    str(tmp_path / "sig"), str(tmp_path / "signed")],
                   check=True, capture_output=True)
    assert (daemon.auth_dir / "v.json").read_text() == text
    assert stub.tokens.requests() == 1


def test_service_account_whose_token_is_refused_signs_again(serve, stub,
                                                            tmp_path):
    daemon = serve({"v.json": service_account(stub, tmp_path)})
    wait_for(lambda: daemon.credentials()["v.json"]["state"] == "ready", 10)
    stub.tokens.expire("robot@p-1.test")
    daemon.auth_file("v.json", service_account(stub, tmp_path, note="new"))
    wait_for(lambda: stub.tokens.requests() == 2, 10)
    wait_for(lambda: ask_vertex(daemon).status == 200, 5)


def test_service_account_survives_a_reload_and_an_edit(serve, stub,
                                                       tmp_path):
    file = service_account(stub, tmp_path)
    daemon = serve({"v.json": file})
    wait_for(lambda: daemon.credentials()["v.json"]["state"] == "ready", 10)
    daemon.with_config(transient_error_cooldown="61s").reload()
    assert ask_vertex(daemon).status == 200
    assert stub.tokens.requests() == 1
    daemon.auth_file("v.json", {**file, "prefix": "mine"})
    wait_for(lambda: daemon.credentials()["v.json"]["prefix"] == "mine")
    wait_for(lambda: ask_vertex(daemon).status == 200, 5)


# -- secrets ----------------------------------------------------------------

def memory_holds(pid: int, words: list[bytes]) -> list[bytes]:
    """Which of these the process has anywhere in its memory."""
    found = set()
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(
            f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, mode = line.split()[:2]
            begin, end = (int(part, 16) for part in span.split("-"))
            # Databases are mapped far beyond their end, and sanitisers map
            # terabytes that nobody has touched.
            end = min(end, begin + (64 << 20))
            if "r" in mode:
                found |= words_between(mem, begin, end, words)
    return sorted(found)


def words_between(mem, begin: int, end: int,
                  words: list[bytes]) -> set[bytes]:
    found, rest = set(), b""
    for at in range(begin, end, 1 << 20):
        try:
            mem.seek(at)
            data = mem.read(min(1 << 20, end - at))
        except (OSError, OverflowError):
            break
        found |= {word for word in words if word in rest + data}
        rest = data[-4096:]
    return found


def test_refresh_tokens_and_secrets_stay_in_the_master(serve, stub,
                                                       tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may look into the daemon")
    daemon = serve(
        {"a.json": login_file(stub, "a", -1),
         "b.json": login_file(stub, "b", client_secret=CANARY + "secret-b"),
         "v.json": service_account(stub, tmp_path)},
        endpoint(stub, **{"client-secret": CANARY + "secret-c"}))
    old = [stub.tokens.logins[name].refresh_token for name in "ab"]
    rotated(daemon, stub, "a")
    daemon.ctl("credential", "b.json", "refresh")
    wait_for(lambda: daemon.credentials()["v.json"]["state"] == "ready", 10)
    daemon.reload()
    assert ask(daemon).status == 200
    key = json.loads((daemon.auth_dir / "v.json").read_text())[
        "service_account"]["private_key"].splitlines()[5]
    secret = [word.encode() for word in [
        *old, *(login.refresh_token for login in stub.tokens.logins.values()
                if login.name in "ab"),
        CANARY + "secret-b", CANARY + "secret-c", key]]
    shared = stub.tokens.logins["a"].access_token.encode()
    for pid in daemon.settled_workers():
        assert memory_holds(pid, secret) == []
        for name in ("environ", "cmdline"):
            text = open(f"/proc/{pid}/{name}", "rb").read()
            assert not any(word in text for word in [*secret, shared])
    # The search does find what is there.
    assert any(memory_holds(pid, [shared]) for pid in daemon.worker_pids())
    for path in [*daemon.state_dir.rglob("*"), *daemon.runtime_dir.rglob("*"),
                 daemon.log_file]:
        if path.is_file() and path.name != "board":
            data = path.read_bytes()
            assert not any(word in data for word in secret), path
    limits = open(f"/proc/{daemon.pid}/limits", encoding="ascii").read()
    core = next(line for line in limits.splitlines() if "core file" in line)
    assert core.split()[4:6] == ["0", "0"], core


# -- a clean start ----------------------------------------------------------

@pytest.mark.parametrize("by_file", (False, True))
def test_disable_and_enable_starts_clean(serve, stub, by_file):
    """No cooldown and no back-off of before."""
    stub.tokens.fault("a", "status", 1, code=429,
                      headers={"retry-after": 300})
    daemon = serve({"a.json": login_file(stub, "a", 600)})
    wait_for(lambda: daemon.credentials()["a.json"]["last_error"], 10)
    stub.fault("status", "a", code=429, headers={"retry-after": "600"})
    assert ask(daemon).status == 429
    for disabled in (True, False):
        if by_file:
            daemon.auth_file("a.json", {**content(daemon, "a.json"),
                                        "disabled": disabled})
        else:
            daemon.ctl("credential", "a.json",
                       "disable" if disabled else "enable")
        wait_for(lambda wanted=disabled: (daemon.credentials()["a.json"][
            "state"] == "disabled") == wanted)
    rotated(daemon, stub, "a")
    assert ask(daemon).status == 200
    assert daemon.credentials()["a.json"]["last_error"] is None or (
        "refresh" not in daemon.credentials()["a.json"]["last_error"])


def test_edit_of_an_enabled_file_keeps_its_cooldown(serve, stub):
    daemon = serve({"a.json": login_file(stub, "a")})
    stub.fault("status", "a", code=429, headers={"retry-after": "600"})
    assert ask(daemon).status == 429
    daemon.auth_file("a.json", login_file(stub, "a", priority=3))
    wait_for(lambda: daemon.credentials()["a.json"]["priority"] == 3)
    assert ask(daemon).status == 429
    assert len(stub.log) == 1


def test_recreated_file_starts_clean(serve, stub):
    stub.tokens.fault("a", "refuse")
    daemon = serve({"a.json": login_file(stub, "a", 600)})
    wait_for(lambda: daemon.credentials()["a.json"]["state"]
             == "needs-login", 10)
    text = (daemon.auth_dir / "a.json").read_text()
    (daemon.auth_dir / "a.json").unlink()
    wait_for(lambda: "a.json" not in daemon.credentials())
    daemon.auth_file("a.json", text)
    rotated(daemon, stub, "a")
    assert daemon.credentials()["a.json"]["state"] == "ready"
