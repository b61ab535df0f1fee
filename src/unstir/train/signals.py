"""Stopping politely: SIGINT and SIGTERM ask the loop to end, SIGHUP asks nothing."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["StopSignals"]


class StopSignals:
    """`with StopSignals() as stop:` and after each step `if stop.exit_code is not None:` save and leave.

    The first SIGINT or SIGTERM sets `exit_code` (130 or 143), the second ends the process with it at once;
    atomic files make that safe. A closed terminal (SIGHUP) is ignored. Outside the main thread, where
    Python has no signals, nothing is caught.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None:
            os._exit(128 + number)
        self.exit_code = 128 + number

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handlers: dict[int, Any] = {
                signal.SIGINT: self._stop,
                signal.SIGTERM: self._stop,
                signal.SIGHUP: signal.SIG_IGN,
            }
            self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
