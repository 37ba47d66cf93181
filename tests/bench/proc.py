# SPDX-License-Identifier: MIT
"""Processes: starting and ending our own, and what they cost, from /proc."""

import ctypes
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """A measurement that cannot be trusted; the message says why."""


def raise_file_limit():
    """As many descriptors as we may have; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_sets():
    """(for a pinned proxy, for everything else)."""
    cpus = sorted(os.sched_getaffinity(0))
    return {cpus[0]}, set(cpus[1:]) or set(cpus)


def start(argv, cpus=None, env=None, **popen):
    """Starts a process that dies with us, on the given CPUs."""

    def in_child():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if cpus:
            os.sched_setaffinity(0, cpus)

    return subprocess.Popen([str(a) for a in argv], preexec_fn=in_child,
                            env={**os.environ, **(env or {})}, **popen)


def end(process, patience_s=8):
    """TERM, and KILL for the ones that do not hear it."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        for pid in tree(process.pid):
            kill(pid)
        process.wait()


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def parents():
    """{pid: parent} of every process there is."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def tree(root):
    """The process and all its descendants, parents first."""
    parent_of = parents()
    pids = [root]
    for pid in pids:
        pids += [child for child, up in parent_of.items() if up == pid]
    return pids


def cpu_ns(pids):
    """
    CPU time of all threads so far, from schedstat: utime advances in ticks of
    10 ms, too coarse here. Threads that ended are not in it.
    """
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def private_bytes(pids):
    """
    Anonymous memory; what processes share since a fork counts once. Where
    smaps is closed to us (non-dumpable, and we are not root), RssAnon.
    """
    return sum(_field(pid, "smaps_rollup", "Pss_Anon:")
               or _field(pid, "status", "RssAnon:") for pid in pids)


def _field(pid, name, key):
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
    except PermissionError:
        return 0
    return next((int(line.split()[1]) * 1024
                 for line in lines if line.startswith(key)), 0)


def machine_busy_s():
    """CPU seconds that anybody used, since boot."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def our_busy_s():
    """CPU seconds of this program and all its children that have ended."""
    return sum(r.ru_utime + r.ru_stime
               for r in map(resource.getrusage, (resource.RUSAGE_SELF,
                                                 resource.RUSAGE_CHILDREN)))


def wait_until(done, what, patience_s=10, step_s=0.005):
    """Seconds it took until done() was true; BenchError when it never was."""
    begin = time.monotonic()
    while not done():
        if time.monotonic() - begin > patience_s:
            raise BenchError(f"waited {patience_s} s for {what}")
        time.sleep(step_s)
    return time.monotonic() - begin
