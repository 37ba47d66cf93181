# SPDX-License-Identifier: MIT
"""The token endpoint of the stub: logins, refresh tokens that are good once,
and everything that can go wrong while one is used.

A login has one refresh token at a time.  Using it makes the next one; using
an old one again is what providers take for theft: it is counted, and the
login is revoked with all of its tokens.

    login = stub.tokens.login("me")   # refresh_token, access_token
    stub.tokens.fault("me", "delay", secs=1)

Faults, each `times` times, for one login or (None) for all:

    delay    secs, then as usual        status   code, body, headers
    refuse   error: 400 with {"error": error}
    lose     the tokens are used up, and no answer comes; after=secs
    drop     nothing happens, and no answer comes
    same     an answer with the access token of before
    short    secs: what expires_in says
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from http1 import Connection, Request
    from stub import Stub

PATH = "/oauth/token"


@dataclass
class Login:
    name: str
    refresh_token: str = ""
    access_token: str = ""
    rotations: int = 0
    reused: int = 0
    revoked: bool = False
    used: set[str] = field(default_factory=set)


@dataclass
class TokenFault:
    name: str | None
    kind: str
    times: int
    opts: dict[str, Any]


class Tokens:
    """Every method but `answer` may be called from any thread."""

    def __init__(self, stub: Stub):
        self._stub = stub
        self.reset()

    def reset(self) -> None:
        self.logins: dict[str, Login] = {}
        self.log: list[dict] = []
        self.faults: list[TokenFault] = []
        self.expires_in: int | None = 3600
        self.keep_old = False   # an old access token stays good
        self.assertions: list[dict] = []
        self.running = 0
        self.most_running = 0

    @property
    def url(self) -> str:
        return self._stub.url + PATH

    def login(self, name: str) -> Login:
        """A new login; one of the same name is forgotten, not revoked."""
        login = Login(name)
        self.logins[name] = login
        self._rotate(login)
        login.rotations = 0
        return login

    def fault(self, name: str | None, kind: str, times: int = 1,
              **opts: Any) -> None:
        self.faults.append(TokenFault(name, kind, times, opts))

    def expire(self, name: str) -> None:
        """The access token is good no longer."""
        self._stub.keys.pop(self.logins[name].access_token, None)

    def requests(self, name: str | None = None) -> int:
        return sum(1 for entry in self.log
                   if name is None or entry["name"] == name)

    def _rotate(self, login: Login) -> None:
        if not self.keep_old:
            self._stub.keys.pop(login.access_token, None)
        login.used.add(login.refresh_token)
        login.rotations += 1
        stamp = f"{login.name}-{time.time_ns():x}-{login.rotations}"
        login.refresh_token = f"canary-rt-{stamp}"
        login.access_token = f"canary-at-{stamp}"
        self._stub.keys[login.access_token] = login.name

    def _find(self, refresh_token: str) -> Login | None:
        for login in self.logins.values():
            if refresh_token in login.used | {login.refresh_token}:
                return login
        return None

    def _take_fault(self, name: str | None) -> TokenFault | None:
        for fault in self.faults:
            if fault.times != 0 and fault.name in (None, name):
                if fault.times > 0:
                    fault.times -= 1
                return fault
        return None

    @staticmethod
    def _fields(request: Request) -> dict[str, str]:
        text = request.body.decode()
        if "json" in request.get("content-type"):
            return json.loads(text)
        return dict(urllib.parse.parse_qsl(text))

    async def answer(self, conn: Connection, request: Request) -> None:
        fields = self._fields(request)
        login = self._find(fields.get("refresh_token", ""))
        if "assertion" in fields:
            login = self._signed(fields["assertion"])
        name = login.name if login else None
        self.log.append({"name": name, "at": time.time(), "fields": fields,
                         "headers": request.headers,
                         "type": request.get("content-type")})
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._answer(conn, fields, login, self._take_fault(name))
        finally:
            self.running -= 1

    def _signed(self, assertion: str) -> Login:
        head, claims = (json.loads(base64.urlsafe_b64decode(
            part + "=" * (-len(part) % 4)))
            for part in assertion.split(".")[:2])
        self.assertions.append({"head": head, "claims": claims,
                                "text": assertion})
        name = claims["iss"]
        return self.logins.get(name) or self.login(name)

    async def _answer(self, conn: Connection, fields: dict,
                      login: Login | None, fault: TokenFault | None) -> None:
        kind = fault.kind if fault else ""
        opts = fault.opts if fault else {}
        if kind == "delay":
            await asyncio.sleep(opts["secs"])
        if kind == "drop":
            conn.close()
            return
        if kind == "status":
            await self._send(conn, opts.get("code", 500),
                             opts.get("body", {}), opts.get("headers", {}))
            return
        if kind == "refuse":
            await self._send(conn, opts.get("code", 400),
                             {"error": opts.get("error", "invalid_grant")})
            return
        if login is None or login.revoked:
            await self._send(conn, 400, {"error": "invalid_grant"})
            return
        if "assertion" not in fields and (
                fields["refresh_token"] != login.refresh_token):
            login.reused += 1
            login.revoked = True
            self._stub.keys.pop(login.access_token, None)
            await self._send(conn, 400, {"error": {
                "code": "refresh_token_reused", "message": "used before"}})
            return
        old = login.access_token
        self._rotate(login)
        if kind == "same":
            self._stub.keys.pop(login.access_token, None)
            login.access_token = old
            self._stub.keys[old] = login.name
        if kind == "lose":
            await asyncio.sleep(opts.get("after", 0))
            conn.close()
            return
        answer = {"access_token": login.access_token, "token_type": "Bearer",
                  "refresh_token": login.refresh_token}
        if "assertion" in fields:
            del answer["refresh_token"]
        if kind == "short":
            answer["expires_in"] = opts["secs"]
        elif self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        await self._send(conn, 200, answer)

    @staticmethod
    async def _send(conn: Connection, status: int, value: Any,
                    headers: dict | None = None) -> None:
        body = json.dumps(value).encode()
        await conn.send_head(status, [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            *[(k, str(v)) for k, v in (headers or {}).items()]])
        await conn.send(body)
