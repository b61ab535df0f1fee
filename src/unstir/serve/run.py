"""Listening: until it is told to stop, and then letting go in order."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

from ..errors import ConfigError
from ..files import write_atomic
from .app import make_app
from .core import Core, InUse
from .guard import require_safe
from .routes.page import new_link
from .settings import Settings

__all__ = ["run"]

ADDRESS = "address"
"""The file in a server's folder that says where it answers."""


class Server(uvicorn.Server):
    """Answers while it is being stopped, so that those who watch see it end; a second signal ends it now."""

    def __init__(self, config: uvicorn.Config, core: Core) -> None:
        super().__init__(config)
        self.core = core
        self._stopping: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping is not None:
            self.force_exit = True
            super().handle_exit(sig, frame)
            return
        self.core.draining = True
        self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        await self.core.stop()
        self.should_exit = True  # and no more: it did what the signal asked for, so it need not die of it


def run(
    settings: Settings, builtin: tuple[str, ...], say: Callable[[str], None], started: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: of the server.
        builtin: names of data that can be trained on.
        say: tells people.
        started: called with an address once the server answers there, one that lets a browser in where there is a page.

    Raises:
        ConfigError: the port is taken, or strangers could get in.
    """
    require_safe(settings)
    try:
        core = Core(settings, builtin)
    except InUse:
        if not (settings.studio and (link := _link_of_running(settings))):
            raise
        say("it runs already; this link opens its page, once")
        started(link)
        return
    place = _bound(settings)
    served, app = make_app(core)
    host, port = place.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{port}"
    write_atomic(settings.folder / ADDRESS, base.encode())
    config = uvicorn.Config(
        served,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=2**16,
        backlog=2048,
        http="h11",
        lifespan="off",
    )
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    server = Server(config, core)

    async def serve() -> None:
        await core.start()
        loop = asyncio.get_running_loop()
        if settings.studio:
            say("the page opens with this link, once; Ctrl-C ends it")
        else:
            say(f"models   {', '.join(settings.models)}")
            say(f"token    in {settings.folder / 'token'}: send it as Authorization: Bearer TOKEN")
        loop.call_soon(started, new_link(app, base) if settings.studio else base)
        await server.serve(sockets=[place])

    with suppress(KeyboardInterrupt):  # it was asked to stop, and did
        asyncio.run(serve())
    say("stopped" + (f"; {core.left} jobs go on at the next start" if core.left else ""))


def _link_of_running(settings: Settings) -> str | None:
    """A link to the studio that has this folder, by the token that lies in it; None: there is no asking it."""
    import httpx

    try:
        base, token = ((settings.folder / file).read_text().strip() for file in (ADDRESS, "token"))
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{base}/api/link", headers=headers, timeout=5, trust_env=False)
        return str(answer.raise_for_status().json()["link"])
    except (OSError, httpx.HTTPError, ValueError, KeyError):
        return None


def _bound(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # named, or asyncio leaves Nagle's algorithm on: 40 ms for every answer
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((settings.host, settings.port))
    except OSError as error:
        place.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            field="port",
            hint="another program may be there: take another port=, or port=0 for any that is free",
        ) from None
    return place
