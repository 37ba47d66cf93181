# SPDX-License-Identifier: MIT
"""What happens when processes die without a word."""

import concurrent.futures
import http.client
import os
import signal
import socket
import threading
import time

import pytest

from harness import (CLAUDE, OPENAI, SLOW, merged, pool, process_alive,
                     read_events, wait_for)

AFFINITY = {"routing": {"session-affinity": True}}


def start_streams(daemon, count: int) -> list[tuple]:
    """Open streams, and their first bytes seen: spread over the workers."""
    out = []
    for n in range(count):
        client = daemon.client()
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body(f"n {n}", stream=True))
        assert response.status == 200
        response.readline()
        out.append((client, response))
    return out


def finish(stream) -> bool:
    """Whether a stream came to its proper end."""
    client, response = stream
    try:
        return OPENAI.complete([frame for frame in read_events(response)])
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def test_killed_worker_takes_only_its_own_streams(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    stub.fault("pace", count=30, ms=100, times=-1)
    streams = start_streams(daemon, 16)
    rows = {row["pid"]: row["streams"] for row in
            daemon.status()["workers"]}
    assert sum(rows.values()) == 16
    victim = max(rows, key=lambda pid: rows[pid])
    os.kill(victim, signal.SIGKILL)
    stub.faults = []
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        whole = list(threads.map(finish, streams))
    assert sum(whole) == 16 - rows[victim]

    def replaced() -> bool:
        pids = daemon.worker_pids()
        return len(pids) == 2 and victim not in pids

    wait_for(replaced, 5)
    assert len(daemon.settled_workers(2)) == 2
    for _ in range(20):
        assert daemon.ask(OPENAI, "hi").status == 200
    assert daemon.log_count(rf"\b{victim}\b.*(died|killed|signal)") >= 1


def test_new_connections_succeed_while_a_worker_is_away(make_daemon, stub):
    """Its listener is the master's, so that nothing is refused or reset."""
    daemon = make_daemon({**pool(stub, "openai"), "workers": 2})
    failures = []
    stop = threading.Event()
    count = [0]

    def ask() -> None:
        while not stop.is_set():
            try:
                with daemon.client() as client:
                    status = client.get("/healthz").status
                count[0] += 1
                if status != 200:
                    failures.append(status)
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    killed = 0
    for _ in range(5):
        pid = daemon.settled_workers(2)[0]
        seen = count[0]
        os.kill(pid, signal.SIGKILL)
        killed += 1
        wait_for(lambda pid=pid: pid not in daemon.worker_pids(), 5)
        wait_for(lambda seen=seen: count[0] > seen + 20, 10)
    stop.set()
    for thread in threads:
        thread.join()
    # A connection the killed process had accepted is lost with it: at most
    # what four clients can have had there.
    assert len(failures) <= 4 * killed, failures
    assert not [f for f in failures if isinstance(f, ConnectionRefusedError)]
    assert count[0] > 100


def test_worker_that_dies_at_once_is_restarted_with_backoff(make_daemon,
                                                            stub):
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1})
    times = []
    for _ in range(4):
        (pid,) = wait_for(lambda: daemon.worker_pids() or None, 10)
        os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        wait_for(lambda pid=pid: [p for p in daemon.worker_pids()
                                  if p != pid], 20)
        times.append(time.monotonic() - start)
    assert times[0] < 1.5 * SLOW
    assert times[-1] > times[0]
    wait_for(lambda: daemon.ask(OPENAI, "hi").status == 200, 10)


def test_in_flight_counts_are_given_back(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1})
    stub.fault("silent", secs=30, times=5)
    with concurrent.futures.ThreadPoolExecutor(5) as threads:
        for _ in range(5):
            threads.submit(lambda: daemon.ask(OPENAI, "x"))
        wait_for(lambda: sum(row["in_flight"] for row in
                             daemon.credentials().values()) == 5, 5)
        (pid,) = daemon.worker_pids()
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: sum(row["in_flight"] for row in
                         daemon.credentials().values()) == 0, 5)
    before = daemon.status()["requests_total"]
    daemon.settled_workers(1)
    assert daemon.ask(OPENAI, "hi").status == 200
    assert daemon.status()["requests_total"] > before >= 5


def test_bodies_of_a_dead_worker_are_given_back(make_daemon, stub):
    """What it had reserved of bodies-total is free again."""
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "workers": 1, "limits": {"body": "1M", "bodies-total": "1M"}}))
    stub.fault("silent", secs=30)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        held = threads.submit(lambda: daemon.ask(OPENAI, "x" * 900000))
        wait_for(lambda: stub.log and "body_at" in stub.log[-1], 10)
        answer = daemon.ask(OPENAI, "x" * 900000)
        OPENAI.check_error(answer, 503, "overloaded")
        assert dict((k.lower(), v) for k, v in answer.headers)["retry-after"]
        (pid,) = daemon.worker_pids()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((OSError, http.client.HTTPException)):
            held.result()
    daemon.settled_workers(1)
    wait_for(lambda: daemon.ask(OPENAI, "x" * 900000).status == 200, 5)


def test_killed_master_lets_streams_finish(make_daemon, stub):
    """Workers see it at once, drain, and are gone when they are empty."""
    daemon = make_daemon(pool(stub, "openai"))
    stub.fault("pace", count=25, ms=100, times=-1)
    workers = daemon.worker_pids()
    streams = start_streams(daemon, 6)
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.proc.wait()
    daemon.proc = None
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        assert all(threads.map(finish, streams))
    wait_for(lambda: not any(map(process_alive, workers)), 15,
             "orphaned workers to end")


def test_idle_workers_end_soon_after_their_master(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    workers = daemon.worker_pids()
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.proc.wait()
    daemon.proc = None
    wait_for(lambda: not any(map(process_alive, workers)), 15)


def test_new_master_takes_over_from_a_killed_one(make_daemon, stub):
    """Started at once on the same port and state, while the old workers are
    still there: nobody is refused, nothing is forgotten."""
    daemon = make_daemon(merged(pool(stub, "openai", count=3), AFFINITY))
    homes = {}
    for n in range(6):
        assert daemon.ask(OPENAI, "hi", headers={
            "x-session-id": f"s{n}"}).status == 200
        homes[n] = stub.log[-1]["account"]
    old = daemon.worker_pids()
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.proc.wait()
    daemon.start()
    for n, home in homes.items():
        assert daemon.ask(OPENAI, "hi", headers={
            "x-session-id": f"s{n}"}).status == 200
        assert stub.log[-1]["account"] == home
    wait_for(lambda: not any(map(process_alive, old)), 20)
    for _ in range(20):
        assert daemon.ask(OPENAI, "hi").status == 200


def test_last_orphan_takes_what_the_first_one_left(make_daemon, stub):
    """The kernel gives connections to the socket of an orphan that has left
    as long as another one holds it too."""
    daemon = make_daemon(pool(stub, "claude"))
    first, last = daemon.settled_workers()
    os.kill(last, signal.SIGSTOP)
    try:
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.proc.wait()
        daemon.start()
        wait_for(lambda: not process_alive(first), 10)
        waiting = [socket.create_connection(("127.0.0.1", daemon.port))
                   for _ in range(40)]
        for sock in waiting:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    finally:
        os.kill(last, signal.SIGCONT)
    for sock in waiting:
        sock.settimeout(10 * SLOW)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        sock.close()


def test_kills_of_everything_lose_no_binding(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=3), AFFINITY))
    homes: dict[str, str] = {}

    def visit(session: str) -> None:
        assert daemon.ask(CLAUDE, "hi", headers={
            "x-session-id": session}).status == 200
        account = stub.log[-1]["account"]
        assert homes.setdefault(session, account) == account, session

    for round_number in range(6):
        for n in range(5):
            visit(f"s{round_number}-{n}")
        daemon.kill9()
        daemon.start()
        for session in list(homes):
            visit(session)


def test_kill_during_binding_never_corrupts(make_daemon, stub):
    """Workers die while they write; the store stays good."""
    daemon = make_daemon(merged(pool(stub, "claude", count=3),
                                {"workers": 2, **AFFINITY}))
    stop = threading.Event()

    def press(thread: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            try:
                daemon.ask(CLAUDE, "hi", headers={
                    "x-session-id": f"t{thread}-{n}"})
            except (OSError, http.client.HTTPException):
                continue

    threads = [threading.Thread(target=press, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        pids = wait_for(daemon.worker_pids, 10)
        os.kill(pids[0], signal.SIGKILL)
        wait_for(lambda pid=pids[0]: pid not in daemon.worker_pids(), 5)
    stop.set()
    for thread in threads:
        thread.join()
    daemon.settled_workers(2)
    total = daemon.sessions()["total"]
    assert total > 0
    home = None
    for _ in range(4):
        assert daemon.ask(CLAUDE, "hi", headers={
            "x-session-id": "after"}).status == 200
        assert home in (None, stub.log[-1]["account"])
        home = stub.log[-1]["account"]
