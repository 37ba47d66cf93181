# SPDX-License-Identifier: MIT
"""Gemini CLI: no id at all; the message hash of its first turns is one."""

import json

import pytest

from harness import CLIENT_KEY
from programs import (Program, at_once, check_kept, check_two, script,
                      seen)

SOURCE = "message hash"
MODEL = "gemini-2.5-flash"
SETTINGS = {"security": {"auth": {"selectedType": "gemini-api-key"},
                         "folderTrust": {"enabled": False}},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False}}
# With a model named, no other one is asked which to take.
FREE = ("-y", "-m", MODEL)


@pytest.fixture
def gate(gateway):
    return gateway("gemini", models=(MODEL,))


@pytest.fixture
def make_gemini(gate, tmp_path):
    def make(name: str = "gemini") -> Program:
        gemini = Program(script("gemini", 20), tmp_path / name, {
            "GOOGLE_GEMINI_BASE_URL": gate.url,
            "GEMINI_API_KEY": CLIENT_KEY,
            "GEMINI_CLI_TRUST_WORKSPACE": "true"})
        gemini.file(".gemini/settings.json", json.dumps(SETTINGS))
        return gemini

    return make


@pytest.fixture
def gemini(make_gemini):
    return make_gemini()


def ask(gemini: Program, prompt: str, *args: str) -> None:
    assert "Hello from account" in gemini.run(*FREE, *args, "-p", prompt)


def test_a_tool_loop_and_resumed(gate, gemini, stub):
    stub.call_tool("STUB:shell", "run_shell_command",
                   command="echo from-the-tool")
    ask(gemini, "STUB:shell please")
    assert "from-the-tool" in stub.log[-1]["body"]
    ask(gemini, "and now?", "--resume", "latest")
    home = check_kept(gate.new_requests(3), SOURCE, "msg")
    (bound,) = gate.bound(SOURCE)
    assert (bound["model"], bound["credential"]) == (MODEL, home)


def test_a_sub_agent_begins_with_words_of_its_own(gate, gemini, stub):
    stub.call_tool("STUB:agent", "invoke_agent", agent_name="generalist",
                   prompt="the work of a child")
    ask(gemini, "STUB:agent please")
    check_two(gate, 4, SOURCE, "msg")


def test_two_at_once(gate, make_gemini, stub):
    """What they begin with is the same further than the hash looks, so they
    are one session, unless they are given ids."""
    named = "header x-session-id"
    plain = [make_gemini(f"plain{number}") for number in (1, 2)]
    given = [make_gemini(f"given{number}") for number in (1, 2)]
    for number, gemini in enumerate(given, 1):
        stub.call_tool(f"STUB:shell{number}", "run_shell_command",
                       command="true")
        gemini.env["GEMINI_CLI_CUSTOM_HEADERS"] = (
            f"X-Session-ID: the-session-{number}")
    at_once(plain, *FREE, "-p", "hello {}")
    check_kept(gate.new_requests(2), SOURCE, "msg")
    (bound,) = gate.bound(SOURCE)
    gate.daemon.ctl_run("unbind", "session", bound["key"])
    at_once(given, *FREE, "-p", "STUB:shell{}")
    check_two(gate, 4, named, "header")
    assert set(seen(stub, "x-session-id")) == {"the-session-1",
                                               "the-session-2"}
