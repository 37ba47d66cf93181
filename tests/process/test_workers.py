# SPDX-License-Identifier: MIT
"""Workers that are stopped, or away for a while: who accepts for them."""

import os
import signal
import threading
import time

from harness import OPENAI, SLOW, pool, process_alive, wait_for


class Visitors:
    """Threads that make one new connection after another."""

    def __init__(self, daemon, threads: int = 4):
        self.daemon = daemon
        self.waits: list[float] = []
        self.errors: list[OSError] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.visit)
                        for _ in range(threads)]

    def visit(self) -> None:
        while not self.stopped.is_set():
            start = time.monotonic()
            try:
                with self.daemon.client(timeout=20) as client:
                    assert client.get("/healthz").status == 200
            except OSError as error:
                self.errors.append(error)
            self.waits.append(time.monotonic() - start)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def rows(daemon) -> dict[int, dict]:
    return {row["pid"]: row for row in daemon.status()["workers"]}


def test_a_stopped_worker_keeps_nobody_waiting(make_daemon, stub):
    """Its listener is lent within a second and given back to the worker that
    takes its place when it is killed, after ten."""
    daemon = make_daemon({**pool(stub, "openai"), "workers": 2})
    victim, other = daemon.settled_workers(2)
    os.kill(victim, signal.SIGSTOP)
    with Visitors(daemon) as visitors:
        daemon.log_has("its listeners are lent to worker", 5)
        wait_for(lambda: len(visitors.waits) > 400, 10)
    assert not visitors.errors
    assert max(visitors.waits) < 1.0 * SLOW
    assert rows(daemon)[victim]["silent_ms"] >= 500
    wait_for(lambda: not process_alive(victim), 15)
    daemon.log_has(rf"pid {victim}\b.*hangs.*killed")
    assert other in daemon.settled_workers(2)
    daemon.log_has("has its listeners back", 5)
    for _ in range(20):
        assert daemon.ask(OPENAI, "hi").status == 200


def test_a_worker_that_goes_on_gets_its_listener_back(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "workers": 2})
    victim, _ = daemon.settled_workers(2)
    os.kill(victim, signal.SIGSTOP)
    try:
        daemon.log_has("its listeners are lent to worker", 5)
    finally:
        os.kill(victim, signal.SIGCONT)
    daemon.log_has("has its listeners back", 5)
    assert victim in daemon.settled_workers(2)
    with Visitors(daemon) as visitors:
        wait_for(lambda: len(visitors.waits) > 200, 10)
    assert not visitors.errors


def test_back_off_refuses_nobody(make_daemon, stub):
    """A worker that dies again and again is waited for longer and longer, and
    its neighbour accepts meanwhile."""
    daemon = make_daemon({**pool(stub, "openai"), "workers": 2})
    steady, _ = daemon.settled_workers(2)
    for _ in range(5):
        (pid,) = (p for p in daemon.settled_workers(2) if p != steady)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: not process_alive(pid), 5)
    daemon.log_has(r"the next one in (1600|800) ms")
    with Visitors(daemon) as visitors:
        daemon.settled_workers(2)
        wait_for(lambda: len(visitors.waits) > 200, 10)
    assert not visitors.errors
    assert max(visitors.waits) < 1.0 * SLOW


def test_fewer_workers_serve_all_listeners(make_daemon, stub):
    """The kernel still spreads connections over the listeners of four."""
    daemon = make_daemon({**pool(stub, "openai"), "workers": 4})
    daemon.settled_workers(4)
    daemon.with_config(workers=1)
    with Visitors(daemon) as visitors:
        daemon.reload()
        daemon.settled_workers(1)
        seen = len(visitors.waits)
        wait_for(lambda: len(visitors.waits) > seen + 200, 10)
    assert not visitors.errors
    assert max(visitors.waits) < 1.0 * SLOW
