"""Who does the jobs: for each lane one process at a time, started when it is needed and again when it dies.

The queue is in the store; a lane claims what comes next, hands it over a pipe, and moves the jobs on as it is told.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from ..errors import UnstirError
from . import jobs
from .jobs import Claimed
from .settings import Settings
from .store import Store

__all__ = ["Background", "Lane", "Models"]

GRACE = 5.0
"""Seconds in which a worker has to heed a cancellation; then it is replaced."""
PATIENCE = 60.0
"""The same for a command, which writes a checkpoint first."""
LINE = 2**26
"""Longest message of a worker, in bytes."""
TRIES = 3
"""Workers that do not get ready, after which the jobs that wait are told."""
AGAIN = 1.0
"""Seconds before what failed is tried again: a worker to get ready, the store to be written."""

Files: TypeAlias = Callable[[Claimed], Mapping[str, Any]]


class Lane(ABC):
    """Takes jobs out of its queue, one batch after the other.

    Args:
        store: where the queue is.
        settings: of the server.
        changed: called once the store has changed.
        say: passes on how far a job is.
        describe: what a worker has to be told of a job besides what was asked.
    """

    name: ClassVar[jobs.Lane]
    batch: int = 1

    def __init__(
        self,
        store: Store,
        settings: Settings,
        changed: Callable[[], None],
        say: Callable[[str, Mapping[str, Any]], None],
        describe: Files,
    ) -> None:
        self.store, self.settings, self.changed, self.say, self.describe = (
            store,
            settings,
            changed,
            say,
            describe,
        )
        self.running: dict[str, Claimed] = {}
        self.unwanted: dict[str, str] = {}
        """Jobs that are to stop, and why."""
        self.news = asyncio.Event()
        self.stopping = False
        self.done, self.crashes, self.pace = 0, 0, 1.0
        """Jobs that ended, processes that died, and seconds a job took lately."""
        self.stillborn = 0
        """Processes in a row that died before they were ready."""

    async def write(self, work: Callable[[Any], Any]) -> Any:
        result = await self.store.write(work)
        self.changed()
        return result

    def _waits(self) -> bool:
        query = "SELECT 1 FROM jobs WHERE state = 'queued' AND lane = ? LIMIT 1"
        return not self.stopping and self.store.value(query, self.name) is not None

    def _claim(self, db: sqlite3.Connection) -> list[Claimed]:
        return jobs.claim(db, self.name, self.batch)

    async def run(self) -> None:
        """For ever."""
        while not self.stopping:
            await self.news.wait()
            self.news.clear()
            while self._waits() and await self.ready():
                batch = await self.write(self._claim)
                if not batch:
                    break
                self.running = {job.id: job for job in batch}
                begun = time.monotonic()
                try:
                    await self.do(batch)
                finally:
                    self.pace += 0.2 * ((time.monotonic() - begun) / len(batch) - self.pace)
                    self.running.clear()
                    self.unwanted.clear()

    async def ready(self) -> bool:
        """Whether there is somebody to do it."""
        return True

    @abstractmethod
    async def do(self, batch: Sequence[Claimed]) -> None:
        """Until all of them have moved on."""

    @abstractmethod
    async def cancel(self, job: str, why: str) -> None:
        """Ask for the end of a running job."""

    @abstractmethod
    async def kill(self) -> None:
        """End the process at once, if there is one."""

    @abstractmethod
    async def stop(self) -> None:
        """End the process; what it was doing goes back into the queue."""

    # -- how jobs move on ----------------------------------------------------------------------------------
    def _taken(self, name: str) -> Claimed | None:
        job = self.running.pop(name, None)
        self.done += job is not None
        return job

    async def finished(
        self, name: str, result: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
    ) -> None:
        if (job := self._taken(name)) is not None:
            await self.write(lambda db: jobs.finish(db, job.id, job.attempt, result, items))

    async def failed(self, name: str, error: Mapping[str, Any]) -> None:
        if (job := self._taken(name)) is not None:
            await self.write(lambda db: jobs.fail(db, job.id, job.attempt, error))

    async def cancelled(self, name: str) -> None:
        why = self.unwanted.get(name, "it was cancelled")
        if (job := self._taken(name)) is None:
            return
        if why == "deadline":
            error = {
                "code": "deadline",
                "message": "its deadline passed",
                "field": "deadline",
                "hint": "allow more seconds",
            }
            await self.write(lambda db: jobs.fail(db, job.id, job.attempt, error))
        else:
            await self.write(lambda db: jobs.cancel(db, job.id, job.attempt, why))

    async def lost(self, reason: str, blameless: bool) -> None:
        """The process is gone; what it had at hand goes back into the queue."""
        for name in [name for name in self.running if name in self.unwanted]:
            await self.cancelled(name)
        left = [(job.id, job.attempt) for job in self.running.values()]
        self.running.clear()
        if blameless:
            await self.write(lambda db: jobs.release(db, left))
        else:
            self.crashes += 1
            await self.write(lambda db: jobs.crashed(db, left, reason))
        self.news.set()

    async def reset(self) -> None:
        """After a fault of ours, as with a full disk: a new process, and its jobs again, once that can be written."""
        await self.kill()
        reason = "was ended for a fault of unstir"
        while not self.stopping:
            await asyncio.sleep(AGAIN)
            with suppress(UnstirError):
                await self.write(lambda db: jobs.crashed(db, jobs.running(db, self.name), reason))
                break
        self.news.set()


class Models(Lane):
    """A worker with models in it, which stays."""

    def __init__(self, name: jobs.Lane, batch: int, *given: Any) -> None:
        super().__init__(*given)
        self.name, self.batch = name, batch  # type: ignore[misc]
        self.process: asyncio.subprocess.Process | None = None
        self.replaced = False

    async def ready(self) -> bool:
        if self.process is not None and self.process.returncode is None:
            return True
        setup = json.dumps({"memory": self.settings.memory, "lane": self.name})
        words = (*_child_words(), *self.settings.worker, setup)
        log = self.settings.folder / f"{self.name}.log"
        with log.open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *words, stdin=-1, stdout=-1, stderr=errors, limit=LINE, process_group=0
            )
        self.replaced = False
        if await self._message() is not None:
            self.stillborn = 0
            return True
        self.crashes += 1
        self.stillborn += 1
        if self.stillborn >= TRIES:
            said = log.read_text(errors="replace").strip().splitlines()
            await self._give_up(said[-1][:500] if said else self._death())
        await asyncio.sleep(AGAIN)
        self.news.set()
        return False

    async def _give_up(self, reason: str) -> None:
        """There is no worker to be had: better to say so than to let them wait."""
        hint = f"see {self.name}.log in the server's folder; unstir doctor looks for what is missing"
        error = {
            "code": "device",
            "message": f"no worker could be started: {reason}",
            "field": None,
            "hint": hint,
        }
        self.running = {job.id: job for job in await self.write(self._claim)}
        for job in list(self.running):
            await self.failed(job, error)

    async def _message(self) -> dict[str, Any] | None:
        """The next one; None: the worker is gone."""
        assert self.process is not None
        assert self.process.stdout is not None
        with suppress(ValueError, ConnectionError):  # a line cut off by death
            if line := await self.process.stdout.readline():
                found: dict[str, Any] = json.loads(line)
                return found
        await self.kill()
        return None

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)  # Popen's own would reap it before asyncio does
            await self.process.wait()

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(ConnectionError):  # `_message` notices
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            await self.process.stdin.drain()

    async def do(self, batch: Sequence[Claimed]) -> None:
        await self._send({"do": [{**vars(job), **self.describe(job)} for job in batch]})
        for job in batch:  # what was cancelled while it was claimed
            if job.id in self.unwanted:
                await self._send({"cancel": job.id})
        while (message := await self._message()) is not None:
            match message:
                case {"progress": name}:
                    self.say(name, message)
                case {"done": name}:
                    await self.finished(name, message["result"], message["items"])
                case {"failed": name}:
                    await self.failed(name, message["error"])
                case {"cancelled": name}:
                    await self.cancelled(name)
                case {"idle": _}:
                    return
        await self.lost(self._death(), self.replaced or self.stopping)

    def _death(self) -> str:
        code = self.process.returncode if self.process else 0
        return f"was ended by signal {-code}" if code and code < 0 else f"left with exit code {code}"

    async def cancel(self, job: str, why: str) -> None:
        self.unwanted[job] = why
        await self._send({"cancel": job})
        asyncio.get_running_loop().call_later(GRACE, lambda: asyncio.ensure_future(self._insist(job)))

    async def _insist(self, job: str) -> None:
        if job in self.running and job in self.unwanted:
            self.replaced = True
            await self.kill()

    async def stop(self) -> None:
        self.stopping = True
        self.news.set()
        await self.kill()


class Background(Lane):
    """A command of its own for each job: training and evaluation, which take long and know how to stop and go on."""

    name = "background"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.process: asyncio.subprocess.Process | None = None

    async def do(self, batch: Sequence[Claimed]) -> None:
        (job,) = batch
        task = self.describe(job)
        folder = Path(task["out"])
        folder.mkdir(parents=True, exist_ok=True)
        if "config" in task:
            (folder / "settings.yaml").write_text(json.dumps(task["config"]))
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        with (folder / "log.txt").open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(*_child_words(), "-m", "unstir", *task["words"], "--json"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment,
                limit=LINE,
                process_group=0,
            )
        following = asyncio.ensure_future(self._follow(job, task["progress"]))
        try:
            assert self.process.stdout is not None
            if job.id in self.unwanted:
                self._signal(signal.SIGTERM)
            output = await self.process.stdout.read()
            code = await self.process.wait()
        finally:
            following.cancel()
        await self._end(job, task, code, output, (folder / "log.txt").read_bytes()[-8192:])

    async def _follow(self, job: Claimed, progress: Callable[[], Mapping[str, Any]]) -> None:
        while True:
            await asyncio.sleep(1)
            self.say(job.id, progress())

    async def _end(self, job: Claimed, task: Mapping[str, Any], code: int, output: bytes, log: bytes) -> None:
        if code == 0:
            with suppress(ValueError):
                await self.finished(job.id, task["result"](json.loads(output)), ())
                return
        if job.id in self.unwanted:
            await self.cancelled(job.id)
        elif self.stopping:
            await self.lost("", blameless=True)
        elif code < 0:
            await self.lost(f"was ended by signal {-code}", blameless=False)
        else:
            await self.failed(job.id, _told(log.decode(errors="replace"), code))

    def _signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    async def cancel(self, job: str, why: str) -> None:
        self.unwanted[job] = why
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(PATIENCE, self._insist, job)

    def _insist(self, job: str) -> None:
        if job in self.running and job in self.unwanted:
            self._signal(signal.SIGKILL)

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self.process is not None:
            await self.process.wait()

    async def stop(self) -> None:
        self.stopping = True
        self.news.set()
        self._signal(signal.SIGTERM)
        if self.process is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), PATIENCE)
        await self.kill()


def _child_words() -> tuple[str, ...]:
    """What Python runs before the words of a child."""
    return "-m", "unstir.serve.child", str(os.getpid())


def _told(log: str, code: int) -> dict[str, Any]:
    """The error that a command wrote last, as JSON; else its last line."""
    lines = [line for line in log.splitlines() if line.strip()]
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError):
            error = json.loads(line)["error"]
            return {word: error.get(word) for word in ("code", "message", "field", "hint")}
    message = lines[-1][:500] if lines else f"it left with exit code {code}"
    return {"code": "failed", "message": message, "field": None, "hint": None}
