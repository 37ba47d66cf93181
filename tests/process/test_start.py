# SPDX-License-Identifier: MIT
"""Starting is a transaction: the exit status tells the truth."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

import pytest

from harness import (CLAUDE, FAIRLEAD, OPENAI, SANITIZED, SLOW, merged,
                     open_descriptors, pool, process_alive, wait_for)


def test_status_0_means_it_serves(make_daemon, stub):
    """No waiting after the command has returned."""
    daemon = make_daemon(pool(stub), start=False)
    daemon.with_config(log={"file": str(daemon.log_file)})
    done = daemon.start_daemonised()
    assert done.returncode == 0, done
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert process_alive(daemon.pid)
    assert daemon.status()["pid"] == daemon.pid
    daemon.stop()
    assert not daemon.pid_file.exists()


def test_daemonised_process_is_detached(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    daemon.with_config(log={"file": str(daemon.log_file)})
    assert daemon.start_daemonised().returncode == 0
    with open(f"/proc/{daemon.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    assert int(fields[3]) != os.getsid(0)
    if os.geteuid() != 0:
        pytest.skip("only root may look into the daemon")
    assert os.readlink(f"/proc/{daemon.pid}/fd/0") == "/dev/null"
    cwd = os.readlink(f"/proc/{daemon.pid}/cwd")
    assert cwd in ("/", str(daemon.state_dir), str(daemon.runtime_dir))


def test_pid_file_option(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    daemon.with_config(log={"file": str(daemon.log_file)})
    other = daemon.dir / "other.pid"
    with open(daemon.dir / "err", "w", encoding="utf-8") as err:
        done = subprocess.run(
            [str(FAIRLEAD), "-c", str(daemon.config_file), "-p", str(other)],
            env=daemon.environment(), stdout=err, stderr=err,
            stdin=subprocess.DEVNULL, timeout=30 * SLOW, check=False)
    assert done.returncode == 0
    daemon.forked_pid = int(other.read_text())
    assert daemon.status()["pid"] == daemon.forked_pid


def failed_start(daemon) -> str:
    """Starting must fail, both ways, and say why; what was said."""
    done = daemon.start_daemonised()
    assert done.returncode != 0
    assert done.stderr.strip()
    front = daemon.run("-f", "-c", str(daemon.config_file))
    assert front.returncode != 0
    return done.stderr + front.stderr


def test_port_taken(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    with socket.create_server(("127.0.0.1", daemon.port)):
        said = failed_start(daemon)
    assert f"127.0.0.1:{daemon.port}" in said
    assert not daemon.pid_file.exists()
    daemon.start()


def test_port_taken_by_a_socket_that_would_share_it(make_daemon, stub):
    """SO_REUSEPORT must not let two daemons serve one port."""
    daemon = make_daemon(pool(stub, "claude"), start=False)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", daemon.port))
        taken.listen(1)
        said = failed_start(daemon)
    assert f"127.0.0.1:{daemon.port}" in said


def test_admin_port_taken(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    with socket.create_server(("127.0.0.1", daemon.admin_port)):
        assert str(daemon.admin_port) in failed_start(daemon)


def test_second_instance_is_refused_by_the_lock(make_daemon, stub):
    """Before it has touched anything of the first."""
    daemon = make_daemon(pool(stub, "claude"))
    workers = sorted(daemon.worker_pids())
    second = make_daemon(pool(stub, "claude"), start=False)
    second.with_config(state_dir=str(daemon.state_dir),
                       runtime_dir=str(daemon.runtime_dir))
    said = failed_start(second)
    assert "lock" in said or "running" in said
    assert str(daemon.pid) in said or str(daemon.state_dir) in said
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert sorted(daemon.worker_pids()) == workers
    assert int(daemon.pid_file.read_text()) == daemon.pid
    assert daemon.status()["pid"] == daemon.pid


def test_broken_configuration(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    with open(daemon.config_file, "a", encoding="utf-8") as out:
        out.write("nonsense = 1;\n")
    lines = daemon.config_file.read_text().count("\n")
    assert f"{daemon.config_file}:{lines}: " in failed_start(daemon)


def test_state_directory_that_cannot_be_written(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    place = daemon.dir / "file"
    place.write_text("not a directory")
    daemon.with_config(state_dir=str(place / "state"))
    assert "state" in failed_start(daemon)


def test_missing_directories_are_made(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    for path in (daemon.state_dir, daemon.runtime_dir):
        path.rmdir()
    daemon.start()
    assert daemon.state_dir.is_dir() and daemon.socket.exists()


def test_stale_files_of_a_dead_one_do_not_matter(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"))
    daemon.kill9()
    assert daemon.pid_file.exists()
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    daemon.stop()
    daemon.pid_file.write_text("1\n")
    daemon.start()
    assert daemon.status()["pid"] == daemon.pid


@pytest.mark.parametrize("what", ("state", "bindings", "ledger", "board"))
def test_garbage_in_a_store_is_thrown_away_with_a_line(make_daemon, stub,
                                                       what):
    daemon = make_daemon(merged(pool(stub, "claude"), {
        "routing": {"session-affinity": True}}))
    assert daemon.ask(CLAUDE, "hi").status == 200
    daemon.stop()
    places = ([daemon.runtime_dir / "board"] if what == "board" else
              [path for path in daemon.state_dir.rglob("*")
               if path.is_file() and what in str(path.relative_to(
                   daemon.state_dir)) and "lock" not in path.name])
    assert places
    for path in places:
        size = max(path.stat().st_size, 8192)
        with open(path, "r+b") as out:
            out.write(b"\x5a" * min(size, 65536))
    daemon.start(wait=False)

    def settled() -> str:
        if daemon.proc.poll() is not None:
            return "exited"
        try:
            return "serves" if daemon.ask(CLAUDE, "hi").status == 200 else ""
        except OSError:
            return ""

    outcome = wait_for(settled, 15)
    if outcome == "exited":  # a clear refusal is right for the ledger only
        assert what == "ledger"
        assert "ledger" in daemon.log_text()
        assert daemon.proc.returncode not in (0, -6, -11)


def test_another_boot_starts_with_fresh_sessions(make_daemon, stub):
    """kill -9 is not a power cut; a changed boot id is."""
    daemon = make_daemon(merged(pool(stub, "claude", count=3), {
        "routing": {"session-affinity": True}}))
    for n in range(3):
        daemon.ask(CLAUDE, "hi", headers={"x-session-id": f"s{n}"})
    assert daemon.sessions()["total"] == 3
    boot = open("/proc/sys/kernel/random/boot_id",
                encoding="ascii").read().strip().encode()
    daemon.kill9()
    changed = 0
    for path in [path for path in daemon.state_dir.rglob("*")
                 if path.is_file()] + [daemon.runtime_dir / "board"]:
        data = path.read_bytes()
        if boot in data:
            other = b"00000000-0000-4000-8000-000000000000"
            with open(path, "r+b") as out:
                at = data.find(boot)
                while at >= 0:
                    out.seek(at)
                    out.write(other)
                    changed += 1
                    at = data.find(boot, at + 1)
    if not changed:
        pytest.skip("the boot id is not kept as text")
    daemon.start()
    assert daemon.sessions()["total"] == 0
    assert daemon.ask(CLAUDE, "hi", headers={"x-session-id": "s0"}
                      ).status == 200


def test_starts_and_stops_many_times(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "claude"), "workers": 1})
    for _ in range(15):
        daemon.restart()
        assert daemon.ask(CLAUDE, "hi").status == 200


def test_term_while_starting(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    for delay in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08):
        daemon.start(wait=False)
        time.sleep(delay)  # the moment is the thing under test
        daemon.kill(signal.SIGTERM)
        daemon.wait_exit()
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200


def test_secrets_are_in_no_command_line_or_environment(make_daemon, stub):
    daemon = make_daemon(pool(stub))
    names = ("cmdline", "environ") if os.geteuid() == 0 else ("cmdline",)
    for pid in [daemon.pid] + daemon.worker_pids():
        for name in names:
            with open(f"/proc/{pid}/{name}", "rb") as source:
                assert b"canary" not in source.read(), (pid, name)


def test_workers_hold_no_refresh_token(make_daemon, stub):
    """Nor any other secret of the master's: their view of files is what
    they serve with."""
    daemon = make_daemon({}, start=False)
    marker = "canary-refresh-5f3a"
    daemon.auth_file("a.json", {
        "type": "claude", "access_token": "canary-file1",
        "refresh_token": marker, "base_url": stub.url})
    daemon.start()
    assert daemon.ask(CLAUDE, "hi", model="claude-sonnet-4-6").status == 200
    if os.geteuid() != 0:
        pytest.skip("needs root to read another process's memory")
    for pid in daemon.worker_pids():
        assert not memory_has(pid, marker.encode()), pid
    for path in daemon.state_dir.rglob("*"):
        if path.is_file():
            assert marker.encode() not in path.read_bytes(), path


def memory_has(pid: int, needle: bytes) -> bool:
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        spans = [line.split()[0] for line in maps
                 if " rw" in line and ".mdb" not in line]
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for span in spans:
            low, high = (int(part, 16) for part in span.split("-"))
            if high - low > 64 << 20:
                continue
            try:
                memory.seek(low)
                if needle in memory.read(high - low):
                    return True
            except (OSError, ValueError):
                continue
    return False


def test_privileges_are_dropped_to_the_user(make_daemon, stub):
    if os.geteuid() != 0:
        pytest.skip("only root can drop privileges")
    user = pwd.getpwnam("nobody")
    daemon = make_daemon(merged(pool(stub, "claude"), {
        "user": "nobody", "group": "nogroup",
        "routing": {"session-affinity": True}}), start=False)
    for path in [daemon.dir] + list(daemon.dir.parents)[:3]:
        path.chmod(path.stat().st_mode | 0o055)
    for path in (daemon.auth_dir, daemon.state_dir, daemon.runtime_dir,
                 daemon.config_file):
        os.chown(path, user.pw_uid, user.pw_gid)
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    for pid in [daemon.pid] + daemon.worker_pids():
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            text = status.read()
        assert f"Uid:\t{user.pw_uid}\t{user.pw_uid}\t{user.pw_uid}" in text
        assert "CapEff:\t0000000000000000" in text
    touched = [path for path in daemon.state_dir.rglob("*")
               if path.stat().st_uid != user.pw_uid]
    assert not touched
    daemon.hup()
    os.kill(daemon.worker_pids()[0], signal.SIGKILL)
    wait_for(lambda: len(daemon.worker_pids()) == 2, 5)
    assert daemon.ask(CLAUDE, "hi").status == 200


def test_death_at_start_is_told_with_its_signal(make_daemon, stub):
    if SANITIZED:
        pytest.skip("a sanitizer takes the signal")
    daemon = make_daemon(pool(stub, "claude"))
    daemon.stop()
    os.truncate(daemon.state_dir / "state" / "data.mdb", 9000)
    assert f"signal {int(signal.SIGBUS)} " in failed_start(daemon)
    shutil.rmtree(daemon.state_dir / "state")
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200


def test_user_takes_over_what_root_left(make_daemon, stub):
    if os.geteuid() != 0:
        pytest.skip("only root can drop privileges")
    user = pwd.getpwnam("nobody")
    daemon = make_daemon(pool(stub, "claude"), start=False)
    for path in [daemon.dir] + list(daemon.dir.parents)[:3]:
        path.chmod(path.stat().st_mode | 0o055)
    os.chown(daemon.auth_dir, user.pw_uid, user.pw_gid)
    daemon.start().stop()
    precious = daemon.state_dir / "precious"
    precious.write_text("root's own")
    os.link(precious, daemon.state_dir / "ledger" / "boot")
    daemon.with_config(user="nobody", group="nogroup")
    os.chown(daemon.config_file, user.pw_uid, user.pw_gid)
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert (daemon.state_dir / "lock").stat().st_uid == user.pw_uid
    assert precious.stat().st_uid == 0


def test_unknown_user_is_refused(make_daemon, stub):
    if os.geteuid() != 0:
        pytest.skip("only root can drop privileges")
    daemon = make_daemon({**pool(stub, "claude"), "user": "no-such-user"},
                         start=False)
    assert "no-such-user" in failed_start(daemon)
    done = daemon.run("-t", "-c", str(daemon.config_file))
    assert done.returncode == 1 and "no-such-user" in done.stderr


def test_listens_on_ipv6(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"), start=False)
    daemon.with_config(listen=[f"127.0.0.1:{daemon.port}",
                               f"[::1]:{daemon.port}"])
    daemon.start()
    with socket.create_connection(("::1", daemon.port), timeout=5) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


def test_descriptor_limit_is_survived(make_daemon, stub):
    """Out of descriptors: connections wait, the daemon lives."""
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1},
                         start=False)
    daemon.start()
    (pid,) = daemon.worker_pids()
    used = open_descriptors(pid)
    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={used + 12}"],
                   check=True)
    held = [socket.create_connection(("127.0.0.1", daemon.port))
            for _ in range(40)]
    for sock in held:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for(lambda: daemon.status()["workers"][0]["connections"] >= 5, 5)
    for sock in held:
        sock.close()
    wait_for(lambda: daemon.ask(OPENAI, "hi").status == 200, 10)
    assert daemon.worker_pids() == [pid]
