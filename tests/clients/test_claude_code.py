# SPDX-License-Identifier: MIT
"""Claude Code: X-Claude-Code-Session-Id on every request, kept by a resumed
session, by sub-agents and by compaction, and new in a fork."""

import json
from pathlib import Path

import pytest

from harness import ACCOUNTS, CLIENT_KEY, wait_for
from programs import (Program, at_once, check_kept, check_two, native,
                      seen)

HEADER = "x-claude-code-session-id"
CLASS = "x-claude-code-request-class"
SOURCE = f"header {HEADER}"
MODEL = "claude-sonnet-4-6"


@pytest.fixture
def gate(gateway):
    return gateway("claude", models=(MODEL,))


def program(url: str, directory: Path, **env: str) -> Program:
    return Program(native("@anthropic-ai/claude-code-{}", "claude"),
                   directory, {
        "ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": CLIENT_KEY,
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1", "IS_SANDBOX": "1", **env})


@pytest.fixture
def make_claude(gate, tmp_path):
    def make(name: str = "claude") -> Program:
        return program(gate.url, tmp_path / name, ANTHROPIC_MODEL=MODEL)

    return make


@pytest.fixture
def claude(make_claude):
    return make_claude()


def ask(claude: Program, *args: str) -> str:
    """Ask something; the id of the session, as Claude Code has it."""
    said = json.loads(claude.run("-p", "--output-format", "json", *args))
    assert said["result"].startswith("Hello from account"), said
    return said["session_id"]


def test_resumed(gate, claude, stub):
    ident = ask(claude, "hello")
    assert ask(claude, "--continue", "and now?") == ident
    assert ask(claude, "--resume", ident, "and then?") == ident
    home = check_kept(gate.new_requests(3), SOURCE, "claude")
    assert set(seen(stub, HEADER)) == {ident}
    assert len(gate.bound(SOURCE)) == 1
    bound = gate.binding(f"claude:{ident}")
    assert (bound["model"], bound["credential"]) == (MODEL, home)


def test_a_tool_loop(gate, claude, stub):
    stub.call_tool("STUB:bash", "Bash", command="echo from-the-tool",
                   description="say something")
    ask(claude, "STUB:bash please", "--allowedTools", "Bash")
    check_kept(gate.new_requests(2), SOURCE, "claude")
    assert "from-the-tool" in json.loads(stub.log[-1]["body"])[
        "messages"][-1]["content"][0]["content"]


def test_a_sub_agent_is_part_of_its_session(gate, claude, stub):
    stub.call_tool("STUB:agent", "Agent", description="a child",
                   prompt="the work of a child",
                   subagent_type="general-purpose")
    ask(claude, "STUB:agent please", "--allowedTools", "Agent")
    check_kept(gate.new_requests(3), SOURCE, "claude")
    assert len(set(seen(stub, HEADER))) == 1
    assert seen(stub, CLASS).count("subagent") == 1
    assert len(gate.bound(SOURCE)) == 1


def test_compaction_stays(gate, claude, stub):
    ident = ask(claude, "hello")
    claude.run("-p", "--continue", "/compact")
    assert ask(claude, "--continue", "and now?") == ident
    check_kept(gate.new_requests(3), SOURCE, "claude")
    assert set(seen(stub, HEADER)) == {ident}
    assert set(seen(stub, CLASS)) == {"main", "compaction"}


def test_a_fork_is_a_session_of_its_own(gate, claude, stub):
    ident = ask(claude, "hello")
    check_kept(gate.new_requests(), SOURCE, "claude")
    fork = ask(claude, "--continue", "--fork-session", "another way")
    assert ask(claude, "--resume", fork, "further on") == fork != ident
    check_kept(gate.new_requests(2), SOURCE, "claude")
    assert set(seen(stub, HEADER)) == {ident, fork}
    assert len(gate.bound(SOURCE)) == 2


def test_two_at_once_are_two_sessions(gate, make_claude, stub):
    for number in (1, 2):
        stub.call_tool(f"STUB:bash{number}", "Bash", command="true",
                       description="do nothing")
    at_once([make_claude("claude1"), make_claude("claude2")], "-p",
            "STUB:bash{}", "--allowedTools", "Bash")
    check_two(gate, 4, SOURCE, "claude")


def test_the_model_it_takes_by_itself(make_daemon, stub, tmp_path):
    """It is newer than the catalogue; the provider lists it."""
    model = "claude-opus-5-5"
    stub.models = [model]
    daemon = make_daemon({
        "allow-anonymous": True, "discover-models": True,
        "claude-api-key": [{"api-key": ACCOUNTS["claude1"],
                            "base-url": stub.url}]})
    wait_for(lambda: model in daemon.models(), 10, "the provider's list")
    ask(program(daemon.url, tmp_path / "claude"), "hello")
    assert stub.log[-1]["model"] == model
