# SPDX-License-Identifier: MIT
"""Requests of one session keep going to one credential."""

import collections
import concurrent.futures
import json
import signal
import socket
import time
import uuid

import pytest

from harness import (CLAUDE, CLIENT_KEY, DIALECTS, GEMINI, OPENAI, OTHER_KEY,
                     ROOT, SLOW, accounts_used, each_dialect,
                     merged, pool, wait_for)

AFFINITY = {"routing": {"session-affinity": True}}


@pytest.fixture
def sticky(make_daemon, stub):
    """Three accounts of every provider, affinity on."""
    return make_daemon(merged(pool(stub, count=3), AFFINITY))


def sid(tag: str = "s") -> str:
    return f"{tag}-{uuid.uuid4()}"


def served_by(daemon, stub, dialect, *turns, **more) -> str:
    answer = daemon.ask(dialect, *turns, **more)
    assert answer.status == 200, answer
    return stub.log[-1]["account"]


# -- sources ----------------------------------------------------------------
# name -> (source as `sessions` shows it, headers, body fields)

def sources(value: str) -> dict[str, tuple[dict, dict]]:
    claude_json = json.dumps({"device_id": "d" * 64, "account_uuid": "",
                              "session_id": value})
    return {
        "claude-code-header": ({"X-Claude-Code-Session-Id": value}, {}),
        "claude-code-json": ({}, {"metadata": {"user_id": claude_json}}),
        "claude-code-old": ({}, {"metadata": {
            "user_id": f"user_{'a' * 64}_account__session_"
                       + value.partition("-")[2]}}),
        "session-id": ({"session-id": value}, {}),
        "session_id": ({"session_id": value}, {}),
        "x-opencode-session": ({"x-opencode-session": value}, {}),
        "x-session-id": ({"x-session-id": value}, {}),
        "x-session-affinity": ({"x-session-affinity": value}, {}),
        "x-amp-thread-id": ({"x-amp-thread-id": "T-" + value}, {}),
        "body-session_id": ({}, {"session_id": value}),
        "body-sessionId": ({}, {"sessionId": value}),
        "body-request.session_id": ({}, {"request": {"session_id": value}}),
        "prompt_cache_key": ({}, {"prompt_cache_key": value}),
        "promptCacheKey": ({}, {"promptCacheKey": value}),
        "conversation.id": ({}, {"conversation": {"id": value}}),
        "conversation": ({}, {"conversation": value}),
        "metadata.user_id": ({}, {"metadata": {"user_id": value}}),
        "conversation_id": ({}, {"conversation_id": value}),
    }


@pytest.mark.parametrize("source", sources(""))
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_every_source_sticks(sticky, stub, dialect, source):
    """Ten requests with nothing else in common go to one credential, and
    twelve sessions do not all go to the same one."""
    homes = []
    for _ in range(3):
        headers, fields = sources(sid())[source]
        for _ in range(4):
            answer = sticky.ask(dialect, f"text {uuid.uuid4()}",
                                headers=headers, **fields)
            assert answer.status == 200, answer
        used = set(accounts_used(stub)[-4:])
        assert len(used) == 1, source
        homes += used
    assert len(set(homes)) == 3, "new sessions spread evenly"


def source_of(daemon, stub, headers, fields, dialect=CLAUDE) -> str:
    """The source of the one session that this request makes."""
    before = {row["key"] for row in daemon.sessions()["sessions"]}
    assert daemon.ask(dialect, sid("text"), headers=headers,
                      **fields).status == 200
    (row,) = [row for row in daemon.sessions()["sessions"]
              if row["key"] not in before]
    return row["source"]


def test_order_of_the_sources(sticky, stub):
    """With all at once each wins over all below it in the table."""
    order = ["claude-code-header", "claude-code-json", "session-id",
             "session_id", "x-opencode-session", "x-session-id",
             "x-session-affinity", "x-amp-thread-id", "body-session_id",
             "body-sessionId", "body-request.session_id", "prompt_cache_key",
             "promptCacheKey", "conversation.id", "metadata.user_id",
             "conversation_id"]
    for index, name in enumerate(order):
        # The winner's value is the only one that stays the same.
        value = sid("winner")
        homes = set()
        for _ in range(4):
            headers, fields = {}, {}
            for lower in reversed(order[index:]):
                given = value if lower == name else sid("other")
                more_headers, more_fields = sources(given)[lower]
                headers.update(more_headers)
                fields.update(more_fields)
            homes.add(served_by(sticky, stub, CLAUDE, sid("text"),
                                headers=headers, **fields))
        assert len(homes) == 1, name


@pytest.mark.parametrize("name", (
    "Idempotency-Key", "X-Client-Request-Id", "x-request-id",
    "x-codex-turn-state", "user-agent", "thread-id"))
def test_what_is_not_a_session(sticky, stub, name):
    """Equal values of these bind nothing together."""
    value = sid()
    for _ in range(3):
        served_by(sticky, stub, OPENAI, sid("text"), headers={name: value})
    assert len(set(accounts_used(stub))) == 3


@pytest.mark.parametrize("value, valid", (
    ("x" * 256, True), ("x" * 257, False), ("   ", False), ("", False),
    ("a\tb", False), ("  padded  ", True)))
def test_invalid_value_falls_through_to_the_next_source(sticky, stub, value,
                                                        valid):
    """An invalid stronger signal must not hide a valid weaker one."""
    weaker = sid()
    homes = {served_by(sticky, stub, OPENAI, sid("text"), headers={
        "X-Session-ID": value, "X-Session-Affinity": weaker})
        for _ in range(3)}
    assert len(homes) == 1
    again = served_by(sticky, stub, OPENAI, sid("text"),
                      headers={"X-Session-Affinity": weaker})
    shown = {row["source"].lower() for row in
             sticky.sessions()["sessions"]}
    if valid:
        assert any("x-session-id" in source for source in shown), shown
    else:
        assert again in homes


def test_header_values_are_trimmed(sticky, stub):
    value = sid()
    first = served_by(sticky, stub, OPENAI, sid("text"),
                      headers={"X-Session-ID": value})
    for padded in (" " + value, value + "  "):
        assert served_by(sticky, stub, OPENAI, sid("text"), headers={
            "X-Session-ID": padded}) == first


def test_body_numbers_are_session_ids_too(sticky, stub):
    homes = {served_by(sticky, stub, OPENAI, sid("text"), session_id=4711)
             for _ in range(3)}
    assert len(homes) == 1


def test_first_valid_of_two_headers_of_one_name(sticky, stub):
    value = sid()
    body = json.dumps(OPENAI.body("x")).encode()
    homes = set()
    for _ in range(3):
        with sticky.client() as client:
            assert client.post(OPENAI.path(), body, [
                ("X-Session-ID", "bad\tvalue"),
                ("X-Session-ID", value)]).status == 200
        homes.add(stub.log[-1]["account"])
    assert len(homes) == 1


# -- the message hash -------------------------------------------------------

@each_dialect
@pytest.mark.parametrize("system", ("", "You are a careful assistant."))
def test_conversation_without_any_id_sticks(sticky, stub, dialect, system):
    """Turn 2 inherits turn 1's credential, and all later ones too."""
    homes = []
    for _ in range(3):
        turns = [f"first question {uuid.uuid4()}"]
        used = set()
        for number in range(4):
            used.add(served_by(sticky, stub, dialect, *turns,
                               system=system))
            turns += [f"answer {number}", f"question {number}"]
        assert len(used) == 1
        homes += used
    assert len(set(homes)) == 3


def test_moved_cache_control_does_not_move_the_session(sticky, stub):
    text = f"the question {uuid.uuid4()}"
    mark = {"cache_control": {"type": "ephemeral"}}
    homes = set()
    for content in (text, [{"type": "text", "text": text}],
                    [{"type": "text", "text": text, **mark}]):
        body = {"model": "claude-stub", "max_tokens": 9, "messages": [
            {"role": "user", "content": content}]}
        assert sticky.post("/v1/messages", body).status == 200
        homes.add(stub.log[-1]["account"])
    assert len(homes) == 1


def test_long_prompts_that_begin_alike(sticky, stub):
    """The first 100 bytes identify a text in the message hash."""
    start = str(uuid.uuid4()) * 3
    assert len(start) > 100
    homes = {served_by(sticky, stub, OPENAI, start + sid())
             for _ in range(3)}
    assert len(homes) == 1


# -- scope ------------------------------------------------------------------

def test_two_tenants_with_equal_sessions_are_two_sessions(sticky, stub):
    value = {"x-session-id": sid()}
    homes = {CLIENT_KEY: set(), OTHER_KEY: set()}
    for _ in range(4):
        for key, home in homes.items():
            home.add(served_by(sticky, stub, OPENAI, "hi", headers=value,
                               key=key))
    assert [len(home) for home in homes.values()] == [1, 1]
    assert homes[CLIENT_KEY] != homes[OTHER_KEY]
    assert sticky.sessions()["total"] == 2


def test_one_session_binds_separately_per_model(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    for row in config["claude-api-key"]:
        row["models"] = [{"name": "model-a"}, {"name": "model-b"}]
    daemon = make_daemon(merged(config, AFFINITY))
    headers = {"x-session-id": sid()}
    used = {}
    for model in ("model-a", "model-b") * 2:
        used.setdefault(model, set()).add(served_by(
            daemon, stub, CLAUDE, "hi", model=model, headers=headers))
    assert all(len(home) == 1 for home in used.values())
    assert daemon.sessions()["total"] == 2


def two_models(stub, count: int) -> dict:
    config = pool(stub, "claude", count=count)
    for row in config["claude-api-key"]:
        row["models"] = [{"name": "model-a"}, {"name": "model-b"}]
    return merged(config, AFFINITY)


def test_second_model_begins_where_the_session_is_served(make_daemon, stub):
    daemon = make_daemon(two_models(stub, 3))
    homes = set()
    for _ in range(6):
        headers = {"x-session-id": sid()}
        home = {served_by(daemon, stub, CLAUDE, "hi", model=model,
                          headers=headers) for model in ("model-a", "model-b")}
        assert len(home) == 1
        homes |= home
    assert len(homes) == 3


def test_second_model_does_not_wait_for_a_credential_that_is_out(
        make_daemon, stub):
    daemon = make_daemon(two_models(stub, 2))
    headers = {"x-session-id": sid()}
    home = served_by(daemon, stub, CLAUDE, "hi", model="model-a",
                     headers=headers)
    stub.fault("status", account=home, code=401)
    new = served_by(daemon, stub, CLAUDE, "hi", model="model-b",
                    headers=headers)
    assert new != home
    # Each is bound for itself.
    for _ in range(3):
        assert served_by(daemon, stub, CLAUDE, "hi", model="model-b",
                         headers=headers) == new
        assert served_by(daemon, stub, CLAUDE, "hi", model="model-a",
                         headers=headers) == home


@pytest.mark.parametrize("child, parent", [
    ({"x-session-id": "ses-child", "x-session-affinity": "ses-child",
      "x-parent-session-id": "ses-parent"},
     {"x-session-id": "ses-parent", "x-session-affinity": "ses-parent"}),
    ({"x-opencode-session": "ses-child",
      "x-parent-session-id": "ses-parent"},
     {"x-opencode-session": "ses-parent"}),
    ({"session-id": "thread-child",
      "x-codex-parent-thread-id": "thread-parent"},
     {"session-id": "thread-parent"}),
], ids=("opencode", "opencode-own", "codex"))
def test_sub_agent_begins_on_its_parents_credential(sticky, stub, child,
                                                    parent):
    served_by(sticky, stub, CLAUDE, "x", headers={"x-session-id": sid()})
    home = served_by(sticky, stub, CLAUDE, "hi", headers=parent)
    assert served_by(sticky, stub, CLAUDE, "task", headers=child) == home
    assert sticky.sessions()["total"] == 3
    # The sub-agent has a session of its own, which the parent's move leaves.
    stub.fault("status", account=home, code=429, headers={"retry-after": "1"})
    moved = served_by(sticky, stub, CLAUDE, "on", headers=parent)
    wait_for(lambda: sticky.models()["claude-stub"]["ready"] == 3, 5)
    assert moved != home
    assert served_by(sticky, stub, CLAUDE, "go", headers=child) == home


def test_conversation_and_cache_key_are_one_session(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "openai", count=3), AFFINITY))
    key, conv = sid("key"), sid("conv")

    def used(**fields) -> str:
        return served_by(daemon, stub, OPENAI, "hi", **fields)

    home = used(prompt_cache_key=key)
    assert used(prompt_cache_key=key, conversation=conv) == home
    assert used(conversation=conv) == home
    assert used(prompt_cache_key=sid("key"), conversation={"id": conv}) == home
    assert daemon.sessions()["total"] == 1
    stub.fault("status", account=home, code=500)
    new = used(conversation=conv)
    assert new != home
    assert used(prompt_cache_key=key, conversation=conv) == new


def test_suffix_variants_of_a_model_share_the_binding(sticky, stub):
    headers = {"x-session-id": sid()}
    homes = set()
    for model in ("claude-stub", "claude-stub(high)", "claude-stub(1024)"):
        answer = sticky.ask(CLAUDE, "hi", model=model, headers=headers)
        assert answer.status == 200, answer
        homes.add(stub.log[-1]["account"])
    assert len(homes) == 1


# -- parallel ---------------------------------------------------------------

@pytest.mark.parametrize("dialect", (CLAUDE, GEMINI), ids=lambda d: d.name)
def test_64_parallel_first_requests_land_on_one_credential(make_daemon, stub,
                                                           dialect):
    daemon = make_daemon(merged(pool(stub, count=4),
                                {"workers": 4, **AFFINITY}))
    for _ in range(3):
        headers = {"x-session-id": sid()}
        del stub.log[:]
        with concurrent.futures.ThreadPoolExecutor(64) as threads:
            answers = list(threads.map(lambda n, rows=headers: daemon.ask(
                dialect, f"text {n}", headers=rows).status, range(64)))
        assert answers == [200] * 64
        assert len(set(accounts_used(stub))) == 1


def test_64_first_requests_released_in_one_instant(make_daemon, stub):
    """All have arrived but for a last byte; then these are sent at once."""
    daemon = make_daemon(merged(pool(stub, "claude", count=4),
                                {"workers": 4, **AFFINITY}))
    for turn in range(5):
        del stub.log[:]
        socks = []
        for n in range(64):
            body = json.dumps(CLAUDE.body(f"text {n}")).encode()
            sock = socket.create_connection(("127.0.0.1", daemon.port),
                                            timeout=20 * SLOW)
            sock.sendall(f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n"
                         f"X-Api-Key: {CLIENT_KEY}\r\nX-Session-ID: s{turn}"
                         f"\r\nConnection: close\r\nContent-Length: "
                         f"{len(body)}\r\n\r\n".encode() + body[:-1])
            socks.append(sock)
        for sock in socks:
            sock.send(b"}")
        for sock in socks:
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
            sock.close()
        assert len(stub.log) == 64
        assert len(set(accounts_used(stub))) == 1


def test_new_sessions_spread_evenly_also_in_parallel(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=3), AFFINITY))
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda n: [daemon.ask(
            CLAUDE, "hi", headers={"x-session-id": f"s{n}"})
            for _ in range(2)], range(30)))
    by = daemon.sessions()["by_credential"]
    assert sorted(by.values()) == [10, 10, 10]


def test_turns_of_a_session_do_not_move_the_rotation(sticky, stub):
    headers = [{"x-session-id": sid()} for _ in range(3)]
    first = served_by(sticky, stub, CLAUDE, "hi", headers=headers[0])
    for _ in range(5):
        served_by(sticky, stub, CLAUDE, "hi", headers=headers[0])
    others = {served_by(sticky, stub, CLAUDE, "hi", headers=row)
              for row in headers[1:]}
    assert len(others | {first}) == 3


# -- moving -----------------------------------------------------------------

@pytest.mark.parametrize("code", (401, 402, 403, 404, 408, 429, 500, 503))
def test_session_moves_once_and_stays(sticky, stub, code):
    headers = {"x-session-id": sid()}
    home = served_by(sticky, stub, CLAUDE, "hi", headers=headers)
    stub.fault("status", account=home, code=code,
               headers={"retry-after": "1"} if code == 429 else {})
    new = served_by(sticky, stub, CLAUDE, "hi", headers=headers)
    assert new != home
    (row,) = sticky.sessions()["sessions"]
    if code == 429:
        wait_for(lambda: sticky.models()["claude-stub"]["ready"] == 3, 5)
    for _ in range(4):
        assert served_by(sticky, stub, CLAUDE, "hi", headers=headers) == new
    assert sticky.sessions()["total"] == 1
    assert row["credential"]


def test_parallel_requests_agree_on_the_replacement(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=4),
                                {"workers": 4, **AFFINITY}))
    headers = {"x-session-id": sid()}
    home = served_by(daemon, stub, CLAUDE, "hi", headers=headers)
    stub.fault("status", account=home, code=429, times=-1,
               headers={"retry-after": "600"})
    del stub.log[:]
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda n: daemon.ask(
            CLAUDE, f"x {n}", headers=headers).status, range(32)))
    assert answers == [200] * 32
    assert len(set(accounts_used(stub)) - {home}) == 1


def test_request_fault_does_not_move_the_session(sticky, stub):
    headers = {"x-session-id": sid()}
    home = served_by(sticky, stub, CLAUDE, "hi", headers=headers)
    stub.fault("status", code=400)
    assert sticky.ask(CLAUDE, "bad", headers=headers).status == 400
    assert served_by(sticky, stub, CLAUDE, "hi", headers=headers) == home


def test_broken_shared_path_does_not_move_the_session(sticky, stub):
    headers = {"x-session-id": sid()}
    home = served_by(sticky, stub, CLAUDE, "hi", headers=headers)
    for opts in ({}, {"rst": True}):
        stub.fault("drop_start", **opts)
        assert sticky.ask(CLAUDE, "hi", headers=headers).status == 200
        assert stub.log[-1]["account"] == home
    assert set(accounts_used(stub)) == {home}


def test_mid_stream_break_does_not_lose_the_session(sticky, stub):
    headers = {"x-session-id": sid()}
    home = served_by(sticky, stub, CLAUDE, "hi", headers=headers)
    stub.fault("drop_mid", after=2)
    sticky.stream(CLAUDE, "hi", headers=headers)
    assert served_by(sticky, stub, CLAUDE, "hi", headers=headers) == home


WAIT = {"routing": {"session-affinity": True,
                    "session-affinity-wait": "10s"}}


def test_request_waits_for_a_credential_that_is_back_soon(make_daemon, stub):
    """Both the one that is refused there and those that come meanwhile."""
    daemon = make_daemon(merged(pool(stub, "claude", count=3), WAIT))
    headers = {"x-session-id": sid()}
    home = served_by(daemon, stub, CLAUDE, "hi", headers=headers)
    stub.fault("status", account=home, code=429, headers={"retry-after": "1"})
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda n: daemon.ask(
            CLAUDE, f"x {n}", headers=headers).status, range(4)))
    assert answers == [200] * 4
    assert set(accounts_used(stub)) == {home}
    assert time.monotonic() - start >= 0.9
    assert daemon.sessions()["total"] == 1


def test_request_does_not_wait_for_long(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=2), WAIT))
    headers = {"x-session-id": sid()}
    home = served_by(daemon, stub, CLAUDE, "hi", headers=headers)
    stub.fault("status", account=home, code=429, headers={"retry-after": "60"})
    start = time.monotonic()
    assert served_by(daemon, stub, CLAUDE, "hi", headers=headers) != home
    assert time.monotonic() - start < 5


def test_client_that_leaves_ends_the_wait(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=2), WAIT))
    headers = {"x-session-id": sid()}
    home = served_by(daemon, stub, CLAUDE, "hi", headers=headers)
    stub.fault("status", account=home, code=429, headers={"retry-after": "2"})
    before = len(stub.log)
    with daemon.client(timeout=0.5 / SLOW) as client:
        with pytest.raises(OSError):
            client.post(CLAUDE.path(), CLAUDE.body("bye"), headers=headers)
    # Whoever waits with it is served there when it is back.
    assert served_by(daemon, stub, CLAUDE, "stay", headers=headers) == home
    asked = [row["account"] for row in stub.log[before:]]
    assert asked == [home, home]


def test_live_binding_outranks_priority(make_daemon, stub):
    """What recovers does not pull warm sessions back."""
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["priority"] = 9
    daemon = make_daemon(merged(config, AFFINITY))
    headers = {"x-session-id": sid()}
    assert served_by(daemon, stub, CLAUDE, "hi", headers=headers) == "claude1"
    stub.fault("status", account="claude1", code=429,
               headers={"retry-after": "1"})
    assert served_by(daemon, stub, CLAUDE, "hi", headers=headers) == "claude2"
    wait_for(lambda: daemon.models()["claude-stub"]["ready"] == 2, 5)
    assert served_by(daemon, stub, CLAUDE, "hi", headers=headers) == "claude2"
    assert served_by(daemon, stub, CLAUDE, "hi",
                     headers={"x-session-id": sid()}) == "claude1"
    stub.fault("status", account="claude2", code=429)
    assert served_by(daemon, stub, CLAUDE, "hi", headers=headers) == "claude1"


def test_removed_credential_gives_its_sessions_up(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=2), AFFINITY))
    headers = [{"x-session-id": sid()} for _ in range(4)]
    homes = [served_by(daemon, stub, CLAUDE, "hi", headers=row)
             for row in headers]
    assert set(homes) == {"claude1", "claude2"}
    rows = pool(stub, "claude", count=2)["claude-api-key"]
    daemon.with_config(**{"claude-api-key": rows[1:]})
    daemon.reload()
    for row in headers:
        assert served_by(daemon, stub, CLAUDE, "hi",
                         headers=row) == "claude2"
    daemon.with_config(**{"claude-api-key": rows})
    daemon.reload()
    for row in headers:
        assert served_by(daemon, stub, CLAUDE, "hi",
                         headers=row) == "claude2", "never pulled back"


# -- memory -----------------------------------------------------------------

def homes_of(daemon, stub, sessions) -> list[str]:
    return [served_by(daemon, stub, OPENAI, "hi", headers={
        "x-session-id": session}) for session in sessions]


@pytest.mark.parametrize("how", ("hup", "hup-respawn", "restart", "kill9",
                                 "quit"))
def test_bindings_survive(sticky, stub, how):
    sessions = [sid() for _ in range(7)]
    before = homes_of(sticky, stub, sessions)
    assert len(set(before)) == 3
    # Shift the rotation, so that new sessions would not land alike.
    served_by(sticky, stub, OPENAI, sid("other"))
    if how == "hup":
        sticky.hup()
    elif how == "hup-respawn":
        sticky.with_config(limits={"header-timeout": "9s"}).hup()
    elif how == "restart":
        sticky.restart()
    elif how == "quit":
        sticky.stop(signal.SIGQUIT)
        sticky.start()
    else:
        sticky.kill9()
        sticky.start()
    assert homes_of(sticky, stub, sessions) == before
    assert sticky.sessions()["total"] >= 7


def test_bindings_survive_adding_a_credential(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "openai", count=2), AFFINITY))
    sessions = [sid() for _ in range(6)]
    before = homes_of(daemon, stub, sessions)
    daemon.with_config(**pool(stub, "openai", count=4)).reload()
    assert homes_of(daemon, stub, sessions) == before
    new = {served_by(daemon, stub, OPENAI, sid("new")) for _ in range(8)}
    assert len(new) == 4


def test_ttl_slides_and_ends(make_daemon, stub):
    """A session that rests longer than its TTL is a new one."""
    daemon = make_daemon(merged(pool(stub, "claude", count=3), {
        "routing": {"session-affinity": True,
                    "session-affinity-ttl": "2s"}}))
    headers = {"x-session-id": sid()}
    home = served_by(daemon, stub, CLAUDE, "hi", headers=headers)
    for _ in range(5):  # 3.5 s in all: it lives because it is used
        time.sleep(0.7)
        assert served_by(daemon, stub, CLAUDE, "hi",
                         headers=headers) == home
    (row,) = daemon.sessions()["sessions"]
    assert 0 < row["expires_s"] <= 2.5
    wait_for(lambda: daemon.sessions()["total"] == 0, 8 * SLOW,
             "the sweep to remove the session")


def test_new_ttl_applies_at_the_next_touch(sticky, stub):
    headers = {"x-session-id": sid()}
    home = served_by(sticky, stub, CLAUDE, "hi", headers=headers)
    (row,) = sticky.sessions()["sessions"]
    assert row["expires_s"] > 3500
    sticky.with_config(routing={"session-affinity-ttl": "2h"}).hup()
    assert served_by(sticky, stub, CLAUDE, "hi", headers=headers) == home
    (row,) = sticky.sessions()["sessions"]
    assert row["expires_s"] > 7100


def test_more_sessions_than_allowed_drop_the_oldest(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=3), {
        "routing": {"session-affinity": True, "max-sessions": 10}}))
    for n in range(30):
        served_by(daemon, stub, CLAUDE, "hi",
                  headers={"x-session-id": f"s{n}"})
    wait_for(lambda: daemon.sessions()["total"] <= 10, 10)
    kept = {row["key"] for row in daemon.sessions()["sessions"]}
    home = served_by(daemon, stub, CLAUDE, "hi",
                     headers={"x-session-id": "s29"})
    assert served_by(daemon, stub, CLAUDE, "hi",
                     headers={"x-session-id": "s29"}) == home
    assert len(kept) >= 5, "not all of them"


def test_affinity_switched_off_ignores_bindings_and_keeps_them(sticky, stub):
    headers = {"x-session-id": sid()}
    home = served_by(sticky, stub, CLAUDE, "hi", headers=headers)
    sticky.with_config(routing={"session-affinity": False}).hup()
    used = {served_by(sticky, stub, CLAUDE, "hi", headers=headers)
            for _ in range(6)}
    assert len(used) == 3
    sticky.with_config(routing={"session-affinity": True}).hup()
    for _ in range(3):
        assert served_by(sticky, stub, CLAUDE, "hi",
                         headers=headers) == home


def test_deprecated_name_is_or_ed_in_and_warned_of_once(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=3), {
        "routing": {"claude-code-session-affinity": True}}))
    headers = {"x-session-id": sid()}
    homes = {served_by(daemon, stub, CLAUDE, "hi", headers=headers)
             for _ in range(4)}
    assert len(homes) == 1
    assert daemon.log_count("claude-code-session-affinity") == 1


def test_off_by_default(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=3))
    headers = {"x-session-id": sid()}
    for _ in range(6):
        served_by(daemon, stub, CLAUDE, "hi", headers=headers)
    counts = collections.Counter(accounts_used(stub))
    assert set(counts.values()) == {2}
    assert daemon.sessions()["total"] == 0


def test_session_ids_are_shortened_for_people(sticky, stub):
    secret = "secret-session-0123456789-abcdefghij"
    served_by(sticky, stub, CLAUDE, "hi", headers={"x-session-id": secret})
    text = json.dumps(sticky.sessions())
    assert secret not in text
    assert secret not in sticky.log_text()


# -- recorded clients -------------------------------------------------------

FIXTURES = ROOT / "tests" / "fixtures"
NOT_REPLAYED = {"authorization", "x-api-key", "x-goog-api-key", "host",
                "connection", "content-length", "content-type",
                "content-encoding", "accept-encoding", "transfer-encoding"}


def replay(daemon, stub, name: str) -> str:
    """Send what a real client sent; the account that served it, or ""."""
    case = json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))
    if case["method"] != "POST" or not isinstance(case["body"], dict):
        return ""
    path, body = case["path"], dict(case["body"])
    for dialect in DIALECTS:
        if dialect is GEMINI and path.startswith("/v1beta/models/"):
            path = ("/v1beta/models/gemini-stub:"
                    + path.partition(":")[2])
            break
        if path.partition("?")[0] in (dialect.path(), dialect.path()
                                      + "/count_tokens"):
            body["model"] = dialect.model
            break
    else:
        return ""
    rows = [(key, value) for key, value in case["headers"]
            if key.lower() not in NOT_REPLAYED]
    with daemon.client() as client:
        assert client.post(path, body, rows).status == 200, name
    return stub.log[-1]["account"]


@pytest.mark.skipif(not (FIXTURES / "groups.json").exists(),
                    reason="no recorded requests in this tree")
@pytest.mark.parametrize("kind", ("same", "same_by_prefix_only"))
def test_recorded_clients_stay_together(make_daemon, stub, kind):
    """Requests that real clients sent in one session go to one account."""
    groups = json.loads((FIXTURES / "groups.json").read_text("utf-8"))
    daemon = make_daemon(merged(pool(stub, count=4), AFFINITY))
    compared = 0
    for group in groups[kind]:
        homes = {replay(daemon, stub, name) for name in group} - {""}
        assert len(homes) <= 1, group
        compared += len(homes)
    assert compared > 2
