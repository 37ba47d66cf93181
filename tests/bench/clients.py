# SPDX-License-Identifier: MIT
"""The load generator, run once for each measurement."""

import contextlib
import json
import socket
import subprocess

import proc
from proc import BenchError
from servers import CLIENT_KEY

PATH = "/v1/chat/completions"


class Clients:
    """What all loads of a run have in common."""

    def __init__(self, tools, cpus):
        self.program = tools / "bench-load"
        self.cpus = cpus

    def argv(self, target, options, stub=None):
        argv = [self.program, "-m", target.model, "-S", target.sessions,
                "-H", f"Authorization: Bearer {CLIENT_KEY}"]
        if stub:
            argv += ["-s", "-H", f"X-Stub: {stub}"]
        return argv + list(options) + [target.port]

    def run(self, target, seconds, *options, stub=None):
        """One bounded load; its figures. An error of any kind spoils it."""
        process = proc.start(
            self.argv(target, ["-d", seconds, *options], stub), self.cpus,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, said = process.communicate(timeout=seconds + 30)
        if process.returncode != 0:
            raise BenchError(f"bench-load failed: {said}")
        figures = json.loads(out)
        if figures["errors"] > 0 or figures["requests"] == 0:
            raise BenchError(f"requests failed: {out}{said}")
        return figures

    @contextlib.contextmanager
    def holding(self, target, count, stub, *options, seconds=60):
        """So many streams are open while the block runs."""
        process = proc.start(
            self.argv(target, ["-c", count, "-d", seconds, "-b", 2048,
                               *(options or ["-k"])], stub),
            self.cpus, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        try:
            held = json.loads(process.stdout.readline())
            if held.get("held") != count:
                process.stdin.close()
                raise BenchError(f"not all streams opened: {held}"
                                 f"{process.stderr.read()}")
            yield
        finally:
            process.stdin.close()
            process.wait(10)


def open_request(target, stub):
    """A client that has sent a streaming request and reads nothing yet."""
    body = json.dumps({"model": target.model, "stream": True, "messages": [
        {"role": "user", "content": "Make fast the line."}]})
    sock = socket.create_connection(("127.0.0.1", target.port), timeout=10)
    sock.sendall(
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {CLIENT_KEY}\r\nX-Stub: {stub}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"\r\n{body}".encode())
    return sock
