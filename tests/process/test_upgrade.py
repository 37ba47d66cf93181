# SPDX-License-Identifier: MIT
"""Upgrade in place: the program is replaced, and nobody notices."""

import concurrent.futures
import os
import pwd
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from harness import (BUILD, FAIRLEAD, OPENAI, SLOW, merged, pool,
                     process_alive, read_events, wait_for)

AFFINITY = {"routing": {"session-affinity": True}}


class Installation:
    """A program of its own, that a test can replace as a package would."""

    def __init__(self, directory: Path):
        self.master = directory / "master" / "fairlead"
        self.worker = directory / "worker" / "fairlead-worker"
        self.install()

    def put(self, path: Path, source: Path | str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        if isinstance(source, Path):
            shutil.copy(source, fresh)
        else:
            fresh.write_text(source)
            fresh.chmod(0o755)
        fresh.rename(path)

    def install(self) -> None:
        self.put(self.master, FAIRLEAD)
        self.put(self.worker, BUILD / "worker" / "fairlead-worker")


@pytest.fixture
def installed(make_daemon, stub, tmp_path):
    """A running daemon of an installation: (daemon, installation)."""
    files = Installation(tmp_path / "installed")
    daemon = make_daemon(merged(pool(stub, "openai", count=3), AFFINITY),
                         start=False)
    daemon.program = files.master
    return daemon.start(), files


def inode_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}/exe").st_ino


class Visitors:
    """New connections and kept ones, all the time; what went wrong."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.errors: list = []
        self.count = 0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.visit, args=(n,))
                        for n in range(4)]

    def visit(self, number: int) -> None:
        headers = {"x-session-id": f"visitor {number}"}
        client = self.daemon.client()
        while not self.stopped.is_set():
            if number % 2 == 0:
                client = self.daemon.client()
            try:
                answer = client.post(OPENAI.path(), OPENAI.body("hi"),
                                     headers)
                self.count += 1
                if answer.status != 200:
                    self.errors.append(answer.status)
            except OSError as error:
                self.errors.append(error)
            if number % 2 == 0:
                client.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def test_upgrade_under_load(installed, stub):
    """No request fails, no stream is cut, no session moves, and pid, socket
    and lock stay."""
    daemon, files = installed
    homes = {}
    for n in range(8):
        assert daemon.ask(OPENAI, "hi", headers={
            "x-session-id": f"s{n}"}).status == 200
        homes[n] = stub.log[-1]["account"]
    before = daemon.status()
    old = inode_of(daemon.pid)
    old_workers = daemon.worker_pids()
    files.install()
    stub.fault("pace", count=20, ms=100, times=4)
    streams = []
    for n in range(4):
        client = daemon.client()
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body(f"n {n}", stream=True))
        streams.append((client, response, [response.readline()]))
    with Visitors(daemon) as visitors:
        wait_for(lambda: visitors.count > 50, 10)
        done = daemon.ctl_run("upgrade")
        assert done.returncode == 0, done
        assert "upgraded" in done.stdout
        seen = visitors.count
        wait_for(lambda: visitors.count > seen + 50, 10)
    assert not visitors.errors
    after = daemon.status()
    assert after["pid"] == before["pid"] == int(daemon.pid_file.read_text())
    assert inode_of(daemon.pid) != old
    assert after["generation"] == before["generation"] + 1
    assert after["worker_deaths"] == before["worker_deaths"]
    assert after["requests_total"] > before["requests_total"]
    for client, response, _ in streams:
        frames = list(read_events(response))
        assert OPENAI.complete(frames), frames
        client.close()
    wait_for(lambda: not any(map(process_alive, old_workers)), 10)
    for n, home in homes.items():
        assert daemon.ask(OPENAI, "hi", headers={
            "x-session-id": f"s{n}"}).status == 200
        assert stub.log[-1]["account"] == home
    assert len(daemon.settled_workers(2)) == 2
    daemon.log_has("upgraded from fairlead")


def test_upgrade_by_signal_again_and_again(installed, stub):
    daemon, files = installed
    client = daemon.client()
    for _ in range(4):
        before = daemon.status()["generation"]
        files.install()
        daemon.kill(signal.SIGUSR2)
        # What comes in between two programs is not lost either.
        daemon.kill(signal.SIGUSR1)

        def upgraded(before=before) -> bool:
            return daemon.status()["generation"] == before + 1

        wait_for(upgraded, 15)
        assert client.post(OPENAI.path(),
                           OPENAI.body("hi")).status == 200
    client.close()
    assert daemon.log_count("logs reopened") == 4
    daemon.settled_workers(2)
    held = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    assert daemon.ctl_run("upgrade").returncode == 0
    daemon.settled_workers(2)
    wait_for(lambda: len(daemon.worker_pids()) == 2, 15)
    wait_for(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= held, 5)


@pytest.mark.parametrize("program, why", (
    ("#!/bin/sh\necho broken; exit 1\n", "broken"),
    ("#!/bin/sh\nexit 0\n", "layouts"),
    ("this is no program\n", ""),
    ("#!/bin/sh\necho handover 1, board 0/1, store 9\n", "layouts")))
def test_program_that_does_not_fit_is_refused(installed, stub, program, why):
    daemon, files = installed
    before = daemon.status()
    files.put(files.master, program)
    done = daemon.ctl_run("upgrade")
    assert done.returncode == 1, done
    assert why in done.stderr and str(files.master) in done.stderr
    after = daemon.status()
    assert after["generation"] == before["generation"]
    assert [row["pid"] for row in after["workers"]] == [
        row["pid"] for row in before["workers"]]
    assert daemon.ask(OPENAI, "hi").status == 200
    assert daemon.ctl_run("reload").returncode == 0


def test_configuration_that_is_broken_is_told_before(installed):
    daemon, _ = installed
    good = daemon.config_file.read_text()
    daemon.config_file.write_text(good + "nonsense = 1;\n")
    done = daemon.ctl_run("upgrade")
    assert done.returncode == 1, done
    assert f"{daemon.config_file}:" in done.stderr
    assert "nonsense" in done.stderr
    daemon.config_file.write_text(good)
    assert daemon.ctl_run("upgrade").returncode == 0


def test_new_workers_that_do_not_start_bring_the_old_program_back(
        installed, stub):
    daemon, files = installed
    assert daemon.ask(OPENAI, "hi", headers={
        "x-session-id": "s"}).status == 200
    home = stub.log[-1]["account"]
    old = inode_of(daemon.pid)
    files.install()
    files.put(files.worker, "#!/bin/sh\nexit 1\n")
    with Visitors(daemon) as visitors:
        wait_for(lambda: visitors.count > 20, 10)
        done = daemon.ctl_run("upgrade")
        assert done.returncode == 1, done
        assert "before it served" in done.stderr
        seen = visitors.count
        wait_for(lambda: visitors.count > seen + 20, 10)
    assert not visitors.errors
    assert inode_of(daemon.pid) == old
    assert daemon.status()["pid"] == daemon.pid
    assert daemon.ask(OPENAI, "hi", headers={
        "x-session-id": "s"}).status == 200
    assert stub.log[-1]["account"] == home
    daemon.settled_workers(2)
    assert daemon.ctl_run("reload").returncode == 0
    files.install()
    assert daemon.ctl_run("upgrade").returncode == 0
    assert inode_of(daemon.pid) != old


def test_worker_of_the_old_program_dies_meanwhile(installed, stub):
    """It is buried by the new one, and its requests are accounted for."""
    daemon, files = installed
    stub.fault("silent", secs=30)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        held = threads.submit(lambda: daemon.ask(OPENAI, "x"))
        wait_for(lambda: sum(row["in_flight"] for row in
                             daemon.credentials().values()) == 1, 5)
        before = daemon.worker_pids()
        assert daemon.ctl_run("upgrade").returncode == 0
        (busy,) = (pid for pid in wait_for(
            lambda: [p for p in daemon.worker_pids() if p in before]
            if sum(p in before for p in daemon.worker_pids()) == 1 else None,
            10))
        os.kill(busy, signal.SIGKILL)
        with pytest.raises(OSError):
            held.result()
    wait_for(lambda: sum(row["in_flight"] for row in
                         daemon.credentials().values()) == 0, 5)
    daemon.settled_workers(2)


def test_reload_right_after_an_upgrade_was_asked_for(installed, stub):
    """It is done first, or the upgrade is as good as one."""
    daemon, _ = installed
    before = daemon.status()
    daemon.kill(signal.SIGUSR2)
    daemon.with_config(limits={"header-timeout": "13s"})
    daemon.kill(signal.SIGHUP)

    def done() -> bool:
        return daemon.log_count("upgraded from fairlead") == 1

    wait_for(done, 15)
    assert daemon.status()["generation"] > before["generation"]
    assert daemon.ctl("reload", "--dry-run")["settings"] == []
    assert daemon.ask(OPENAI, "hi").status == 200


def test_usage_is_counted_across_an_upgrade(installed, stub):
    """Every request once, also one that the old program began."""
    daemon, _ = installed
    for _ in range(3):
        assert daemon.ask(OPENAI, "hi").status == 200
    stub.fault("pace", count=10, ms=100)
    with daemon.client() as client:
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body("hi", stream=True))
        response.readline()
        assert daemon.ctl_run("upgrade").returncode == 0
        assert OPENAI.complete(list(read_events(response)))
    for _ in range(2):
        assert daemon.ask(OPENAI, "hi").status == 200

    def counted() -> bool:
        rows = daemon.ctl("usage")["rows"]
        return sum(row["requests"] for row in rows) >= 6

    wait_for(counted, 10)
    assert sum(row["requests"] for row in daemon.ctl("usage")["rows"]) == 6


def low_port() -> int:
    for port in range(600, 1024):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    pytest.skip("no low port is free")


def test_right_to_low_ports_outlives_an_upgrade(make_daemon, stub, tmp_path):
    """And is no worker's, before or after."""
    if os.geteuid() != 0:
        pytest.skip("only root can give the right away")
    user = pwd.getpwnam("nobody")
    files = Installation(tmp_path / "installed")
    daemon = make_daemon(pool(stub, "openai"), start=False)
    daemon.program = files.master
    for path in [daemon.dir, files.master.parent, files.worker.parent,
                 files.master.parent.parent] + list(daemon.dir.parents)[:3]:
        path.chmod(path.stat().st_mode | 0o055)
    os.chown(daemon.auth_dir, user.pw_uid, user.pw_gid)
    daemon.port = low_port()
    daemon.with_config(listen=[f"127.0.0.1:{daemon.port}"], user="nobody",
                       group="nogroup")
    os.chown(daemon.config_file, user.pw_uid, user.pw_gid)
    daemon.start()

    def rights(pid: int) -> dict[str, int]:
        text = Path(f"/proc/{pid}/status").read_text()
        return {line[3:6]: int(line.split()[1], 16)
                for line in text.splitlines() if line.startswith("Cap")}

    for _ in range(2):
        assert daemon.ctl_run("upgrade").returncode == 0
        mine = rights(daemon.pid)
        assert mine["Eff"] == mine["Prm"] == 1 << 10
        assert mine["Inh"] == mine["Amb"] == 0
        for pid in daemon.settled_workers(2):
            theirs = rights(pid)
            assert theirs["Eff"] == theirs["Prm"] == theirs["Amb"] == 0
    more = low_port()
    daemon.with_config(listen=[f"127.0.0.1:{daemon.port}",
                               f"127.0.0.1:{more}"])
    os.chown(daemon.config_file, user.pw_uid, user.pw_gid)
    daemon.reload()
    assert daemon.ask(OPENAI, "hi").status == 200


def test_stop_right_after_an_upgrade(installed):
    daemon, _ = installed
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.socket))
        sock.sendall(b'{"verb":"upgrade","args":[]}\n')
        time.sleep(0.02 * SLOW)
        daemon.kill(signal.SIGTERM)
        assert daemon.wait_exit() == 0
    assert not daemon.pid_file.exists()
