# SPDX-License-Identifier: MIT
"""Sessions outlive every process.

Clients hold sessions while master and workers are killed at random instants,
and credentials are added, removed and put in another order: a session whose
answer had begun never comes back to another credential.  The time from a kill
of everything to the first 200 after the restart is printed.

FAIRLEAD_LOST_SESSIONS and FAIRLEAD_LOST_KILLS say how many of each; a seed in
FAIRLEAD_LOST_SEED repeats the choices, not the instants.
"""

import asyncio
import json
import os
import random
import signal
import statistics
import time

import pytest

from harness import CLIENT_KEY, SLOW, wait_for

SESSIONS = int(os.environ.get("FAIRLEAD_LOST_SESSIONS", "1500"))
KILLS = int(os.environ.get("FAIRLEAD_LOST_KILLS", "4"))
SEED = int(os.environ.get("FAIRLEAD_LOST_SEED", str(time.time_ns())))
CLIENTS = 16
LIMIT = 90 + SESSIONS / 50 + KILLS * 10

BODY = json.dumps({"model": "m", "max_tokens": 9, "messages": [
    {"role": "user", "content": "hi"}]}).encode()


async def read_message(reader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    return head, await reader.readexactly(length)


class Provider:
    """Answers with the key that it was asked with."""

    def __init__(self) -> None:
        self.served: set[asyncio.Task] = set()

    async def start(self) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        self.server.close()
        for task in self.served:
            task.cancel()
        await asyncio.gather(*self.served, return_exceptions=True)

    async def serve(self, reader, writer) -> None:
        self.served.add(asyncio.current_task())
        try:
            while True:
                head, _ = await read_message(reader)
                key = next(line[10:].strip() for line in head.split(b"\r\n")
                           if line.lower().startswith(b"x-api-key:")).decode()
                body = json.dumps({
                    "id": "msg", "type": "message", "role": "assistant",
                    "model": "m", "stop_reason": "end_turn",
                    "content": [{"type": "text", "text": key}],
                    "usage": {"input_tokens": 1, "output_tokens": 1}}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: "
                             b"application/json\r\ncontent-length: %d\r\n\r\n"
                             % len(body) + body)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


class Clients:
    def __init__(self, port: int, rng: random.Random):
        self.port = port
        self.rng = rng
        self.home: dict[int, str] = {}
        self.next = 0
        self.removed: set[str] = set()
        self.moved: list[tuple] = []
        self.answers = 0
        self.broken = 0
        self.refused: list[bytes] = []
        self.last_ok = 0.0
        self.stop = False

    def take(self, todo: list[int] | None) -> int | None:
        """Half are new as long as there are to be more."""
        if todo is not None:
            return todo.pop() if todo else None
        if self.next < SESSIONS and (self.next < 50 or self.rng.random() < .5):
            self.next += 1
            return self.next - 1
        return self.rng.randrange(self.next)

    def served(self, session: int, key: str) -> None:
        self.answers += 1
        self.last_ok = time.monotonic()
        if key in self.removed:
            return
        home = self.home.setdefault(session, key)
        if home in self.removed:
            self.home[session] = key
        elif home != key:
            self.moved.append((session, home, key))

    async def ask(self, reader, writer, session: int) -> None:
        writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: h\r\n"
                     b"authorization: Bearer %s\r\nx-session-id: s-%d\r\n"
                     b"content-type: application/json\r\n"
                     b"content-length: %d\r\n\r\n"
                     % (CLIENT_KEY.encode(), session, len(BODY)) + BODY)
        head, body = await read_message(reader)
        if head.startswith(b"HTTP/1.1 200"):
            self.served(session, json.loads(body)["content"][0]["text"])
        else:
            self.refused.append(head.split(b"\r\n")[0] + body)
        if b"connection: close" in head.lower():
            raise EOFError

    async def run(self, todo: list[int] | None = None) -> None:
        writer = None
        session: int | None = None
        while not self.stop:
            if session is None:
                session = self.take(todo)
            if session is None:
                break
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", self.port)
                await self.ask(reader, writer, session)
                session = None
            except (OSError, EOFError):
                self.broken += 1
                if writer is not None:
                    writer.close()
                writer = None
                await asyncio.sleep(0.01)
        if writer is not None:
            writer.close()


def configure(daemon, port: int, names: list[str]) -> None:
    daemon.with_config(**{"claude-api-key": [
        {"api-key": f"sk-{name}", "base-url": f"http://127.0.0.1:{port}",
         "models": [{"name": "m"}]} for name in names]})


def kill_master(daemon) -> None:
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.proc.wait()
    daemon.proc = None


def wait_serving(daemon) -> None:
    """Until its own workers serve: those of the master before it answer on
    for a while, and a start whose worker is killed fails, as it should."""
    daemon.wait_ready()
    wait_for(lambda: daemon.ctl_run("status").returncode == 0, 20,
             "the master to answer")


def kill_worker(daemon, rng) -> None:
    pids = daemon.worker_pids()
    if pids:
        os.kill(rng.choice(pids), signal.SIGKILL)


async def kill_something(daemon, clients, rng, number: int) -> float | None:
    """Seconds until the first 200, where everything was killed."""
    await asyncio.sleep(rng.uniform(0.1, 0.6))
    if number % 4 == 0:
        killed = time.monotonic()
        daemon.kill9()
        daemon.start(wait=False)
        while clients.last_ok <= killed:
            assert time.monotonic() < killed + 20 * SLOW
            await asyncio.sleep(0.001)
        return clients.last_ok - killed
    await asyncio.to_thread(wait_serving, daemon)
    if number % 4 == 2:
        kill_master(daemon)
        await asyncio.to_thread(daemon.start)
        return None
    kill_worker(daemon, rng)
    return None


async def change_credentials(daemon, clients, port: int, rng,
                             names: list[str], number: int) -> None:
    """Adds one, removes the one before it, puts them in another order."""
    await asyncio.to_thread(wait_serving, daemon)
    extra = [name for name in names if name.startswith("extra")]
    for name in extra:
        names.remove(name)
        clients.removed.add(f"sk-{name}")
    names.append(f"extra{number}")
    rng.shuffle(names)
    configure(daemon, port, names)
    await asyncio.to_thread(daemon.hup)


async def disturb(daemon, clients, port: int, rng) -> list[float]:
    names = [f"key{n}" for n in range(5)]
    recoveries = []
    for number in range(KILLS):
        took = await kill_something(daemon, clients, rng, number)
        if took is not None:
            recoveries.append(took)
        if number % 3 == 1:
            await change_credentials(daemon, clients, port, rng, names, number)
    while clients.next < SESSIONS:
        await asyncio.sleep(0.05)
    await asyncio.to_thread(daemon.wait_ready)
    return recoveries


async def hold_and_kill(make_daemon) -> tuple[Clients, list[float]]:
    rng = random.Random(SEED)
    provider = Provider()
    port = await provider.start()
    daemon = make_daemon({"routing": {"session-affinity": True},
                          "log": {"level": "info"}, "limits": {
                              "drain-timeout": "2s"}}, start=False)
    configure(daemon, port, [f"key{n}" for n in range(5)])
    daemon.start(wait=False)
    await asyncio.to_thread(daemon.wait_ready)
    clients = Clients(daemon.port, rng)
    tasks = [asyncio.create_task(clients.run()) for _ in range(CLIENTS)]
    recoveries = await disturb(daemon, clients, port, rng)
    clients.stop = True
    await asyncio.gather(*tasks)
    # Everybody comes back once more.
    clients.stop = False
    todo = list(range(clients.next))
    await asyncio.gather(*(clients.run(todo) for _ in range(CLIENTS)))
    await provider.end()
    return clients, recoveries


@pytest.mark.limit(LIMIT)
def test_no_session_changes_its_credential_whoever_dies(make_daemon):
    clients, recoveries = asyncio.run(hold_and_kill(make_daemon))
    print(f"{clients.next} sessions, {KILLS} kills, {clients.answers} "
          f"answers, {clients.broken} connections broken; after a kill of "
          "everything the first 200 took "
          f"{statistics.median(recoveries) * 1000:.0f} ms, at most "
          f"{max(recoveries) * 1000:.0f} ms")
    assert not clients.moved, clients.moved[:5]
    assert not clients.refused, clients.refused[:5]
    assert clients.next == SESSIONS
    assert clients.broken > 0
