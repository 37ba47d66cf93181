# SPDX-License-Identifier: MIT
"""Credential files: what they mean, and that the directory is watched."""

import hashlib
import json
import os
import re
import time

import pytest

from harness import (CANARY, CLAUDE, GEMINI, OPENAI, RESPONSES,
                     accounts_used, as_json, fresh, merged, pool, wait_for)


def token(n: int) -> str:
    return f"{CANARY}file{n}"


def claude_file(stub, n: int = 1, **more) -> dict:
    return {"type": "claude", "access_token": token(n),
            "refresh_token": f"{CANARY}refresh", "email": f"u{n}@x.test",
            "expired": "2099-01-01T00:00:00Z", "base_url": stub.url,
            "model_aliases": [], "unknown_field": {"kept": True}, **more}


MODEL = "claude-sonnet-4-6"  # of the catalogue


def sent(entry: dict) -> dict[str, str]:
    return {name.lower(): value for name, value in entry["headers"]}


def ids(daemon) -> set[str]:
    return set(daemon.credentials())


@pytest.fixture
def empty(make_daemon, stub):
    """A daemon with nothing but its (empty) directory."""
    return make_daemon({})


# -- what a file means ------------------------------------------------------

def test_claude_oauth_file_serves_with_its_token(make_daemon, stub):
    daemon = make_daemon({}, start=False)
    daemon.auth_file("claude-me.json", claude_file(stub))
    daemon.start()
    answer = daemon.ask(CLAUDE, "hi", model=MODEL,
                        headers={"anthropic-beta": "mine-1"})
    assert answer.status == 200, answer
    seen = sent(stub.log[-1])
    assert seen["authorization"] == "Bearer " + token(1)
    assert "x-api-key" not in seen
    betas = {part.strip() for part in seen["anthropic-beta"].split(",")}
    assert betas == {"mine-1", "oauth-2025-04-20"}
    row = daemon.credentials()["claude-me.json"]
    assert row["provider"] == "claude" and row["label"] == "u1@x.test"
    assert row["source"] == "file" and row["state"] == "ready"


def test_claude_oauth_beta_is_not_sent_twice(empty, stub):
    empty.auth_file("c.json", claude_file(stub))
    wait_for(lambda: ids(empty), 5)
    empty.ask(CLAUDE, "hi", model=MODEL,
              headers={"anthropic-beta": "oauth-2025-04-20,other"})
    assert sent(stub.log[-1])["anthropic-beta"].count("oauth-2025") == 1
    empty.ask(CLAUDE, "hi", model=MODEL)
    assert sent(stub.log[-1])["anthropic-beta"] == "oauth-2025-04-20"


def codex_file(stub, n: int = 1, **more) -> dict:
    return {"type": "codex", "access_token": token(n), "account_id": "acc-1",
            "email": f"u{n}@x.test", "id_token": "a.b.c",
            "base_url": stub.url + "/backend-api/codex", **more}


def test_codex_oauth_streams_with_its_account(empty, stub):
    empty.auth_file("codex-me.json", codex_file(stub))
    wait_for(lambda: ids(empty), 5)
    body = RESPONSES.body("hi", stream=True, model="gpt-5.5", store=False)
    raw = json.dumps(body).encode()
    with empty.client() as client:
        response = client.open("POST", "/v1/responses", raw,
                               {"session-id": "s"})
        assert b"response.completed" in response.read()
    seen = stub.log[-1]
    assert seen["path"] == "/backend-api/codex/responses"
    assert sent(seen)["chatgpt-account-id"] == "acc-1"
    assert sent(seen)["authorization"] == "Bearer " + token(1)
    assert seen["sha256"] == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("fields", (
    {}, {"stream": False}, {"store": True}, {"stream": False,
                                             "store": True}))
def test_codex_oauth_collects_for_a_caller_that_does_not_stream(empty, stub,
                                                                fields):
    """It accepts only stream:true, store:false; these are spliced in."""
    empty.auth_file("codex-me.json", codex_file(stub))
    wait_for(lambda: ids(empty), 5)
    body = b'{ "input" : "hi", "n": 1.0, %b "model":"gpt-5.5" }' % (
        json.dumps(fields)[1:-1].encode() + (b"," if fields else b""))
    answer = empty.post("/v1/responses", body)
    assert answer.status == 200, answer
    data = as_json(answer)
    assert data["object"] == "response" and data["status"] == "completed"
    assert RESPONSES.text(data).startswith("Hello from account file1")
    got = json.loads(stub.log[-1]["body"])
    assert got["stream"] is True and got["store"] is False
    assert '"n": 1.0' in stub.log[-1]["body"]
    assert {key: value for key, value in got.items()
            if key not in ("stream", "store")} == {
                "input": "hi", "n": 1.0, "model": "gpt-5.5"}


def test_codex_oauth_collected_failure_is_an_error(empty, stub):
    empty.auth_file("codex-me.json", codex_file(stub))
    wait_for(lambda: ids(empty), 5)
    stub.fault("sse_error_mid", after=1, times=-1)
    answer = empty.ask(RESPONSES, "hi", model="gpt-5.5")
    assert answer.status >= 500, answer
    assert as_json(answer)["error"]["message"]


def test_gemini_file_with_a_nested_token(empty, stub):
    empty.auth_file("gemini-me.json", {
        "type": "gemini", "email": "g@x.test", "base_url": stub.url,
        "project_id": "p", "token": {
            "access_token": token(1), "refresh_token": "r",
            "expiry": "2099-01-01T00:00:00Z"}})
    wait_for(lambda: ids(empty), 5)
    answer = empty.ask(GEMINI, "hi", model="gemini-2.5-pro")
    assert answer.status == 200, answer
    assert sent(stub.log[-1])["authorization"] == "Bearer " + token(1)
    assert "x-goog-api-key" not in sent(stub.log[-1])


@pytest.mark.parametrize("spelling", ("CLAUDE", " Claude ", "claude"))
def test_type_in_any_case(empty, stub, spelling):
    empty.auth_file("a.json", claude_file(stub, type=spelling))
    wait_for(lambda: empty.credentials().get("a.json", {}).get(
        "provider") == "claude", 5)


def test_disabled_priority_prefix_headers_note(empty, stub):
    empty.auth_file("off.json", claude_file(stub, 1, disabled=True))
    empty.auth_file("low.json", claude_file(stub, 2, priority="-3"))
    empty.auth_file("high.json", claude_file(
        stub, 3, priority=7.9, prefix=" /team/ ",
        headers={"X-Team": "a", " ": "x"}))
    wait_for(lambda: len(ids(empty)) == 3, 5)
    rows = empty.credentials()
    assert rows["off.json"]["state"] == "disabled"
    assert rows["low.json"]["priority"] == -3
    assert rows["high.json"]["priority"] == 7
    assert rows["high.json"]["prefix"] == "team"
    for _ in range(3):
        assert empty.ask(CLAUDE, "hi", model="team/" + MODEL).status == 200
        assert empty.ask(CLAUDE, "hi", model=MODEL).status == 200
    assert set(accounts_used(stub)) == {"file3"}
    assert sent(stub.log[-1])["x-team"] == "a"
    assert json.loads(stub.log[0]["body"])["model"] == MODEL


def test_disabled_only_by_a_real_true(empty, stub):
    empty.auth_file("a.json", claude_file(stub, disabled="true"))
    wait_for(lambda: ids(empty), 5)
    assert empty.credentials()["a.json"]["state"] == "ready"


def test_kebab_case_keys_of_old_files(empty, stub):
    content = claude_file(stub)
    content["base-url"] = content.pop("base_url")
    content["excluded-models"] = ["claude-opus-*"]
    empty.auth_file("a.json", content)
    wait_for(lambda: ids(empty), 5)
    assert empty.ask(CLAUDE, "hi", model=MODEL).status == 200
    assert empty.ask(CLAUDE, "hi", model="claude-opus-4-6").status == 404


def test_excluded_models_and_aliases_of_a_file(empty, stub):
    empty.auth_file("a.json", claude_file(
        stub, excluded_models=["claude-opus-*", "*HAIKU*"],
        model_aliases=[{"name": MODEL, "alias": "fast"},
                       {"name": "claude-opus-5", "alias": "big",
                        "fork": True}]))
    wait_for(lambda: ids(empty), 5)
    models = set(empty.models())
    assert "fast" in models and MODEL not in models
    assert not any("opus" in model or "haiku" in model for model in models)
    assert empty.ask(CLAUDE, "hi", model="fast").status == 200
    assert json.loads(stub.log[-1]["body"])["model"] == MODEL


def test_empty_token_serves_nothing(empty, stub):
    empty.auth_file("a.json", claude_file(stub, access_token=""))
    empty.auth_file("b.json", claude_file(stub, 2))
    wait_for(lambda: "b.json" in ids(empty), 5)
    for _ in range(4):
        assert empty.ask(CLAUDE, "hi", model=MODEL).status == 200
    assert set(accounts_used(stub)) == {"file2"}


# -- which files count ------------------------------------------------------

def test_only_direct_children_named_json(make_daemon, stub):
    daemon = make_daemon({}, start=False)
    daemon.auth_file("good.json", claude_file(stub))
    for name in ("x.json.bak", "x.txt", "json", ".fairlead-1.tmp",
                 "x.json~", "x.cds"):
        daemon.auth_file(name, claude_file(stub, 2))
    below = daemon.auth_dir / "below"
    below.mkdir()
    (below / "x.json").write_text(json.dumps(claude_file(stub, 2)))
    (daemon.auth_dir / "dir.json").mkdir()
    beside = daemon.dir / "auths-old"
    beside.mkdir()
    (beside / "x.json").write_text(json.dumps(claude_file(stub, 2)))
    daemon.start()
    assert ids(daemon) == {"good.json"}
    (below / "y.json").write_text(json.dumps(claude_file(stub, 2)))
    (beside / "y.json").write_text(json.dumps(claude_file(stub, 2)))
    daemon.auth_file("last.json", claude_file(stub, 3))
    wait_for(lambda: "last.json" in ids(daemon), 5)
    assert ids(daemon) == {"good.json", "last.json"}


@pytest.mark.parametrize("name, content", (
    ("broken.json", "{"), ("array.json", "[1]"), ("number.json", "7"),
    ("null.json", "null"), ("no-type.json", '{"access_token":"x"}'),
    ("blank.json", '{"type":" "}'), ("trail.json", '{"type":"claude"} x'),
    ("weight.json", '{"type":"claude","access_token":"x","weight":1.5}')))
def test_broken_file_is_reported_once_with_its_name(make_daemon, stub, name,
                                                    content):
    daemon = make_daemon({}, start=False)
    daemon.auth_file("good.json", claude_file(stub))
    daemon.auth_file(name, content)
    daemon.start()
    assert ids(daemon) == {"good.json"}
    daemon.log_has(name.replace(".", r"\."))
    daemon.auth_file("another.json", claude_file(stub, 2))
    wait_for(lambda: len(ids(daemon)) == 2, 5)
    assert daemon.log_count(name.replace(".", r"\.")) == 1
    assert daemon.ask(CLAUDE, "hi", model=MODEL).status == 200


@pytest.mark.parametrize("kind", ("qwen", "no-such-provider"))
def test_unknown_type_is_reported_and_ignored(empty, stub, kind):
    empty.auth_file("odd.json", claude_file(stub, type=kind))
    line = empty.log_has(r"odd\.json")
    assert kind in line
    assert ids(empty) == set()


def test_unreadable_file_is_reported(make_daemon, stub):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    daemon = make_daemon({}, start=False)
    path = daemon.auth_file("shut.json", claude_file(stub))
    path.chmod(0)
    daemon.start()
    daemon.log_has(r"shut\.json")


def test_missing_directory(make_daemon, stub):
    """A named one that is absent is an error, found by -t as by a start."""
    daemon = make_daemon(pool(stub, "claude"), start=False)
    daemon.with_config(auth_dir=str(daemon.dir / "nowhere"))
    for flag in ("-f", "-t"):
        done = daemon.run(flag, "-c", str(daemon.config_file))
        assert done.returncode == 1, flag
        assert re.search(r"nowhere.*directory$", done.stdout + done.stderr,
                         re.M), done


def test_file_that_others_may_read_is_refused_until_it_is_mended(make_daemon,
                                                                stub):
    daemon = make_daemon({}, start=False)
    path = daemon.auth_file("a.json", claude_file(stub, 1))
    path.chmod(0o640)
    daemon.start()
    command = daemon.log_has("is refused, because others").split(": ")[-1]
    assert ids(daemon) == set()
    assert command == f"chmod 600 '{path}'"
    path.chmod(0o600)
    wait_for(lambda: ids(daemon) == {"a.json"}, 5)
    path.chmod(0o604)
    daemon.log_has("is refused.*'.*", 5)
    assert daemon.ask(CLAUDE, "hi", model=MODEL).status == 200


def test_link_is_judged_by_what_it_leads_to(empty, stub):
    target = empty.dir / "elsewhere.json"
    target.write_text(json.dumps(claude_file(stub, 1)))
    (empty.auth_dir / "a.json").symlink_to(target)
    wait_for(lambda: ids(empty) == {"a.json"}, 5)
    target.chmod(0o644)
    (empty.auth_dir / "b.json").symlink_to(target)
    empty.log_has("b.json.* is refused")
    assert ids(empty) == {"a.json"}


# -- the directory is watched -----------------------------------------------

def test_add_change_and_delete_without_a_reload(empty, stub):
    generation = empty.status()["generation"]
    workers = sorted(empty.worker_pids())
    assert empty.ask(CLAUDE, "hi", model=MODEL).status == 503
    path = empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: empty.ask(CLAUDE, "x", model=MODEL).status == 200, 5)
    path.write_text(json.dumps(claude_file(stub, 2)))
    wait_for(lambda: empty.ask(CLAUDE, "x", model=MODEL).status == 200
             and accounts_used(stub)[-1] == "file2", 5)
    path.unlink()
    wait_for(lambda: empty.ask(CLAUDE, "x", model=MODEL).status == 503, 5)
    assert ids(empty) == set()
    assert empty.status()["generation"] == generation
    assert sorted(empty.worker_pids()) == workers


def test_partial_write_keeps_the_good_credential(empty, stub):
    path = empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    text = json.dumps(claude_file(stub, 2))
    for part in ("", text[:40], text[:-1]):
        with open(path, "w", encoding="utf-8") as out:
            out.write(part)
        empty.auth_file("marker.json", claude_file(stub, 3, disabled=True))
        wait_for(lambda: "marker.json" in ids(empty), 5)
        assert empty.credentials()["a.json"]["state"] == "ready"
        for _ in range(3):
            assert empty.ask(CLAUDE, "x", model=MODEL).status == 200
            assert accounts_used(stub)[-1] == "file1"
        (empty.auth_dir / "marker.json").unlink()
        wait_for(lambda: "marker.json" not in ids(empty), 5)
    path.write_text(text)
    wait_for(lambda: empty.ask(CLAUDE, "x", model=MODEL).status == 200
             and accounts_used(stub)[-1] == "file2", 5)


def test_slow_writer_is_waited_for(empty, stub):
    """Bytes arrive one by one while requests go on with the old token."""
    path = empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    text = json.dumps(claude_file(stub, 2))
    with open(path, "w", encoding="utf-8") as out:
        for start in range(0, len(text), 40):
            out.write(text[start:start + 40])
            out.flush()
            assert empty.ask(CLAUDE, "x", model=MODEL).status == 200
            assert accounts_used(stub)[-1] == "file1"
    wait_for(lambda: empty.ask(CLAUDE, "x", model=MODEL).status == 200
             and accounts_used(stub)[-1] == "file2", 5)


def test_atomic_rename_is_a_change_and_never_a_gap(empty, stub):
    empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    seen = fresh(stub)
    for n in (2, 3, 4, 1) * 5:
        empty.auth_file("a.json", claude_file(stub, n))
        assert empty.ask(CLAUDE, "x", model=MODEL).status == 200
    wait_for(lambda: empty.ask(CLAUDE, "x", model=MODEL).status == 200
             and accounts_used(stub)[-1] == "file1", 5)
    assert all(entry["status"] == 200 for entry in seen())


def test_delete_right_after_a_rename_is_not_lost(empty, stub):
    for n in (1, 2, 3):
        empty.auth_file("a.json", claude_file(stub, n))
        wait_for(lambda: ids(empty), 5)
        empty.auth_file("a.json", claude_file(stub, n + 1))
        (empty.auth_dir / "a.json").unlink()
        wait_for(lambda: not ids(empty), 5)


def test_move_out_and_in(empty, stub):
    path = empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    away = empty.dir / "a.json"
    path.rename(away)
    wait_for(lambda: not ids(empty), 5)
    away.rename(path)
    wait_for(lambda: ids(empty) == {"a.json"}, 5)


def test_hundred_files_at_once(empty, stub):
    for n in range(100):
        empty.auth_file(f"c{n:03}.json", claude_file(stub, 1 + n % 4))
    wait_for(lambda: len(ids(empty)) == 100, 10)
    for n in range(100):
        (empty.auth_dir / f"c{n:03}.json").unlink()
    wait_for(lambda: not ids(empty), 10)


def test_touch_and_identical_write_change_nothing(empty, stub):
    path = empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    stub.fault("status", code=401)
    assert empty.ask(CLAUDE, "x", model=MODEL).status == 401
    path.touch()
    path.write_text(path.read_text())
    empty.auth_file("b.json", claude_file(stub, 2))
    wait_for(lambda: len(ids(empty)) == 2, 5)
    for _ in range(4):
        assert empty.ask(CLAUDE, "x", model=MODEL).status == 200
    assert accounts_used(stub)[1:] == ["file2"] * 4


def test_recreated_file_does_not_inherit_a_cooldown(empty, stub):
    path = empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    stub.fault("status", code=401)
    assert empty.ask(CLAUDE, "x", model=MODEL).status == 401
    assert empty.ask(CLAUDE, "x", model=MODEL).status == 503
    path.unlink()
    wait_for(lambda: not ids(empty), 5)
    empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    assert empty.ask(CLAUDE, "x", model=MODEL).status == 200


def test_new_token_lifts_the_401(empty, stub):
    empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty), 5)
    stub.fault("status", code=401)
    assert empty.ask(CLAUDE, "x", model=MODEL).status == 401
    empty.auth_file("a.json", claude_file(stub, 2))
    wait_for(lambda: empty.ask(CLAUDE, "x", model=MODEL).status == 200, 5)


def test_files_survive_unchanged(empty, stub):
    """Reading never writes."""
    text = json.dumps(claude_file(stub), indent=3)
    path = empty.auth_file("a.json", text)
    wait_for(lambda: ids(empty), 5)
    before = path.stat()
    empty.ask(CLAUDE, "x", model=MODEL)
    empty.hup()
    empty.stop()
    assert path.read_text() == text
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_stale_temporary_files_of_ours_are_removed_at_start(make_daemon,
                                                            stub):
    daemon = make_daemon({}, start=False)
    stale = daemon.auth_dir / ".fairlead-abc.tmp"
    stale.write_text("{")
    daemon.start()
    wait_for(lambda: not stale.exists(), 5)


def test_reload_picks_up_another_directory(empty, stub):
    empty.auth_file("a.json", claude_file(stub, 1))
    wait_for(lambda: ids(empty) == {"a.json"}, 5)
    other = empty.dir / "other"
    other.mkdir()
    (other / "b.json").write_text(json.dumps(claude_file(stub, 2)))
    empty.with_config(auth_dir=str(other)).reload()
    assert ids(empty) == {"b.json"}
    (other / "c.json").write_text(json.dumps(claude_file(stub, 3)))
    wait_for(lambda: ids(empty) == {"b.json", "c.json"}, 5)
    empty.auth_file("d.json", claude_file(stub, 4))
    (other / "b.json").unlink()
    wait_for(lambda: ids(empty) == {"c.json"}, 5)


# -- keys of the configuration ----------------------------------------------

def test_configured_ids_are_stable_and_public(make_daemon, stub):
    config = merged(pool(stub), {})
    daemon = make_daemon(config)
    before = ids(daemon)
    kinds = {ident.rpartition(":")[0] for ident in before}
    assert kinds == {"claude:apikey", "codex:apikey", "gemini:apikey",
                     "vertex:apikey", "openai-compatibility:stub"}
    for ident in before:
        assert len(ident.rpartition(":")[2]) == 12
        assert CANARY not in ident
    for section in config.values():
        for row in section:
            row["priority"] = 3
            row["models"] = row["models"] + [{"name": "m", "alias": "m2"}]
    daemon.with_config(**{key: list(reversed(value)) for key, value
                          in config.items()}).reload()
    assert ids(daemon) == before
    daemon.restart()
    assert ids(daemon) == before


def test_same_key_twice_is_two_credentials(make_daemon, stub):
    config = pool(stub, "claude", count=1)
    config["claude-api-key"] *= 2
    daemon = make_daemon(config)
    first, second = sorted(ids(daemon), key=len)
    assert second == first + "-1"


def test_files_and_keys_serve_one_model_together(make_daemon, stub):
    daemon = make_daemon({"claude-api-key": [{
        "api-key": CANARY + "up-claude1", "base-url": stub.url}]},
        start=False)
    daemon.auth_file("a.json", claude_file(stub, 1))
    daemon.start()
    for _ in range(4):
        assert daemon.ask(CLAUDE, "hi", model=MODEL).status == 200
    assert sorted(accounts_used(stub)) == ["claude1"] * 2 + ["file1"] * 2


def test_start_order_first_scan_before_the_first_accept(make_daemon, stub):
    """The first request that is let in finds every credential."""
    daemon = make_daemon({}, start=False)
    for n in range(200):
        daemon.auth_file(f"c{n:03}.json", claude_file(stub, 1 + n % 4))
    daemon.start(wait=False)
    deadline = time.monotonic() + 20
    while True:
        try:
            answer = daemon.ask(CLAUDE, "hi", model=MODEL)
            break
        except OSError:
            assert time.monotonic() < deadline
    assert answer.status == 200
    assert len(ids(daemon)) == 200


def test_openai_keyless_provider(make_daemon, stub_server, stub):
    """A compatible upstream without keys is one keyless credential."""
    config = pool(stub, "openai")
    del config["openai-compatibility"][0]["api-key-entries"]
    daemon = make_daemon(config)
    answer = daemon.ask(OPENAI, "hi")
    assert answer.status == 401  # the stub's, which wants a key
    assert "authorization" not in sent(stub.log[-1])
