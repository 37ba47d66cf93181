# SPDX-License-Identifier: MIT
"""Small proxies for the proxy tests: HTTP (CONNECT and absolute form) and
SOCKS5 with optional user and password.

Both note every use in a list of the stub.  They relay and judge nothing.
"""

from __future__ import annotations

import asyncio
import base64
import time

from http1 import Connection, PeerGone, Request


async def _pump(reader: asyncio.StreamReader, client: Connection) -> None:
    while data := await reader.read(65536):
        await client.send(data)


async def _tunnel(client: Connection, reader: asyncio.StreamReader,
                  writer: asyncio.StreamWriter) -> None:
    down = asyncio.ensure_future(_pump(reader, client))

    async def up() -> None:
        while data := await client.read_some():
            writer.write(data)
            await writer.drain()

    rising = asyncio.ensure_future(up())
    try:
        await asyncio.wait({down, rising},
                           return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (down, rising):
            task.cancel()
        await asyncio.gather(down, rising, return_exceptions=True)
        writer.close()
        client.close()


class Proxy:
    """What both kinds share: the account they ask for and the log."""

    def __init__(self, uses: list[dict], user: str | None = None,
                 resolve: dict[str, str] | None = None):
        self.uses = uses
        self.user = user
        self.resolve = resolve or {}
        self.refuse = False

    def note(self, kind: str, host: str, port: int, **more) -> None:
        self.uses.append({"time": time.time(), "kind": kind, "host": host,
                          "port": port, **more})

    async def dial(self, host: str, port: int):
        return await asyncio.open_connection(self.resolve.get(host, host),
                                             port)


class HttpProxy(Proxy):
    async def handle(self, client: Connection, request: Request) -> None:
        given = request.get("proxy-authorization")
        if self.user is not None:
            wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
            if given != wanted:
                await self._say(client, 407, [(
                    "proxy-authenticate", 'Basic realm="stub"')])
                return
        if self.refuse:
            await self._say(client, 502, [])
            return
        if request.method == "CONNECT":
            await self._connect(client, request)
        else:
            await self._forward(client, request)

    async def _say(self, client: Connection, status: int,
                   headers: list[tuple[str, str]]) -> None:
        client.keep = False
        await client.send_head(status, headers + [
            ("content-length", "0"), ("connection", "close")])

    async def _connect(self, client: Connection, request: Request) -> None:
        host, _, port = request.path.rpartition(":")
        self.note("connect", host.strip("[]"), int(port),
                  user=request.get("proxy-authorization"))
        reader, writer = await self.dial(host.strip("[]"), int(port))
        await client.send_head(200, [])
        await _tunnel(client, reader, writer)

    async def _forward(self, client: Connection, request: Request) -> None:
        """Forward one request over its own connection, then close both."""
        rest = request.path.partition("://")[2]
        authority, slash, path = rest.partition("/")
        host, colon, port = authority.rpartition(":")
        if not colon:
            host, port = authority, "80"
        self.note("forward", host.strip("[]"), int(port),
                  user=request.get("proxy-authorization"))
        await client.read_body(request)
        reader, writer = await self.dial(host.strip("[]"), int(port))
        query = "?" + request.query if request.query else ""
        lines = [f"{request.method} {slash}{path}{query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers
                  if not name.lower().startswith("proxy-")
                  and name.lower() != "connection"]
        lines += ["connection: close", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + request.body)
        await writer.drain()
        await _tunnel(client, reader, writer)


class Socks5Proxy(Proxy):
    async def serve(self, client: Connection) -> None:
        try:
            await self._negotiate(client)
        except (PeerGone, OSError):
            client.close()

    async def _authenticate(self, client: Connection, methods: bytes) -> bool:
        wanted = 0 if self.user is None else 2
        if wanted not in methods:
            await client.send(b"\x05\xff")
            return False
        await client.send(bytes((5, wanted)))
        if self.user is None:
            return True
        await client.read_exactly(1)
        name = await client.read_exactly((await client.read_exactly(1))[0])
        word = await client.read_exactly((await client.read_exactly(1))[0])
        good = (name + b":" + word).decode() == self.user
        await client.send(b"\x01\x00" if good else b"\x01\x01")
        return good

    async def _target(self, client: Connection) -> tuple[str, str]:
        kind = (await client.read_exactly(1))[0]
        if kind == 1:
            raw = await client.read_exactly(4)
            return "ip", ".".join(str(byte) for byte in raw)
        if kind == 4:
            raw = await client.read_exactly(16)
            return "ip", ":".join(raw[i:i + 2].hex() for i in range(0, 16, 2))
        size = (await client.read_exactly(1))[0]
        return "name", (await client.read_exactly(size)).decode()

    async def _negotiate(self, client: Connection) -> None:
        version, count = await client.read_exactly(2)
        methods = await client.read_exactly(count)
        if version != 5 or not await self._authenticate(client, methods):
            client.close()
            return
        await client.read_exactly(3)
        form, host = await self._target(client)
        port = int.from_bytes(await client.read_exactly(2), "big")
        self.note("socks5", host, port, form=form, user=self.user)
        if self.refuse:
            await client.send(b"\x05\x05\x00\x01\0\0\0\0\0\0")
            client.close()
            return
        reader, writer = await self.dial(host, port)
        await client.send(b"\x05\x00\x00\x01\0\0\0\0\0\0")
        await _tunnel(client, reader, writer)


class SocksConnection(Connection):
    """A Connection whose first bytes are SOCKS, not HTTP."""

    def __init__(self, proxy: Socks5Proxy):
        super().__init__(None)  # type: ignore[arg-type]
        self._proxy = proxy

    async def _serve(self) -> None:
        await self._proxy.serve(self)
