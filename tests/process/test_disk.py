# SPDX-License-Identifier: MIT
"""A full disk or a full map degrades with a log line and never kills."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import CLAUDE, merged, pool, process_alive, wait_for

AFFINITY = {"routing": {"session-affinity": True}}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MB; needs root and a kernel that lets us."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700",
                           "tmpfs", str(place)], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place: Path) -> Path:
    """Take all the space that is left."""
    path = place / "filler"
    with open(path, "ab", buffering=0) as out:
        for size in (1 << 16, 4096, 1):
            try:
                while True:
                    out.write(b"x" * size)
            except OSError:
                continue
    return path


def serves(daemon, stub, session: str) -> str:
    answer = daemon.ask(CLAUDE, "hi", headers={"x-session-id": session})
    assert answer.status == 200, answer
    return stub.log[-1]["account"]


def test_full_state_disk_serves_on(make_daemon, stub, small_disk):
    daemon = make_daemon(merged(pool(stub, "claude", count=3), {
        **AFFINITY, "state-dir": str(small_disk / "state"),
        "log": {"usage-file": str(small_disk / "usage.log"),
                "access-file": str(small_disk / "access.log")}}),
        start=False)
    (small_disk / "state").mkdir(mode=0o700)
    daemon.start()
    before = {f"s{n}": serves(daemon, stub, f"s{n}") for n in range(6)}
    workers = sorted(daemon.worker_pids())
    filler = fill(small_disk)
    for n in range(300):
        serves(daemon, stub, f"new-{n}-" + "x" * 100)
    for session, home in before.items():
        assert serves(daemon, stub, session) == home
    stub.fault("status", code=401)
    serves(daemon, stub, "one more")
    before_reload = sum(daemon.status()["reloads"].values())
    daemon.kill(signal.SIGHUP)
    wait_for(lambda: sum(daemon.status()["reloads"].values())
             > before_reload, 10, "the reload to have an outcome")
    serves(daemon, stub, "and after a reload")
    assert process_alive(daemon.pid)
    assert sorted(daemon.worker_pids()) == workers
    daemon.log_has(r"(?i)no space|full|ENOSPC|bindings")
    assert daemon.log_text().count("\n") < 3000, "a line, not a flood"
    filler.unlink()

    def bound_again() -> bool:
        first = serves(daemon, stub, "room again")
        return all(serves(daemon, stub, "room again") == first
                   for _ in range(3))

    wait_for(bound_again, 5)


def test_full_disk_at_start_says_so(make_daemon, stub, small_disk):
    daemon = make_daemon({**pool(stub, "claude"),
                          "state-dir": str(small_disk / "state"),
                          "runtime-dir": str(small_disk / "run")},
                         start=False)
    for name in ("state", "run"):
        (small_disk / name).mkdir(mode=0o700)
    daemon.runtime_dir = small_disk / "run"
    daemon.socket = daemon.runtime_dir / "control.sock"
    daemon.pid_file = daemon.runtime_dir / "fairlead.pid"
    filler = fill(small_disk)
    done = daemon.start_daemonised()
    if done.returncode == 0:
        assert daemon.ask(CLAUDE, "hi").status == 200
        daemon.stop()
    else:
        assert done.returncode > 0
        assert "space" in done.stderr.lower(), done.stderr
    filler.unlink()
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200


def test_full_runtime_disk_serves_on(make_daemon, stub, small_disk):
    """The board is a sparse mapped file; no touch of it may be SIGBUS."""
    daemon = make_daemon(merged(pool(stub, "claude", count=3), {
        **AFFINITY, "runtime-dir": str(small_disk / "run")}), start=False)
    (small_disk / "run").mkdir(mode=0o700)
    daemon.runtime_dir = small_disk / "run"
    daemon.socket = daemon.runtime_dir / "control.sock"
    daemon.pid_file = daemon.runtime_dir / "fairlead.pid"
    daemon.start()
    workers = sorted(daemon.worker_pids())
    fill(small_disk)
    for n in range(50):
        serves(daemon, stub, f"s{n}")
    stub.fault("status", code=500)
    serves(daemon, stub, "s0")
    assert sorted(daemon.worker_pids()) == workers


def test_log_file_on_a_full_disk(make_daemon, stub, small_disk):
    log = small_disk / "error.log"
    daemon = make_daemon({**pool(stub, "claude"),
                          "log": {"file": str(log), "level": "debug"}})
    filler = fill(small_disk)
    for n in range(20):
        serves(daemon, stub, f"s{n}")
    filler.unlink()
    serves(daemon, stub, "more")
    assert process_alive(daemon.pid)
