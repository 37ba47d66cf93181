# SPDX-License-Identifier: MIT
"""fairleadctl: what it says, and the status it ends with."""

import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import time

import pytest

from harness import (CLAUDE, OPENAI, FAIRLEADCTL, SLOW, merged, pool,
                     process_alive, read_events, wait_for)

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def test_status(daemon, stub):
    daemon.ask(CLAUDE, "hi")
    data = daemon.status()
    assert data["pid"] == daemon.pid
    assert re.match(r"\d+\.\d+", data["version"])
    assert data["generation"] >= 1 and data["uptime_s"] >= 0
    assert data["reloads"] == {"ok": 0, "failed": 0}
    assert data["requests_total"] >= 1
    assert len(data["workers"]) == 2
    for row in data["workers"]:
        assert set(row) >= {"slot", "pid", "generation", "state",
                            "requests", "streams", "connections"}
        assert process_alive(row["pid"])
    assert len(data["credentials"]) == 10
    assert {"models", "sessions"} <= set(data)


def test_credentials(daemon, stub):
    for _ in range(4):
        daemon.ask(CLAUDE, "hi")
    stub.fault("status", code=403)
    daemon.ask(CLAUDE, "hi")
    rows = [row for row in daemon.credentials().values()
            if row["provider"] == "claude"]
    for row in rows:
        assert set(row) >= {
            "id", "provider", "label", "source", "state", "until", "reason",
            "priority", "weight", "prefix", "models", "in_flight",
            "sessions", "succeeded", "failed", "last_error", "expires",
            "next_refresh"}
        assert row["source"] == "config" and row["weight"] == 1
    (bad,) = [row for row in rows if row["state"] == "blocked"]
    assert TIME.fullmatch(bad["until"])
    assert bad["failed"] == 1 and bad["last_error"]
    assert sum(row["succeeded"] for row in rows) == 5


@pytest.mark.parametrize("verb", ("credentials", "status"))
def test_tables_show_what_other_verbs_ask_for(daemon, stub, verb):
    """An id that is cut would be no use to `credential ID disable`."""
    shown = daemon.ctl_run(verb).stdout
    for name in daemon.credentials():
        assert name in shown, shown


def test_in_flight_is_counted(daemon, stub):
    stub.fault("silent", secs=20)
    with daemon.client() as client:
        client.timeout = 0.3
        with pytest.raises(OSError):
            client.open("POST", OPENAI.path(), OPENAI.body("hi"))
        wait_for(lambda: sum(row["in_flight"] for row in
                             daemon.credentials().values()) == 1, 3)
    wait_for(lambda: sum(row["in_flight"] for row in
                         daemon.credentials().values()) == 0, 3)


def test_sessions(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude"), {
        "routing": {"session-affinity": True}}))
    for name in ("one", "two"):
        daemon.ask(CLAUDE, "hi", headers={"x-session-id": name})
    data = daemon.sessions()
    assert data["total"] == 2
    assert sorted(data["by_credential"].values()) == [1, 1]
    for row in data["sessions"]:
        assert set(row) >= {"key", "source", "model", "credential",
                            "age_s", "expires_s"}
        assert row["model"] == "claude-stub"
        assert 3500 < row["expires_s"] <= 3600 * 17 / 16 + 1
        assert row["credential"] in data["by_credential"]


def test_output_for_people(daemon, stub):
    for verb in ("status", "credentials", "models", "sessions"):
        done = daemon.ctl_run(verb)
        assert done.returncode == 0, done
        assert done.stdout.strip()
        with pytest.raises(ValueError):
            json.loads(done.stdout)


def test_json_is_one_object_on_stdout(daemon):
    for verb in ("status", "credentials", "models", "sessions", "reload",
                 "reopen"):
        done = daemon.ctl_run("-j", verb)
        assert done.returncode == 0, done
        assert json.loads(done.stdout)["schema"] == 1


@pytest.mark.parametrize("argv", (
    (), ("no-such-verb",), ("-Q", "status"), ("status", "surplus"),
    ("reload", "--no-such")))
def test_usage_errors_are_2(daemon, argv):
    done = daemon.ctl_run(*argv)
    assert done.returncode == 2, done
    assert done.stderr


def test_daemon_not_running_is_3(daemon):
    daemon.stop()
    for verb in ("status", "reload", "stop"):
        done = daemon.ctl_run(verb)
        assert done.returncode == 3, done
        assert done.stderr


def test_a_stopped_daemon_is_still_looked_at(make_daemon, stub):
    """From its databases: everything but what only a process knows."""
    daemon = make_daemon(merged(pool(stub, "claude", "openai"), {
        "routing": {"session-affinity": True}}))
    for n in range(3):
        assert daemon.ask(CLAUDE, "hi", headers={
            "x-session-id": f"s{n}"}).status == 200
    stub.fault("status", code=403)
    daemon.ask(OPENAI, "hi")
    (off,) = [name for name, row in daemon.credentials().items()
              if row["state"] == "blocked"]
    alive = {verb: daemon.ctl(verb) for verb in (
        "status", "credentials", "models", "sessions")}
    daemon.stop()
    for verb, was in alive.items():
        done = daemon.ctl_run("-j", verb)
        assert done.returncode == (3 if verb == "status" else 0), done
        assert "not running" in done.stderr
        data = json.loads(done.stdout)
        assert data["schema"] == 1
        assert set(data) >= set(was) & {
            "version", "pid", "generation", "uptime_s", "workers",
            "credentials", "models", "sessions", "requests_total",
            "reloads", "total", "by_credential"}
        assert daemon.ctl_run(verb).stdout.strip()
    rows = {row["id"]: row for row in json.loads(daemon.ctl_run(
        "-j", "credentials").stdout)["credentials"]}
    for name, row in ((row["id"], row) for row in
                      alive["credentials"]["credentials"]):
        for member in ("provider", "source", "state", "reason", "priority",
                       "weight", "models", "sessions"):
            assert rows[name][member] == row[member], (name, member)
    assert rows[off]["state"] == "blocked" and rows[off]["until"]
    data = json.loads(daemon.ctl_run("-j", "models").stdout)
    assert data["models"] == alive["models"]["models"]
    data = json.loads(daemon.ctl_run("-j", "sessions").stdout)
    assert data["total"] == alive["sessions"]["total"] >= 3
    assert data["by_credential"] == alive["sessions"]["by_credential"]
    assert daemon.ctl_run("reload").returncode == 3
    daemon.start()
    assert daemon.sessions()["total"] == alive["sessions"]["total"]


def test_a_hung_client_of_the_socket_blocks_nobody(daemon):
    """Neither one that says nothing, nor one that reads no answer."""
    silent, deaf = (socket.socket(socket.AF_UNIX) for _ in range(2))
    for sock in (silent, deaf):
        sock.connect(str(daemon.socket))
    silent.sendall(b'{"verb":')
    deaf.sendall(b'{"verb":"status","args":[]}\n')
    start = time.monotonic()
    for _ in range(5):
        assert daemon.ctl_run("status").returncode == 0
    assert daemon.ctl_run("reload").returncode == 0
    assert time.monotonic() - start < 4 * SLOW
    silent.settimeout(10 * SLOW)
    assert silent.recv(100) == b"", "it is not waited for for ever"
    for sock in (silent, deaf):
        sock.close()


def test_no_socket_at_all_is_3(tmp_path):
    done = subprocess.run(
        [str(FAIRLEADCTL), "-s", str(tmp_path / "none.sock"), "status"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 3 and done.stderr


def test_refused_is_1_with_the_reason(daemon):
    daemon.config_file.write_text("workers = nonsense;\n")
    done = daemon.ctl_run("reload")
    assert done.returncode == 1
    assert f"{daemon.config_file}:1: " in done.stdout + done.stderr
    assert daemon.status()["reloads"] == {"ok": 0, "failed": 1}


def test_private_files(daemon, stub):
    daemon.ask(OPENAI, "hi", headers={"x-session-id": "s"})
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == 0o700
    for path in daemon.state_dir.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    board = daemon.runtime_dir / "board"
    assert stat.S_IMODE(board.stat().st_mode) & 0o077 == 0


def test_control_socket_answers_while_workers_are_busy(daemon, stub):
    stub.fault("pace", count=100, ms=20, times=4)
    clients = [daemon.client() for _ in range(4)]
    for client in clients:
        client.open("POST", OPENAI.path(True), OPENAI.body("x", stream=True))
    assert sum(row["streams"] for row in daemon.status()["workers"]) == 4
    for client in clients:
        client.close()


def test_garbage_on_the_control_socket(daemon):
    for data in (b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"{" * 10000,
                 b"", b'{"verb":"status"', b"x" * 200000):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(2)
            try:
                sock.connect(str(daemon.socket))
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                sock.recv(65536)
            except (TimeoutError, OSError):
                pass
    held = []
    for _ in range(100):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(2)
        try:
            sock.connect(str(daemon.socket))
        except OSError:
            break
        held.append(sock)
    for sock in held:
        sock.close()
    wait_for(lambda: daemon.ctl_run("status").returncode == 0, 5)


def test_stop_verb(daemon):
    workers = daemon.worker_pids()
    done = daemon.ctl_run("stop")
    assert done.returncode == 0, done
    assert daemon.wait_exit() == 0
    assert not any(process_alive(pid) for pid in workers)
    assert not daemon.pid_file.exists()


@pytest.mark.parametrize("how", ("verb", "signal"))
def test_drain_lets_streams_finish(daemon, stub, how):
    stub.fault("pace", count=15, ms=100)
    with daemon.client() as client:
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body("hi", stream=True))
        if how == "verb":
            daemon.ctl_run("drain")
        else:
            daemon.kill(signal.SIGQUIT)
        frames = list(read_events(response))
    assert OPENAI.complete(frames), frames
    assert daemon.wait_exit() == 0


def test_draining_refuses_new_connections(daemon, stub):
    stub.fault("pace", count=30, ms=100)
    with daemon.client() as client:
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body("hi", stream=True))
        daemon.kill(signal.SIGQUIT)

        def refused() -> bool:
            try:
                with daemon.client(timeout=1) as other:
                    return other.get("/healthz").status == 503
            except OSError:
                return True

        wait_for(refused, 5)
        assert OPENAI.complete(list(read_events(response)))
    assert daemon.wait_exit() == 0


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_term_and_int_end_quickly(daemon, stub, number):
    """A short drain, at most five seconds, streams or not."""
    stub.fault("pace", count=1000, ms=100)
    with daemon.client() as client:
        client.open("POST", OPENAI.path(True),
                    OPENAI.body("hi", stream=True))
        workers = daemon.worker_pids()
        daemon.kill(number)
        assert daemon.wait_exit(9) == 0
    wait_for(lambda: not any(map(process_alive, workers)), 3)


def test_term_waits_for_no_idle_connection(daemon, stub):
    """What goes on is finished, and then nothing is waited for."""
    idle = daemon.client()
    busy = daemon.client()
    for client in (idle, busy):
        assert client.post(OPENAI.path(), OPENAI.body("hi")).status == 200
    stub.fault("pace", count=5, ms=100)
    response = busy.open("POST", OPENAI.path(True),
                         OPENAI.body("hi", stream=True))
    daemon.kill(signal.SIGTERM)
    assert OPENAI.complete(list(read_events(response)))
    ended = time.monotonic()
    assert daemon.wait_exit() == 0
    assert time.monotonic() - ended < 2 * SLOW
    for client in (idle, busy):
        client.close()


def test_drain_timeout_ends_what_does_not_finish(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "limits": {"drain-timeout": "1s"}}))
    stub.fault("pace", count=1000, ms=100)
    with daemon.client() as client:
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body("hi", stream=True))
        daemon.kill(signal.SIGQUIT)
        assert daemon.wait_exit(8) == 0
        try:
            frames = list(read_events(response))
        except (OSError, http.client.HTTPException):
            frames = []
        assert not OPENAI.complete(frames)


@pytest.mark.parametrize("how", ("signal", "verb"))
def test_reopen_logs(make_daemon, stub, tmp_path, how):
    names = {"file": "error.log", "access-file": "access.log",
             "usage-file": "usage.log"}
    paths = {key: tmp_path / "fl0" / name for key, name in names.items()}
    daemon = make_daemon(merged(pool(stub, "openai"), {"log": {
        key: str(path) for key, path in paths.items()}}))
    assert daemon.ask(OPENAI, "hi").status == 200
    access = paths["access-file"]
    wait_for(lambda: access.read_text().count("\n") == 1, 5)
    moved = {}
    for key, path in paths.items():
        moved[key] = path.with_suffix(".log.1")
        path.rename(moved[key])
    if how == "signal":
        daemon.kill(signal.SIGUSR1)
    else:
        assert daemon.ctl_run("reopen").returncode == 0
    wait_for(lambda: all(path.exists() for path in paths.values()), 5)

    def new_one() -> bool:
        assert daemon.ask(OPENAI, "hi").status == 200
        return "chat/completions" in access.read_text()

    wait_for(new_one, 5)
    assert moved["access-file"].read_text().count("chat/completions") >= 1


def test_access_log(make_daemon, stub, tmp_path):
    path = tmp_path / "fl0" / "access.log"
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "log": {"access-file": str(path)}}))
    daemon.get("/healthz", key=None)
    daemon.client().request("HEAD", "/")
    answer = daemon.post("/v1/chat/completions?key=canary-secret&x=1",
                         OPENAI.body("the prompt"))
    request_id = dict(answer.headers).get("x-fairlead-request-id")
    wait_for(lambda: "chat/completions" in path.read_text(), 2)
    text = path.read_text()
    assert "healthz" not in text and "HEAD" not in text
    assert request_id in text and " 200 " in text
    assert "canary" not in text and "the prompt" not in text
    assert text.count("\n") == 1


def test_usage_log(make_daemon, stub, tmp_path):
    path = tmp_path / "fl0" / "usage.log"
    daemon = make_daemon(merged(pool(stub), {
        "log": {"usage-file": str(path)}}))
    stub.fault("status", code=500)
    answer = daemon.ask(CLAUDE, "hi")
    wait_for(lambda: path.exists() and path.read_text().count("\n") == 2, 5)
    first, second = map(json.loads, path.read_text().splitlines())
    for row in (first, second):
        assert set(row) >= {
            "time", "request_id", "attempt", "dialect", "provider", "model",
            "upstream_model", "credential", "client", "session", "stream",
            "status", "failed", "outcome", "error", "latency_ms", "ttft_ms",
            "tokens"}
        assert TIME.fullmatch(row["time"])
        assert row["request_id"] == dict(answer.headers)[
            "x-fairlead-request-id"]
    assert (first["attempt"], first["status"], first["failed"]) == (
        1, 500, True)
    assert (second["attempt"], second["outcome"]) == (2, "ok")
    assert second["tokens"]["output"] == 8
    assert "canary" not in path.read_text()


def test_worker_count_follows_the_configuration(daemon, stub):
    daemon.with_config(workers=4)
    daemon.reload()
    assert len(daemon.settled_workers(4)) == 4
    daemon.with_config(workers=1)
    daemon.reload()
    assert len(daemon.settled_workers(1)) == 1
    for _ in range(20):
        assert daemon.ask(OPENAI, "hi").status == 200


def test_running_as_root_without_a_user_is_one_warning(daemon):
    if os.geteuid() != 0:
        pytest.skip("not root")
    assert daemon.log_count(r"(?i)\broot\b") == 1


def screen_of(daemon, keys: bytes, columns: int = 80) -> tuple[int, str]:
    """fairleadctl top on a terminal, until it has drawn twice and a key is
    pressed; exit status and everything it wrote."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(FAIRLEADCTL, ["fairleadctl", "-s", str(daemon.socket), "top"])
    fcntl.ioctl(master, termios.TIOCSWINSZ,
                struct.pack("HHHH", 24, columns, 0, 0))
    written = b""
    pressed = False
    while True:
        ready, _, _ = select.select([master], [], [], 20 * SLOW)
        assert ready, written
        try:
            data = os.read(master, 65536)
        except OSError:  # how a terminal ends
            break
        written += data
        if not pressed and written.count(b"\x1b[H") >= 2:
            pressed = True
            os.write(master, keys)
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode()


@pytest.mark.parametrize("keys", (b"q", b"\x03"))
def test_top_draws_again_and_leaves_the_terminal_as_it_was(daemon, keys):
    daemon.ask(CLAUDE, "hi")
    status, screen = screen_of(daemon, keys)
    assert status == 0
    assert "generation 1, 2 workers" in screen and "requests" in screen
    for row in daemon.credentials():
        assert row[:26] in screen
    assert screen.startswith("\x1b[?1049h") and \
        screen.rstrip().endswith("\x1b[?1049l")
    for frame in screen.split("\x1b[H")[1:]:
        lines = re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "", frame).splitlines()
        assert len(lines) <= 24 and max(map(len, lines)) <= 80


def test_top_into_a_pipe_is_drawn_once(daemon):
    daemon.ask(CLAUDE, "hi")
    done = daemon.ctl_run("top")
    assert done.returncode == 0
    assert "\x1b[?1049h" not in done.stdout
    assert "CREDENTIAL" in done.stdout and "served/s" in done.stdout.lower()


def test_top_is_for_people(daemon):
    assert daemon.ctl_run("-j", "top").returncode == 2


def test_status_has_what_top_takes_differences_of(daemon):
    before = daemon.status()["traffic"]
    daemon.ask(CLAUDE, "hi")
    after = daemon.status()["traffic"]
    assert after["requests"] == before["requests"] + 1
    assert after["tokens"] > before["tokens"]
    assert sum(after["first_byte"]) == sum(before["first_byte"]) + 1
    assert len(after["first_byte"]) == len(after["first_byte_bounds_ms"]) + 1
