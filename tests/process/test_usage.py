# SPDX-License-Identifier: MIT
"""One usage record for every attempt, and totals that are their sum, whatever
dies meanwhile.  FAIRLEAD_USAGE_ROUNDS makes the long run longer."""

import collections
import concurrent.futures
import http.client
import json
import os
import re
import signal
import threading

import pytest

from harness import (CLAUDE, DIALECTS, GEMINI, OPENAI, RESPONSES, merged, pool,
                     each_dialect, wait_for)

ROUNDS = int(os.environ.get("FAIRLEAD_USAGE_ROUNDS", "3"))
KINDS = ("input", "output", "cached", "cache_write", "reasoning", "total")


def usage_files(daemon):
    return sorted(daemon.state_dir.glob("usage.spool*"))


def records(*paths) -> list[dict]:
    return [json.loads(line) for path in paths
            for line in path.read_text("utf-8").splitlines()]


def totals(daemon, *argv: str) -> list[dict]:
    return daemon.ctl("usage", *argv)["rows"]


def summed(rows) -> collections.Counter:
    """Rows of a report, or records, as one sum."""
    out = collections.Counter()
    for row in rows:
        out["requests"] += row.get("requests", 1)
        out["failed"] += int(row["failed"])
        for kind in KINDS:
            out[kind] += (row["tokens"] or {}).get(kind) or 0
    return out


def by_place(rows) -> dict:
    """The same for each credential, model and day."""
    out = collections.defaultdict(collections.Counter)
    for row in rows:
        day = row.get("day") or row["time"][:10]
        out[row["credential"], row["model"], day] += summed([row])
    return dict(out)


def with_file(daemon_config, tmp_path):
    path = tmp_path / "fl0" / "usage.log"
    return merged(daemon_config, {"log": {"usage-file": str(path)}}), path


@each_dialect
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_tokens_of_every_dialect(make_daemon, stub, tmp_path, dialect,
                                 stream):
    config, path = with_file(pool(stub), tmp_path)
    daemon = make_daemon(config)
    more = {}
    if stream and dialect is OPENAI:
        more["stream_options"] = {"include_usage": True}
    for _ in range(2):
        if stream:
            status, frames = daemon.stream(dialect, "hello there", **more)
            assert status == 200 and dialect.complete(frames)
        else:
            assert daemon.ask(dialect, "hello there").status == 200
    wait_for(lambda: path.read_text().count("\n") == 2, 5)
    for row in records(path):
        tokens = row["tokens"]
        assert row["stream"] is stream and row["outcome"] == "ok"
        assert tokens["input"] > 0 and tokens["output"] > 0
        parts = tokens["input"] + tokens["output"]
        if dialect is CLAUDE:
            parts += tokens["cache_write"]
        assert tokens["total"] >= parts


def test_openai_stream_has_no_tokens_unasked(make_daemon, stub, tmp_path):
    config, path = with_file(pool(stub, "openai"), tmp_path)
    daemon = make_daemon(config)
    status, frames = daemon.stream(OPENAI, "hi")
    assert status == 200 and OPENAI.complete(frames)
    wait_for(lambda: path.read_text().count("\n") == 1, 5)
    (row,) = records(path)
    assert row["tokens"] is None and row["outcome"] == "ok"
    assert "include_usage" not in stub.log[-1]["body"]
    assert summed(totals(daemon))["requests"] == 1


def test_large_answer_is_counted(make_daemon, stub, tmp_path):
    config, path = with_file(pool(stub, "openai"), tmp_path)
    daemon = make_daemon(config)
    text = json.dumps({"choices": [{"message": {"content": "x" * 300000}}],
                       "usage": {"prompt_tokens": 7, "completion_tokens": 5,
                                 "total_tokens": 12}})
    stub.fault("body", body=text)
    assert daemon.ask(OPENAI, "hi").status == 200
    wait_for(lambda: path.read_text().count("\n") == 1, 5)
    assert records(path)[0]["tokens"]["total"] == 12


def test_spool_is_the_default_and_totals_survive(make_daemon, stub):
    daemon = make_daemon(pool(stub))
    for dialect in DIALECTS:
        assert daemon.ask(dialect, "hi").status == 200
    (spool,) = usage_files(daemon)
    assert spool.stat().st_mode & 0o777 == 0o600
    want = records(spool)
    assert len(want) == len(DIALECTS)
    assert "canary" not in spool.read_text()
    for _ in range(2):
        rows = totals(daemon)
        assert by_place(rows) == by_place(want)
        assert all(row["client"] is None for row in rows)
        daemon.restart()
    daemon.kill9()
    daemon.start()
    assert by_place(totals(daemon)) == by_place(want)
    rows = totals(daemon, "--by", "client")
    assert [row["client"] for row in rows] == [want[0]["client"]]
    assert summed(rows) == summed(want)
    assert totals(daemon, "--since", "2999-01-01") == []
    models = totals(daemon, "--by", "model", "--by", "day")
    assert {row["model"] for row in models} == {row["model"] for row in want}
    done = daemon.ctl_run("usage")
    assert done.returncode == 0 and "gpt-stub" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for argv in (("--by", "hour"), ("--since", "yesterday"), ("--by",),
                 ("--since", "2026-13-01"), ("--since", "2026-01-01x"),
                 ("day",)):
        assert daemon.ctl_run("usage", *argv).returncode == 2


def test_rotation_by_others_loses_and_doubles_nothing(make_daemon, stub,
                                                      tmp_path):
    config, path = with_file(pool(stub, "openai"), tmp_path)
    daemon = make_daemon(config)
    stop = threading.Event()
    count = [0]

    def ask() -> None:
        while not stop.is_set():
            assert daemon.ask(OPENAI, "hi").status == 200
            count[0] += 1

    moved = []
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(ask) for _ in range(3)]
        for n in range(4):
            seen = count[0]
            wait_for(lambda seen=seen: count[0] > seen + 20, 10)
            moved.append(path.with_suffix(f".{n}"))
            path.rename(moved[-1])
            if n % 2:
                daemon.kill(signal.SIGUSR1)
            else:
                assert daemon.ctl_run("reopen").returncode == 0
            wait_for(path.exists, 5)
        stop.set()
        for future in asking:
            future.result()
    want = records(*moved, path)
    assert len(want) == len(stub.log) == count[0]
    assert by_place(totals(daemon)) == by_place(want)
    daemon.restart()
    assert by_place(totals(daemon)) == by_place(want)


def test_file_renamed_before_a_kill_is_folded_to_its_end(make_daemon, stub,
                                                         tmp_path):
    config, path = with_file(pool(stub, "openai"), tmp_path)
    daemon = make_daemon(config)
    assert daemon.ask(OPENAI, "hi").status == 200
    assert summed(totals(daemon))["requests"] == 1
    daemon.kill9()
    line = path.read_bytes()
    with open(path, "ab") as out:
        out.write(line * 5)
    path.rename(path.with_suffix(".log.1"))
    path.with_suffix(".log.old").write_bytes(line.replace(b"2", b"3") * 7)
    daemon.start()
    assert daemon.ask(OPENAI, "hi").status == 200
    assert summed(totals(daemon))["requests"] == 7


def test_configured_file_and_spool_take_turns(make_daemon, stub, tmp_path):
    daemon = make_daemon(pool(stub, "openai"))
    path = tmp_path / "fl0" / "usage.log"
    for name in (str(path), "", str(path)):
        assert daemon.ask(OPENAI, "hi").status == 200
        daemon.with_config(log={"usage-file": name})
        daemon.reload()
    assert daemon.ask(OPENAI, "hi").status == 200
    assert summed(totals(daemon))["requests"] == 4
    assert len(records(path)) == 2


class Crowd:
    """Requests of all kinds, each with an outcome of its own."""

    def __init__(self, daemon):
        self.daemon = daemon

    def one(self, n: int, leaves: bool = False) -> None:
        dialect = DIALECTS[n % len(DIALECTS)]
        stream = leaves or n % 3 != 0
        with self.daemon.client(timeout=20) as client:
            try:
                response = client.open(
                    "POST", dialect.path(stream),
                    dialect.body(f"n {n}", stream=stream), None, dialect.auth)
                if leaves:
                    response.read1(10)
                    response.close()
                else:
                    response.read()
            except (OSError, http.client.HTTPException):
                pass  # its worker was killed


def in_flight(daemon) -> int:
    return sum(row["in_flight"] for row in daemon.credentials().values())


@pytest.mark.limit(60 + 20 * ROUNDS)
def test_records_are_the_attempts_and_totals_their_sum(make_daemon, stub,
                                                       tmp_path):
    config, path = with_file(pool(stub, count=3), tmp_path)
    config["max-attempts"] = 3
    config["disable-cooling"] = True
    daemon = make_daemon(config)
    crowd = Crowd(daemon)
    lost = 0
    for number in range(ROUNDS):
        # Some that fail and go elsewhere, break off, or are left.
        stub.fault("status", code=500, times=6)
        stub.fault("sse_error_first", times=3)
        stub.fault("drop_mid", after=2, times=3)
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            list(threads.map(crowd.one, range(40)))
        stub.faults = []
        stub.fault("stall_mid", after=1, secs=20, times=4)
        for n in range(4):
            crowd.one(n, leaves=True)
        wait_for(lambda: in_flight(daemon) == 0, 10)
        # And some whose worker is killed while the provider thinks.
        before = len(stub.log)
        stub.fault("silent", secs=20, times=-1)
        with concurrent.futures.ThreadPoolExecutor(12) as threads:
            for n in range(12):
                threads.submit(crowd.one, n)
            wait_for(lambda before=before: sum(
                "sha256" in entry for entry in stub.log[before:]) == 12, 10)
            wait_for(lambda: in_flight(daemon) == 12, 10)
            stub.faults = []
            for pid in daemon.worker_pids():
                os.kill(pid, signal.SIGKILL)
        lost += 12
        daemon.settled_workers(2)
        if number % 3 == 2:
            daemon.kill9()
            daemon.start()
    rows = records(path)
    assert len(rows) == len(stub.log)
    assert len({(row["request_id"], row["attempt"]) for row in rows}) == len(
        rows)
    died = [row for row in rows if row["outcome"] == "worker_died"]
    assert len(died) == lost
    for row in died:
        assert row["failed"] and row["status"] is None and row["error"]
        assert row["credential"] and row["model"] and row["client"]
        assert row["dialect"] in {dialect.name for dialect in DIALECTS}
        assert row["latency_ms"] >= 0 and row["tokens"] is None
    outcomes = {row["outcome"] for row in rows}
    assert outcomes >= {"ok", "status", "worker_died", "client_gone"}
    assert by_place(totals(daemon)) == by_place(rows)
    assert "canary" not in path.read_text()


def test_killed_daemon_leaves_one_record_for_each_attempt(make_daemon, stub,
                                                          tmp_path):
    """Master and workers at once: the next master writes the records."""
    config, path = with_file(pool(stub, "claude", count=1), tmp_path)
    daemon = make_daemon(config)
    crowd = Crowd(daemon)
    stub.fault("silent", secs=20, times=-1)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(lambda: crowd.daemon.ask(CLAUDE, "hi"))
        wait_for(lambda: in_flight(daemon) == 4, 10)
        daemon.kill9()
    stub.faults = []
    daemon.start()
    wait_for(lambda: path.read_text().count("\n") == 4, 10)
    rows = records(path)
    assert {row["outcome"] for row in rows} == {"worker_died"}
    assert summed(totals(daemon))["requests"] == 4


def test_spool_is_bounded(make_daemon, stub):
    """A spool beyond its size is put aside, folded and removed."""
    daemon = make_daemon(pool(stub, "openai"))
    assert daemon.ask(OPENAI, "hi").status == 200
    (spool,) = usage_files(daemon)
    line = spool.read_bytes()
    count = (4 << 20) // len(line) + 1
    with open(spool, "ab") as out:
        out.write(line * count)
    wait_for(lambda: spool.exists() and spool.stat().st_size < 1 << 20, 10)
    wait_for(lambda: usage_files(daemon) == [spool], 10)
    assert daemon.ask(OPENAI, "hi").status == 200
    assert summed(totals(daemon))["requests"] == count + 2
    assert len(records(spool)) == 1


def test_torn_line_is_passed_over(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    (spool,) = usage_files(daemon)
    with open(spool, "ab") as out:
        out.write(b'{"time":"2026-11-22T10:00:00Z","request_id":"abc')
    for _ in range(3):
        assert daemon.ask(OPENAI, "hi").status == 200
    assert summed(totals(daemon))["requests"] == 3


def test_errors_of_records_hold_no_secret(make_daemon, stub, tmp_path):
    config, path = with_file(pool(stub, "openai", count=1), tmp_path)
    daemon = make_daemon(config)
    stub.fault("status", code=400, body=json.dumps({"error": {
        "message": "the key " + "canary-up-openai1 is bad " + "x" * 2000}}))
    stub.fault("status", code=400, body=json.dumps({"error": {
        "message": "sk-proj-0123456789abcdef0123 \x01\n" + "y" * 2000}}))
    for _ in range(2):
        daemon.ask(OPENAI, "hi")
    wait_for(lambda: path.read_text().count("\n") == 2, 5)
    text = path.read_text()
    assert "canary" not in text and "0123456789abcdef" not in text
    assert re.search('"error":"sk-[*]+', text)
    assert max(map(len, text.splitlines())) < 1500
