# SPDX-License-Identifier: MIT
"""A small HTTP/1.1 connection for the stub provider.

Reads one request at a time into memory, writes with back-pressure, and notes
the instant the peer leaves, also while a request is being answered.  It knows
nothing of providers or faults.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import traceback
from dataclasses import dataclass, field
from collections.abc import Awaitable, Callable

MAX_HEAD = 1 << 20
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized",
           403: "Forbidden", 404: "Not Found", 408: "Request Timeout",
           429: "Too Many Requests", 500: "Internal Server Error",
           502: "Bad Gateway", 503: "Service Unavailable", 529: "Overloaded"}


class PeerGone(Exception):
    """The peer closed its end while it was being answered."""


class BadRequest(Exception):
    """The peer does not speak HTTP/1.1."""


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    head_at: float = 0.0
    body_at: float = 0.0
    scratch: dict = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return default


class Connection(asyncio.Protocol):
    """One accepted connection, served by `handler` request after request."""

    counter = 0

    def __init__(self, handler: Callable[[Connection, Request],
                                         Awaitable[None]]):
        Connection.counter += 1
        self.number = Connection.counter
        self.served = 0
        self.keep = True
        self.gone_at: float | None = None
        self._handler = handler
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]

    # -- asyncio.Protocol ---------------------------------------------------

    def connection_made(self, transport) -> None:
        self.transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET,
                                                socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task = asyncio.ensure_future(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> bool:
        self._mark_gone()
        return False

    def connection_lost(self, exc) -> None:
        self._mark_gone()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _mark_gone(self) -> None:
        if self.gone_at is None:
            self.gone_at = time.time()
        self._gone.set()
        self._arrived.set()
        self._writable.set()

    # -- reading ------------------------------------------------------------

    async def _more(self) -> None:
        if self._gone.is_set():
            raise PeerGone
        self._arrived.clear()
        await self._arrived.wait()
        if self._gone.is_set() and not self._buffer:
            raise PeerGone

    async def _until(self, mark: bytes, limit: int) -> bytes:
        while True:
            end = self._buffer.find(mark)
            if end >= 0:
                end += len(mark)
                out = bytes(self._buffer[:end])
                del self._buffer[:end]
                return out
            if len(self._buffer) > limit:
                raise BadRequest("head too large")
            await self._more()

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        out = bytes(self._buffer[:size])
        del self._buffer[:size]
        return out

    async def _chunked(self) -> bytes:
        body = bytearray()
        while True:
            size = int((await self._until(b"\r\n", 4096)).split(b";")[0], 16)
            if size == 0:
                while await self._until(b"\r\n", 4096) != b"\r\n":
                    pass
                return bytes(body)
            body += await self._exactly(size)
            if await self._exactly(2) != b"\r\n":
                raise BadRequest("chunk without CRLF")

    async def read_head(self) -> Request:
        raw = await self._until(b"\r\n\r\n", MAX_HEAD)
        lines = raw.decode("latin-1").split("\r\n")
        try:
            method, target, version = lines[0].split(" ")
        except ValueError:
            raise BadRequest(lines[0]) from None
        if not version.startswith("HTTP/1."):
            raise BadRequest(version)
        headers = []
        for line in lines[1:-2]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise BadRequest(line)
            headers.append((name, value.strip()))
        path, _, query = target.partition("?")
        return Request(method, path, query, headers, head_at=time.time())

    async def read_body(self, request: Request) -> None:
        if request.get("expect").lower() == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.get("transfer-encoding").lower() == "chunked":
            request.body = await self._chunked()
        else:
            request.body = await self._exactly(
                int(request.get("content-length", "0")))
        request.body_at = time.time()

    def take_buffered(self) -> bytes:
        out = bytes(self._buffer)
        self._buffer.clear()
        return out

    async def read_some(self) -> bytes:
        """Whatever has arrived; b"" at the end.  For tunnels."""
        if not self._buffer:
            try:
                await self._more()
            except PeerGone:
                return b""
        return self.take_buffered()

    async def read_exactly(self, size: int) -> bytes:
        return await self._exactly(size)

    # -- writing ------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        if self._gone.is_set():
            raise PeerGone
        self.transport.write(data)
        await self._writable.wait()
        if self._gone.is_set():
            raise PeerGone

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake with PeerGone the moment the peer leaves."""
        try:
            await asyncio.wait_for(self._gone.wait(), seconds)
        except TimeoutError:
            return
        raise PeerGone

    async def send_head(self, status: int, headers: list[tuple[str, str]],
                        slow_ms: float = 0) -> None:
        reason = REASONS.get(status, "Status")
        head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
        data = head.encode("latin-1")
        if not slow_ms:
            await self.send(data)
            return
        for start in range(0, len(data), 16):
            await self.send(data[start:start + 16])
            await self.sleep(slow_ms / 1000)

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def reset(self) -> None:
        """Close with RST, as a crashed peer or a middlebox does."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                struct.pack("ii", 1, 0))
            except OSError:
                pass
        self.transport.abort()

    def close(self) -> None:
        self.keep = False
        if not self.transport.is_closing():
            self.transport.close()

    # -- the loop -----------------------------------------------------------

    async def _serve(self) -> None:
        try:
            while self.keep:
                request = await self.read_head()
                if request.get("connection").lower() == "close":
                    self.keep = False
                await self._handler(self, request)
                self.served += 1
        except PeerGone:
            pass
        except (BadRequest, ValueError) as error:
            text = f"stub: bad request: {error!r}\n".encode()
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(text), text))
        except OSError:
            pass
        except Exception:  # a bug of the stub: say so, and break off
            traceback.print_exc()
        finally:
            if not self.transport.is_closing():
                self.transport.close()
