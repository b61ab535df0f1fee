"""Rows as they are told: jobs, pictures, and what is new of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from .catalog import Missing
from .jobs import ENDED
from .store import Store, decoded

__all__ = ["Views"]

ABOUT = ("seed", "prompt", "label", "command", "seconds")


class Views:
    """The store, as its clients see it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.progress: dict[str, Mapping[str, Any]] = {}
        """How far the running jobs are; known to this server alone."""

    # -- jobs ----------------------------------------------------------------------------------------------
    def job(self, name: str) -> dict[str, Any]:
        """Raises Missing."""
        row = self.store.row("SELECT * FROM jobs WHERE id = ?", name)
        if row is None:
            raise Missing(f"there is no job {name!r}", field="id", hint="GET /api/jobs lists them")
        return self.of_job(row)

    def jobs(
        self, states: Sequence[str], before: int | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The newest first, and where to read on."""
        where = f"state IN ({', '.join('?' * len(states))})" if states else "1"
        where += " AND number < ?" if before is not None else ""
        values = (*states, *([before] if before is not None else []), limit + 1)
        rows = self.store.rows(f"SELECT * FROM jobs WHERE {where} ORDER BY number DESC LIMIT ?", *values)
        return [self.of_job(row) for row in rows[:limit]], str(rows[limit - 1]["number"]) if len(
            rows
        ) > limit else None

    def of_job(self, row: sqlite3.Row) -> dict[str, Any]:
        asked, result = decoded(row["asked"]), decoded(row["result"])
        if result is not None:
            result["items"] = [self.of_item(item) for item in self._items_of(row["id"], len(result["items"]))]
        plain = ("id", "kind", "model", "priority", "state", "attempt", "created", "started", "ended")
        return {word: row[word] for word in plain} | {
            "settings": asked["settings"],
            "inputs": asked["inputs"],
            "parent": asked["parent"],
            "board": asked["board"],
            "position": self._position(row) if row["state"] == "queued" else None,
            "progress": self.progress.get(row["id"]) if row["state"] == "running" else None,
            "result": result,
            "error": decoded(row["error"]),
        }

    def _items_of(self, job: str, count: int) -> list[sqlite3.Row]:
        return self.store.rows("SELECT * FROM items WHERE job = ? ORDER BY place", job) if count else []

    def _position(self, row: sqlite3.Row) -> int:
        query = (
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND lane = ? "
            "AND (priority > ? OR (priority = ? AND number < ?))"
        )
        return int(self.store.value(query, row["lane"], row["priority"], row["priority"], row["number"]))

    def ended(self, name: str) -> bool:
        return self.store.value("SELECT state FROM jobs WHERE id = ?", name) in ENDED

    # -- pictures ------------------------------------------------------------------------------------------
    def item(self, name: str) -> dict[str, Any]:
        """Raises Missing."""
        row = self.store.row("SELECT * FROM items WHERE id = ?", name)
        if row is None:
            raise Missing(f"there is no picture {name!r}", field="id", hint="GET /api/items lists them")
        return self.of_item(row)

    def of_item(self, row: sqlite3.Row) -> dict[str, Any]:
        about = decoded(row["about"])
        url = f"/api/items/{row['id']}"
        plain = ("id", "job", "kind", "model", "board", "created", "deleted")
        return (
            {word: row[word] for word in plain}
            | {word: about.get(word) for word in ABOUT}
            | {
                "index": row["place"],
                "url": f"{url}/image",
                "thumb": f"{url}/thumb",
                "width": about["width"],
                "height": about["height"],
                "settings": about["settings"],
                "inputs": about["inputs"],
                "parent": about["parent"],
                "starred": bool(row["starred"]),
            }
        )

    def items(
        self, wanted: Mapping[str, Any], before: int | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Those that match, the newest first, and where to read on.

        Args:
            wanted: `q` words that all have to occur, `model`, `board`, `kind`, `starred`, `since`, `until`, `deleted`.
        """
        clauses = ["deleted IS NOT NULL" if wanted.get("deleted") else "deleted IS NULL"]
        values: list[Any] = []
        for word in ("model", "board", "kind"):
            if wanted.get(word):
                clauses.append(f"{word} = ?")
                values.append(wanted[word])
        for word, sign in (("since", ">="), ("until", "<=")):
            if wanted.get(word) is not None:
                clauses.append(f"created {sign} ?")
                values.append(wanted[word])
        if wanted.get("starred"):
            clauses.append("starred = 1")
        for word in str(wanted.get("q") or "").casefold().split()[:8]:
            clauses.append("instr(words, ?)")
            values.append(word)
        if before is not None:
            clauses.append("number < ?")
            values.append(before)
        query = f"SELECT * FROM items WHERE {' AND '.join(clauses)} ORDER BY number DESC LIMIT ?"
        rows = self.store.rows(query, *values, limit + 1)
        return [self.of_item(r) for r in rows[:limit]], str(rows[limit - 1]["number"]) if len(
            rows
        ) > limit else None

    # -- news ----------------------------------------------------------------------------------------------
    def news(self, kind: str, subject: str) -> dict[str, Any]:
        """What is told of a job or picture that has changed; of one that is gone, just that."""
        try:
            return self.job(subject) if kind == "job" else {"id": subject, "item": self.item(subject)}
        except Missing:
            return {"id": subject, "item": None}
