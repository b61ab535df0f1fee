"""The life of a job: queued -> running -> done, failed or cancelled, every move by compare-and-set.

A move says from which state and attempt it starts; where the row has moved on meanwhile it changes nothing. What a
dead worker, or a worker of a dead server, still says about an old attempt is therefore never heard.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..errors import UnstirError
from .store import decoded

__all__ = [
    "ENDED",
    "STATES",
    "Asked",
    "Claimed",
    "Conflict",
    "Full",
    "Lane",
    "cancel",
    "claim",
    "crashed",
    "download_name",
    "event",
    "fail",
    "finish",
    "new_id",
    "overdue",
    "recover",
    "release",
    "running",
    "submit",
]

Lane: TypeAlias = Literal["device", "explain", "background"]
"""Who does it: the models' process, the one for what a page waits for, or a command of its own."""
State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
CRASHES = 3
"""So many workers may die over a job before it is put aside: two may be chance, as where something else used up the
memory."""
AT_ONCE = 64
"""Jobs in one batch, at most."""


class Conflict(UnstirError):
    """The same idempotency key came with another wish."""

    code = "conflict"
    exit_code = 2


class Full(UnstirError):
    """There is no room for this now."""

    code = "full"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A wish that was checked."""

    kind: str
    lane: Lane
    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """As they were given."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The whole checked tree of settings."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What for -> id of a file or of a picture made here."""
    parent: str | None = None
    board: str | None = None
    priority: int = 0
    deadline: float | None = None
    """Seconds since 1970."""
    samples: int = 1
    batch: str = ""
    """Jobs of the same word are done together; "" = alone."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else its worker needs to know."""

    @property
    def document(self) -> str:
        parts = ("settings", "values", "inputs", "parent", "board", "more")
        return json.dumps({part: getattr(self, part) for part in parts}, sort_keys=True)


@dataclass(frozen=True)
class Claimed:
    """A job that a worker is about to do."""

    id: str
    attempt: int
    kind: str
    model: str
    samples: int
    batch: str
    asked: dict[str, Any]


def new_id() -> str:
    """24 letters that nobody guesses, none of which means anything to a shell."""
    return secrets.token_hex(12)


def download_name(name: str, ending: str = ".png") -> str:
    """What a picture or upload is called on the disk of who takes it along."""
    return f"unstir-{name[:8]}{ending}"


def event(db: sqlite3.Connection, kind: str, subject: str) -> None:
    """Note for those who were away that there is news of this job or picture."""
    db.execute("INSERT INTO events(kind, subject) VALUES (?, ?)", (kind, subject))


def submit(db: sqlite3.Connection, asked: Asked, digest: str, key: str | None, room: int) -> tuple[str, bool]:
    """(id, whether it is new): queued, unless the key has come before.

    Raises:
        Conflict: it came before with another wish.
        Full: `room` jobs are waiting already.
    """
    if key is not None:
        known = db.execute("SELECT id, digest FROM jobs WHERE key = ?", (key,)).fetchone()
        if known is not None and known["digest"] != digest:
            raise Conflict(
                "this Idempotency-Key came before with another request",
                field="Idempotency-Key",
                hint="take a new key for a new request",
            )
        if known is not None:
            return known["id"], False
    if db.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()[0] >= room:
        raise Full(f"{room} jobs are waiting", field="queue", hint="try again after the time in Retry-After")
    job, numbers = new_id(), (asked.samples, asked.priority, asked.deadline)
    db.execute(
        "INSERT INTO jobs(id, key, digest, kind, lane, model, asked, batch, samples, priority, deadline, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            job,
            key,
            digest,
            asked.kind,
            asked.lane,
            asked.model,
            asked.document,
            asked.batch,
            *numbers,
            time.time(),
        ),
    )
    event(db, "job", job)
    return job, True


def claim(db: sqlite3.Connection, lane: Lane, samples: int) -> list[Claimed]:
    """The next job of a lane, and those that wait for the same, up to so many samples; now they are running."""
    first = db.execute(
        "SELECT * FROM jobs WHERE state = 'queued' AND lane = ? ORDER BY priority DESC, number LIMIT 1",
        (lane,),
    ).fetchone()
    if first is None:
        return []
    chosen, count = [first], first["samples"]
    if first["batch"] and not first["crashes"]:
        others = db.execute(
            "SELECT * FROM jobs WHERE state = 'queued' AND lane = ? AND batch = ? AND crashes = 0 AND number != ? "
            "ORDER BY priority DESC, number LIMIT ?",
            (lane, first["batch"], first["number"], AT_ONCE - 1),
        )
        for row in others.fetchall():
            if count + row["samples"] > samples:
                break
            chosen.append(row)
            count += row["samples"]
    now = time.time()
    for row in chosen:
        db.execute(
            "UPDATE jobs SET state = 'running', attempt = attempt + 1, started = ? WHERE id = ? AND state = 'queued'",
            (now, row["id"]),
        )
        event(db, "job", row["id"])
    return [
        Claimed(
            row["id"],
            row["attempt"] + 1,
            row["kind"],
            row["model"],
            row["samples"],
            row["batch"],
            decoded(row["asked"]),
        )
        for row in chosen
    ]


def _end(db: sqlite3.Connection, job: str, attempt: int, state: State, column: str, value: Any) -> bool:
    moved = db.execute(
        f"UPDATE jobs SET state = ?, {column} = ?, ended = ? WHERE id = ? AND state = 'running' AND attempt = ?",
        (state, json.dumps(value), time.time(), job, attempt),
    ).rowcount
    if moved:
        event(db, "job", job)
    return bool(moved)


def finish(
    db: sqlite3.Connection,
    job: str,
    attempt: int,
    result: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
) -> bool:
    """running -> done, with the pictures that were made, in one; whether it was still running as this attempt."""
    names = [new_id() for _ in items]
    if not _end(db, job, attempt, "done", "result", {**result, "items": names}):
        return False
    row = db.execute("SELECT kind, model, asked FROM jobs WHERE id = ?", (job,)).fetchone()
    asked = decoded(row["asked"])
    for place, (name, item) in enumerate(zip(names, items, strict=True)):
        about = {"parent": asked["parent"], "inputs": asked["inputs"], **item["about"]}
        told = (about.get(word) for word in ("prompt", "label", "seed"))
        words = " ".join(str(word) for word in (*told, row["model"]) if word is not None).casefold()
        where = (item["path"], item["bytes"], asked["board"], time.time())
        db.execute(
            "INSERT INTO items(id, job, place, kind, model, words, about, path, bytes, board, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, job, place, row["kind"], row["model"], words, json.dumps(about), *where),
        )
        event(db, "item", name)
    return True


def fail(db: sqlite3.Connection, job: str, attempt: int, error: Mapping[str, Any]) -> bool:
    """running -> failed."""
    return _end(db, job, attempt, "failed", "error", error)


def cancel(
    db: sqlite3.Connection, job: str, attempt: int | None = None, why: str = "it was cancelled"
) -> bool:
    """queued -> cancelled, or running -> cancelled for the attempt that has stopped."""
    error = {"code": "cancelled", "message": why, "field": None, "hint": None}
    if attempt is not None:
        return _end(db, job, attempt, "cancelled", "error", error)
    moved = db.execute(
        "UPDATE jobs SET state = 'cancelled', error = ?, ended = ? WHERE id = ? AND state = 'queued'",
        (json.dumps(error), time.time(), job),
    ).rowcount
    if moved:
        event(db, "job", job)
    return bool(moved)


def release(db: sqlite3.Connection, jobs: Iterable[tuple[str, int]]) -> None:
    """running -> queued: their worker was stopped for no fault of theirs."""
    for job, attempt in jobs:
        moved = db.execute(
            "UPDATE jobs SET state = 'queued', started = NULL WHERE id = ? AND state = 'running' AND attempt = ?",
            (job, attempt),
        ).rowcount
        if moved:
            event(db, "job", job)


def crashed(db: sqlite3.Connection, jobs: Iterable[tuple[str, int]], reason: str) -> None:
    """Their worker died: back into the queue, alone from now on, or put aside where it is not the first time."""
    for job, attempt in jobs:
        db.execute(
            "UPDATE jobs SET crashes = crashes + 1 WHERE id = ? AND state = 'running' AND attempt = ?",
            (job, attempt),
        )
        row = db.execute("SELECT crashes FROM jobs WHERE id = ?", (job,)).fetchone()
        if row["crashes"] < CRASHES:
            release(db, [(job, attempt)])
            continue
        error = {
            "code": "poison",
            "message": f"{row['crashes']} workers died of it; the last one {reason}",
            "field": None,
            "hint": "ask for less at once: fewer samples, smaller pictures",
        }
        fail(db, job, attempt, error)


def running(db: sqlite3.Connection, lane: Lane | None = None) -> list[tuple[str, int]]:
    """What is under way, in one lane or in all: (job, attempt)."""
    query = "SELECT id, attempt FROM jobs WHERE state = 'running' AND lane = coalesce(?, lane)"
    return [(row["id"], row["attempt"]) for row in db.execute(query, (lane,))]


def recover(db: sqlite3.Connection) -> list[str]:
    """At the start of a server: what the last one left running goes back into the queue, as nobody's fault."""
    left = running(db)
    release(db, left)
    return [job for job, _ in left]


def overdue(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """Ends what waited beyond its deadline, and says what runs beyond it, with its attempt."""
    now = time.time()
    late = db.execute(
        "SELECT id, attempt, state FROM jobs WHERE state IN ('queued', 'running') AND deadline < ?", (now,)
    )
    still = []
    for row in late.fetchall():
        if row["state"] == "running":
            still.append((row["id"], row["attempt"]))
            continue
        error = {"code": "deadline", "message": "its deadline passed while it waited", "field": "deadline"}
        db.execute(
            "UPDATE jobs SET state = 'failed', error = ?, ended = ? WHERE id = ? AND state = 'queued'",
            (json.dumps(error | {"hint": "allow more seconds"}), now, row["id"]),
        )
        event(db, "job", row["id"])
    return still
