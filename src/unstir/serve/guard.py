"""The door: who may come in, under which name, from where, with how much; and what browsers are told to respect.

Another page in the same browser can send requests to 127.0.0.1, and a name that its owner points there makes them look
like this server's own. So the Host must be known, the Origin this server's own, and a token shown; nothing over GET
changes anything.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConfigError
from .faults import in_form_of
from .settings import Settings

__all__ = ["COOKIE", "Guard", "require_safe"]

COOKIE = "unstir"
"""What cookies of ours begin with; browsers send those of every port, so each server has a name of its own."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
OPEN = frozenset(("/live", "/ready"))
"""Paths of no secrets."""
SLOW = 30.0
"""Seconds for the next part of a body."""
CLOSE = {"connection": "close"}
"""With an answer to a body that was not read to its end."""
UPLOADS = ("/api/files", "/api/datasets/", "/v1/images/edits", "/v1/images/variations")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def require_safe(settings: Settings) -> None:
    """Raises ConfigError where strangers could reach a server that asks for no token."""
    local = settings.host in ("127.0.0.1", "localhost", "::1")
    if settings.open and not local:
        raise ConfigError(
            f"host={settings.host} can be reached from other machines, and no token is asked for",
            field="open",
            hint="leave out open=1: clients then need the token that is printed",
        )


class Guard:
    """Stands before the application.

    Args:
        app: what is behind it.
        settings: of the server.
        token: what clients have to show.
        public: whether a path needs no token, as those of the page.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, token: str, public: frozenset[str] = frozenset()
    ) -> None:
        self.app, self.settings, self.token, self.public = app, settings, token, public
        own = settings.host if ":" not in settings.host else f"[{settings.host}]"
        anywhere = own in ("0.0.0.0", "[::]")
        self.hosts = {*LOOPBACK, *settings.hosts, *(() if anywhere else (own,))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sender = _Sender(send, scope["path"])
        if (refusal := self._refusal(scope)) is not None:
            await sender.refuse(*refusal)
            return
        await self.app(scope, _Metered(receive, self._most(scope["path"])), sender)

    def _most(self, path: str) -> int:
        """Bytes of a body."""
        return self.settings.upload if path.startswith(UPLOADS) else self.settings.body

    def _refusal(self, scope: Scope) -> tuple[int, str, str, str | None, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        host = headers.get("host", [])
        if len(host) != 1 or _name(host[0]) not in self.hosts:
            return 421, "host", "this server is not known under that name", "Host", "allow it with hosts=NAME"
        if (where := self._stranger(headers, host[0])) is not None:
            return 403, "origin", "requests of other pages are refused", where, "open this server's own page"
        if not self._public(scope["path"]) and not self._knows(headers):
            hint = "send Authorization: Bearer TOKEN, or open the link that the server printed"
            what = "this is not the token" if "authorization" in headers else "a token is needed"
            return 401, "token", what, "Authorization", hint
        length = headers.get("content-length", ["0"])[0]
        most = self._most(scope["path"])
        if length.isdecimal() and int(length[:18]) > most:
            return 413, "too_large", f"a body of {length} bytes, {most:,} are accepted", "body", "send less"
        return None

    def _stranger(self, headers: Mapping[str, list[str]], host: str) -> str | None:
        """The header that says that another page asks; None: it is our own, or no browser."""
        origins = headers.get("origin", [])
        if origins and origins not in ([f"http://{host}"], [f"https://{host}"]):
            return "Origin"
        site = headers.get("sec-fetch-site", [])
        return None if site in ([], ["same-origin"], ["none"]) else "Sec-Fetch-Site"

    def _public(self, path: str) -> bool:
        return path in OPEN or path in self.public

    def _knows(self, headers: Mapping[str, list[str]]) -> bool:
        if self.settings.open:
            return True
        shown = [value[7:] for value in headers.get("authorization", []) if value[:7].lower() == "bearer "]
        for cookies in headers.get("cookie", []):
            try:
                found = SimpleCookie(cookies)
            except CookieError:
                continue
            shown += [cookie.value for name, cookie in found.items() if name.startswith(COOKIE)]
        return any(hmac.compare_digest(word.encode(), self.token.encode()) for word in shown)


def _name(host: str) -> str:
    """What is before the port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and (port.isdecimal() or not port) and not host.endswith("]") else host).lower()


class _Metered:
    """A body that may not be longer, nor slower, than is bearable."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.receive, self.most, self.seen, self.whole = receive, most, 0, False

    async def __call__(self) -> Message:
        if self.whole:
            return await self.receive()  # waits for the client to leave
        try:
            message = await asyncio.wait_for(self.receive(), SLOW)
        except TimeoutError:
            raise HTTPException(408, f"nothing came for {SLOW:.0f} s", CLOSE) from None
        self.seen += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if self.seen > self.most:
            raise HTTPException(413, f"the body is longer than {self.most:,} bytes", CLOSE)
        return message


class _Sender:
    """Adds the headers that browsers respect."""

    def __init__(self, send: Send, path: str) -> None:
        self.send, self.path = send, path

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
            if b"cache-control" not in present:
                extra.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message["headers"], *extra]}
        await self.send(message)

    async def refuse(self, status: int, code: str, message: str, field: str | None, hint: str) -> None:
        error: dict[str, Any] = {"code": code, "message": message, "field": field, "hint": hint}
        status, told, _ = in_form_of(self.path, status, error)
        body = json.dumps(told).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
        headers += [(b"connection", b"close")] if status == 413 else []
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})
