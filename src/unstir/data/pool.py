"""Child processes that decode: a file that crashes or hangs its decoder costs one child, not the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeAlias

from unstir.data.decode import answer
from unstir.errors import DataError

__all__ = ["COMMAND", "Pool", "Reply"]

COMMAND = (sys.executable, "-P", "-c", "from unstir.data.decode import serve; serve()")
"""Starts a child; -P keeps the working directory out of its module path."""

Reply: TypeAlias = tuple[dict[str, Any], bytes]


class Pool:
    """`with Pool(2) as pool: pool.map(jobs)`: the replies of `decode.answer`, in the order of the jobs.

    Args:
        workers: number of children; 0: decode in this process, where a crash is not survived.
    """

    def __init__(self, workers: int) -> None:
        self._children: SimpleQueue[_Child] = SimpleQueue()
        self._workers = workers

    def __enter__(self) -> Self:
        for _ in range(self._workers):
            self._children.put(_Child())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self._workers):
            self._children.get().close()

    def map(self, jobs: Iterable[dict[str, Any]]) -> Iterator[Reply]:
        """One reply per job, in order; a few jobs per child are under way at any time."""
        if not self._workers:
            yield from map(answer, jobs)
            return
        with ThreadPoolExecutor(self._workers) as threads:
            waiting: deque[Future[Reply]] = deque()
            for job in jobs:
                waiting.append(threads.submit(self._ask, job))
                if len(waiting) > 4 * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _ask(self, job: dict[str, Any]) -> Reply:
        child = self._children.get()
        try:
            return child.ask(job)
        finally:
            self._children.put(child)


class _Child:
    """One process running `decode.serve`, started again whenever it dies."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        package = Path(__file__).parents[2]
        path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders complain there about files that are reported anyway
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            bufsize=-1,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        if self._stdout.readline() != b"ready\n":
            self.close()
            raise DataError(
                "the process that decodes images does not start",
                hint=f"run {sys.executable} -c 'import unstir.data.decode' to see why",
            )

    def ask(self, job: dict[str, Any]) -> Reply:
        """The reply to one job; `timeout` or `decoder_crash` when the process dies over it."""
        with suppress(BrokenPipeError, json.JSONDecodeError):  # how a dying child looks from here
            self._stdin.write(json.dumps(job).encode() + b"\n")
            self._stdin.flush()
            reply = json.loads(self._stdout.readline())
            pixels = self._stdout.read(reply["bytes"])
            if len(pixels) == reply["bytes"]:
                return reply, pixels
        status = self.close()
        self._start()
        if status == -signal.SIGALRM:
            return {"code": "timeout", "detail": "decoding took too long and was stopped"}, b""
        cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return {"code": "decoder_crash", "detail": f"the decoder died ({cause})"}, b""

    def close(self) -> int:
        """End the process; its exit status, negative for a signal."""
        for pipe in (self._stdin, self._stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        return self._process.wait()
