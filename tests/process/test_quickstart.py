# SPDX-License-Identifier: MIT
"""The demonstration keeps its promises, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from harness import BUILD, ROOT, SLOW, process_alive, wait_for

COMMAND = [sys.executable, "-B", str(ROOT / "tests/stub/quickstart.py"),
           "--build", str(BUILD)]


def test_demonstration_keeps_its_promises(tmp_path):
    done = subprocess.run(COMMAND + ["--no-wait"], capture_output=True,
                          text=True, timeout=50 * SLOW, check=False,
                          env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done
    assert "NO " not in done.stdout
    assert done.stdout.count("   yes  ") == 7
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_interrupt_stops_all_of_it(tmp_path):
    with subprocess.Popen(
            COMMAND, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)}) as proc:
        said = ""
        while "Ctrl-C" not in said:
            line = proc.stdout.readline()
            assert line, said
            said += line
        children = subprocess.run(
            ["pgrep", "-P", str(proc.pid)], capture_output=True, text=True,
            check=False).stdout.split()
        assert len(children) == 2
        curl = re.search(r"   (curl .*?\n\n)", said, re.S)
        answer = subprocess.run(["sh", "-c", "exec " + curl.group(1).strip()
                                 + " -s"], capture_output=True, text=True,
                                timeout=20, check=False)
        assert "Hello from account" in answer.stdout, answer
        proc.send_signal(signal.SIGINT)
        assert proc.wait(20 * SLOW) == 0
    wait_for(lambda: not any(process_alive(int(pid)) for pid in children), 5)
    assert list(Path(tmp_path).iterdir()) == []
