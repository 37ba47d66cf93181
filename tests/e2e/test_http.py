# SPDX-License-Identifier: MIT
"""Strict HTTP/1.1: what could smuggle a second request is refused."""

import json
import socket
import time

import pytest

from harness import (CLIENT_KEY, OPENAI, SLOW, pool, raw_exchange,
                     read_until_quiet)

BODY = json.dumps(OPENAI.body("hi")).encode()
KEY = b"Authorization: Bearer " + CLIENT_KEY.encode() + b"\r\n"


def request(*headers: bytes, line: bytes = b"POST /v1/chat/completions "
            b"HTTP/1.1", body: bytes = BODY, length: bool = True,
            host: bool = True) -> bytes:
    rows = [b"Host: x"] if host else []
    if length:
        rows.append(b"Content-Length: %d" % len(body))
    rows += headers
    return line + b"\r\n" + KEY + b"\r\n".join(rows) + b"\r\n\r\n" + body


SMUGGLE = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED = {
    "length-and-chunked": request(b"Transfer-Encoding: chunked"),
    "chunked-twice": request(b"Transfer-Encoding: chunked",
                             b"Transfer-Encoding: chunked", length=False,
                             body=b"0\r\n\r\n"),
    "chunked-and-more": request(b"Transfer-Encoding: chunked, identity",
                                length=False, body=b"0\r\n\r\n"),
    "xchunked": request(b"Transfer-Encoding: xchunked", length=False),
    "chunked-obs": request(b"Transfer-Encoding:\x0bchunked", length=False,
                           body=b"0\r\n\r\n"),
    "two-lengths": request(b"Content-Length: 5"),
    "length-list": request(b"Content-Length: 3, 3", length=False),
    "plus-length": request(b"Content-Length: +27", length=False),
    "hex-length": request(b"Content-Length: 0x10", length=False),
    "minus-length": request(b"Content-Length: -1", length=False),
    "empty-length": request(b"Content-Length: ", length=False),
    "huge-length": request(b"Content-Length: 99999999999999999999",
                           length=False),
    "space-before-colon": request(b"X-A : b"),
    "empty-name": request(b": b"),
    "no-colon": request(b"X-A"),
    "folded": request(b"X-A: b", b" c"),
    "nul-in-value": request(b"X-A: a\x00b"),
    "cr-in-value": request(b"X-A: a\rb"),
    "bad-name": request(b"X(A): b"),
    "no-host": request(host=False),
    "two-hosts": request(b"Host: y"),
    "bare-lf": request().replace(b"\r\n", b"\n", 3),
    "two-spaces": request(line=b"POST  /v1/chat/completions HTTP/1.1"),
    "no-version": request(line=b"POST /v1/chat/completions"),
    "http-2": request(line=b"POST /v1/chat/completions HTTP/2.0"),
    "bad-method": request(line=b"PO(ST /v1/chat/completions HTTP/1.1"),
    "control-in-target": request(line=b"POST /v1/\x01x HTTP/1.1"),
    "chunk-extension": request(b"Transfer-Encoding: chunked", length=False,
                               body=b"1;a=b\r\nx\r\n0\r\n\r\n"),
    "negative-chunk": request(b"Transfer-Encoding: chunked", length=False,
                              body=b"-1\r\n"),
    "chunk-overflow": request(b"Transfer-Encoding: chunked", length=False,
                              body=b"fffffffffffffffff\r\nx"),
    "chunk-without-crlf": request(b"Transfer-Encoding: chunked",
                                  length=False, body=b"1\r\nab\r\n0\r\n\r\n"),
    "chunk-lf": request(b"Transfer-Encoding: chunked", length=False,
                        body=b"1\na\n0\n\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ambiguous_requests_are_refused_and_closed(shared_daemon, stub, name):
    """One answer, an error, and the bytes behind it never a request."""
    with socket.create_connection(("127.0.0.1", shared_daemon.port),
                                  timeout=10) as sock:
        sock.sendall(REFUSED[name] + SMUGGLE)
        reply = b""
        try:
            while data := sock.recv(65536):
                reply += data
        except ConnectionResetError:
            pass
    assert reply.startswith(b"HTTP/1.1 "), reply
    status = int(reply.split()[1])
    assert status in (400, 404, 413, 431, 501, 505), reply[:200]
    assert reply.count(b"HTTP/1.1 ") == 1, reply
    assert stub.log == []


def test_lines_split_anywhere(shared_daemon, stub):
    data = request(b"Connection: close")
    with socket.create_connection(("127.0.0.1", shared_daemon.port),
                                  timeout=20 * SLOW) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(data)):
            sock.sendall(data[index:index + 1])
        reply = read_until_quiet(sock, 10)
    assert reply.startswith(b"HTTP/1.1 200 "), reply


def test_http_1_0_gets_a_closed_connection(shared_daemon, stub):
    reply = raw_exchange(shared_daemon.port, request(
        line=b"POST /v1/chat/completions HTTP/1.0"))
    assert reply.split(b" ")[1] == b"200", reply
    assert b"chunked" not in reply.lower()


def test_absolute_form_target(shared_daemon, stub):
    """Allowed by RFC 9112; its host decides nothing."""
    reply = raw_exchange(shared_daemon.port, request(
        b"Connection: close",
        line=b"POST http://evil.test/v1/chat/completions HTTP/1.1"))
    assert reply.split(b" ")[1] in (b"200", b"400"), reply
    for entry in stub.log:
        assert "evil" not in repr(entry["headers"])


def test_head_beyond_its_limit_is_431(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"),
                          "limits": {"header": "8K"}})
    for data in (request(b"X-Big: " + b"x" * 9000),
                 request(*(b"X-%d: y" % n for n in range(3000))),
                 request(line=b"POST /" + b"x" * 9000 + b" HTTP/1.1"),
                 b"POST /" + b"x" * 20000):
        reply = raw_exchange(daemon.port, data)
        assert reply.split(b" ")[1] in (b"431", b"414", b"400"), reply[:99]
    reply = raw_exchange(daemon.port, request(b"X-Big: " + b"x" * 6000,
                                              b"Connection: close"))
    assert reply.startswith(b"HTTP/1.1 200 "), reply


def test_slow_head_times_out(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "limits": {
        "header-timeout": "500ms"}})
    with socket.create_connection(("127.0.0.1", daemon.port),
                                  timeout=10 * SLOW) as sock:
        sock.sendall(b"POST /v1/chat")
        start = time.monotonic()
        reply = sock.recv(4096)
        assert time.monotonic() - start < 4 * SLOW
    assert reply == b"" or reply.split(b" ")[1] == b"408", reply


def test_dribbled_head_is_not_prolonged(make_daemon, stub):
    """The time is for the whole head, not between two bytes."""
    daemon = make_daemon({**pool(stub, "openai"), "limits": {
        "header-timeout": "800ms"}})
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", daemon.port),
                                  timeout=10 * SLOW) as sock:
        sock.settimeout(0.1)
        ended = False
        for byte in (b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"x" * 200):
            try:
                sock.sendall(bytes((byte,)))
                if sock.recv(100) is not None:
                    ended = True
                    break
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                ended = True
                break
    assert ended
    assert time.monotonic() - start < 6 * SLOW


def test_slow_body_times_out(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "limits": {
        "body-timeout": "500ms"}})
    with socket.create_connection(("127.0.0.1", daemon.port),
                                  timeout=10 * SLOW) as sock:
        sock.sendall(request(body=BODY)[:-10])
        reply = read_until_quiet(sock, 5)
    assert reply == b"" or reply.split(b" ")[1] == b"408", reply
    assert stub.log == []


def test_idle_connection_is_closed_after_its_time(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "limits": {
        "idle-timeout": "500ms"}})
    with socket.create_connection(("127.0.0.1", daemon.port),
                                  timeout=10 * SLOW) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = sock.recv(65536)
        assert reply.startswith(b"HTTP/1.1 200 ")
        start = time.monotonic()
        assert sock.recv(100) == b""
        assert 0.3 < time.monotonic() - start < 5 * SLOW


def test_a_client_that_only_connects_costs_no_log_line(daemon, stub):
    for _ in range(20):
        socket.create_connection(("127.0.0.1", daemon.port)).close()
    assert daemon.ask(OPENAI, "hi").status == 200
    assert daemon.log_count(r"(?i)\b(error|warning)\b") == 0


def test_too_many_connections_are_shed(make_daemon, stub):
    daemon = make_daemon({**pool(stub, "openai"), "workers": 1,
                          "limits": {"connections": 8}})
    held = []
    try:
        for _ in range(8):
            sock = socket.create_connection(("127.0.0.1", daemon.port))
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.settimeout(5 * SLOW)
            try:
                if sock.recv(4096):
                    held.append(sock)
            except (TimeoutError, ConnectionResetError):
                break
        assert len(held) >= 7
        with socket.create_connection(("127.0.0.1", daemon.port)) as sock:
            sock.settimeout(2)
            try:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                reply = sock.recv(4096)
            except (TimeoutError, ConnectionResetError, BrokenPipeError):
                reply = b""
        assert b" 200 " not in reply.split(b"\r\n")[0] + b" "
    finally:
        for sock in held:
            sock.close()
    daemon.wait_ready()
