"""News for whoever listens: what the store has noted, in its order, and words that are worth nothing later."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from .store import Store

__all__ = ["Hub", "News"]

BACKLOG = 1_000
"""News a slow listener may be behind; then it is let go, and asks again for what it missed."""
QUIET = 15.0
"""Seconds after which a listener hears that nothing is new."""


@dataclass(frozen=True)
class News:
    """`number` orders those that the store keeps; 0: gone once said."""

    kind: str
    data: Any
    number: int = 0


class Hub:
    """Tells listeners what happens.

    Args:
        store: whose table of events is the truth.
        content: (kind, subject) -> what is told of it, as it is now.
        ended: whether this job has ended.
    """

    def __init__(
        self, store: Store, content: Callable[[str, str], Any], ended: Callable[[str], bool]
    ) -> None:
        self.store, self.content, self.ended = store, content, ended
        self.last = int(store.value("SELECT coalesce(max(number), 0) FROM events"))
        self._listeners: set[asyncio.Queue[News | None]] = set()
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self.closed = False

    def look(self) -> None:
        """Pass on what the store has noted since."""
        for row in self.store.rows("SELECT * FROM events WHERE number > ? ORDER BY number", self.last):
            self.last = row["number"]
            if row["kind"] == "job" and row["subject"] in self._waiting and self.ended(row["subject"]):
                for future in self._waiting.pop(row["subject"]):
                    if not future.done():
                        future.set_result(None)
            if self._listeners:
                self._tell(News(row["kind"], self.content(row["kind"], row["subject"]), row["number"]))

    def say(self, kind: str, data: Any) -> None:
        """Something that is worth nothing once the next of its kind has been said."""
        self._tell(News(kind, data))

    def _tell(self, news: News) -> None:
        for listener in list(self._listeners):
            try:
                listener.put_nowait(news)
            except asyncio.QueueFull:
                self._dismiss(listener)

    def _dismiss(self, listener: asyncio.Queue[News | None]) -> None:
        self._listeners.discard(listener)
        with suppress(asyncio.QueueEmpty):
            listener.get_nowait()
        listener.put_nowait(None)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @contextmanager
    def _listening(self) -> Iterator[asyncio.Queue[News | None]]:
        queue: asyncio.Queue[News | None] = asyncio.Queue(BACKLOG)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    async def listen(self, after: int | None) -> AsyncIterator[News | None]:
        """News from now on, before them what came after that number; None where nothing has been new for a while."""
        with self._listening() as queue:
            now = self.last
            if after is not None:
                query = (
                    "SELECT max(number) AS number, kind, subject FROM events WHERE number > ? AND number <= ? "
                    "GROUP BY kind, subject ORDER BY number"
                )
                for row in self.store.rows(query, after, now):
                    yield News(row["kind"], self.content(row["kind"], row["subject"]), row["number"])
            while not self.closed:
                try:
                    news = await asyncio.wait_for(queue.get(), QUIET)
                except TimeoutError:
                    yield None
                    continue
                if news is None:
                    return
                yield news

    async def end_of(self, job: str, seconds: float) -> bool:
        """Whether the job ends within so many seconds."""
        if self.ended(job):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[job].add(future)
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return False
        finally:
            self._waiting[job].discard(future)
            if not self._waiting[job]:
                del self._waiting[job]
        return not self.closed

    def close(self) -> None:
        """Lets every listener go."""
        self.closed = True
        for listener in list(self._listeners):
            self._dismiss(listener)
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)
