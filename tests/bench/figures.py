# SPDX-License-Identifier: MIT
"""
What is measured, and the goals. An experiment measures one or more figures of
every subject in the same round; FIGURES and EXPERIMENTS are all there is.
"""

import contextlib
import functools
import statistics
import time
from dataclasses import dataclass, replace
from typing import Callable

import proc
from proc import BenchError
from clients import open_request
from servers import Setup

KB, MB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Figure:
    """
    A row of the table. The goal is held against the ratio to nginx, or, where
    `absolute`, against the value itself; a `floor` is a goal from below.
    """
    key: str
    title: str
    unit: str
    goals: tuple  # (with libcurl upstream, where we are going)
    absolute: bool = False
    floor: bool = False


@dataclass(frozen=True)
class Experiment:
    """
    measure(bench, subject) returns {key of a figure: value}. The subjects are
    nginx and fairlead in one setup, or, with `beside`, fairlead in two. Many
    short rounds tell more than few long ones: the speed of a virtual machine
    changes from second to second.
    """
    name: str
    figures: tuple
    measure: Callable
    setup: Setup = Setup()
    beside: Setup | None = None  # the baseline's
    repeat: int = 1  # short rounds in a round
    fresh: bool = False  # servers start anew for every round
    direct: bool = False  # the stub itself is a subject; it is subtracted
    quick: bool = False  # part of --quick


def warm_up(bench, subject, *options, tls=False, stub=None):
    bench.clients.run(subject.target(tls, stub is not None), 0.4, "-c", 64,
                      *options, stub=stub)


def cpu_per_request(bench, subject, *options, tls=False, stub=None):
    """CPU us of the proxy's processes for each request, c=64."""
    before = proc.cpu_ns(subject.pids)
    done = bench.clients.run(subject.target(tls, stub is not None), 0.5,
                             "-c", 64, *options, stub=stub)
    after = proc.cpu_ns(subject.pids)
    subject.check()
    return (after - before) / 1e3 / done["requests"]


def measure_cpu(bench, subject, *options, key, size, tls=False, stub=None):
    options = ("-b", size, *options)
    if bench.round == 0:
        warm_up(bench, subject, *options, tls=tls, stub=stub)
    return {key: cpu_per_request(bench, subject, *options, tls=tls,
                                 stub=stub)}


def measure_rps(bench, subject):
    if bench.round == 0:
        warm_up(bench, subject, "-b", 2 * KB)
    done = bench.clients.run(subject.target(), 0.5, "-c", 64, "-b", 2 * KB)
    subject.check()
    return {"rps": done["rps"]}


def measure_limited(bench, subject):
    """Requests that are answered, while so many attempts are refused."""
    stub = ("-H", f"X-Stub: limited={subject.setup.limited}")
    if bench.round == 0:
        warm_up(bench, subject, "-b", 2 * KB, *stub)
    before = bench.stub.stats()["requests"]
    spent = proc.cpu_ns(subject.pids)
    done = bench.clients.run(subject.target(), 0.5, "-c", 64, "-b", 2 * KB,
                             *stub)
    spent = proc.cpu_ns(subject.pids) - spent
    subject.check()
    share = 1 - done["requests"] / (bench.stub.stats()["requests"] - before)
    if abs(share - subject.setup.limited / 100) > 0.05:
        raise BenchError(f"{share:.0%} of the answers were refused")
    return {"limited": done["rps"],
            "limited-cpu": spent / 1e3 / done["requests"]}


def measure_latency(bench, subject):
    if bench.round == 0:
        warm_up(bench, subject, "-b", 2 * KB)
    done = bench.clients.run(subject.target(), 2, "-r", 500, "-b", 2 * KB,
                             "-z", bench.round + 1)
    return {"p50": done["p50_us"], "p99": done["p99_us"]}


def measure_paced(bench, subject):
    """100 streams a second, 50 events each, 20 ms apart."""
    done = bench.clients.run(
        subject.target(stream=True), 3, "-r", 100, "-c", 512, "-b", 2 * KB,
        "-e", "-z", bench.round + 1, stub="events=50 interval=20")
    return {"event-p50": done["event_p50_us"],
            "event-p99": done["event_p99_us"]}


def measure_streams(bench, subject, *, tls=False):
    """
    Memory of held streams, and what they cost the other requests: a twin
    that holds none is measured in turns with the one that does.
    """
    kind = "-tls" if tls else ""
    load = functools.partial(cpu_per_request, bench, tls=tls)
    with contextlib.closing(
            bench.start(type(subject), subject.setup)) as twin:
        for proxy in (subject, twin):
            warm_up(bench, proxy, "-b", 2 * KB, tls=tls)
        before = proc.private_bytes(subject.pids)
        with bench.clients.holding(subject.target(tls, True), bench.streams,
                                   "events=1000000 interval=20000"):
            growth = proc.private_bytes(subject.pids) - before
            ratios = [load(subject, "-b", 2 * KB) / load(twin, "-b", 2 * KB)
                      for _ in range(4)]
    return {"stream-memory" + kind: growth / KB / bench.streams,
            "streams-cpu" + kind: statistics.median(ratios)}


def measure_cold(bench, subject):
    """The worker has seen no request, and has had time to settle."""
    del bench
    time.sleep(0.5)
    return {"cold": max(proc.private_bytes([pid]) / MB
                        for pid in subject.workers())}


def measure_stalled(bench, subject):
    """Ten clients that stop reading an answer of 12 MB."""
    target = subject.target(stream=True)
    bench.clients.run(target, 1, "-c", 16, "-b", 2 * KB, stub="events=50")
    before = proc.private_bytes(subject.pids)
    with bench.clients.holding(target, 10, "events=52000", "-L"):
        time.sleep(2)
        return {"stalled":
                (proc.private_bytes(subject.pids) - before) / MB}


def measure_gone(bench, subject):
    """Clients that leave: half before the first byte, half within a stream."""
    target = subject.target(stream=True)
    socks = [open_request(target, stub) for stub in
             ["events=10 wait=30000", "events=10 interval=30000"] * 10]
    proc.wait_until(lambda: bench.stub.stats()["streams"] == len(socks),
                    "the streams to open")
    time.sleep(0.2)
    for sock in socks:
        sock.close()
    return {"gone": 1e3 * proc.wait_until(
        lambda: bench.stub.stats()["streams"] == 0,
        "the upstream requests to be cancelled", 40)}


def cpu_experiment(key, title, goals, quick=False, **how):
    return Experiment(
        key, (Figure(key, f"CPU per request, {title}", "us", goals),),
        functools.partial(measure_cpu, key=key, **how), repeat=4, quick=quick)


def measure_sessions(bench, subject):
    """Every session has had a request before the first round is measured."""
    sessions = subject.setup.sessions
    if bench.round == 0:
        bench.clients.run(subject.target(), 300, "-c", 64, "-b", 300,
                          "-n", sessions)
    return measure_cpu(bench, subject, "-z", bench.round + 1,
                       key="sessions", size=2 * KB)


def measure_files(bench, subject):
    """A start with so many files, and how long one change waits."""
    with contextlib.closing(
            bench.start(type(subject), subject.setup)) as twin:
        proc.wait_until(twin.serves, "it to serve", 60)
        started = time.monotonic() - twin.begun
        name = "account-00003.json"
        twin.write_credential(3, priority=7)
        changed = proc.wait_until(
            lambda: twin.ask("credential", name)["credential"]["priority"]
            == 7, "the change to count")
    return {"files-start": 1e3 * started, "files-change": 1e3 * changed}


# As many that some are always ready, and no request ends as a 429.
MANY_TRIES = Setup(credentials=1000, more="max-attempts = 100;")

TWO_WORKERS = Setup(workers=2, pinned=False)

EXPERIMENTS = (
    cpu_experiment("cpu-2k", "2 KB", (2.1, 1.1), size=2 * KB, quick=True),
    cpu_experiment("cpu-2k-tls", "2 KB, https upstream", (1.9, 1.1),
                   size=2 * KB, tls=True, quick=True),
    cpu_experiment("cpu-64k", "64 KB", (2.2, 1.5), size=64 * KB, quick=True),
    cpu_experiment("cpu-1m", "1 MB", (2.6, 1.7), size=MB),
    cpu_experiment("cpu-1m-tls", "1 MB, https upstream", (1.5, 1.3),
                   size=MB, tls=True),
    cpu_experiment("sse", "SSE burst of 50 events", (1.5, 1.1),
                   size=2 * KB, stub="events=50", quick=True),
    cpu_experiment("sse-each", "SSE burst, a packet per event", (1.5, 1.1),
                   size=2 * KB, stub="events=50 batch=1"),
    Experiment("rps", (
        Figure("rps", "requests/s at 2 KB, two workers", "/s", (0.7, 1.0),
               floor=True),
    ), measure_rps, TWO_WORKERS, repeat=4, quick=True),
    Experiment("latency", (
        Figure("p50", "added p50 at 500 requests/s", "us", (1.2, 1.2)),
        Figure("p99", "added p99 at 500 requests/s", "us", (2, 2)),
    ), measure_latency, TWO_WORKERS, repeat=3, direct=True, quick=True),
    Experiment("paced", (
        Figure("event-p50", "SSE event every 20 ms: added p50", "us",
               (1.4, 1.1)),
        Figure("event-p99", "SSE event every 20 ms: added p99", "us",
               (2, 2)),
    ), measure_paced, TWO_WORKERS, repeat=2, direct=True),
    Experiment("streams", (
        Figure("stream-memory", "private memory per open stream", "KB",
               (26, 4), absolute=True),
        Figure("streams-cpu", "CPU per request, 2,000 streams held vs none",
               "x", (1.2, 1.2), absolute=True),
    ), measure_streams, fresh=True),
    Experiment("streams-tls", (
        Figure("stream-memory-tls",
               "private memory per open stream, https upstream", "KB",
               (80, 24), absolute=True),
        Figure("streams-cpu-tls",
               "CPU per request, 2,000 streams held vs none, https", "x",
               (1.2, 1.2), absolute=True),
    ), functools.partial(measure_streams, tls=True), fresh=True),
    Experiment("cold", (
        Figure("cold", "private memory of a cold worker", "MB", (8, 6),
               absolute=True),
    ), measure_cold, fresh=True, quick=True),
    Experiment("stalled", (
        Figure("stalled", "growth by ten stalled readers of 12 MB", "MB",
               (1, 1), absolute=True),
    ), measure_stalled, fresh=True),
    Experiment("gone", (
        Figure("gone", "client gone until upstream cancelled", "ms",
               (300, 300), absolute=True),
    ), measure_gone),
    Experiment("credentials", (
        Figure("credentials", "CPU per request, 10 → 10,000 credentials",
               "us", (1.1, 1.1)),
    ), functools.partial(measure_cpu, key="credentials", size=2 * KB),
        Setup(credentials=10000), beside=Setup(), repeat=4),
    Experiment("files", (
        Figure("files-start", "from start to serving, 10 → 10,000 credential "
               "files", "ms", (5000, 2000), absolute=True),
        Figure("files-change", "a changed file counts, 10 → 10,000 files",
               "ms", (1000, 500), absolute=True),
    ), measure_files, Setup(files=10000), beside=Setup(files=10)),
    Experiment("limited", (
        Figure("limited", "requests/s, none → 30 % of answers are 429", "/s",
               (0.8, 0.8), floor=True),
        Figure("limited-cpu", "CPU per request, none → 30 % of answers are "
               "429", "us", (1.25, 1.25)),
    ), measure_limited, replace(MANY_TRIES, limited=30), beside=MANY_TRIES,
        repeat=4),
    Experiment("sessions", (
        Figure("sessions", "CPU per request, 1,000 → 900,000 sessions", "us",
               (1.3, 1.3)),
    ), measure_sessions, Setup(sessions=900000),
        beside=Setup(sessions=1000), repeat=4),
)
