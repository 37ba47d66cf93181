# SPDX-License-Identifier: MIT
"""What the end-to-end and process tests share: a daemon of its own for every
test, the stub behind it, plain HTTP clients, and the waiting.

Waiting is always for something, with a deadline; nothing sleeps to hope.  All
secrets of these tests contain CANARY, and no log may.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from collections.abc import Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "stub"))

from stub import Stub

BUILD = Path(os.environ.get("FAIRLEAD_BUILD", ROOT / "build")).resolve()
FAIRLEAD = BUILD / "master" / "fairlead"
FAIRLEADCTL = BUILD / "master" / "fairleadctl"
MODELS = ROOT / "etc" / "models.json"

CANARY = "canary-"
CLIENT_KEY = "canary-client-1"
OTHER_KEY = "canary-client-2"

# Sanitised builds are slower; deadlines are for hangs, not for speed.
SANITIZED = "asan" in BUILD.name or os.environ.get("FAIRLEAD_SANITIZED")
SLOW = 4.0 if SANITIZED else 1.0
TEST_LIMIT = 60 * SLOW

# Credential files that others may read are refused.
os.umask(0o077)

# Nobody listens there: no test asks a provider's own token endpoint.
NO_ENDPOINT = "http://127.0.0.1:1/token"

PROVIDERS = ("claude", "openai", "codex", "gemini", "vertex")
ACCOUNTS = {f"{provider}{number}": f"{CANARY}up-{provider}{number}"
            for provider in PROVIDERS for number in range(1, 5)}

BAD_LOG = re.compile(
    r"Sanitizer|runtime error:|[Aa]ssertion .* failed|SUMMARY: |"
    r"[Ss]egmentation|double free|corrupted|stack smashing")


def wait_for(what: Callable[[], Any], seconds: float = 10.0,
             message: str = "") -> Any:
    """Poll `what` until it is true, and return it; fail after the time."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"timed out after {seconds} s: {message or what}")
        time.sleep(0.01)


_given_ports: set[int] = set()


def free_port() -> int:
    """A port below the ephemeral range that nobody listens on."""
    while True:
        port = random.randrange(20000, 32000)
        if port in _given_ports:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given_ports.add(port)
        return port


# -- configuration ----------------------------------------------------------

def libconfig(value: Any, depth: int = 0) -> str:
    """A Python value as libconfig text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"'
    if isinstance(value, (list, tuple)):
        return "( " + ", ".join(libconfig(v, depth + 1)
                                for v in value) + " )"
    pad = "\t" * depth
    rows = "".join(f"{pad}\t{key} = {libconfig(item, depth + 1)};\n"
                   for key, item in value.items())
    return "{\n" + rows + pad + "}"


def merged(base: dict, more: dict) -> dict:
    """`base` with `more` laid over it, groups merged one level deep."""
    out = dict(base)
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = {**out[key], **value}
        elif value is None:
            out.pop(key, None)
        else:
            out[key] = value
    return out


def config_key(name: str) -> str:
    """with_config(api_keys=...) spells api-keys."""
    return name.replace("_", "-")


def pool(stub: Stub, *providers: str, count: int = 2, url: str = "",
         **more: Any) -> dict:
    """Configuration of `count` accounts of each provider, at the stub."""
    base = url or stub.url
    out: dict[str, Any] = {}
    for provider in providers or PROVIDERS:
        keys = [ACCOUNTS[f"{provider}{n}"] for n in range(1, count + 1)]
        if provider == "openai":
            out["openai-compatibility"] = [{
                "name": "stub", "base-url": base + "/v1", "responses": True,
                "api-key-entries": [{"api-key": key} for key in keys],
                "models": [{"name": "gpt-stub"}], **more}]
            continue
        suffix = "/v1" if provider == "codex" else ""
        out[f"{provider}-api-key"] = [
            {"api-key": key, "base-url": base + suffix,
             "models": [{"name": MODEL_OF[provider],
                         "alias": MODEL_OF[provider]}], **more}
            for key in keys]
    return out


MODEL_OF = {"claude": "claude-stub", "openai": "gpt-stub",
            "codex": "codex-stub", "gemini": "gemini-stub",
            "vertex": "vertex-stub"}


# -- clients ----------------------------------------------------------------

Answer = collections.namedtuple("Answer", "status headers body")


def header(answer: Answer, name: str) -> str | None:
    for key, value in answer.headers:
        if key.lower() == name.lower():
            return value
    return None


def as_json(answer: Answer) -> Any:
    return json.loads(answer.body)


class Client:
    """One keep-alive connection; sends exactly the headers it is given."""

    def __init__(self, port: int, key: str | None = CLIENT_KEY,
                 timeout: float = 30.0):
        self.port = port
        self.key = key
        self.timeout = timeout * SLOW
        self._conn: http.client.HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._conn:
            self._conn.close()
            self._conn = None

    @property
    def sock(self) -> socket.socket:
        assert self._conn
        return self._conn.sock

    def open(self, method: str, path: str, body: Any = None,
             headers: dict | list | None = None,
             auth: str = "authorization") -> http.client.HTTPResponse:
        """Send a request and return the response, its body unread."""
        if self._conn is None:
            self._conn = http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=self.timeout)
            self._conn.connect()
            self._conn.sock.setsockopt(socket.IPPROTO_TCP,
                                       socket.TCP_NODELAY, 1)
        conn = self._conn
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
        rows = headers.items() if isinstance(headers, dict) else headers or ()
        names = {name.lower() for name, _ in rows}
        conn.putrequest(method, path, skip_accept_encoding=True,
                        skip_host="host" in names)
        if self.key and not names & {"authorization", "x-api-key",
                                     "x-goog-api-key"}:
            value = self.key
            if auth == "authorization":
                value = "Bearer " + value
            conn.putheader(auth, value)
        if data is not None:
            if "content-type" not in names:
                conn.putheader("content-type", "application/json")
            if "content-length" not in names:
                conn.putheader("content-length", str(len(data)))
        for name, value in rows:
            conn.putheader(name, value)
        conn.endheaders(data)
        return conn.getresponse()

    def request(self, method: str, path: str, body: Any = None,
                headers: dict | list | None = None,
                auth: str = "authorization") -> Answer:
        try:
            response = self.open(method, path, body, headers, auth)
            data = response.read()
        except (http.client.HTTPException, OSError):
            self.close()
            raise
        if response.will_close:
            self.close()
        return Answer(response.status, response.getheaders(), data)

    def post(self, path: str, body: Any, headers=None,
             auth: str = "authorization") -> Answer:
        return self.request("POST", path, body, headers, auth)

    def get(self, path: str, headers=None,
            auth: str = "authorization") -> Answer:
        return self.request("GET", path, None, headers, auth)


# Stands behind the frames of a stream whose connection broke off.
BROKEN_OFF = "(the connection broke off)"


def read_events(response: http.client.HTTPResponse) -> Iterator[str]:
    """The frames of an event stream, as they come, without the blank line."""
    rest = ""
    try:
        # readline() would take a body that breaks off for its end.
        while data := response.read1(65536):
            rest += data.decode("utf-8", "surrogateescape").replace("\r", "")
            *frames, rest = rest.split("\n\n")
            yield from frames
    except (http.client.IncompleteRead, ConnectionResetError):
        if rest:
            yield rest
        yield BROKEN_OFF
        return
    if rest:
        yield rest


def raw_exchange(port: int, data: bytes, timeout: float = 10.0,
                 shut: bool = False) -> bytes:
    """Send bytes, return everything until the peer closes or is silent."""
    with socket.create_connection(("127.0.0.1", port),
                                  timeout=timeout * SLOW) as sock:
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        if shut:
            sock.shutdown(socket.SHUT_WR)
        return read_until_quiet(sock, timeout)


def read_until_quiet(sock: socket.socket, timeout: float) -> bytes:
    out = b""
    while True:
        ready, _, _ = select.select([sock], [], [], timeout * SLOW)
        if not ready:
            return out
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            return out
        if not data:
            return out
        out += data


# -- requests in each dialect -----------------------------------------------

class Dialect:
    """How one client dialect spells a conversation and its answers."""

    def __init__(self, name: str, provider: str, path: str, auth: str,
                 stream_path: str = ""):
        self.name = name
        self.provider = provider
        self.model = MODEL_OF[provider]
        self._path = path
        self._stream_path = stream_path or path
        self.auth = auth

    def path(self, stream: bool = False, model: str = "") -> str:
        path = self._stream_path if stream else self._path
        return path.replace("{model}", model or self.model)

    def body(self, *turns: str, stream: bool = False, system: str = "",
             model: str = "", **more: Any) -> dict:
        """A conversation: user, assistant, user... texts."""
        roles = [("user", "assistant")[i % 2] for i in range(len(turns))]
        pairs = list(zip(roles, turns, strict=True)) or [("user", "hello")]
        out: dict[str, Any] = {"model": model or self.model}
        if self.name == "gemini":
            del out["model"]
            out["contents"] = [
                {"role": "model" if role == "assistant" else role,
                 "parts": [{"text": text}]} for role, text in pairs]
            if system:
                out["systemInstruction"] = {"parts": [{"text": system}]}
            return {**out, **more}
        if stream:
            out["stream"] = True
        if self.name == "responses":
            out["input"] = [{"role": role, "content": text}
                            for role, text in pairs]
            if system:
                out["instructions"] = system
        else:
            out["messages"] = [{"role": role, "content": text}
                               for role, text in pairs]
            if system and self.name == "claude":
                out["system"] = system
            elif system:
                out["messages"].insert(0, {"role": "system",
                                           "content": system})
        if self.name == "claude":
            out["max_tokens"] = 64
        return {**out, **more}

    def text(self, data: dict) -> str:
        """The answer's text."""
        if self.name == "claude":
            return "".join(b.get("text", "") for b in data["content"])
        if self.name == "openai":
            return data["choices"][0]["message"]["content"]
        if self.name == "gemini":
            return "".join(p.get("text", "") for p in
                           data["candidates"][0]["content"]["parts"])
        return "".join(part["text"] for item in data["output"]
                       if item["type"] == "message"
                       for part in item["content"])

    def stream_text(self, frames: list[str]) -> str:
        out = []
        for frame in frames:
            data = frame_data(frame)
            if not isinstance(data, dict):
                continue
            if self.name == "claude":
                out.append(data.get("delta", {}).get("text", ""))
            elif self.name == "openai":
                for choice in data.get("choices", []):
                    out.append(choice["delta"].get("content") or "")
            elif self.name == "gemini":
                for cand in data.get("candidates", []):
                    out += [p.get("text", "")
                            for p in cand["content"]["parts"]]
            elif data.get("type") == "response.output_text.delta":
                out.append(data["delta"])
        return "".join(out)

    def complete(self, frames: list[str]) -> bool:
        """Did the stream end as this dialect ends a good one?"""
        if BROKEN_OFF in frames:
            return False
        frames = [frame for frame in frames if frame_data(frame) is not None]
        if not frames:
            return False
        last = frame_data(frames[-1])
        if self.name == "claude":
            return isinstance(last, dict) and last["type"] == "message_stop"
        if self.name == "openai":
            return last == "[DONE]"
        if self.name == "gemini":
            return isinstance(last, dict) and any(
                "finishReason" in c for c in last.get("candidates", []))
        return isinstance(last, dict) and last.get(
            "type") == "response.completed"

    def error_frame(self, frame: str) -> bool:
        """Is this frame an error as this dialect's SDKs know one?"""
        data = frame_data(frame)
        if not isinstance(data, dict):
            return False
        if self.name == "claude":
            return (frame.startswith("event: error")
                    and data.get("type") == "error"
                    and bool(data["error"]["type"])
                    and bool(data["error"]["message"]))
        if self.name == "responses":
            return data.get("type") in ("error", "response.failed")
        if self.name == "gemini":
            return (isinstance(data.get("error"), dict)
                    and isinstance(data["error"].get("code"), int)
                    and bool(data["error"].get("status")))
        return isinstance(data.get("error"), dict) and bool(
            data["error"].get("message"))

    def check_error(self, answer: Answer, status: int, code: str) -> str:
        """Assert the dialect's own error shape; return the message."""
        assert answer.status == status, answer
        kind = header(answer, "content-type") or ""
        assert kind.startswith("application/json"), answer
        data = as_json(answer)
        if self.name == "claude":
            assert data["type"] == "error", data
            assert data["error"]["type"] == CLAUDE_TYPES[status], data
            assert data["request_id"], data
        elif self.name == "gemini":
            assert data["error"]["code"] == status, data
            assert data["error"]["status"] == GEMINI_STATUS[status], data
        else:
            assert set(data["error"]) >= {"message", "type", "param",
                                          "code"}, data
            assert data["error"]["code"] == code, data
        assert CANARY not in answer.body.decode()
        return data["error"]["message"]


CLAUDE_TYPES = {400: "invalid_request_error", 401: "authentication_error",
                403: "permission_error", 404: "not_found_error",
                405: "invalid_request_error", 409: "invalid_request_error",
                413: "request_too_large", 429: "rate_limit_error",
                503: "api_error", 504: "timeout_error", 502: "api_error"}
GEMINI_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED",
                 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
                 405: "INVALID_ARGUMENT", 413: "INVALID_ARGUMENT",
                 429: "RESOURCE_EXHAUSTED", 502: "INTERNAL",
                 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

CLAUDE = Dialect("claude", "claude", "/v1/messages", "x-api-key")
OPENAI = Dialect("openai", "openai", "/v1/chat/completions", "authorization")
RESPONSES = Dialect("responses", "codex", "/v1/responses", "authorization")
GEMINI = Dialect("gemini", "gemini",
                 "/v1beta/models/{model}:generateContent", "x-goog-api-key",
                 "/v1beta/models/{model}:streamGenerateContent?alt=sse")
DIALECTS = (CLAUDE, OPENAI, RESPONSES, GEMINI)
each_dialect = pytest.mark.parametrize(
    "dialect", DIALECTS, ids=lambda dialect: dialect.name)


def frame_data(frame: str) -> Any:
    """The data of a frame: JSON, or its text; None when it has none."""
    lines = [line[5:].strip() for line in frame.split("\n")
             if line.startswith("data:")]
    if not lines:
        return None
    text = "\n".join(lines)
    try:
        return json.loads(text)
    except ValueError:
        return text


# -- the daemon -------------------------------------------------------------

class Daemon:
    """One fairlead with its own directory, ports and configuration."""

    def __init__(self, directory: Path, config: dict):
        self.dir = directory
        self.port = free_port()
        self.admin_port = free_port()
        self.config_file = directory / "fairlead.conf"
        self.auth_dir = directory / "auths"
        self.state_dir = directory / "state"
        self.runtime_dir = directory / "run"
        self.log_file = directory / "fairlead.log"
        self.pid_file = self.runtime_dir / "fairlead.pid"
        self.socket = self.runtime_dir / "control.sock"
        self.env: dict[str, str] = {}
        self.program = FAIRLEAD
        self.closers: list[Callable[[], None]] = []
        self.outputs: list[str] = []
        self.proc: subprocess.Popen | None = None
        self.forked_pid: int | None = None
        for made in (self.auth_dir, self.state_dir, self.runtime_dir):
            made.mkdir(mode=0o700, exist_ok=True)
        self.config = merged({
            "listen": [f"127.0.0.1:{self.port}"],
            "admin-listen": f"127.0.0.1:{self.admin_port}",
            "workers": 2,
            "state-dir": str(self.state_dir),
            "runtime-dir": str(self.runtime_dir),
            "auth-dir": str(self.auth_dir),
            "models-file": str(MODELS),
            "api-keys": [CLIENT_KEY, OTHER_KEY],
            "request-retry": 0,
            "oauth": {name: {"token-endpoint": NO_ENDPOINT} for name in (
                "claude", "codex", "gemini", "vertex", "kimi", "xai")},
            "log": {"level": "debug"},
        }, config)
        self.write_config()

    # configuration

    def write_config(self) -> None:
        text = "".join(f"{key} = {libconfig(value)};\n"
                       for key, value in self.config.items())
        temporary = self.config_file.with_suffix(".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(self.config_file)

    def with_config(self, **more: Any) -> Daemon:
        """Lay settings over the configuration and write it."""
        self.config = merged(self.config, {config_key(key): value
                                           for key, value in more.items()})
        self.write_config()
        return self

    def auth_file(self, name: str, content: Any) -> Path:
        """Write a credential file the way careful writers do."""
        text = content if isinstance(content, str) else json.dumps(content)
        path = self.auth_dir / name
        temporary = self.auth_dir / (name + ".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o600)
        temporary.rename(path)
        return path

    # processes

    def environment(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items()
               if not key.lower().endswith("_proxy")}
        path = self.dir / "sanitizer"
        env["ASAN_OPTIONS"] = (f"log_path={path}:detect_leaks=1:"
                               "abort_on_error=0:exitcode=99")
        env["UBSAN_OPTIONS"] = (f"log_path={path}:print_stacktrace=1:"
                                "halt_on_error=1")
        env.update(self.env)
        return env

    def run(self, *argv: str, timeout: float = 30.0
            ) -> subprocess.CompletedProcess:
        """Run the fairlead program to its end."""
        done = subprocess.run(
            [str(FAIRLEAD), *argv], env=self.environment(),
            capture_output=True, text=True, timeout=timeout * SLOW,
            stdin=subprocess.DEVNULL, check=False)
        self.outputs += [done.stdout, done.stderr]
        return done

    def start(self, wait: bool = True) -> Daemon:
        """Run in the foreground, and wait until it serves."""
        with open(self.log_file, "ab") as log:
            self.proc = subprocess.Popen(
                [str(self.program), "-f", "-c", str(self.config_file)],
                env=self.environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait_ready()
        return self

    def start_daemonised(self) -> subprocess.CompletedProcess:
        """Start as init scripts do; returns when the start has its outcome.
        stderr goes to a file: a daemon that kept a pipe of ours open would
        otherwise keep us waiting."""
        with open(self.dir / "start.err", "w+", encoding="utf-8") as err:
            done = subprocess.run(
                [str(self.program), "-c", str(self.config_file)],
                env=self.environment(), stdin=subprocess.DEVNULL,
                stdout=err, stderr=err, timeout=30 * SLOW, check=False)
            err.seek(0)
            text = err.read()
        self.outputs.append(text)
        if done.returncode == 0:
            self.forked_pid = int(self.pid_file.read_text())
        return subprocess.CompletedProcess(done.args, done.returncode,
                                           text, text)

    def wait_ready(self, seconds: float = 15.0) -> None:
        def ready() -> bool:
            if self.proc and self.proc.poll() is not None:
                pytest.fail("fairlead exited with "
                            f"{self.proc.returncode}:\n{self.log_text()}")
            try:
                with Client(self.port, None, 2) as client:
                    return client.get("/healthz").status == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_for(ready, seconds, "the daemon to answer /healthz")
        wait_for(self.socket.exists, 5, "the control socket")

    @property
    def pid(self) -> int:
        if self.proc:
            return self.proc.pid
        assert self.forked_pid
        return self.forked_pid

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def running(self) -> bool:
        if self.proc:
            return self.proc.poll() is None
        return bool(self.forked_pid) and process_alive(self.forked_pid)

    def wait_exit(self, seconds: float = 15.0) -> int | None:
        wait_for(lambda: not self.running(), seconds, "fairlead to exit")
        code = self.proc.returncode if self.proc else None
        self.proc = None
        self.forked_pid = None
        return code

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it as an operator does; it must end by itself, and well."""
        for close in self.closers:
            close()
        self.closers = []
        if not self.running():
            return
        workers = self.worker_pids()
        self.kill(number)
        code = self.wait_exit()
        assert code in (None, 0), f"exit status {code}"
        wait_for(lambda: not any(map(process_alive, workers)), 10,
                 "workers to end")

    def kill9(self) -> None:
        """Kill master and workers at once, as a power switch would."""
        pids = [self.pid] + self.worker_pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if self.proc:
            self.proc.wait()
        wait_for(lambda: not any(map(process_alive, pids)), 5, "death")
        self.proc = None
        self.forked_pid = None

    def restart(self) -> Daemon:
        self.stop()
        return self.start()

    def worker_pids(self) -> list[int]:
        """Children of the master, from /proc."""
        out = subprocess.run(["pgrep", "-P", str(self.pid)],
                             capture_output=True, text=True, check=False)
        return [int(pid) for pid in out.stdout.split()]

    def settled_workers(self, count: int = 2) -> list[int]:
        """Workers once exactly `count` of them are active."""
        def active():
            rows = [row for row in self.status()["workers"]
                    if row["state"] == "active"]
            return [row["pid"] for row in rows] if len(rows) == count else []

        return wait_for(active, 10, f"{count} active workers")

    # control

    def ctl_run(self, *argv: str, timeout: float = 30.0
                ) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [str(FAIRLEADCTL), "-s", str(self.socket), *argv],
            env=self.environment(), capture_output=True, text=True,
            timeout=timeout * SLOW, stdin=subprocess.DEVNULL, check=False)
        self.outputs += [done.stdout, done.stderr]
        return done

    def ctl(self, *argv: str) -> dict:
        """`fairleadctl -j VERB`, which must succeed; its JSON."""
        done = self.ctl_run("-j", *argv)
        assert done.returncode == 0, (argv, done)
        value = json.loads(done.stdout)
        assert value["schema"] == 1
        return value

    def status(self) -> dict:
        return self.ctl("status")

    def credentials(self) -> dict[str, dict]:
        return {row["id"]: row for row in self.ctl("credentials")[
            "credentials"]}

    def models(self) -> dict[str, dict]:
        return {row["id"]: row for row in self.ctl("models")["models"]}

    def sessions(self) -> dict:
        return self.ctl("sessions")

    def reload(self) -> None:
        """Reload through the control tool, which waits for the outcome."""
        done = self.ctl_run("reload")
        assert done.returncode == 0, done

    def _wait_handed_over(self) -> None:
        """Until no worker of an older generation accepts connections: it is
        told to stop when the reload commits, and hears it a little later."""
        status = self.status()
        for row in status["workers"]:
            if row["generation"] < status["generation"]:
                wait_for(lambda pid=row["pid"]: not accepting(pid), 5,
                         "an old worker to stop accepting")

    def hup(self, outcome: str = "ok") -> None:
        """Reload by signal, and wait until it is counted."""
        before = self.status()["reloads"][outcome]
        self.kill(signal.SIGHUP)
        wait_for(lambda: self.status()["reloads"][outcome] > before, 15,
                 f"a reload to be {outcome}")
        self._wait_handed_over()

    # log

    def log_text(self) -> str:
        try:
            return self.log_file.read_text(encoding="utf-8",
                                           errors="replace")
        except FileNotFoundError:
            return ""

    def log_has(self, pattern: str, seconds: float = 5.0) -> str:
        """Wait for a line that matches, and return it."""
        def found() -> str:
            for line in self.log_text().splitlines():
                if re.search(pattern, line):
                    return line
            return ""

        return wait_for(found, seconds, f"log line {pattern!r}")

    def log_count(self, pattern: str) -> int:
        return sum(1 for line in self.log_text().splitlines()
                   if re.search(pattern, line))

    # clients

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str | None = CLIENT_KEY,
               timeout: float = 30.0) -> Client:
        return Client(self.port, key, timeout)

    def post(self, path: str, body: Any, headers=None,
             key: str | None = CLIENT_KEY,
             auth: str = "authorization") -> Answer:
        with self.client(key) as client:
            return client.post(path, body, headers, auth)

    def get(self, path: str, headers=None, key: str | None = CLIENT_KEY,
            auth: str = "authorization") -> Answer:
        with self.client(key) as client:
            return client.get(path, headers, auth)

    def ask(self, dialect: Dialect, *turns: str, headers=None,
            key: str | None = CLIENT_KEY, **more: Any) -> Answer:
        """One whole answer in a dialect."""
        model = more.get("model", "")
        return self.post(dialect.path(model=model),
                         dialect.body(*turns, **more), headers, key,
                         dialect.auth)

    def stream(self, dialect: Dialect, *turns: str, headers=None,
               **more: Any) -> tuple[int, list[str]]:
        """A streamed answer to its end: status and frames."""
        with self.client() as client:
            response = client.open(
                "POST", dialect.path(True, more.get("model", "")),
                dialect.body(*turns, stream=True, **more), headers,
                dialect.auth)
            return response.status, list(read_events(response))

    # the end

    def complaints(self) -> list[str]:
        """What is wrong with everything this daemon ever said."""
        out = []
        texts = {"log": self.log_text()}
        for path in self.dir.glob("*.log*"):
            texts[path.name] = path.read_text("utf-8", "replace")
        for path in self.dir.glob("sanitizer.*"):
            texts[path.name] = path.read_text("utf-8", "replace")
            out.append(f"sanitizer report {path.name}")
        for number, text in enumerate(self.outputs):
            texts[f"output {number}"] = text
        for name, text in texts.items():
            for line in text.splitlines():
                if CANARY in line:
                    out.append(f"secret in {name}: {line}")
                elif BAD_LOG.search(line):
                    out.append(f"{name}: {line}")
        return out

    def end(self) -> None:
        """Stop, show the log, and hold everything said against the rules."""
        error: BaseException | None = None
        try:
            self.stop()
        except BaseException as failed:  # reported below, after the log
            error = failed
            with contextlib.suppress(OSError):
                self.kill9()
        print(f"---- {self.log_file}\n{self.log_text()}---- end of log")
        found = self.complaints()
        if error:
            raise error
        assert not found, "\n".join(found)


def process_alive(pid: int) -> bool:
    """Alive and not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def accepting(pid: int) -> bool:
    """Does a worker's event loop look at a listening socket?  These stand
    from descriptor 5 on, and their number is its third argument."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        listening = {str(5 + n) for n in range(int(words[3]))}
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            for line in path.read_text(encoding="ascii").splitlines():
                if line.startswith("tfd:") and line.split()[1] in listening:
                    return True
    except (OSError, IndexError):
        pass  # it has ended, or only root may look
    return False


def private_rss_kb(pid: int) -> int:
    """Anonymous memory; /proc/PID/status may be read by everybody."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("RssAnon:")[2].split()[0])


def open_descriptors(pid: int) -> int:
    """How many; the daemon is not dumpable, so only root may look."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        pytest.skip("only root may look into the daemon")


# -- fixtures ---------------------------------------------------------------

DEADLINE = float(os.environ.get("FAIRLEAD_TEST_DEADLINE", "inf"))


def pytest_runtest_setup() -> None:
    """A hook for conftest.py: when the time is over, the rest is skipped."""
    if time.time() > DEADLINE:
        pytest.skip("out of time")


@pytest.fixture(autouse=True)
def watchdog(request) -> Iterator[None]:
    """No test may hang the suite."""
    mark = request.node.get_closest_marker("limit")
    seconds = (mark.args[0] * SLOW) if mark else TEST_LIMIT

    def ring(*_: Any) -> None:
        raise TimeoutError(f"test exceeded {seconds} s")

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="session")
def stub_server(tmp_path_factory) -> Iterator[Stub]:
    accounts = [f"{name}={key}" for name, key in ACCOUNTS.items()]
    accounts += [f"file{n}={CANARY}file{n}" for n in range(1, 5)]
    stub = Stub(accounts, tls_dir=str(tmp_path_factory.mktemp("tls")),
                resolve={"provider.test": "127.0.0.1"}).start()
    yield stub
    stub.stop()


@pytest.fixture
def stub(stub_server: Stub) -> Iterator[Stub]:
    stub_server.reset()
    yield stub_server
    stub_server.faults = []


@pytest.fixture
def make_daemon(tmp_path: Path, stub: Stub, request
                ) -> Iterator[Callable[..., Daemon]]:
    """A factory: make_daemon(config, start=True)."""
    made: list[Daemon] = []

    def make(config: dict | None = None, start: bool = True) -> Daemon:
        directory = tmp_path / f"fl{len(made)}"
        directory.mkdir()
        daemon = Daemon(directory, config if config is not None
                        else pool(stub))
        made.append(daemon)
        return daemon.start() if start else daemon

    yield make
    for daemon in made:
        daemon.end()


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon with two accounts of every provider, affinity off."""
    return make_daemon()


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory, stub_server: Stub) -> Iterator[Daemon]:
    """One daemon for the tests of a module that change nothing in it."""
    one = Daemon(tmp_path_factory.mktemp("fl"), pool(stub_server))
    one.start()
    yield one
    one.end()


def fresh(stub: Stub) -> Callable[[], list[dict]]:
    """What the stub has seen since now."""
    start = stub.log[-1]["n"] if stub.log else 0
    return lambda: [entry for entry in stub.log if entry["n"] > start]


def accounts_used(stub: Stub) -> list[str]:
    return [entry["account"] for entry in stub.log]
