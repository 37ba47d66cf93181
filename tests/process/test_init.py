# SPDX-License-Identifier: MIT
"""The LSB init script: actions, exit codes, configtest before a change."""

import os
import subprocess

import pytest

from harness import (BUILD, CLAUDE, FAIRLEAD, FAIRLEADCTL, SLOW, pool,
                     process_alive, wait_for)

SCRIPT = BUILD / "etc" / "fairlead.init"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(),
                                reason="no init script in this build")


@pytest.fixture
def service(make_daemon, stub, tmp_path):
    """Run the script against this build; returns (run, daemon)."""
    daemon = make_daemon(pool(stub), start=False)
    daemon.with_config(log={"file": str(daemon.log_file)})
    text = SCRIPT.read_text(encoding="utf-8")
    script = tmp_path / "fairlead.init"
    script.write_text(text)
    script.chmod(0o755)
    env = {**daemon.environment(),
           "FAIRLEAD": str(FAIRLEAD), "DAEMON": str(FAIRLEAD),
           "FAIRLEADCTL": str(FAIRLEADCTL), "CTL": str(FAIRLEADCTL),
           "CONFIG": str(daemon.config_file),
           "CONFFILE": str(daemon.config_file),
           "PIDFILE": str(daemon.pid_file)}

    def run(*argv: str) -> subprocess.CompletedProcess:
        with open(tmp_path / "init.out", "w+", encoding="utf-8") as out:
            done = subprocess.run(["sh", str(script), *argv], env=env,
                                  stdout=out, stderr=out,
                                  stdin=subprocess.DEVNULL,
                                  timeout=60 * SLOW, check=False)
            out.seek(0)
            said = out.read()
        daemon.outputs.append(said)
        try:
            daemon.forked_pid = int(daemon.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            daemon.forked_pid = None
        return subprocess.CompletedProcess(argv, done.returncode, said, said)

    return run, daemon


def test_script_is_posix_shell():
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh")
    for word in ("### BEGIN INIT INFO", "# Provides:", "# Required-Start:",
                 "# Default-Start:", "### END INIT INFO"):
        assert word in text
    done = subprocess.run(["sh", "-n", str(SCRIPT)], check=False)
    assert done.returncode == 0


def test_life_of_a_service(service):
    run, daemon = service
    assert run("status").returncode == 3
    done = run("start")
    assert done.returncode == 0, done.stdout
    first = daemon.forked_pid
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert run("status").returncode == 0
    assert run("start").returncode == 0, "already running is success"
    assert daemon.forked_pid == first
    assert run("configtest").returncode == 0
    assert run("reload").returncode == 0
    assert daemon.status()["reloads"]["ok"] == 1
    assert run("force-reload").returncode == 0
    assert run("reopen").returncode == 0
    assert daemon.forked_pid == first
    done = run("restart")
    assert done.returncode == 0, done.stdout
    assert daemon.forked_pid != first
    second = daemon.forked_pid
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert run("stop").returncode == 0
    wait_for(lambda: not process_alive(second), 10)
    assert run("stop").returncode == 0, "already stopped is success"
    assert run("status").returncode == 3


def test_broken_configuration_stops_restart_and_reload(service):
    run, daemon = service
    assert run("start").returncode == 0
    pid = daemon.forked_pid
    good = daemon.config_file.read_text()
    daemon.config_file.write_text(good + "nonsense = 1;\n")
    for action in ("configtest", "restart", "reload", "force-reload"):
        done = run(action)
        assert done.returncode not in (0, 2), action
        assert daemon.forked_pid == pid, action
    assert daemon.ask(CLAUDE, "hi").status == 200
    daemon.config_file.write_text(good)


def test_dead_with_pid_file_is_1(service):
    run, daemon = service
    assert run("start").returncode == 0
    daemon.kill9()
    assert daemon.pid_file.exists()
    assert run("status").returncode == 1
    assert run("start").returncode == 0
    assert daemon.ask(CLAUDE, "hi").status == 200


def test_unknown_action_is_2(service):
    run, _ = service
    done = run("dance")
    assert done.returncode in (2, 3)
    assert "usage" in done.stdout.lower()
    assert run().returncode in (2, 3)


def test_reload_of_a_stopped_service_is_7(service):
    run, _ = service
    assert run("reload").returncode == 7


def test_failed_start_is_not_success(service):
    run, daemon = service
    daemon.config_file.write_text("nonsense = 1;\n")
    assert run("start").returncode not in (0, 2)
    assert os.path.exists(daemon.config_file)
