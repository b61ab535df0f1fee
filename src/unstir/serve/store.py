"""The only truth: one SQLite file with the jobs, the pictures made, and what the page remembers.

Everything that changes goes through one thread, which commits whatever has come in meanwhile at once, so that a
hundred waiting clients share one fsync. WAL with synchronous=FULL: what was acknowledged survives a power cut.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CheckpointError

__all__ = ["Store", "decoded"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

FORMAT = 1
KEPT_EVENTS = 10_000
"""How far back a page that was away can be told what it missed."""

SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, key TEXT UNIQUE, digest TEXT NOT NULL,
  kind TEXT NOT NULL, lane TEXT NOT NULL, model TEXT NOT NULL, asked TEXT NOT NULL, batch TEXT NOT NULL,
  samples INTEGER NOT NULL, priority INTEGER NOT NULL, deadline REAL, state TEXT NOT NULL DEFAULT 'queued',
  attempt INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL,
  ended REAL, result TEXT, error TEXT);
CREATE INDEX jobs_waiting ON jobs(lane, priority DESC, number) WHERE state = 'queued';
CREATE INDEX jobs_state ON jobs(state, number);
CREATE TABLE items(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL, place INTEGER NOT NULL,
  kind TEXT NOT NULL, model TEXT NOT NULL, words TEXT NOT NULL, about TEXT NOT NULL, path TEXT NOT NULL,
  bytes INTEGER NOT NULL, starred INTEGER NOT NULL DEFAULT 0, board TEXT, created REAL NOT NULL, deleted REAL);
CREATE INDEX items_job ON items(job);
CREATE INDEX items_board ON items(board, number) WHERE board IS NOT NULL;
CREATE TABLE files(
  id TEXT PRIMARY KEY, about TEXT NOT NULL, bytes INTEGER NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE boards(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE drafts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE datasets(id TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE events(number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject TEXT NOT NULL);
"""


class Store:
    """The file, open: `read` at once, `write` in the writing thread.

    Raises:
        CheckpointError: the file is damaged, of a newer unstir, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        try:
            self._reader, self._writer = self._open(), self._open()
            self._prepare()
        except sqlite3.Error as error:
            raise CheckpointError(
                f"{path} cannot be used: {error}",
                field=str(path),
                hint="move it away to start anew, or bring back a copy; pictures in the folder beside stay",
            ) from error
        self._thread = threading.Thread(target=self._write_on, name="store", daemon=True)
        self._thread.start()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        return connection

    def _prepare(self) -> None:
        if (found := self._writer.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise sqlite3.DatabaseError(f"it has format {version}, this unstir reads up to {FORMAT}")
        if version == 0:
            self._writer.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")

    # -- reading ------------------------------------------------------------------------------------------
    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What is committed; for queries that an index answers."""
        return self._reader.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        found = self._reader.execute(query, values).fetchone()
        return found if isinstance(found, sqlite3.Row) else None

    def value(self, query: str, *values: Any) -> Any:
        found = self.row(query, *values)
        return None if found is None else found[0]

    # -- writing ------------------------------------------------------------------------------------------
    def submit(self, work: Work[T]) -> Future[T]:
        """Do it in the writing thread, whole or not at all; the future is done once it is on the disk."""
        future: Future[T] = Future()
        self._work.put((work, future))
        return future

    async def write(self, work: Work[T]) -> T:
        return await asyncio.wrap_future(self.submit(work))

    def _write_on(self) -> None:
        while (first := self._work.get()) is not None:
            batch = [first, *self._waiting()]
            ending = batch[-1] is None
            self._commit([entry for entry in batch if entry is not None])
            if ending:
                return

    def _waiting(self) -> Iterator[tuple[Work[Any], Future[Any]] | None]:
        with suppress(queue.Empty):
            for _ in range(256):
                yield self._work.get_nowait()

    def _commit(self, batch: list[tuple[Work[Any], Future[Any]]]) -> None:
        connection = self._writer
        done: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                connection.execute("SAVEPOINT one")
                try:
                    done.append((future, work(connection), None))
                except Exception as error:
                    connection.execute("ROLLBACK TO one")
                    done.append((future, None, error))
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except sqlite3.Error as error:  # the disk is full, or worse: nothing of it has happened
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            done = [(future, None, _refused(self.path, error)) for _, future in batch]
        for future, result, fault in done:
            if not future.set_running_or_notify_cancel():
                continue  # nobody waits any more
            if fault is None:
                future.set_result(result)
            else:
                future.set_exception(fault)

    def close(self) -> None:
        """Finishes what was submitted."""
        self._work.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()


def _refused(path: Path, error: sqlite3.Error) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be written: {error}",
        field="disk",
        hint="free some space and try again; nothing was lost",
    )


def decoded(text: str | None) -> Any:
    """The value of a column that holds JSON."""
    return None if text is None else json.loads(text)
