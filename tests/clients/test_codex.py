# SPDX-License-Identifier: MIT
"""Codex: session-id on every request, kept by a resumed session, by sub-agents
(which name their parent's) and by compaction."""

import json
import re

import pytest

from harness import CLIENT_KEY
from programs import Program, at_once, check_kept, check_two, script, seen

HEADER = "session-id"
SOURCE = f"header {HEADER}"
MODEL = "gpt-5.5"
CONFIG = """\
model = "{model}"
model_provider = "fairlead"
check_for_update_on_startup = false

[model_providers.fairlead]
name = "fairlead"
base_url = "{url}/v1"
env_key = "FAIRLEAD_KEY"
wire_api = "responses"

[analytics]
enabled = false
"""
FREE = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")


@pytest.fixture
def gate(gateway):
    return gateway("codex", models=(MODEL,))


@pytest.fixture
def make_codex(gate, tmp_path):
    def make(name: str = "codex") -> Program:
        codex = Program(script("codex", 16), tmp_path / name,
                        {"FAIRLEAD_KEY": CLIENT_KEY})
        codex.file(".codex/config.toml",
                   CONFIG.format(model=MODEL, url=gate.url))
        return codex

    return make


@pytest.fixture
def codex(make_codex):
    return make_codex()


def ask(codex: Program, *args: str) -> str:
    """Ask something; the id of the session, as Codex has it."""
    events = [json.loads(line) for line in
              codex.run("exec", *args, "--json", *FREE).splitlines()]
    said = [event["item"]["text"] for event in events
            if event.get("item", {}).get("type") == "agent_message"]
    assert said[-1].startswith("Hello from account"), events
    return next(event["thread_id"] for event in events
                if event["type"] == "thread.started")


def test_resumed(gate, codex, stub):
    ident = ask(codex, "hello")
    assert ask(codex, "resume", "--last", "and now?") == ident
    assert ask(codex, "resume", ident, "and then?") == ident
    home = check_kept(gate.new_requests(3), SOURCE, "codex")
    assert set(seen(stub, HEADER)) == {ident}
    assert len(gate.bound(SOURCE)) == 1
    bound = gate.binding(f"codex:{ident}")
    assert (bound["model"], bound["credential"]) == (MODEL, home)


def test_a_tool_loop(gate, codex, stub):
    stub.call_tool("STUB:shell", "exec_command", cmd="echo from-the-tool")
    ask(codex, "STUB:shell please")
    check_kept(gate.new_requests(2), SOURCE, "codex")
    assert "from-the-tool" in json.loads(stub.log[-1]["body"])["input"][-1][
        "output"]


def test_a_sub_agent_is_part_of_its_session(gate, codex, stub):
    agents = "multi_agent_v1"
    stub.call_tool("STUB:agent", "tool_search", query="spawn sub-agent")
    stub.call_tool("STUB:agent", "spawn_agent", namespace=agents,
                   message="the work of a child")
    stub.call_tool("STUB:agent", "wait_agent", namespace=agents,
                   ids=[re.compile(r'"agent_id":"([^"]+)"')])
    ident = ask(codex, "STUB:agent please")
    check_kept(gate.new_requests(5), SOURCE, "codex")
    assert set(seen(stub, HEADER)) == {ident}
    assert seen(stub, "x-codex-parent-thread-id") == [ident]
    assert len(set(seen(stub, "thread-id"))) == 2
    assert len(gate.bound(SOURCE)) == 1


def test_compaction_stays(gate, codex, stub):
    stub.call_tool("STUB:shell", "exec_command", cmd="true")
    ident = ask(codex, "STUB:shell please", "-c",
                "model_auto_compact_token_limit=1000")
    check_kept(gate.new_requests(3), SOURCE, "codex")
    assert set(seen(stub, HEADER)) == {ident}
    assert set(seen(stub, "x-codex-window-id")) == {f"{ident}:0",
                                                    f"{ident}:1"}


def test_two_at_once_are_two_sessions(gate, make_codex, stub):
    for number in (1, 2):
        stub.call_tool(f"STUB:shell{number}", "exec_command", cmd="true")
    at_once([make_codex("codex1"), make_codex("codex2")], "exec",
            "STUB:shell{}", *FREE)
    check_two(gate, 4, SOURCE, "codex")
