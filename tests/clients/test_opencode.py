# SPDX-License-Identifier: MIT
"""opencode: x-session-id on every request, and session-id too to the provider
"openai"; a sub-agent has an id of its own and names its parent's."""

import json

import pytest

from harness import CLIENT_KEY
from programs import (RUN_LIMIT, Program, at_once, check_kept, homes,
                      native, seen)

SOURCE = "header x-session-id"
OPENAI_SOURCE = "header session-id"
MODEL = "claude-sonnet-4-5"
TITLE_MODEL = "claude-haiku-4-5-20251001"
OPENAI_MODEL = "gpt-5.5"
OPENAI_TITLE_MODEL = "gpt-5.4-nano"


@pytest.fixture
def make_opencode(tmp_path):
    def make(url: str, name: str = "opencode", **env: str) -> Program:
        # It takes seconds of computing to start.
        opencode = Program(
            native("opencode-{}", "bin/opencode"), tmp_path / name, {
                "OPENCODE_DISABLE_AUTOUPDATE": "1",
                "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
                "OPENCODE_DISABLE_MODELS_FETCH": "1", **env}, 2 * RUN_LIMIT)
        options = {"options": {"baseURL": url + "/v1", "apiKey": CLIENT_KEY}}
        opencode.file(".config/opencode/opencode.json", json.dumps({
            "autoupdate": False, "share": "disabled", "permission": "allow",
            "provider": {
                "anthropic": {**options, "models": {MODEL: {}}},
                "openai": {**options, "models": {OPENAI_MODEL: {}}}}}))
        return opencode

    return make


def ask(opencode: Program, *args: str) -> str:
    """Ask something; the id of the session, as opencode has it."""
    out = opencode.run("run", "-m", f"anthropic/{MODEL}", "--format", "json",
                       *args)
    events = [json.loads(line) for line in out.splitlines()]
    assert any(event["type"] == "text" and "Hello from" in event["part"][
        "text"] for event in events), events
    (ident,) = {event["sessionID"] for event in events}
    return ident


def test_a_sub_agent_a_continuation_and_a_fork(gateway, make_opencode, stub):
    gate = gateway("claude", models=(MODEL, TITLE_MODEL))
    opencode = make_opencode(gate.url, OPENCODE_DISABLE_DEFAULT_PLUGINS="1")
    stub.call_tool("STUB:agent", "task", description="a child",
                   prompt="the work of a child", subagent_type="general")
    ident = ask(opencode, "STUB:agent please")
    assert ask(opencode, "--continue", "and now?") == ident
    requests = gate.new_requests(5)
    assert {row.source for row in requests} == {SOURCE}
    # The child is bound where its parent is, and so is the title's model.
    assert len({row.credential for row in requests}) == 1, requests
    assert [row.decision for row in requests].count("new") == 3
    (child,) = set(seen(stub, "x-session-id")) - {ident}
    assert seen(stub, "x-parent-session-id") == [ident]
    assert len(gate.bound(SOURCE)) == 3
    fork = ask(opencode, "--continue", "--fork", "another way")
    check_kept(gate.new_requests(), SOURCE, "header")
    assert set(homes(stub, "x-session-id")) == {ident, child, fork}


def test_two_at_once_are_two_sessions(gateway, make_opencode, stub):
    """Each asks two models, which are bound on their own, to one account."""
    gate = gateway("codex", models=(OPENAI_MODEL, OPENAI_TITLE_MODEL))
    pair = [make_opencode(gate.url, f"opencode{number}")
            for number in (1, 2)]
    at_once(pair, "run", "-m", f"openai/{OPENAI_MODEL}", "hello {}")
    requests = gate.new_requests(4)
    assert {row.status for row in requests} == {200}, requests
    assert {row.source for row in requests} == {OPENAI_SOURCE}, requests
    assert len(gate.bound(OPENAI_SOURCE)) == 4
    accounts = homes(stub, "session-id")
    assert len(accounts) == len(set(accounts.values())) == 2
