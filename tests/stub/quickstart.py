# SPDX-License-Identifier: MIT
"""The demonstration of scripts/quickstart: three accounts of a stub provider,
fairlead before them, and what that means for the prompt caches.

Everything is on loopback and in one temporary directory.  It checks what it
shows: the exit status is 1 when fairlead did not do as promised.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = "demo-key"
MODEL = "claude-sonnet-4-6"
ACCOUNTS = ("alice", "bob", "carol")
SESSIONS = 6
TURNS = 4

CONFIG = """\
listen = ( "127.0.0.1:{port}" );
admin-listen = "127.0.0.1:{admin}";
workers = 2;
api-keys = ( "{key}" );
state-dir = "{dir}/state";
runtime-dir = "{dir}/run";
auth-dir = "{dir}/auths";
models-file = "{models}";
routing = {{ session-affinity = true; }};
claude-api-key = (
{accounts}
);
"""
ACCOUNT = '    {{ api-key = "{name}"; base-url = "{url}"; }}'


class Failed(Exception):
    """Something did not work; the text says what."""


def free_port(wanted: int = 0) -> int:
    """`wanted` if nobody listens there, else any."""
    for port in (wanted, 0):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return sock.getsockname()[1]
            except OSError:
                continue
    raise Failed("no free port")


def wait_for(what: Callable[[], object], seconds: float, name: str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise Failed(f"{name} took longer than {seconds:.0f} s")
        time.sleep(0.02)


def call(port: int, method: str, path: str, body: object = None,
         headers: dict | None = None) -> tuple[int, dict]:
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        conn.request(method, path, json.dumps(body) if body else None,
                     {"content-type": "application/json", **(headers or {})})
        response = conn.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        conn.close()


class Stub:
    """The provider, in a process of its own."""

    def __init__(self) -> None:
        self.proc = subprocess.Popen(
            [sys.executable, "-B", str(ROOT / "tests/stub/stub.py"),
             "--accounts", ",".join(ACCOUNTS)],
            stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.proc.stdout
        word, _, number = self.proc.stdout.readline().partition(" ")
        if word != "listening":
            raise Failed("the stub provider did not start")
        self.port = int(number)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, **fault) -> None:
        call(self.port, "POST", "/_stub/faults", fault)

    def stop(self) -> None:
        self.proc.terminate()
        self.proc.wait()


class Fairlead:
    """The daemon, with its directory and configuration."""

    def __init__(self, build: Path, directory: Path, stub: Stub):
        self.program = build / "master" / "fairlead"
        self.ctl = build / "master" / "fairleadctl"
        self.dir = directory
        self.config = directory / "fairlead.conf"
        self.log = directory / "fairlead.log"
        self.socket = directory / "run" / "control.sock"
        self.port = free_port(8317)
        self.proc: subprocess.Popen | None = None
        for name in ("state", "run", "auths"):
            (directory / name).mkdir(mode=0o700)
        self.config.write_text(CONFIG.format(
            port=self.port, admin=free_port(8318), key=KEY, dir=directory,
            models=ROOT / "etc" / "models.json",
            accounts=",\n".join(ACCOUNT.format(name=name, url=stub.url)
                                for name in ACCOUNTS)), encoding="utf-8")

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(
                [str(self.program), "-f", "-c", str(self.config)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True)
        wait_for(self.serves, 20, "starting fairlead")

    def serves(self) -> bool:
        assert self.proc
        if self.proc.poll() is not None:
            raise Failed("fairlead did not start:\n" + self.last_words())
        try:
            return call(self.port, "GET", "/healthz")[0] == 200
        except OSError:
            return False

    def last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join(lines[-15:])

    def status(self) -> dict:
        done = subprocess.run(
            [str(self.ctl), "-j", "-s", str(self.socket), "status"],
            capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def pids(self) -> list[int]:
        status = self.status()
        return [status["pid"]] + [row["pid"] for row in status["workers"]]

    def kill9(self) -> None:
        assert self.proc
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.proc.wait()

    def stop(self) -> None:
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            self.proc.wait()


class Agent:
    """One agent session: it sends its whole conversation on every turn."""

    def __init__(self, port: int, number: int):
        self.port = port
        self.name = f"session-{number}"
        self.system = f"You are agent {number}. " + "Know the code. " * 200
        self.messages: list[dict] = []
        self.accounts: list[str] = []
        self.cached: list[int] = []
        self.tokens: list[int] = []

    def turn(self) -> None:
        number = len(self.accounts) + 1
        self.messages.append({"role": "user", "content":
                              f"Turn {number}. " + "Look here. " * 150})
        status, answer = call(
            self.port, "POST", "/v1/messages",
            {"model": MODEL, "max_tokens": 256, "system": self.system,
             "messages": self.messages},
            {"x-api-key": KEY, "x-session-id": self.name})
        if status != 200:
            raise Failed(f"{self.name}: HTTP {status}: {answer}")
        text = answer["content"][0]["text"]
        self.messages.append({"role": "assistant", "content": text})
        match = re.search(r"account (\w+)", text)
        self.accounts.append(match.group(1) if match else "?")
        usage = answer["usage"]
        self.cached.append(usage["cache_read_input_tokens"])
        self.tokens.append(usage["cache_read_input_tokens"]
                           + usage["cache_creation_input_tokens"]
                           + usage["input_tokens"])


class Demonstration:
    def __init__(self, stub: Stub, fairlead: Fairlead):
        self.stub = stub
        self.fairlead = fairlead
        self.agents = [Agent(fairlead.port, n + 1) for n in range(SESSIONS)]
        self.kept = True

    def check(self, good: bool, promise: str) -> None:
        self.kept = self.kept and good
        print(f"   {'yes' if good else 'NO '}  {promise}")

    def sessions(self) -> None:
        print("\n1. Six sessions of four turns, two agents at once. Every "
              "account has a\n   prompt cache of its own; the table shows "
              "the cached tokens of each turn.\n")

        def work(agent: Agent) -> None:
            for _ in range(TURNS):
                agent.turn()

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            list(threads.map(work, self.agents))
        turns = "".join(f"{f'turn {n + 1}':>9}" for n in range(TURNS))
        print(f"   {'session':<11}{'account':<9}{turns}{'of':>9}")
        for agent in self.agents:
            accounts = "+".join(sorted(set(agent.accounts)))
            row = "".join(f"{cached:>9,}" for cached in agent.cached)
            print(f"   {agent.name:<11}{accounts:<9}{row}"
                  f"{agent.tokens[-1]:>9,}")
        print()
        self.check(all(len(set(agent.accounts)) == 1
                       for agent in self.agents),
                   "every session stayed with one account")
        self.check(all(min(agent.cached[1:]) > 0 for agent in self.agents),
                   "every turn after the first was served from its cache")
        counts = [sum(agent.accounts[0] == name for agent in self.agents)
                  for name in ACCOUNTS]
        self.check(max(counts) - min(counts) <= 1,
                   "the sessions are spread evenly over the accounts")

    def cooldown(self) -> None:
        agent = self.agents[1]
        home = agent.accounts[-1]
        print(f"\n2. {home} answers 429 (rate limited for 10 minutes)\n")
        self.stub.fault(account=home, kind="status", times=1, opts={
            "code": 429, "headers": {"retry-after": "600"}})
        for _ in range(2):
            agent.turn()
            print(f"   {agent.name}  turn {len(agent.accounts)}  served by "
                  f"{agent.accounts[-1]:<6} cached {agent.cached[-1]:>6,}")
        print()
        new = agent.accounts[-1]
        self.check(agent.accounts[-2:] == [new, new] and new != home,
                   "the session moved, once, and the client saw only 200")
        self.check(agent.cached[-1] > 0, "its cache is warm again")

    def crash(self) -> None:
        print("\n3. kill -9 of everything, and a restart\n")
        before = {agent.name: agent.accounts[-1] for agent in self.agents}
        limited = self.agents[1].accounts[TURNS - 1]
        old = self.fairlead.pids()
        self.fairlead.kill9()
        self.fairlead.start()
        new = self.fairlead.pids()
        print(f"   killed     {' '.join(map(str, old))}")
        print(f"   restarted  {' '.join(map(str, new))}\n")
        same = True
        print(f"   {'session':<11}{'before':<9}{'after':<9}{'cached':>9}")
        for agent in self.agents:
            agent.turn()
            now = agent.accounts[-1]
            moved = before[agent.name] == limited
            same = same and (moved or now == before[agent.name])
            print(f"   {agent.name:<11}{before[agent.name]:<9}{now:<9}"
                  f"{agent.cached[-1]:>9,}"
                  + (f"   ({limited} is still limited)" if moved else ""))
        print()
        self.check(same, "the bindings are still there")
        self.check(all(agent.accounts[-1] != limited
                       for agent in self.agents),
                   f"and so is the cooldown of {limited}")

    def run(self) -> bool:
        self.sessions()
        self.cooldown()
        self.crash()
        return self.kept


def how_to_go_on(fairlead: Fairlead) -> None:
    print(f"""
fairlead is running. Try it:

   curl http://127.0.0.1:{fairlead.port}/v1/messages \\
     -H 'x-api-key: {KEY}' -H 'x-session-id: mine' \\
     -H 'content-type: application/json' \\
     -d '{{"model":"{MODEL}","max_tokens":64,
          "messages":[{{"role":"user","content":"hello"}}]}}'

   {os.path.relpath(fairlead.ctl)} -s {fairlead.socket} sessions

Configuration and log are in {fairlead.dir}
Ctrl-C stops everything.""", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--no-wait", action="store_true")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Also where a parent had them ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="fairlead-"))
    stub: Stub | None = None
    fairlead: Fairlead | None = None
    try:
        stub = Stub()
        print(f"stub provider   127.0.0.1:{stub.port}, three accounts: "
              f"{', '.join(ACCOUNTS)}")
        fairlead = Fairlead(args.build.resolve(), directory, stub)
        fairlead.start()
        print(f"fairlead        127.0.0.1:{fairlead.port}, two workers, "
              "session affinity on")
        kept = Demonstration(stub, fairlead).run()
        if not args.no_wait:
            how_to_go_on(fairlead)
            signal.pause()
        return 0 if kept else 1
    except KeyboardInterrupt:
        print("\nstopping")
        return 0
    except Failed as failed:
        print(f"quickstart: {failed}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if fairlead:
            fairlead.stop()
        if stub:
            stub.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
