# SPDX-License-Identifier: MIT
"""The status page in a browser, and what it draws from."""

import json
import os
import re
import shutil
import subprocess

import pytest

from harness import CLAUDE, OPENAI, SLOW, Client, as_json, header, pool

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def admin(make_daemon, stub):
    """A daemon with some history: one account refused, a session moved."""
    daemon = make_daemon({
        **pool(stub, "claude", "openai", count=3), "workers": 2,
        "routing": {"session-affinity": True}})
    for turn in range(3):
        for name in ("s1", "s2", "s3"):
            daemon.ask(CLAUDE, f"hi {turn}", headers={"X-Session-ID": name})
    bound = daemon.status_of_account = stub.log[0]["account"]
    stub.fault("status", account=bound, code=401, times=1)
    daemon.ask(CLAUDE, "hi", headers={"X-Session-ID": "s1"})
    daemon.ask(OPENAI, "hi")
    daemon.admin = Client(daemon.admin_port, key=None)
    yield daemon
    daemon.admin.close()


def status(daemon) -> dict:
    return as_json(daemon.admin.get("/status.json"))


def test_status_says_what_the_tool_says(admin):
    page, tool = status(admin), admin.ctl("status")
    for name in ("schema", "version", "pid", "generation", "models",
                 "sessions", "requests_total", "worker_deaths"):
        assert page[name] == tool[name], name
    assert {name: page["reloads"][name] for name in ("ok", "failed")} == \
        tool["reloads"]
    names = ("slot", "pid", "generation", "state", "requests", "streams")
    assert [{name: row[name] for name in names} for row in page["workers"]] \
        == [{name: row[name] for name in names} for row in tool["workers"]]
    names = ("id", "provider", "label", "source", "state", "reason",
             "priority", "weight", "in_flight", "succeeded", "failed")
    assert [{name: row[name] for name in names}
            for row in page["credentials"]] == \
        [{name: row[name] for name in names} for row in tool["credentials"]]


def test_last_failures_and_moves_are_told_with_their_reason(admin):
    events = status(admin)["events"]
    moved, failed = [[e for e in events if e["what"] == what]
                     for what in ("moved", "failed")]
    assert [e["status"] for e in failed] == [401]
    (move,) = moved
    assert move["from"] == failed[0]["credential"] != move["credential"]
    assert move["why"] and move["model"] == CLAUDE.model
    assert move["request_id"] == failed[0]["request_id"]


def test_samples_end_with_what_is_the_case_now(admin):
    page = status(admin)
    assert len(page["samples"]) >= 2
    assert [s["age_ms"] for s in page["samples"]] == sorted(
        (s["age_ms"] for s in page["samples"]), reverse=True)
    assert page["samples"][-1]["requests"] == 11
    assert len(page["samples"][-1]["first_byte"]) == \
        len(page["first_byte_bounds_ms"]) + 1


def test_no_secret_is_in_it(admin):
    for path in ("/status.json", "/", "/metrics"):
        assert b"canary" not in admin.admin.get(path).body


def test_page_is_self_contained_and_runs_nothing_else(admin):
    answer = admin.admin.get("/")
    text = answer.body.decode()
    assert not re.search(r"""(src|href)=|https?://(?!www\.w3\.org)""", text)
    policy = header(answer, "content-security-policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"\son[a-z]+=|\sstyle=", text)


def browse(url: str, *options: str) -> str:
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu",
         "--disable-dev-shm-usage", "--virtual-time-budget=4000",
         "--enable-logging=stderr", *options, url],
        capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines()
               if "CONSOLE" in line]
    assert not console, "\n".join(console)
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no browser is here")
def test_page_in_a_browser(admin, tmp_path):
    url = f"http://127.0.0.1:{admin.admin_port}/"
    profile = f"--user-data-dir={tmp_path / 'browser'}"
    dom = browse(url, profile, "--dump-dom")
    for row in status(admin)["credentials"]:
        assert row["id"] in dom
    assert "6 of 6" in dom or "5 of 6" in dom
    assert re.search(r"\d+ min( \d+ s)? left", dom)
    assert dom.count("<svg") == 4 and dom.count('role="img"') == 4
    assert re.search(r'<p id="trouble"[^>]* hidden', dom)
    pictures = os.environ.get("FAIRLEAD_PICTURES")
    if pictures:
        for name, *options in (
                ("light", "--window-size=1200,1150"),
                ("dark", "--window-size=1200,1150",
                 "--blink-settings=preferredColorScheme=0"),
                ("phone", "--window-size=500,1400")):
            browse(url, profile, *options,
                   f"--screenshot={pictures}/{name}.png")
        with open(f"{pictures}/status.json", "w", encoding="utf-8") as file:
            json.dump(status(admin), file, indent=1)
