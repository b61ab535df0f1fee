"""Servers for tests: a process that can be killed, or the application alone in this one."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from unstir.serve.app import make_app
from unstir.serve.core import Core
from unstir.serve.settings import Settings

STUB = Path(__file__).with_name("stub.py")
TOKEN = "a-token-of-the-tests"
ENDED = ("done", "failed", "cancelled")
SOON = 30.0


def sample(prompt: str = "heart", seed: int = 0, **more: Any) -> dict[str, Any]:
    """A wish for one picture of the shipped model."""
    return {"kind": "sample", "model": "emoji", "settings": {"prompt": prompt, "seed": seed}} | more


def eventually(condition: Callable[[], Any], seconds: float = SOON) -> Any:
    """What the condition is, as soon as it is something."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)
    return found


class Server:
    """A server in a process of its own, and a client that shows its token.

    Args:
        folder: where it keeps its jobs.
        words: instead of the stub's: the command line.
        more: settings.
    """

    def __init__(self, folder: Path, *words: str, **more: Any) -> None:
        self.folder = folder
        given = {"folder": str(folder), "port": 0, "models": ["emoji"], "token": TOKEN, "drain": 2.0} | more
        command = words or (str(STUB), "serve", json.dumps(given))
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self.lines.get(timeout=SOON)
        if not self.address.startswith("http"):
            raise AssertionError(f"it did not start: {self.log()}")
        self.port = int(self.address.split("/")[2].rpartition(":")[2])
        token = TOKEN if not words else (folder / "token").read_text().strip()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=SOON,
        )

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("")

    # -- asking --------------------------------------------------------------------------------------------
    def submit(self, wish: dict[str, Any], key: str | None = None) -> str:
        answer = self.client.post("/api/jobs", json=wish, headers={"Idempotency-Key": key} if key else {})
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["id"])

    def job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/api/jobs/{name}").json()
        return found

    def ended(self, name: str, seconds: float = SOON) -> dict[str, Any]:
        """The job, once it has ended."""
        found: dict[str, Any] = eventually(
            lambda: job if (job := self.job(name))["state"] in ENDED else None, seconds
        )
        return found

    def running(self, name: str) -> None:
        """Waits until a worker has it in hand."""
        eventually(lambda: self.job(name)["progress"])

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    # -- the process ---------------------------------------------------------------------------------------
    def log(self) -> str:
        """What it wrote to standard error."""
        self.errors.seek(0)
        return self.errors.read()

    def children(self) -> list[psutil.Process]:
        try:
            return list(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def worker(self) -> psutil.Process:
        """The one that draws, as soon as there is one."""
        return eventually(self.children)[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SOON)

    def stop(self, seconds: float = SOON) -> int:
        """Its exit code after a SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def close(self) -> None:
        children = self.children()
        with suppress(ProcessLookupError):
            self.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.errors.close()
        self.client.close()


@contextmanager
def server(folder: Path, *words: str, **more: Any) -> Iterator[Server]:
    """A running server; it does not outlive the block."""
    running = Server(folder, *words, **more)
    try:
        yield running
    finally:
        running.close()


def refused(folder: Path, **more: Any) -> tuple[int, dict[str, Any]]:
    """(exit code, error) of a server that does not start."""
    given = {"folder": str(folder), "port": 0, "models": ["emoji"], "token": TOKEN} | more
    command = [sys.executable, str(STUB), "serve", json.dumps(given)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SOON)
    return ended.returncode, json.loads(ended.stderr)


# -- in this process ---------------------------------------------------------------------------------------
@asynccontextmanager
async def application(
    folder: Path, *, work: bool = True, **more: Any
) -> AsyncIterator[tuple[Core, httpx.AsyncClient]]:
    """(the core, a client that knows the token) of an application without a network; `work`: with its lanes."""
    given = {"models": ("emoji",), "token": TOKEN, "drain": 0.0, "worker": (str(STUB),)} | more
    core = Core(Settings(folder=folder, **given), ("digits",))
    app, _ = make_app(core)
    if work:
        await core.start()
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
        try:
            yield core, client
        finally:
            await core.stop()


async def done(client: httpx.AsyncClient, name: str, seconds: float = SOON) -> dict[str, Any]:
    """The job, once it has ended."""
    async with asyncio.timeout(seconds):
        while (job := (await client.get(f"/api/jobs/{name}")).json())["state"] not in ENDED:
            await asyncio.sleep(0.01)
    return dict(job)


# -- below HTTP --------------------------------------------------------------------------------------------
def raw(
    port: int, request: bytes, seconds: float = SOON, host: str = "127.0.0.1"
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a request sent as it is; no client makes it any better. 0: no answer."""
    with socket.create_connection((host, port), seconds) as connection:
        with suppress(ConnectionError):
            connection.sendall(request)
        received = b""
        with suppress(ConnectionError):
            while part := connection.recv(2**16):
                received += part
                if complete(received):
                    break
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]) if first else 0, headers, body


def complete(received: bytes) -> bool:
    """Whether an answer has come whole; one without an end has come with its head."""
    head, gap, body = received.partition(b"\r\n\r\n")
    if not gap:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return b"text/event-stream" in head or body.endswith(b"0\r\n\r\n") or b" 303 " in head or b" 304 " in head


def tree(folder: Path) -> dict[str, Any]:
    """Everything below a folder: {path: content, or where a link leads}."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
    return found
