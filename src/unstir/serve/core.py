"""The server without its network: what there is, what is going on, and the few things one can do."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CheckpointError, UnstirError
from ..files import Lock, write_atomic
from . import jobs
from .asks import Asks
from .catalog import Catalog, Missing
from .events import Hub
from .jobs import Claimed
from .lanes import Background, Lane, Models
from .messages import Wish
from .runs import progress_of
from .settings import Settings
from .store import KEPT_EVENTS, Store
from .views import Views

__all__ = ["Core", "InUse"]

T = TypeVar("T")
_log = logging.getLogger("unstir.serve")

TICK = 0.25
"""Seconds between two looks at deadlines."""
LOOK = 1.0
"""Seconds between two looks for new models."""
SWEEP = 60.0
"""Seconds between two clean-ups."""
UNDO = 3600.0
"""Seconds for which a deleted picture can be brought back."""


class InUse(CheckpointError):
    """Another server keeps its things in the same folder."""


class Core:
    """Everything behind the HTTP.

    Raises:
        CheckpointError: the folder cannot be written; InUse: it is another server's.
    """

    def __init__(self, settings: Settings, builtin: tuple[str, ...] = ()) -> None:
        self.settings, self.builtin = settings, builtin
        for folder in (settings.folder, settings.pictures, settings.files, settings.datasets):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CheckpointError(
                    f"{folder} cannot be written: {error.strerror}",
                    field="folder",
                    hint="choose another folder=",
                ) from None
        self._lock = Lock(settings.folder / "lock")
        try:
            self._lock.__enter__()
        except CheckpointError as error:
            raise InUse(error.message, field="folder", hint="stop it, or choose another folder=") from None
        self.token = settings.token or self._kept_token()
        self.catalog = Catalog(settings.models, settings.runs, shipped=settings.studio)
        self.store = Store(settings.state)
        self.views = Views(self.store)
        self.asks = Asks(settings, self.catalog, self.store, builtin)
        self.hub = Hub(self.store, self.views.news, self.views.ended)
        given = (self.store, settings, self._changed, self._progress, self._describe)
        self.lanes: dict[str, Lane] = {
            "device": Models("device", settings.batch, *given),
            "explain": Models("explain", 1, *given),
            "background": Background(*given),
        }
        self.begun = time.monotonic()
        self.draining, self.left = False, 0
        """Whether it takes no new jobs, and how many were left when it stopped."""
        self._tasks: list[asyncio.Task[None]] = []
        self._models: list[tuple[str, float]] | None = None

    def _kept_token(self) -> str:
        path = self.settings.folder / "token"
        if not path.exists():
            write_atomic(path, secrets.token_urlsafe(32).encode())
            path.chmod(0o600)
        return path.read_text().strip()

    # -- life ----------------------------------------------------------------------------------------------
    async def start(self) -> None:
        left = await self.store.write(jobs.recover)
        if left:
            _log.info("%d jobs of the last server go back into the queue", len(left))
        self._remove_orphans()
        order = ((TICK, self._end_overdue), (LOOK, self._tell_of_models), (SWEEP, self.clean_up))
        self._tasks = [asyncio.create_task(self._every(seconds, work)) for seconds, work in order]
        for lane in self.lanes.values():
            lane.news.set()
            self._tasks.append(asyncio.create_task(self._keep(lane)))

    async def _keep(self, lane: Lane) -> None:
        """A fault in a lane must not be its end."""
        while not lane.stopping:
            try:
                await lane.run()
            except Exception:
                _log.exception("lane %s", lane.name)
                await lane.reset()

    async def stop(self) -> None:
        """Let running jobs end for a while, put the others back, and let go of everything."""
        self.draining = True
        for lane in self.lanes.values():
            lane.stopping = True  # takes nothing new
        until = time.monotonic() + self.settings.drain
        while time.monotonic() < until and (self.lanes["device"].running or self.lanes["explain"].running):
            await asyncio.sleep(0.05)
        await asyncio.gather(*(lane.stop() for lane in self.lanes.values()))
        await asyncio.sleep(0.05)
        for lane in self.lanes.values():
            with suppress(UnstirError):  # the next server finds what the disk did not take
                await lane.lost("", blameless=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.left = self.store.value("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
        self.hub.close()
        self.store.close()
        self._lock.__exit__(None, None, None)

    # -- doing ---------------------------------------------------------------------------------------------
    async def write(self, work: Callable[[Any], T]) -> T:
        result = await self.store.write(work)
        self._changed()
        return result

    def _changed(self) -> None:
        self.hub.look()

    async def submit(self, wish: Wish, key: str | None = None) -> tuple[str, bool]:
        """(id of the job, whether it is new).

        Raises:
            UnstirError: what is wrong with the wish; Full, Conflict.
        """
        digest = hashlib.sha256(wish.model_dump_json().encode()).hexdigest()
        known = None if key is None else self.store.value("SELECT 1 FROM jobs WHERE key = ?", key)
        waiting = self.store.value("SELECT count(*) FROM jobs WHERE state = 'queued'")
        if known is None and (waiting >= self.settings.queue or self.draining):
            raise jobs.Full(
                f"{waiting} jobs are waiting", field="queue", hint="try again after the time in Retry-After"
            )
        asked = self.asks(wish)
        job, new = await self.write(lambda db: jobs.submit(db, asked, digest, key, self.settings.queue))
        self.lanes[asked.lane].news.set()
        return job, new

    def retry_after(self) -> int:
        """Seconds until there is likely to be room: that of a tenth of the queue, at the pace of late."""
        lane = self.lanes["device"]
        return max(1, min(60, math.ceil(lane.pace * self.settings.queue / 10)))

    async def cancel(self, job: str, why: str = "it was cancelled") -> None:
        """A queued job at once, a running one as soon as it notices; one that has ended stays as it is."""
        if await self.write(lambda db: jobs.cancel(db, job, why=why)):
            return
        for lane in self.lanes.values():
            if job in lane.running:
                await lane.cancel(job, why)

    async def done(self, job: str, seconds: float) -> bool:
        """Whether the job ends within so many seconds."""
        return await self.hub.end_of(job, seconds)

    # -- what workers are told -----------------------------------------------------------------------------
    def path_of(self, name: str) -> Path:
        """The file of an upload, or of a picture made here; raises Missing."""
        row = self.store.row("SELECT path FROM items WHERE id = ?", name)
        if row is not None:
            return self.settings.pictures / f"{row['path']}.png"
        if self.store.value("SELECT 1 FROM files WHERE id = ?", name) is None:
            raise Missing(f"there is no file {name!r}", field="inputs")
        return self.settings.files / name

    def _describe(self, job: Claimed) -> Mapping[str, Any]:
        more = job.asked["more"]
        told: dict[str, Any] = {"out": str(self.settings.pictures / f"{job.id}-{job.attempt}")}
        if job.kind == "train":
            return told | self._training(job, more)
        model = self.catalog[job.model] if job.model else None
        if job.kind == "evaluate":
            assert model is not None
            words = ["evaluate", str(model.path), "--config", f"{told['out']}/settings.yaml"]
            config = {word: value for word, value in job.asked["values"].items() if value is not None}
            return told | {"words": words, "config": config, "progress": dict, "result": _of_evaluation}
        told["files"] = {role: str(self.path_of(name)) for role, name in job.asked["inputs"].items()}
        return told | {"model": None if model is None else {"name": model.name, "path": str(model.path)}}

    def _training(self, job: Claimed, more: Mapping[str, Any]) -> dict[str, Any]:
        assert self.catalog.runs is not None
        run = self.catalog.runs / more["run"]
        values = job.asked["values"]
        task: dict[str, Any] = {
            "progress": lambda: progress_of(run),
            "result": lambda _: {"run": more["run"]},
        }
        if more["resume"]:
            pairs = [f"{key}={value}" for key, value in values.items()]
            return task | {"words": ["train", "--resume", str(run), *pairs]}
        if (run / "config.yaml").is_file():  # the attempt before got so far
            return task | {"words": ["train", "--resume", str(run)]}
        folder = self.settings.pictures / f"{job.id}-{job.attempt}"
        return task | {
            "words": ["train", "--config", f"{folder}/settings.yaml", f"out={run}"],
            "config": values,
        }

    def _progress(self, job: str, message: Mapping[str, Any]) -> None:
        told = {word: value for word, value in message.items() if word not in ("progress", "previews")}
        self.views.progress[job] = told
        self.hub.say("progress", {"id": job, "progress": told, "previews": message.get("previews")})

    # -- keeping order -------------------------------------------------------------------------------------
    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """A fault, as of a full disk, must not be its end."""
        while True:
            try:
                await work()
            except Exception:
                _log.exception("what is done every %s s", seconds)
                await asyncio.sleep(1)
            await asyncio.sleep(seconds)

    async def _end_overdue(self) -> None:
        late = "SELECT 1 FROM jobs WHERE state IN ('queued', 'running') AND deadline < ?"
        if self.store.value(late, time.time()) is None:
            return
        for job, _ in await self.write(jobs.overdue):
            for lane in self.lanes.values():
                if job in lane.running and job not in lane.unwanted:
                    await lane.cancel(job, "deadline")

    async def _tell_of_models(self) -> None:
        """A training has a model once it has stored one; runs come and go by other hands as well."""
        before, self._models = self._models, [(each.name, each.created) for each in self.catalog.models()]
        if before not in (None, self._models):
            self.hub.say("models", {})

    async def clean_up(self) -> None:
        """Forget what nobody can want back: deleted pictures, the oldest beyond the quota, lonely uploads, old news."""
        gone = await self.write(self._forget)
        for path in gone:
            for ending in (".png", ".webp"):
                (self.settings.pictures / f"{path}{ending}").unlink(missing_ok=True)
            with suppress(OSError):
                (self.settings.pictures / path).parent.rmdir()  # where it was the last one
        running = {job for lane in self.lanes.values() for job in lane.running}
        for job in [job for job in self.views.progress if job not in running]:
            del self.views.progress[job]

    def _forget(self, db: Any) -> list[str]:
        now = time.time()
        rows = db.execute("SELECT id, path FROM items WHERE deleted < ?", (now - UNDO,)).fetchall()
        total = db.execute("SELECT coalesce(sum(bytes), 0) FROM items").fetchone()[0]
        if total > self.settings.outputs:
            oldest = db.execute(
                "SELECT id, path, bytes FROM items WHERE starred = 0 ORDER BY number LIMIT 1000"
            )
            for row in oldest.fetchall():
                if total <= self.settings.outputs:
                    break
                total -= row["bytes"]
                rows.append(row)
        for row in rows:
            db.execute("DELETE FROM items WHERE id = ?", (row["id"],))
            jobs.event(db, "item", row["id"])
        old = db.execute("SELECT id FROM files WHERE created < ?", (now - self.settings.uploads,)).fetchall()
        for row in old:
            used = db.execute(
                "SELECT 1 FROM jobs WHERE state IN ('queued', 'running') AND asked LIKE ?",
                (f"%{row['id']}%",),
            )
            if used.fetchone() is None:
                db.execute("DELETE FROM files WHERE id = ?", (row["id"],))
                (self.settings.files / row["id"]).unlink(missing_ok=True)
        db.execute("DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (KEPT_EVENTS,))
        return [row["path"] for row in rows]

    def _remove_orphans(self) -> None:
        """Folders of attempts that came to nothing."""
        known = {row["path"].partition("/")[0] for row in self.store.rows("SELECT DISTINCT path FROM items")}
        for folder in self.settings.pictures.iterdir():
            if folder.is_dir() and folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


def _of_evaluation(output: Mapping[str, Any]) -> dict[str, Any]:
    return {"numbers": output.get("numbers", []), "seconds": sum((output.get("seconds") or {}).values())}
