"""Progress on standard error: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn

from .trainer import TrainStep

__all__ = ["Progress", "duration"]


class Progress:
    """Shows where training is; a consumer of `Trainer.steps()`.

    A terminal that goes away (a hang-up, a closed pipe) silences it and stops nothing.

    Args:
        unit: what a sample is called.
        interval: seconds between plain lines.
        stream: where to, by default standard error.
    """

    def __init__(self, unit: str = "img", interval: float = 10.0, stream: TextIO | None = None) -> None:
        self.unit, self.interval = unit, interval
        self.stream: TextIO | None = stream or sys.stderr
        self._loss = math.nan  # running mean of about 50 steps
        self._shown = -math.inf
        self._bar: Bar | None = None

    def __call__(self, step: TrainStep) -> None:
        if math.isfinite(step.loss):
            self._loss = step.loss if math.isnan(self._loss) else self._loss + 0.02 * (step.loss - self._loss)
        now = time.monotonic()
        if self.stream is None or now - self._shown < (0.25 if self._bar else self.interval):
            return
        self._shown = now
        self._show(step)

    def _show(self, step: TrainStep) -> None:
        text = (
            f"step {step.step}  loss {self._loss:.4f}  {step.per_second:.0f} {self.unit}/s"
            f"  {duration(step.eta)} left" + (f"  {step.skipped} skipped" if step.skipped else "")
        )
        try:
            if self._bar:
                task = self._bar.task_ids[0]
                self._bar.update(task, completed=step.progress, description=text, refresh=True)
            elif self.stream:
                self.stream.write(f"{step.progress:4.0%}  {text}\n")
                self.stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.stream = self._bar = None

    def __enter__(self) -> Self:
        if self.stream is not None and self.stream.isatty():
            columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
            # no refresh thread: an error in it could not be caught
            self._bar = Bar(*columns, console=Console(file=self.stream), auto_refresh=False)
            self._bar.add_task("", total=1.0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            with suppress(OSError, ValueError):
                self._bar.stop()


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42), duration(750), duration(7260), duration(float("inf"))
    ('42s', '12m 30s', '2h 01m', '?')
    """
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
