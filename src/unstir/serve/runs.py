"""The runs of a folder: how far they are, what they logged, what they drew."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import config
from ..errors import UnstirError
from .catalog import Missing, samples_of

__all__ = ["metrics_of", "progress_of", "run_path", "runs_of", "settings_of_run", "summary"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
TAIL = 2**16
"""Bytes at the end of a log in which its newest numbers are."""
PAGE = 2**20
"""Bytes of a log that are told at once."""
NUMBERS = ("step", "loss", "heldout_loss", "seconds", "per_second", "progress")


def run_path(folder: Path | None, name: str) -> Path:
    """The run of this name; raises Missing."""
    if folder is not None and NAME.fullmatch(name) and (folder / name / "config.yaml").is_file():
        return folder / name
    raise Missing(f"there is no run {name!r}", field="run", hint="GET /api/runs lists them")


def runs_of(folder: Path | None) -> list[Path]:
    """The newest first."""
    found = [path.parent for path in folder.glob("*/config.yaml")] if folder else []
    return sorted((run for run in found if NAME.fullmatch(run.name)), key=lambda run: -run.stat().st_mtime)


def summary(run: Path) -> dict[str, Any]:
    """Its newest numbers."""
    numbers: dict[str, Any] = dict.fromkeys(NUMBERS)
    for record in _records((run / "metrics.jsonl"), -TAIL)[0]:
        numbers |= {word: record[word] for word in NUMBERS if record.get(word) is not None}
    settings = settings_of_run(run)
    training = settings.get("training") or {}
    share = numbers.pop("progress")
    return {
        "name": run.name,
        **numbers,
        "step": numbers["step"] or 0,
        "steps": training.get("steps"),
        "time": training.get("time"),
        "fraction": share,
        "data": _title((settings.get("data") or {}).get("source")),
        "task": settings.get("task", "generate"),
        "created": run.stat().st_mtime,
    }


def settings_of_run(run: Path) -> Mapping[str, Any]:
    with suppress(UnstirError):
        return config.read_file(run / "config.yaml").values
    return {}


def _title(source: Any) -> str | None:
    """A built-in set's name, or the last part of a folder's: where it lies is nobody's business."""
    return None if source is None else os.path.basename(str(source).rstrip("/"))


def progress_of(run: Path) -> dict[str, Any]:
    """How far a training is, as a job says it."""
    if not (run / "config.yaml").is_file():
        return {"text": "reading the data"}
    told = summary(run)
    share, seconds = told["fraction"] or 0.0, told["seconds"] or 0.0
    return {
        "step": told["step"],
        "steps": told["steps"] or (round(told["step"] / share) if share else 0),
        "fraction": round(share, 4),
        "eta": round(seconds / share * (1 - share), 1) if share > 1e-3 else None,
        "text": "" if told["loss"] is None else f"loss {told['loss']:.4f}",
    }


def metrics_of(run: Path, after: int) -> tuple[list[dict[str, Any]], int]:
    """The records from this byte of the log on, and the byte to read on from."""
    return _records(run / "metrics.jsonl", after)


def _records(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Those of whole lines; a negative start counts from the end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(0, size + start) if start < 0 else min(start, size)
            file.seek(begin)
            content = file.read(PAGE)
    except OSError:
        return [], 0
    whole = content.rfind(b"\n") + 1
    records = []
    for line in content[:whole].splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records, begin + whole


def samples(run: Path) -> list[dict[str, Any]]:
    """The sheets that were drawn on the way."""
    return [{"step": step, "url": f"/api/runs/{run.name}/samples/{step}"} for step, _ in samples_of(run)]
