# SPDX-License-Identifier: MIT
"""Reload is a transaction, and no client notices it."""

import http.client
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness import (CLAUDE, CLIENT_KEY, OPENAI, SANITIZED, accounts_used,
                     free_port, merged, open_descriptors, pool,
                     process_alive, read_events, wait_for)


class Load:
    """Clients that keep asking, on kept and on new connections."""

    def __init__(self, daemon, kept: int = 4, new: int = 2,
                 streams: int = 2):
        self.daemon = daemon
        self.failures: list = []
        self.count = 0
        self.closed = 0
        self._stop = threading.Event()
        self._threads = (
            [threading.Thread(target=self._kept) for _ in range(kept)]
            + [threading.Thread(target=self._new) for _ in range(new)]
            + [threading.Thread(target=self._streams)
               for _ in range(streams)])

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.count > 20, 10)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, number: int = 40) -> None:
        """Wait until that many more have been answered."""
        goal = self.count + number
        wait_for(lambda: self.count >= goal, 20)

    def _note(self, good: bool, what) -> None:
        self.count += 1
        if not good:
            self.failures.append(what)

    def _kept(self) -> None:
        """A client that keeps its connection as long as it is told to."""
        client = self.daemon.client()
        while not self._stop.is_set():
            try:
                response = client.open("POST", OPENAI.path(),
                                       OPENAI.body("hi"))
                response.read()
                self._note(response.status == 200, response.status)
                if response.will_close:
                    self.closed += 1
                    client.close()
            except (OSError, http.client.HTTPException) as error:
                self._note(False, repr(error))
                client.close()
        client.close()

    def _new(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self.daemon.ask(OPENAI, "hi")
                self._note(answer.status == 200, answer)
            except (OSError, http.client.HTTPException) as error:
                self._note(False, repr(error))

    def _streams(self) -> None:
        while not self._stop.is_set():
            try:
                status, frames = self.daemon.stream(OPENAI, "hi")
                self._note(status == 200 and OPENAI.complete(frames),
                           frames)
            except (OSError, http.client.HTTPException) as error:
                self._note(False, repr(error))


def touch_worker_setting(daemon, number: int) -> None:
    daemon.with_config(limits={"header-timeout": f"{10 + number}s"})


@pytest.mark.limit(120)
def test_hup_under_load_fails_no_request(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    with Load(daemon) as load:
        for number in range(6):
            touch_worker_setting(daemon, number)
            daemon.hup()
            load.more()
    assert not load.failures, load.failures[:5]
    assert load.closed > 0, "kept connections are asked to move on"
    daemon.settled_workers(2)
    wait_for(lambda: len(daemon.worker_pids()) == 2, 10,
             "old generations to end")


def test_hup_storm_is_one_or_two_reloads(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    with Load(daemon, 2, 1, 1) as load:
        touch_worker_setting(daemon, 1)
        for _ in range(50):
            daemon.kill(signal.SIGHUP)
        wait_for(lambda: daemon.status()["reloads"]["ok"] >= 1, 10)
        load.more()
    assert not load.failures, load.failures[:5]
    assert daemon.status()["generation"] <= 4


def test_hup_without_a_worker_setting_respawns_nobody(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    workers = sorted(daemon.worker_pids())
    daemon.hup()
    assert sorted(daemon.worker_pids()) == workers
    daemon.with_config(**pool(stub, "openai", count=3))
    daemon.hup()
    assert sorted(daemon.worker_pids()) == workers
    for _ in range(3):
        assert daemon.ask(OPENAI, "hi").status == 200
    assert len(set(accounts_used(stub))) == 3


def test_hup_with_a_worker_setting_replaces_them_all(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    old = set(daemon.worker_pids())
    generation = daemon.status()["generation"]
    touch_worker_setting(daemon, 1)
    daemon.hup()
    wait_for(lambda: not old & set(daemon.worker_pids()), 10)
    assert daemon.status()["generation"] > generation


BROKEN = {
    "syntax": "listen = ;\n",
    "unknown-key": "nonsense = 1;\n",
    "bad-value": "workers = -3;\n",
    "empty": "",
}


@pytest.mark.parametrize("name", BROKEN)
def test_reload_with_broken_config_keeps_serving(make_daemon, stub, name):
    daemon = make_daemon(pool(stub, "openai"))
    workers = sorted(daemon.worker_pids())
    generation = daemon.status()["generation"]
    good = daemon.config_file.read_text()
    text = BROKEN[name]
    daemon.config_file.write_text(good + text if text else "")
    with Load(daemon, 2, 1, 1) as load:
        daemon.hup("failed")
        load.more(10)
    assert not load.failures
    assert sorted(daemon.worker_pids()) == workers
    assert daemon.status()["generation"] == generation
    daemon.log_has(re.escape(str(daemon.config_file)))
    daemon.config_file.write_text(good)
    daemon.hup()
    assert daemon.ask(OPENAI, "hi").status == 200


def test_reload_with_a_missing_file_keeps_serving(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    daemon.config_file.unlink()
    daemon.hup("failed")
    assert daemon.ask(OPENAI, "hi").status == 200
    daemon.write_config()


def test_reload_with_a_taken_port_publishes_nothing(make_daemon, stub):
    """Bind fails, so the new keys in the same file do not come either."""
    daemon = make_daemon(pool(stub, "openai"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon.with_config(listen=[f"127.0.0.1:{daemon.port}",
                                   f"127.0.0.1:{port}"],
                           api_keys=["canary-other"],
                           **pool(stub, "claude"))
        done = daemon.ctl_run("reload")
        assert done.returncode == 1
        assert str(port) in done.stdout + done.stderr
        assert daemon.ask(OPENAI, "hi").status == 200
        assert daemon.ask(OPENAI, "hi", key="canary-other").status == 401
        assert daemon.ask(CLAUDE, "hi").status == 404
    daemon.reload()
    assert daemon.ask(CLAUDE, "hi", key="canary-other").status == 200


def test_listener_added_and_removed(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    first, second = daemon.port, free_port()
    daemon.with_config(listen=[f"127.0.0.1:{first}",
                               f"127.0.0.1:{second}"])
    daemon.hup()
    for port in (first, second):
        daemon.port = port
        assert daemon.ask(OPENAI, "hi").status == 200
    daemon.port = first
    with Load(daemon, 2, 1, 1) as load:
        pass
    daemon.port = second
    daemon.with_config(listen=[f"127.0.0.1:{second}"])
    daemon.hup()
    assert daemon.ask(OPENAI, "hi").status == 200
    daemon.port = first

    def gone() -> bool:
        try:
            daemon.get("/healthz")
            return False
        except OSError:
            return True

    wait_for(gone, 10)
    daemon.port = second
    assert not load.failures


def test_unix_listener(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"), start=False)
    path = daemon.runtime_dir / "api.sock"
    daemon.with_config(listen=[f"127.0.0.1:{daemon.port}", f"unix:{path}"])
    daemon.start()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"
                         b"Connection: close\r\nAuthorization: Bearer "
                         + CLIENT_KEY.encode() + b"\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        daemon.hup()


def test_streams_of_the_old_generation_finish(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    stub.fault("pace", count=25, ms=100)
    with daemon.client() as client:
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body("hi", stream=True))
        response.readline()
        old = set(daemon.worker_pids())
        touch_worker_setting(daemon, 1)
        daemon.hup()
        assert OPENAI.complete(list(read_events(response)))
    wait_for(lambda: not any(map(process_alive, old)), 10)


def test_idle_connection_of_a_draining_worker_is_answered_once_more(
        make_daemon, stub):
    """It is not closed under the client, but told to close."""
    daemon = make_daemon(pool(stub, "openai"))
    with daemon.client() as client:
        assert client.post(OPENAI.path(), OPENAI.body("hi")).status == 200
        touch_worker_setting(daemon, 1)
        daemon.hup()
        time.sleep(0.5)  # the race that closing early would lose
        response = client.open("POST", OPENAI.path(), OPENAI.body("hi"))
        response.read()
        assert response.status == 200
        assert response.will_close


def test_draining_worker_ends_after_idle_timeout(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "limits": {"idle-timeout": "1s"}}))
    with daemon.client() as client:
        assert client.get("/v1/models").status == 200
        old = set(daemon.worker_pids())
        touch_worker_setting(daemon, 1)
        daemon.hup()
        wait_for(lambda: not any(map(process_alive, old)), 10)


def test_drain_timeout_of_a_reload(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "limits": {"drain-timeout": "1s"}}))
    stub.fault("pace", count=1000, ms=100)
    with daemon.client() as client:
        client.open("POST", OPENAI.path(True),
                    OPENAI.body("hi", stream=True))
        old = set(daemon.worker_pids())
        touch_worker_setting(daemon, 1)
        daemon.hup()
        wait_for(lambda: not any(map(process_alive, old)), 10)


def test_at_most_eight_generations_live(make_daemon, stub):
    """The oldest is ended first, streams or not."""
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1})
    stub.fault("pace", count=10000, ms=200, times=-1)
    clients = []
    for number in range(11):
        client = daemon.client()
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body("hi", stream=True))
        response.readline()
        clients.append(client)
        touch_worker_setting(daemon, number)
        daemon.hup()
    wait_for(lambda: len(daemon.worker_pids()) <= 8, 15)
    stub.faults = []
    assert daemon.ask(OPENAI, "hi").status == 200
    for client in clients:
        client.close()
    wait_for(lambda: len(daemon.worker_pids()) == 1, 15)


def test_settings_that_need_a_restart_are_refused(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    daemon.with_config(state_dir=str(daemon.dir / "elsewhere"))
    done = daemon.ctl_run("reload")
    assert done.returncode == 1
    assert "state-dir" in done.stdout + done.stderr
    assert daemon.ask(OPENAI, "hi").status == 200


def test_dry_run_changes_nothing(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai"))
    workers = sorted(daemon.worker_pids())
    touch_worker_setting(daemon, 3)
    daemon.with_config(**pool(stub, "openai", "claude", count=3))
    data = daemon.ctl("reload", "--dry-run")
    assert data["ok"] is True
    (row,) = [row for row in data["settings"]
              if "header-timeout" in row["name"]]
    assert row["new"] == "13s"
    lines = daemon.ctl_run("reload", "--dry-run").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("claude-api-key")]
    assert "api-key = " in line and len(line) <= 80, "one line for a person"
    assert sorted(daemon.worker_pids()) == workers
    assert daemon.ask(CLAUDE, "hi").status == 404


def test_reload_does_and_tells_what_the_dry_run_said(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", "openai", count=3),
                                {"routing": {"session-affinity": True}}))
    for n in range(6):
        assert daemon.ask(CLAUDE, "hi", headers={
            "x-session-id": f"s{n}"}).status == 200
    homes = daemon.sessions()["by_credential"]
    assert sorted(homes.values()) == [2, 2, 2]
    config = pool(stub, "claude", "openai", count=3)
    gone = config["claude-api-key"].pop()
    config["claude-api-key"][0]["excluded-models"] = ["claude-stub"]
    daemon.with_config(**config, limits={"header-timeout": "13s"})
    said = daemon.ctl("reload", "--dry-run")
    assert len(said["credentials"]["removed"]) == 1
    assert len(said["credentials"]["changed"]) == 1
    assert said["sessions_moved"] == 4
    assert any(row["new"] == "13s" for row in said["settings"])
    assert gone["api-key"] not in str(said), "secrets are masked"
    done = daemon.ctl("reload")
    assert done["respawned"] is True
    for member in ("settings", "credentials", "models", "sessions_moved"):
        assert done[member] == said[member], member
    again = daemon.ctl("reload", "--dry-run")
    assert again["settings"] == [] and again["sessions_moved"] == 0
    assert "nothing would change" in daemon.ctl_run(
        "reload", "--dry-run").stdout
    moved = 0
    for n in range(6):
        assert daemon.ask(CLAUDE, "hi", headers={
            "x-session-id": f"s{n}"}).status == 200
    for name, count in daemon.sessions()["by_credential"].items():
        moved += max(0, count - homes.get(name, 0))
    assert moved == 4


def test_after_a_reload_nobody_answers_by_the_old_settings(make_daemon,
                                                           stub):
    """The verb returns when the old workers accept no more."""
    daemon = make_daemon(pool(stub, "openai"))
    for n in range(8):
        key = f"only-{n}"
        daemon.with_config(**{"api-keys": [CLIENT_KEY, key]})
        daemon.reload()
        for _ in range(4):
            assert daemon.ask(OPENAI, "hi", key=key).status == 200
            assert daemon.ask(OPENAI, "hi",
                              key=f"only-{n - 1}").status == 401


RELOADS = int(os.environ.get("FAIRLEAD_TEST_RELOADS", "20"))


@pytest.mark.limit(60 + RELOADS)
def test_reloads_under_load_fail_nothing_and_leak_nothing(make_daemon, stub):
    """How often, a variable says."""
    daemon = make_daemon(pool(stub, "openai"))

    def measure() -> tuple[int, int, int]:
        daemon.settled_workers(2)
        wait_for(lambda: len(daemon.worker_pids()) == 2, 60)
        with open(f"/proc/{daemon.pid}/statm", encoding="ascii") as statm:
            return (open_descriptors(daemon.pid), len(daemon.worker_pids()),
                    int(statm.read().split()[1]) * 4)

    with Load(daemon, kept=2, new=1, streams=1) as load:
        for number in range(RELOADS):
            if number == RELOADS // 4:
                before = measure()
            touch_worker_setting(daemon, number)
            assert daemon.ctl_run("reload").returncode == 0
        load.more()
    assert not load.failures
    after = measure()
    assert daemon.status()["reloads"] == {"ok": RELOADS, "failed": 0}
    assert daemon.status()["worker_deaths"] == 0
    assert after[0] <= before[0] + 1 and after[1] == before[1]
    assert SANITIZED or after[2] <= before[2] + 6144, (before, after)


def test_two_hundred_reloads_leak_nothing(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1})

    def measure() -> tuple[int, int]:
        fds = open_descriptors(daemon.pid)
        with open(f"/proc/{daemon.pid}/statm", encoding="ascii") as statm:
            return fds, int(statm.read().split()[1]) * 4

    def spin(count: int) -> None:
        for _ in range(count):
            daemon.with_config(**pool(
                stub, "openai", "claude", count=1 + spin.turn % 4))
            spin.turn += 1
            daemon.reload()

    spin.turn = 0
    spin(40)
    before = measure()
    spin(160)
    after = measure()
    assert after[0] <= before[0] + 1
    # A sanitizer keeps what is freed for a while.
    assert SANITIZED or after[1] <= before[1] + 2048, (before, after)
    for number in range(12):
        touch_worker_setting(daemon, number)
        daemon.reload()
    daemon.settled_workers(1)
    wait_for(lambda: len(daemon.worker_pids()) == 1, 15)
    assert measure()[0] <= before[0] + 2
