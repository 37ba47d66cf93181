# SPDX-License-Identifier: MIT
"""A word that one worker has raised holds in all of them from the next pick
on, and outlives every process.

What can be proved from outside: a request that met a 429 and was answered by
another account has had the word raised before its answer left.  So whatever
is sent after that answer was read must not ask the account again, by whichever
worker it is served.  FAIRLEAD_PROPAGATION is the number of requests a wave.
"""

import concurrent.futures
import itertools
import os
import re
import signal
import time

from harness import CLAUDE, SLOW, merged, pool, wait_for

WORKERS = 8
CLIENTS = 16
REQUESTS = int(os.environ.get("FAIRLEAD_PROPAGATION", "400"))
TAG = re.compile(r"tag-(\d+)-")


def wave(daemon, tags) -> dict[int, tuple[float, float, int]]:
    """Requests, each on a connection of its own: tag -> sent, read, status."""
    def one(tag: int):
        sent = time.monotonic()
        status = daemon.ask(CLAUDE, f"tag-{tag}-").status
        return tag, (sent, time.monotonic(), status)
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
        return dict(threads.map(one, tags))


def askers(stub, account: str) -> list[int]:
    """The tags of the requests that were tried with the account."""
    return [int(TAG.search(entry["body"]).group(1))
            for entry in list(stub.log) if entry["account"] == account]


def check_wave(stub, account: str, done: dict) -> None:
    """Who asked a limited account had sent before anybody could know."""
    assert {status for _, _, status in done.values()} == {200}
    met = [tag for tag in askers(stub, account) if tag in done]
    assert met, "nobody has met the limit"
    known = min(done[tag][1] for tag in met)
    assert [tag for tag in met if done[tag][0] > known] == []
    assert len(met) <= CLIENTS


def test_no_next_pick_takes_what_another_worker_has_raised(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=4), {
        "workers": WORKERS, "log": {"level": "warn"}}))
    tags = itertools.count()
    for account in ("claude1", "claude2", "claude3"):
        stub.fault("status", account=account, code=429, times=-1,
                   headers={"retry-after": "600"})
        done = wave(daemon, itertools.islice(tags, REQUESTS // 3))
        check_wave(stub, account, done)
    rows = daemon.status()["workers"]
    assert sum(row["requests"] > 0 for row in rows) == WORKERS


def test_deadline_outlives_every_process(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude"), {"workers": WORKERS}))
    stub.fault("status", account="claude1", code=429, times=-1,
               headers={"retry-after": "600"})
    tags = itertools.count()
    assert set(status for _, _, status in wave(
        daemon, itertools.islice(tags, 40)).values()) == {200}
    before = len(askers(stub, "claude1"))
    assert before > 0

    def still_held() -> None:
        done = wave(daemon, itertools.islice(tags, 40))
        assert {status for _, _, status in done.values()} == {200}
        assert len(askers(stub, "claude1")) == before

    still_held()
    daemon.kill9()
    daemon.start()
    still_held()
    daemon.with_config(max_retry_credentials=7)
    daemon.reload()
    still_held()
    daemon.restart()
    still_held()
    states = {row["state"] for row in daemon.credentials().values()}
    assert states == {"ready", "cooling"}


def test_deadline_outlives_the_board(make_daemon, stub):
    """Another boot has no board: the word comes back from the database."""
    daemon = make_daemon(merged(pool(stub, "claude"), {"workers": 2}))
    stub.fault("status", account="claude1", code=429, times=-1,
               headers={"retry-after": "600"})
    for _ in range(2):
        assert daemon.ask(CLAUDE, "tag-0-").status == 200
    wait_for(lambda: "cooling" in {row["state"] for row in
                                   daemon.credentials().values()}, 5 * SLOW)
    daemon.stop()
    (daemon.runtime_dir / "board").unlink()
    daemon.start()
    for _ in range(6):
        assert daemon.ask(CLAUDE, "tag-0-").status == 200
    assert len(askers(stub, "claude1")) == 1


def test_success_that_is_heard_late_refutes_no_later_failure(
        make_daemon, stub):
    """The master reads of the success after the next failure was met."""
    daemon = make_daemon(merged(pool(stub, "claude", count=1), {
        "workers": 1, "request-retry": 0}))

    def state() -> str:
        (row,) = daemon.credentials().values()
        return row["state"]

    stub.fault("status", code=429)
    assert daemon.ask(CLAUDE, "hi").status == 429
    wait_for(lambda: state() == "ready")
    master = daemon.pid
    os.kill(master, signal.SIGSTOP)
    try:
        assert daemon.ask(CLAUDE, "hi").status == 200
        stub.fault("status", code=429, headers={"retry-after": "600"})
        assert daemon.ask(CLAUDE, "hi").status == 429
    finally:
        os.kill(master, signal.SIGCONT)
    assert state() == "cooling"
    asked = len(stub.log)
    assert daemon.ask(CLAUDE, "hi").status == 429
    assert len(stub.log) == asked
