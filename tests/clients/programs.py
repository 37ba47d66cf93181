# SPDX-License-Identifier: MIT
"""Running the clients, and what fairlead says of their requests."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import ROOT, SLOW, Daemon, wait_for

PINNED = Path(__file__).resolve().parent / "package-lock.json"
INSTALLED = Path(os.environ.get("FAIRLEAD_CLIENTS",
                                ROOT / "build" / "clients"))
MODULES = INSTALLED / "node_modules"
RUN_LIMIT = 30 * SLOW

# Machines as npm's names of native packages spell them.
ARCH = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "")


def why_absent() -> str:
    """Why the clients cannot be run here, or nothing."""
    stamp = INSTALLED / "installed"
    if not stamp.is_file() or stamp.read_bytes() != PINNED.read_bytes():
        return (f"the clients are not in {INSTALLED}: scripts/test installs "
                "them where npm and its registry can be had")
    return ""


def native(package: str, path: str) -> list[str]:
    """A native program out of the package of this machine."""
    program = MODULES / package.format(f"linux-{ARCH}") / path
    if not program.is_file():
        pytest.skip(f"no {program} for this machine")
    return [str(program)]


def script(name: str, least_node: int) -> list[str]:
    """A program that node runs."""
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not here")
    shown = subprocess.run([node, "--version"], capture_output=True,
                           text=True, check=True).stdout
    if int(re.match(r"v(\d+)", shown)[1]) < least_node:
        pytest.skip(f"{name} needs node {least_node}, this is {shown}")
    return [node, str(MODULES / ".bin" / name)]


class Program:
    """A client with a home and a working directory of its own.  What it asks
    of anybody but this machine is sent to a port where nobody listens."""

    def __init__(self, argv: list[str], directory: Path,
                 env: dict[str, str], limit: float = RUN_LIMIT):
        self.argv = argv
        self.limit = limit
        self.home = directory / "home"
        self.work = directory / "work"
        for made in (self.home, self.work):
            made.mkdir(parents=True)
        nobody = "http://127.0.0.1:1"
        self.env = {"HOME": str(self.home), "PATH": os.environ["PATH"],
                    "LANG": "C.UTF-8", "TERM": "dumb",
                    "HTTP_PROXY": nobody, "HTTPS_PROXY": nobody,
                    "NO_PROXY": "127.0.0.1", **env}

    def file(self, path: str, text: str) -> None:
        """A file below the home."""
        where = self.home / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text, encoding="utf-8")

    def start(self, *args: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*self.argv, *args], env=self.env, cwd=self.work,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True)

    def finish(self, running: subprocess.Popen) -> str:
        """What it printed; it must end in time, and well."""
        try:
            out, err = running.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            out, err = running.communicate()
            pytest.fail(f"{running.args} hangs\n{out}\n{err}")
        assert running.returncode == 0, (running.args, out, err)
        return out

    def run(self, *args: str) -> str:
        return self.finish(self.start(*args))


def at_once(programs: list[Program], *args: str) -> None:
    """Run them all together; "{}" in an argument is the number of each."""
    running = [one.start(*(arg.replace("{}", str(number)) for arg in args))
               for number, one in enumerate(programs, 1)]
    for one, process in zip(programs, running, strict=True):
        one.finish(process)


@dataclass
class Request:
    """A line of the access log, with what `why` tells of it."""
    path: str
    status: int
    model: str
    credential: str
    session: str
    source: str
    decision: str


class Gateway:
    """fairlead in front of the stub, and what it says of each request."""

    def __init__(self, daemon: Daemon, access: Path):
        self.daemon = daemon
        self.url = daemon.url
        self._access = access
        self._read = 0

    def new_requests(self, least: int = 1) -> list[Request]:
        """The model calls since the last time, of which there are some."""
        wait_for(lambda: len(self._lines()) >= self._read + least, 10,
                 f"{least} lines in the access log")
        lines = self._lines()[self._read:]
        self._read += len(lines)
        return [self._request(line) for line in lines]

    def _lines(self) -> list[str]:
        return [line for line in self._access.read_text().splitlines()
                if line.split()[2] == "POST"]

    def _request(self, line: str) -> Request:
        _, ident, _, path, status, *_ = line.split()
        word = dict(re.findall(r" (\w+)=(\S+)", line))
        why = self.daemon.ctl("why", ident)
        source = urllib.parse.unquote(word["session"])
        assert why["session"]["source"] == source
        assert why["decision"] == word["decision"]
        return Request(path, int(status), word["model"], word["credential"],
                       why["session"]["id"], source, word["decision"])

    def bound(self, source: str) -> list[dict]:
        """The bindings, of all sessions and models, all by this source."""
        rows = self.daemon.sessions()["sessions"]
        assert {row["source"] for row in rows} == {source}, rows
        return rows

    def binding(self, ident: str) -> dict:
        """The binding of the one session of this id."""
        (row,) = self.daemon.ctl("session", ident)["sessions"]
        return row


def check_kept(requests: list[Request], source: str, prefix: str) -> str:
    """All are well, known by this source, and on the credential that the
    first of them was bound to, which is returned.  A hash that grew adopts
    the binding of the shorter one."""
    assert {request.status for request in requests} == {200}, requests
    assert {request.source for request in requests} == {source}, requests
    assert all(request.session.startswith(prefix + ":")
               for request in requests), requests
    first, *later = [request.decision for request in requests]
    assert first == "new" and set(later) <= {"hit", "adopted"}, requests
    (credential,) = {request.credential for request in requests}
    return credential


def check_two(gate: Gateway, least: int, source: str, prefix: str) -> None:
    """Two sessions were new, and each was kept where its turn put it."""
    requests = gate.new_requests(least)
    rows = gate.bound(source)
    taken = {row["credential"] for row in rows}
    assert len(taken) == len(rows) == 2, rows
    for home in taken:
        check_kept([request for request in requests
                    if request.credential == home], source, prefix)
    assert {request.credential for request in requests} == taken


def homes(stub, header: str) -> dict[str, str]:
    """The one account that each value of a header came to."""
    out: dict[str, str] = {}
    for entry in stub.log:
        value = dict((name.lower(), value)
                     for name, value in entry["headers"])[header]
        assert out.setdefault(value, entry["account"]) == entry["account"]
    return out


def seen(stub, header: str) -> list[str]:
    """The values of a header of all requests that reached the provider."""
    return [value for entry in stub.log for name, value in entry["headers"]
            if name.lower() == header]
