# SPDX-License-Identifier: MIT
"""What is served under which name, and the lists in three shapes."""

import json

import pytest

from harness import (CANARY, CLAUDE, GEMINI, MODELS, OPENAI, RESPONSES,
                     as_json, merged, pool, wait_for)


def listed(daemon) -> list[str]:
    return [row["id"] for row in as_json(daemon.get("/v1/models"))["data"]]


def upstream_model(stub) -> str:
    return json.loads(stub.log[-1]["body"])["model"]


# -- lists ------------------------------------------------------------------

def test_openai_list(shared_daemon):
    data = as_json(shared_daemon.get("/v1/models"))
    assert data["object"] == "list"
    rows = data["data"]
    assert all(row["object"] == "model" and row["id"] for row in rows)
    names = [row["id"] for row in rows]
    assert names == sorted(names)
    assert set(names) == {"claude-stub", "gpt-stub", "codex-stub",
                          "gemini-stub", "vertex-stub"}


@pytest.mark.parametrize("headers", (
    {"anthropic-version": "2023-06-01"},
    {"User-Agent": "claude-cli/2.1.330 (external, cli)"}))
def test_claude_list(shared_daemon, headers):
    data = as_json(shared_daemon.get("/v1/models?limit=1000", headers))
    assert data["has_more"] is False
    rows = data["data"]
    assert data["first_id"] == rows[0]["id"]
    assert data["last_id"] == rows[-1]["id"]
    for row in rows:
        assert row["type"] == "model" and row["display_name"]
    assert "claude-stub" in [row["id"] for row in rows]


def test_gemini_list_and_single(shared_daemon):
    data = as_json(shared_daemon.get("/v1beta/models"))
    names = [row["name"] for row in data["models"]]
    assert "models/gemini-stub" in names
    for row in data["models"]:
        assert row["name"].startswith("models/") and row["displayName"]
        assert "generateContent" in row["supportedGenerationMethods"]
    one = as_json(shared_daemon.get("/v1beta/models/gemini-stub"))
    assert one["name"] == "models/gemini-stub"
    answer = shared_daemon.get("/v1beta/models/nobody")
    GEMINI.check_error(answer, 404, "model_not_found")


def test_catalogue_models_of_a_key_without_a_list(make_daemon, stub):
    daemon = make_daemon({"claude-api-key": [{
        "api-key": CANARY + "up-claude1", "base-url": stub.url}]})
    catalogue = json.loads(MODELS.read_text(encoding="utf-8"))
    assert set(listed(daemon)) == {row["id"] for row in catalogue["claude"]}
    rows = as_json(daemon.get("/v1/models", {
        "anthropic-version": "2023-06-01"}))["data"]
    by = {row["id"]: row for row in rows}
    some = catalogue["claude"][0]
    assert by[some["id"]]["display_name"] == some["display_name"]
    assert daemon.ask(CLAUDE, "hi", model=some["id"]).status == 200


def test_cooling_models_stay_listed_and_gone_ones_leave(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"))
    stub.fault("status", code=429, times=2, headers={"retry-after": "60"})
    assert daemon.ask(CLAUDE, "hi").status == 429
    assert listed(daemon) == ["claude-stub"]
    daemon.with_config(**{"claude-api-key": None}).reload()
    assert listed(daemon) == []


def test_control_lists_models(shared_daemon):
    rows = shared_daemon.models()
    assert rows["gpt-stub"]["candidates"] == 2
    assert rows["gpt-stub"]["ready"] == 2
    assert rows["claude-stub"]["providers"] == ["claude"]


# -- names ------------------------------------------------------------------

def test_alias_is_the_public_name(make_daemon, stub):
    config = pool(stub, "openai")
    config["openai-compatibility"][0]["models"] = [
        {"name": "vendor/llama-4:free", "alias": "llama"},
        {"name": "plain"}]
    daemon = make_daemon(config)
    assert listed(daemon) == ["llama", "plain"]
    assert daemon.ask(OPENAI, "hi", model="llama").status == 200
    assert upstream_model(stub) == "vendor/llama-4:free"
    assert daemon.ask(OPENAI, "hi", model="plain").status == 200
    assert upstream_model(stub) == "plain"


def test_prefix_selects_its_credential(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["prefix"] = "team-a"
    daemon = make_daemon(config)
    assert listed(daemon) == ["claude-stub", "team-a/claude-stub"]
    for _ in range(4):
        assert daemon.ask(CLAUDE, "hi", model="team-a/claude-stub"
                          ).status == 200
        assert stub.log[-1]["account"] == "claude1"
        assert upstream_model(stub) == "claude-stub"
    used = set()
    for _ in range(4):
        daemon.ask(CLAUDE, "hi")
        used.add(stub.log[-1]["account"])
    assert used == {"claude1", "claude2"}


def test_force_model_prefix_drops_the_bare_name(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["prefix"] = "team-a"
    daemon = make_daemon({**config, "force-model-prefix": True})
    for _ in range(3):
        assert daemon.ask(CLAUDE, "hi").status == 200
        assert stub.log[-1]["account"] == "claude2"
    assert daemon.ask(CLAUDE, "hi", model="team-a/claude-stub"
                      ).status == 200
    assert stub.log[-1]["account"] == "claude1"


def test_prefix_in_the_path_of_gemini(make_daemon, stub):
    config = pool(stub, "gemini", count=1)
    config["gemini-api-key"][0]["prefix"] = "team-a"
    daemon = make_daemon(config)
    for path in ("/v1beta/models/team-a/gemini-stub:generateContent",
                 "/v1beta/models/team-a%2Fgemini-stub:generateContent"):
        answer = daemon.post(path, GEMINI.body("hi"))
        assert answer.status == 200, answer
        assert stub.log[-1]["path"] == (
            "/v1beta/models/gemini-stub:generateContent")


@pytest.mark.parametrize("patterns, left", (
    (["model-a"], ["model-b", "other"]),
    (["model-*"], ["other"]),
    (["*B*"], ["model-a", "other"]),
    (["*"], []),
    (["model"], ["model-a", "model-b", "other"]),
    (["model-?"], ["model-a", "model-b", "other"])))
def test_excluded_models(make_daemon, stub, patterns, left):
    config = pool(stub, "claude", count=1)
    config["claude-api-key"][0].update({
        "models": [{"name": "model-a"}, {"name": "model-b"},
                   {"name": "other"}], "excluded-models": patterns})
    daemon = make_daemon(config)
    assert listed(daemon) == left
    for model in ("model-a", "model-b", "other"):
        answer = daemon.ask(CLAUDE, "hi", model=model)
        assert (answer.status == 200) == (model in left)


def test_oauth_aliases_and_exclusions(make_daemon, stub):
    daemon = make_daemon({
        "oauth-model-alias": {"claude": [
            {"name": "claude-sonnet-4-6", "alias": "sonnet"},
            {"name": "claude-opus-4-6", "alias": "opus", "fork": True}]},
        "oauth-excluded-models": {"claude": ["*haiku*"]}}, start=False)
    daemon.auth_file("a.json", {
        "type": "claude", "access_token": CANARY + "file1",
        "base_url": stub.url})
    daemon.start()
    names = set(listed(daemon))
    assert {"sonnet", "opus", "claude-opus-4-6"} <= names
    assert "claude-sonnet-4-6" not in names
    assert not any("haiku" in name for name in names)
    assert daemon.ask(CLAUDE, "hi", model="sonnet").status == 200
    assert upstream_model(stub) == "claude-sonnet-4-6"


def test_suffix_belongs_to_the_request_not_to_the_route(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"))
    answer = daemon.ask(CLAUDE, "hi", model="claude-stub(high)")
    assert answer.status == 200, answer
    assert upstream_model(stub) in ("claude-stub", "claude-stub(high)")


def test_model_names_match_as_written(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"))
    assert daemon.ask(CLAUDE, "hi", model="Claude-Stub").status in (200, 404)
    assert daemon.ask(CLAUDE, "hi", model="claude-stu").status == 404
    assert daemon.ask(CLAUDE, "hi", model="claude-stub ").status in (200,
                                                                     404)


def test_one_model_of_two_providers_of_a_dialect(make_daemon, stub):
    """Responses is spoken by codex and by compatible upstreams that say so;
    each dialect counts only those that speak it."""
    config = merged(pool(stub, "openai", count=1),
                    pool(stub, "codex", count=1))
    config["codex-api-key"][0]["models"] = [{"name": "shared"}]
    config["openai-compatibility"][0]["models"] = [{"name": "shared"}]
    daemon = make_daemon(config)
    used = set()
    for _ in range(4):
        assert daemon.ask(RESPONSES, "hi", model="shared").status == 200
        used.add(stub.log[-1]["account"])
    assert used == {"openai1", "codex1"}
    for _ in range(4):
        assert daemon.ask(OPENAI, "hi", model="shared").status == 200
        assert stub.log[-1]["account"] == "openai1"


# -- the catalogue file -----------------------------------------------------

def test_models_file_is_watched(make_daemon, stub, tmp_path):
    path = tmp_path / "models.json"
    path.write_text(json.dumps({"claude": [{"id": "first"}]}))
    daemon = make_daemon({"models-file": str(path), "claude-api-key": [{
        "api-key": CANARY + "up-claude1", "base-url": stub.url}]})
    assert listed(daemon) == ["first"]
    fresh = tmp_path / "models.new"
    fresh.write_text(json.dumps({"claude": [{"id": "first"},
                                            {"id": "second", "x": [1]}]}))
    fresh.rename(path)
    wait_for(lambda: listed(daemon) == ["first", "second"], 5)
    assert daemon.ask(CLAUDE, "hi", model="second").status == 200
    path.write_text("{ broken")
    daemon.log_has(r"models\.json")
    assert listed(daemon) == ["first", "second"]


def test_default_catalogue_absent_is_one_warning(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "claude"), "models-file": None},
                         start=False)
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert daemon.log_count(r"warn.*models\.json") <= 1


def test_named_catalogue_absent_is_an_error(make_daemon, stub, tmp_path):
    daemon = make_daemon({**pool(stub, "claude"), "models-file":
                          str(tmp_path / "none.json")}, start=False)
    done = daemon.run("-t", "-c", str(daemon.config_file))
    assert done.returncode == 1
    assert "none.json" in done.stdout + done.stderr


# -- what upstreams list ----------------------------------------------------

def test_discovered_models_are_served(make_daemon, stub):
    config = pool(stub, "openai", "gemini")
    for section in ("openai-compatibility", "gemini-api-key"):
        for entry in config[section]:
            del entry["models"]
    daemon = make_daemon({**config, "discover-models": True})
    wait_for(lambda: "stub-model" in listed(daemon))
    wait_for(lambda: daemon.ask(OPENAI, "hi", model="stub-model"
                                ).status == 200)
    wait_for(lambda: daemon.ask(GEMINI, "hi", model="stub-model"
                                ).status == 200)
    asked = [row["path"] for row in stub.log
             if row["path"].endswith("/models")]
    # Once for the section, once for each key.
    assert sorted(asked) == ["/v1/models", "/v1beta/models",
                             "/v1beta/models"]
    daemon.with_config(**{"discover-models": False}).reload()
    assert "stub-model" not in listed(daemon)
