# SPDX-License-Identifier: MIT
"""Streams: held, opened and spliced; keep-alives, breaks, time limits,
clients that stall and clients that leave."""

import contextlib
import http.client
import json
import select
import socket
import threading
import time

import pytest

from harness import (CLAUDE, GEMINI, OPENAI, RESPONSES, SANITIZED, SLOW,
                     as_json, each_dialect, frame_data, header, merged, pool,
                     private_rss_kb, read_events, wait_for)

QUICK = {"keepalive-interval": "200ms"}


@contextlib.contextmanager
def opened(daemon, dialect, *turns, stream=True, headers=None, **more):
    """A request under way: its connection and response."""
    with daemon.client() as client:
        response = client.open(
            "POST", dialect.path(stream),
            dialect.body(*turns, stream=stream, **more), headers,
            dialect.auth)
        yield client, response


def send_stream(daemon, dialect, text="hi") -> socket.socket:
    """Send a streaming request and return the socket, nothing read."""
    client = daemon.client()
    body = json.dumps(dialect.body(text, stream=True)).encode()
    sock = socket.create_connection(("127.0.0.1", daemon.port),
                                    timeout=20 * SLOW)
    sock.sendall(f"POST {dialect.path(True)} HTTP/1.1\r\nHost: x\r\n"
                 f"Authorization: Bearer {client.key}\r\n"
                 "Content-Type: application/json\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


# -- held -------------------------------------------------------------------

@each_dialect
def test_nothing_is_sent_before_content(daemon, stub, dialect):
    """The provider's head and preamble alone open nothing."""
    stub.fault("stall_mid", after=0, secs=1)
    with send_stream(daemon, dialect) as sock:
        wait_for(lambda: stub.log and stub.log[-1]["status"] == 200, 5)
        early, _, _ = select.select([sock], [], [], 0.4)
        assert not early
        reply = sock.recv(65536)
        assert reply.startswith(b"HTTP/1.1 200 ")


def test_large_preamble_is_held_only_to_a_bound(daemon, stub):
    """64 KB of frames without content: sent rather than kept."""
    stub.fault("ping_slow", after=0, secs=3, every=0.0005)
    start = time.monotonic()
    with send_stream(daemon, CLAUDE) as sock:
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - start < 20 * SLOW


# -- keep-alives ------------------------------------------------------------

SAFE_PING = {
    "claude": lambda raw: b"event: ping\n" in raw or b"\n:" in raw,
    "openai": lambda raw: b"\n:" in raw,
    "responses": lambda raw: b"\n:" in raw,
    # No comment and no event line: older SDKs lose the stream over them.
    "gemini": lambda raw: b"\n:" not in raw and b"event:" not in raw,
}


@each_dialect
@pytest.mark.parametrize("fault", (
    ("silent", {"secs": 1.2}), ("head_silent", {"secs": 1.2}),
    ("stall_mid", {"after": 0, "secs": 1.2}),
    ("stall_mid", {"after": 2, "secs": 1.2})),
    ids=("before-head", "after-head", "after-preamble", "mid-stream"))
def test_silence_is_filled_with_pings(make_daemon, stub, dialect, fault):
    daemon = make_daemon(merged(pool(stub), QUICK))
    stub.fault(fault[0], **fault[1])
    with opened(daemon, dialect, "hi") as (client, response):
        assert response.status == 200
        kind = response.getheader("content-type")
        assert kind.startswith("text/event-stream")
        lines = []
        times = []
        while line := response.readline():
            lines.append(line)
            times.append(time.monotonic())
    raw = b"\n" + b"".join(lines)
    assert SAFE_PING[dialect.name](raw), raw
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert max(gaps) < 0.8 * SLOW, gaps
    frames = [frame for frame in raw.decode().replace("\r\n", "\n")
              .strip("\n").split("\n\n") if frame.strip()]
    assert dialect.complete(frames), frames
    assert "Hello from account" in dialect.stream_text(frames)
    assert len(stub.log) == 1


def test_gemini_ping_is_blank_lines_or_empty_data(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "gemini"), QUICK))
    stub.fault("silent", secs=1)
    with opened(daemon, GEMINI, "hi") as (_, response):
        raw = response.read()
    before = raw[:raw.index(b"candidates")]
    rest = before.replace(b"data: {}", b"").replace(b"data: {\"", b"")
    assert rest.strip(b"\r\n") == b"", before


def test_no_pings_while_data_flows(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub), QUICK))
    stub.fault("pace", count=12, ms=80)
    with opened(daemon, OPENAI, "hi") as (_, response):
        raw = response.read()
    assert b"\n:" not in b"\n" + raw


def test_no_pings_when_switched_off(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub), {"keepalive-interval": "0s"}))
    stub.fault("silent", secs=1)
    with send_stream(daemon, OPENAI) as sock:
        early, _, _ = select.select([sock], [], [], 0.7)
        assert not early
        assert sock.recv(65536)


def test_whole_answers_get_no_pings(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub), QUICK))
    stub.fault("silent", secs=0.8)
    answer = daemon.ask(OPENAI, "hi")
    assert answer.status == 200
    assert answer.body.startswith(b"{")


def test_pings_of_the_provider_pass(daemon, stub):
    stub.fault("ping_slow", after=2, secs=0.5, every=0.1)
    _, frames = daemon.stream(CLAUDE, "hi")
    assert sum(frame.startswith("event: ping") for frame in frames) >= 3
    assert CLAUDE.complete(frames)


def test_pings_come_only_between_frames(make_daemon, stub):
    """A provider that stops in the middle of a frame is waited for."""
    daemon = make_daemon(merged(pool(stub, "openai"), QUICK))
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    daemon.with_config(**pool(stub, "openai",
                              url=f"http://127.0.0.1:{port}")).reload()

    def provide() -> None:
        conn, _ = server.accept()
        while b"\r\n\r\n" not in conn.recv(65536):
            pass
        frame = (b'data: {"choices":[{"index":0,"delta":'
                 b'{"content":"half"}}]}\n\n')
        conn.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
                     b"content-type: text/event-stream\r\n\r\n" + frame)
        conn.sendall(frame[:20])
        time.sleep(0.8)
        conn.sendall(frame[20:] + b"data: [DONE]\n\n")
        conn.close()

    thread = threading.Thread(target=provide)
    thread.start()
    with opened(daemon, OPENAI, "hi") as (_, response):
        raw = response.read()
    thread.join()
    server.close()
    assert raw.count(b'{"content":"half"}}]}\n\n') == 2, raw


# -- opened: failover behind pings ------------------------------------------

@each_dialect
def test_failover_is_still_possible_behind_pings(make_daemon, stub, dialect):
    daemon = make_daemon(merged(pool(stub), QUICK))
    stub.fault("status", code=500, secs=0.8)
    with opened(daemon, dialect, "hi") as (_, response):
        frames = list(read_events(response))
    assert response.status == 200
    assert dialect.complete(frames), frames
    assert len(stub.log) == 2


@each_dialect
def test_final_failure_behind_pings_is_the_dialects_error(make_daemon, stub,
                                                          dialect):
    """The head is out, so the error must come inside the stream."""
    daemon = make_daemon(merged(pool(stub, dialect.provider, count=1), {
        **QUICK, "limits": {"first-byte-timeout": "900ms"}}))
    stub.fault("silent", secs=30, times=-1)
    with opened(daemon, dialect, "hi") as (_, response):
        frames = list(read_events(response))
    assert response.status == 200
    assert dialect.error_frame(frames[-1]), frames
    assert not dialect.complete(frames)
    assert "server_is_overloaded" not in frames[-1]


# -- breaks -----------------------------------------------------------------

@each_dialect
@pytest.mark.parametrize("fault", (
    ("drop_mid", {}), ("drop_mid", {"rst": True}), ("trunc", {})),
    ids=("closed", "reset", "clean-end-without-terminal"))
def test_break_mid_stream_ends_in_the_dialects_error(daemon, stub, dialect,
                                                     fault):
    """Never a clean end, which SDKs take for a complete answer."""
    stub.fault(fault[0], after=2, **fault[1])
    status, frames = daemon.stream(dialect, "hi")
    assert status == 200
    assert dialect.error_frame(frames[-1]), frames
    assert not dialect.complete(frames)
    assert "Hello from " in dialect.stream_text(frames[:-1])
    assert "server_is_overloaded" not in frames[-1]
    assert len(stub.log) == 1


@pytest.mark.parametrize("agent", (
    {"originator": "codex_cli_rs"},
    {"User-Agent": "codex_exec/0.169.0 (Debian)"}, {}))
def test_codex_gets_response_failed(daemon, stub, agent):
    """Codex does not look at `error` events."""
    stub.fault("drop_mid", after=2)
    _, frames = daemon.stream(RESPONSES, "hi", headers=agent)
    data = frame_data(frames[-1])
    if agent:
        assert data["type"] == "response.failed"
        assert data["response"]["error"]["code"]
    numbers = [frame_data(frame).get("sequence_number") for frame in frames]
    assert numbers[-1] == numbers[-2] + 1


@pytest.mark.parametrize("kind", ("status", "overloaded"))
def test_codex_is_never_told_what_it_does_not_retry(daemon, stub, kind):
    """Codex takes this code for final, in an event and in a body alike."""
    fatal = {"error": {"code": "server_is_overloaded", "message": "busy"}}
    stub.fault(kind, times=-1, code=503, body=fatal, after=0)
    with daemon.client() as client:
        answer = client.post(RESPONSES.path(True),
                             RESPONSES.body("hi", stream=True),
                             {"originator": "codex_cli_rs"})
    RESPONSES.check_error(answer, 503, "server_error")
    assert len(stub.log) == 2


def test_provider_error_frame_passes_unchanged(daemon, stub):
    stub.fault("sse_error_mid", after=1, message="out of luck")
    _, frames = daemon.stream(CLAUDE, "hi")
    assert frame_data(frames[-1])["error"]["message"] == "out of luck"


def test_whole_answer_broken_after_it_was_sent_is_not_taken_for_whole(
        daemon, stub):
    """Beyond 64 KB a whole answer is under way; it can only break off."""
    stub.fault("raw", text="HTTP/1.1 200 OK\r\ncontent-type: "
               "application/json\r\ncontent-length: 900000\r\n\r\n{\"a\":\""
               + "x" * 300000)
    with pytest.raises((http.client.IncompleteRead, OSError)):
        answer = daemon.ask(OPENAI, "hi")
        assert len(answer.body) == 900000
    assert len(stub.log) == 1


# -- time limits ------------------------------------------------------------

@each_dialect
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_first_byte_timeout(make_daemon, stub, dialect, stream):
    daemon = make_daemon(merged(pool(stub, dialect.provider, count=1), {
        "limits": {"first-byte-timeout": "400ms"}}))
    stub.fault("silent", secs=30, times=-1)
    start = time.monotonic()
    with opened(daemon, dialect, "hi", stream=stream) as (_, response):
        data = response.read()
    assert time.monotonic() - start < 15 * SLOW
    assert response.status == 504
    assert json.loads(data)["error"]["message"]
    wait_for(lambda: all(entry["client_gone"] for entry in stub.log), 3)


def test_first_byte_timeout_fails_over(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude"), {
        "limits": {"first-byte-timeout": "400ms"}}))
    stub.fault("silent", secs=30, account="claude1", times=-1)
    for _ in range(2):
        assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.log[-1]["account"] == "claude2"


@each_dialect
def test_stream_idle_timeout(make_daemon, stub, dialect):
    daemon = make_daemon(merged(pool(stub, dialect.provider), {
        "limits": {"stream-idle-timeout": "500ms"}}))
    stub.fault("stall_mid", after=2, secs=30)
    start = time.monotonic()
    _, frames = daemon.stream(dialect, "hi")
    assert time.monotonic() - start < 10 * SLOW
    assert dialect.error_frame(frames[-1]), frames
    wait_for(lambda: stub.log[-1]["client_gone"], 3)


def test_slow_but_steady_stream_outlives_the_limits(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "openai"), {"limits": {
        "stream-idle-timeout": "600ms", "first-byte-timeout": "600ms"}}))
    stub.fault("pace", count=15, ms=200)
    _, frames = daemon.stream(OPENAI, "hi")
    assert OPENAI.complete(frames), frames


def test_upstream_connect_timeout(make_daemon, stub):
    """A listener whose queue is full answers nothing at all."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    held = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(full.getsockname())
        held.append(sock)
    daemon = make_daemon(merged(pool(
        stub, "claude", count=1,
        url=f"http://127.0.0.1:{full.getsockname()[1]}"), {
            "max-attempts": 1,
            "limits": {"upstream-connect-timeout": "500ms"}}))
    start = time.monotonic()
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status in (502, 503, 504), answer
    assert time.monotonic() - start < 8 * SLOW
    for sock in held + [full]:
        sock.close()


# -- clients that leave -----------------------------------------------------

@each_dialect
@pytest.mark.parametrize("moment", (
    ("silent", {"secs": 20}), ("head_silent", {"secs": 20}),
    ("stall_mid", {"after": 0, "secs": 20}),
    ("stall_mid", {"after": 2, "secs": 20}), ("pace", {
        "count": 400, "ms": 50})),
    ids=("before-head", "after-head", "after-preamble", "mid-stream",
         "in-flow"))
def test_client_gone_cancels_the_upstream(daemon, stub, dialect, moment):
    stub.fault(moment[0], **moment[1])
    sock = send_stream(daemon, dialect)
    wait_for(lambda: stub.log and "body" in stub.log[-1], 5)
    if moment[0] in ("pace",) or moment[1].get("after"):
        wait_for(lambda: stub.log[-1]["events"] >= 2, 5)
        sock.recv(100)
    left = time.time()
    sock.close()
    gone = wait_for(lambda: stub.log[-1]["client_gone"], 5,
                    "the upstream to be cancelled")
    assert gone - left < 0.3 * SLOW
    assert len(stub.log) == 1
    name = dialect.provider
    states = {row["state"] for ident, row in daemon.credentials().items()
              if ident.startswith("openai-compat" if name == "openai"
                                  else name)}
    assert states == {"ready"}


def test_whole_request_cancelled_too(daemon, stub):
    stub.fault("silent", secs=20)
    client = daemon.client()
    body = json.dumps(OPENAI.body("hi")).encode()
    sock = socket.create_connection(("127.0.0.1", daemon.port))
    sock.sendall(f"POST {OPENAI.path()} HTTP/1.1\r\nHost: x\r\n"
                 f"Authorization: Bearer {client.key}\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    wait_for(lambda: stub.log and "body" in stub.log[-1], 5)
    left = time.time()
    sock.close()
    assert wait_for(lambda: stub.log[-1]["client_gone"],
                    5) - left < 0.3 * SLOW


def test_fifty_clients_that_leave_leave_nothing_behind(daemon, stub):
    stub.fault("silent", secs=30, times=-1)
    socks = [send_stream(daemon, OPENAI, f"hi {n}") for n in range(50)]
    wait_for(lambda: len(stub.log) == 50, 10)
    wait_for(lambda: sum(row["requests"] for row in daemon.status()[
        "workers"]) >= 50, 5)
    for sock in socks:
        sock.close()
    wait_for(lambda: all(entry["client_gone"] for entry in stub.log), 3)
    wait_for(lambda: sum(row["connections"] for row in daemon.status()[
        "workers"]) == 0, 5)
    wait_for(lambda: all(row["in_flight"] == 0 for row in
                         daemon.credentials().values()), 5)


def test_hanging_up_after_the_terminal_event_is_success(daemon, stub):
    """Codex closes as soon as it has response.completed."""
    before = sum(row["failed"] for row in daemon.credentials().values())
    with opened(daemon, RESPONSES, "hi") as (client, response):
        for frame in read_events(response):
            if "response.completed" in frame:
                break
    wait_for(lambda: sum(row["succeeded"] for row in
                         daemon.credentials().values()) == 1, 5)
    assert sum(row["failed"] for row in
               daemon.credentials().values()) == before


# -- clients that stall -----------------------------------------------------

@pytest.mark.parametrize("stream", (True, False), ids=("stream", "whole"))
def test_stalled_readers_cost_no_memory(make_daemon, stub, stream):
    """Ten clients that read nothing: back-pressure, not buffers."""
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1})
    assert daemon.ask(OPENAI, "warm up").status == 200
    (pid,) = daemon.worker_pids()
    for _ in range(3):
        daemon.stream(OPENAI, "warm up")
    before = private_rss_kb(pid)
    # More than what the kernel's buffers on the way can take.
    stub.fault("huge", mb=40 if stream else 16, times=10)
    client = daemon.client()
    body = json.dumps(OPENAI.body("hi", stream=stream)).encode()
    socks = []
    for _ in range(10):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.connect(("127.0.0.1", daemon.port))
        sock.sendall(f"POST {OPENAI.path()} HTTP/1.1\r\nHost: x\r\n"
                     f"Authorization: Bearer {client.key}\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        socks.append(sock)
    wait_for(lambda: len(stub.log) >= 14, 10)

    def still() -> bool:
        """All ten have stopped: nothing moved for a while."""
        now = [entry["events"] for entry in stub.log]
        time.sleep(0.5)
        return now == [entry["events"] for entry in stub.log]

    wait_for(still, 20)
    grown = private_rss_kb(pid) - before
    # A sanitizer keeps what was freed.
    assert SANITIZED or grown < 10 * 1024, f"grew {grown} KB"
    assert not any(entry["done"] for entry in stub.log[-10:] if stream)
    total = 0
    socks[0].settimeout(20 * SLOW)
    while total < 16 << 20:
        data = socks[0].recv(1 << 20)
        assert data, "the rest of a stalled answer must still come"
        total += len(data)
    for sock in socks:
        sock.close()
    wait_for(lambda: all("end" in entry for entry in stub.log), 5)
    assert daemon.ask(OPENAI, "hi").status == 200


def test_a_stalled_reader_does_not_hold_up_others(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1})
    stub.fault("huge", mb=12)
    with send_stream(daemon, OPENAI):
        wait_for(lambda: stub.log and stub.log[-1]["events"] > 10, 5)
        start = time.monotonic()
        for _ in range(20):
            assert daemon.ask(OPENAI, "hi").status == 200
        assert time.monotonic() - start < 3 * SLOW


def test_silence_of_a_paused_upstream_is_not_its_fault(make_daemon, stub):
    """A reader that rests again and again keeps its answer."""
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "workers": 1, "limits": {
            "stream-idle-timeout": f"{int(1000 * SLOW)}ms"}}))
    stub.fault("huge", mb=40)
    with send_stream(daemon, OPENAI) as sock:
        taken = 0
        raw = b""
        while b"[DONE]" not in raw[-200:]:
            raw = raw[-200:] + sock.recv(1 << 20)
            taken += len(raw)
            assert raw, "cut off"
            if taken > 8 << 20:
                time.sleep(0.5 * SLOW)
                taken = 0
    assert b'"error"' not in raw


def test_a_reader_that_never_reads_is_cut_off(make_daemon, stub):
    """It must not hold a provider's stream for ever."""
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "workers": 1, "limits": {"stream-idle-timeout": "1s"}}))
    stub.fault("huge", mb=40)
    with send_stream(daemon, OPENAI):
        wait_for(lambda: stub.log and stub.log[-1]["client_gone"], 10)
    rows = daemon.credentials().values()
    assert {row["state"] for row in rows} == {"ready"}


# -- whole answers ----------------------------------------------------------

def test_large_whole_answer(daemon, stub):
    stub.fault("huge", mb=9)
    answer = daemon.ask(OPENAI, "hi")
    assert len(OPENAI.text(as_json(answer))) == 9 << 20
    assert header(answer, "content-length")


@each_dialect
def test_answer_delimited_by_close(daemon, stub, dialect):
    stub.fault("eof")
    answer = daemon.ask(dialect, "hi")
    assert answer.status == 200
    assert dialect.text(as_json(answer)).startswith("Hello")


def test_slow_head_of_the_provider(daemon, stub):
    stub.fault("slow_head", ms=10)
    assert daemon.ask(OPENAI, "hi").status == 200
    stub.fault("slow_head", ms=10)
    status, frames = daemon.stream(OPENAI, "hi")
    assert status == 200 and OPENAI.complete(frames)


def test_redirects_are_not_followed(daemon, stub):
    stub.fault("status", code=302, times=-1, headers={
        "location": f"{stub.url}/v1/elsewhere"})
    answer = daemon.ask(OPENAI, "hi")
    assert answer.status in (302, 502), answer
    assert all(entry["path"] == "/v1/chat/completions"
               for entry in stub.log)


def test_two_hundred_streams_at_once(daemon, stub):
    """They all flow at the same time, none waits for another."""
    stub.fault("pace", count=5, ms=300, times=-1)
    start = time.monotonic()
    socks = [send_stream(daemon, OPENAI, f"n {n}") for n in range(200)]
    wait_for(lambda: len(stub.log) == 200, 10)
    whole = 0
    for sock in socks:
        raw = b""
        while b"[DONE]" not in raw:
            data = sock.recv(65536)
            assert data, raw
            raw += data
        whole += 1
        sock.close()
    assert whole == 200
    assert time.monotonic() - start < 12 * SLOW
