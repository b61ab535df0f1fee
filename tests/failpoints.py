"""Faults at the n-th operation on the disk: the process dies there, or the operation fails.

A test counts n up until no fault fires (the method of SQLite's test suite), so every operation gets its turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import unstir.tensors

CRASHED = 77
OPERATIONS = [(os, name) for name in ("fsync", "mkdir", "rename", "replace", "rmdir", "symlink", "unlink")]
WRITES = [(Path, "write_bytes"), (unstir.tensors, "save_file")]


@contextmanager
def at_operation(n: int, action: Callable[[], None]) -> Iterator[list[str]]:
    """Do `action` instead of the n-th operation, half way into it if it is a write; yields the names met."""
    met: list[str] = []

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            met.append(name)
            if len(met) != n:
                return real(*args, **kwargs)
            if name in ("write_bytes", "save_file"):
                real(*args, **kwargs)
                path = args[0] if name == "write_bytes" else args[1]
                os.truncate(path, path.stat().st_size // 2)
            return action()

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in OPERATIONS + WRITES:
            patch.setattr(owner, name, wrap(name, getattr(owner, name)))
        yield met


def crashes(work: Callable[[], None]) -> Iterator[int]:
    """Run `work` in a child that dies at its n-th operation, for n = 1, 2, ... until it lives; yields each n.

    What the child did to the disk is there while the caller looks.
    """
    for n in count(1):
        child = os.fork()
        if child == 0:
            with at_operation(n, lambda: os._exit(CRASHED)):
                work()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, CRASHED)
        if status == 0:
            return
        yield n


def failures(work: Callable[[], None], code: int) -> Iterator[Exception | None]:
    """Run `work` with its n-th operation failing with errno `code`, for n = 1, 2, ... until none fails.

    Yields what `work` raised each time, None if it coped.
    """

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    for n in count(1):
        raised: Exception | None = None
        with at_operation(n, fail) as met:
            try:
                work()
            except Exception as error:
                raised = error
        if len(met) < n:
            return
        yield raised
