# SPDX-License-Identifier: MIT
"""pi: session_id (with an underscore) to a Responses provider, and nothing
but the conversation itself to a Messages one."""

import json

import pytest

from harness import CLIENT_KEY
from programs import Program, at_once, check_kept, check_two, script, seen

MODELS = {"responses": "gpt-5.5", "messages": "claude-sonnet-4-5"}


@pytest.fixture
def make_pi(tmp_path):
    def make(url: str, name: str = "pi") -> Program:
        pi = Program(script("pi", 20), tmp_path / name, {"PI_OFFLINE": "1"})

        def provider(api: str, base: str, model: str) -> dict:
            return {"api": api, "baseUrl": base, "apiKey": CLIENT_KEY,
                    "models": [{"id": model, "contextWindow": 200000,
                                "maxTokens": 8192}]}

        pi.file(".pi/agent/models.json", json.dumps({"providers": {
            "responses": provider("openai-responses", url + "/v1",
                                  MODELS["responses"]),
            "messages": provider("anthropic-messages", url,
                                 MODELS["messages"])}}))
        return pi

    return make


def by(provider: str) -> tuple[str, ...]:
    return ("--provider", provider, "--model", MODELS[provider])


def test_responses_continued(gateway, make_pi, stub):
    gate = gateway("codex", models=(MODELS["responses"],))
    pi = make_pi(gate.url)
    stub.call_tool("STUB:bash", "bash", command="echo from-the-tool")
    assert "Hello from" in pi.run(*by("responses"), "-p", "STUB:bash please")
    assert "from-the-tool" in json.loads(stub.log[-1]["body"])["input"][-1][
        "output"]
    pi.run(*by("responses"), "--continue", "-p", "and now?")
    home = check_kept(gate.new_requests(3), "header session_id", "codex")
    (ident,) = set(seen(stub, "session_id"))
    assert gate.binding(f"codex:{ident}")["credential"] == home


@pytest.mark.parametrize("provider, account, source, prefix", (
    ("responses", "codex", "header session_id", "codex"),
    ("messages", "claude", "message hash", "msg")))
def test_two_at_once_are_two_sessions(gateway, make_pi, stub, provider,
                                      account, source, prefix):
    gate = gateway(account, models=(MODELS[provider],))
    for number in (1, 2):
        stub.call_tool(f"{number} STUB:bash", "bash", command="true")
    at_once([make_pi(gate.url, f"pi{number}") for number in (1, 2)],
            *by(provider), "-p", "{} STUB:bash")
    check_two(gate, 4, source, prefix)
