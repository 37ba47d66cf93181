# SPDX-License-Identifier: MIT
"""What admin-listen serves: the metrics, and to whom."""

import base64
import os
import re
import shutil
import signal
import subprocess

import pytest

from harness import CLAUDE, OPENAI, ROOT, Client, header, pool, wait_for

PROMTOOL = (shutil.which("promtool")
            or shutil.which("promtool", path=str(ROOT / "build/tools/usr/bin")))


@pytest.fixture
def admin(make_daemon, stub):
    """A daemon with admin-listen; how it is asked there."""
    def start(**config):
        daemon = make_daemon({**pool(stub, "claude", "openai"), **config})
        daemon.admin = Client(daemon.admin_port, key=None)
        clients.append(daemon.admin)
        return daemon

    clients = []
    yield start
    for client in clients:
        client.close()


def scrape(daemon) -> dict[str, float]:
    text = daemon.admin.get("/metrics").body.decode()
    return {name: float(value) for name, value in
            re.findall(r"^([a-z_]+(?:{.*})?) (\S+)$", text, re.MULTILINE)}


def test_requests_and_attempts_are_counted_by_what_they_were(admin, stub):
    daemon = admin(workers=2)
    for turn in range(5):
        daemon.ask(CLAUDE, f"hi {turn}")
    stub.fault("status", code=400, times=1)
    daemon.ask(OPENAI, "hi")
    stub.fault("status", code=500, times=1)
    daemon.ask(OPENAI, "hi")
    daemon.ask(OPENAI, "hi", model="unknown")
    seen = scrape(daemon)
    total = "fairlead_requests_total{dialect=\"%s\",provider=\"%s\"," \
            "code=\"%s\"}"
    compat = "openai-compatibility"
    assert seen[total % ("claude", "claude", "200")] == 5
    assert seen[total % ("openai", compat, "400")] == 1
    assert seen[total % ("openai", compat, "200")] == 1
    assert seen[total % ("openai", "none", "404")] == 1
    attempts = 'fairlead_attempts_total{provider="%s",outcome="%s"}'
    assert seen[attempts % ("claude", "ok")] == 5
    assert seen[attempts % (compat, "status")] == 2
    assert seen[attempts % (compat, "ok")] == 1
    assert seen['fairlead_cooldowns_total{reason="transient"}'] == 1
    assert seen["fairlead_request_duration_seconds_count"] == 8
    kinds = {name for name in seen if name.startswith("fairlead_tokens")}
    assert 'fairlead_tokens_total{provider="claude",kind="input"}' in kinds
    assert seen["fairlead_time_to_first_byte_seconds_count"] == 8
    assert seen["fairlead_added_latency_seconds_count"] == 7


def test_tokens_are_counted(admin):
    daemon = admin(workers=2)
    for turn in range(4):
        assert daemon.ask(CLAUDE, f"hi {turn}").status == 200
    seen = scrape(daemon)
    rows = daemon.ctl("usage", "--by", "day")["rows"]
    for kind in ("input", "output", "cached", "cache_write"):
        name = f'fairlead_tokens_total{{provider="claude",kind="{kind}"}}'
        assert seen[name] == sum(row["tokens"][kind] for row in rows) > 0
    assert seen["fairlead_usage_records_lost_total"] == 0


def test_every_worker_tells_the_figures_of_all(admin):
    daemon = admin(workers=4)
    for turn in range(8):
        daemon.ask(CLAUDE, f"hi {turn}")
    counts = set()
    for _ in range(12):
        daemon.admin.close()
        counts.add(scrape(daemon)["fairlead_request_duration_seconds_count"])
    assert counts == {8.0}


def test_counters_outlive_a_reload_and_a_worker(admin):
    daemon = admin(workers=1)
    daemon.ask(CLAUDE, "hi")
    daemon.admin.close()
    (worker,) = daemon.worker_pids()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: daemon.settled_workers(1) != [worker])
    seen = scrape(daemon)
    assert seen["fairlead_request_duration_seconds_count"] == 1
    assert seen["fairlead_worker_deaths_total"] == 1


def test_a_credential_that_cannot_serve_is_not_ready(admin, stub):
    daemon = admin()
    stub.fault("status", account="claude1", code=401, times=-1)
    for turn in range(4):
        daemon.ask(CLAUDE, f"hi {turn}")
    ready = {name: value for name, value in scrape(daemon).items()
             if name.startswith("fairlead_credential_ready")
             and 'provider="claude"' in name}
    assert sorted(ready.values()) == [0, 1]


def test_sessions_are_counted_by_how_they_were_served(admin, stub):
    daemon = admin(routing={"session-affinity": True})
    for _ in range(3):
        daemon.ask(CLAUDE, "hi", headers={"X-Session-ID": "s1"})
    seen = scrape(daemon)
    result = 'fairlead_session_affinity_total{result="%s"}'
    assert (seen[result % "new"], seen[result % "hit"]) == (1, 2)
    assert seen["fairlead_sessions"] == 1
    stub.fault("status", account=stub.log[0]["account"], code=401, times=1)
    daemon.ask(CLAUDE, "hi", headers={"X-Session-ID": "s1"})
    seen = scrape(daemon)
    assert seen[result % "moved"] == 1
    assert seen['fairlead_session_moves_total{reason="failed"}'] == 1
    assert seen["fairlead_store_write_wait_seconds_count"] >= 1


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here")
def test_promtool_finds_nothing_wrong(admin):
    daemon = admin()
    daemon.ask(CLAUDE, "hi")
    text = daemon.admin.get("/metrics").body
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text,
                          capture_output=True, timeout=30, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()


def test_metrics_are_documented():
    page = (ROOT / "man" / "fairlead-metrics.7.in").read_text()
    source = (ROOT / "worker" / "admin" / "metrics.c").read_text()
    names = set(re.findall(r'"(fairlead_[a-z_]+)"', source))
    assert names and names == set(re.findall(r"fairlead_[a-z_]*[a-z]",
                                             page.split(".Sh EXAMPLES")[0]))


# ---- who may see it

def test_without_a_key_it_is_asked_by_address(admin):
    daemon = admin()

    def ask(host: str, path: str = "/metrics") -> int:
        return daemon.admin.get(path, {"Host": host}).status

    for host in ("127.0.0.1", "localhost:8318", "LocalHost", "[::1]:1"):
        assert ask(host) == 200, host
    for host in ("rebound.example", "127.0.0.1.example", "[::1", ":",
                 "localhost.example:80", "[rebound.example]"):
        assert ask(host) == 403, host
        assert ask(host, "/healthz") == 200


def basic(text: str) -> dict:
    return {"Authorization": "Basic " +
            base64.b64encode(text.encode()).decode()}


KEY = "canary-admin"

OFFERS = (
    ({"Authorization": f"Bearer {KEY}"}, 200),
    ({"Authorization": f"bearer   {KEY} "}, 200),
    (basic(f"anybody:{KEY}"), 200),
    (basic(f":{KEY}"), 200),
    ({}, 401),
    (basic(KEY), 401),
    (basic(f"x:{KEY}x"), 401),
    ({"Authorization": f"Bearer {KEY}x"}, 401),
    ({"Authorization": "Bearer "}, 401),
    ({"Authorization": "Basic !!!!"}, 401),
    ({"Authorization": "Basic " + "A" * 4000}, 401),
    ({"Authorization": KEY}, 401),
    ({"X-Api-Key": KEY}, 401),
    ({"Authorization": "Bearer canary-client-1"}, 401),
)


def test_with_a_key_it_is_wanted(admin):
    daemon = admin(**{"admin-key": KEY})
    for offer, status in OFFERS:
        answer = daemon.admin.get(
            "/metrics", {"Host": "gateway.example", **offer})
        assert answer.status == status, offer
        wanted = header(answer, "www-authenticate")
        assert (wanted is not None) == (status == 401)


def test_nothing_else_is_there_and_nothing_is_written(admin):
    daemon = admin()
    for path in ("/nothing", "/v1/models", "/v1/messages"):
        assert daemon.admin.get(path).status == 404
    assert daemon.admin.post("/metrics", {"x": 1}).status == 405
    with Client(daemon.port) as client:
        assert client.get("/metrics").status == 404
