"""The metrics of a run: one JSON object a line, each with its `step`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import CheckpointError
from .trainer import TrainStep

__all__ = ["MetricsLog"]


class MetricsLog:
    """Appends to metrics.jsonl; a consumer of `Trainer.steps()`.

    Opening cuts off what was logged after `step`, and a line torn by a crash, so that a resumed run's log
    reads like one never stopped. Lines a full disk refuses are kept and written when it has room again.
    NaN and infinity, which JSON lacks, are null. Raises `CheckpointError` when the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], step: int = 0) -> None:
        self.path = Path(path)
        self._pending = b""
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._end = _length_until(self.path, step)
            os.ftruncate(self._descriptor, self._end)
        except OSError as error:
            raise self._error(error) from error

    def __call__(self, record: TrainStep | Mapping[str, Any]) -> None:
        values = asdict(record) if isinstance(record, TrainStep) else record
        self._pending += json.dumps({key: _finite(value) for key, value in values.items()}).encode() + b"\n"
        with suppress(OSError):  # `sync` tells; a full disk may have room again by then
            self._flush()

    def sync(self) -> None:
        """Bring every line to the disk; `CheckpointError` when it refuses."""
        try:
            self._flush()
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._error(error) from error

    def _flush(self) -> None:
        """Write at the end of the last whole write, over what a failed one may have left."""
        while self._pending:
            written = os.pwrite(self._descriptor, self._pending, self._end)
            self._end, self._pending = self._end + written, self._pending[written:]

    def _error(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"cannot write {self.path}: {error.strerror}",
            field=str(self.path),
            hint="free some space, or check that the run directory is writable",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _length_until(path: Path, step: int) -> int:
    """Bytes of the leading lines that are whole and of steps up to `step`."""
    length = 0
    with path.open("rb") as file:
        for line in file:
            try:
                keep = line.endswith(b"\n") and json.loads(line)["step"] <= step
            except (ValueError, KeyError, TypeError):
                keep = False
            if not keep:
                break
            length += len(line)
    return length


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
