"""A process with models in it: reads jobs, one JSON object a line, from standard input and says how they go.

    {"do": [job, ...]}  {"cancel": id}     in
    {"ready": pid}  {"progress": id, ...}  {"done": id, ...}  {"failed": id, ...}  {"cancelled": id}  {"idle": 1}  out

It holds no truth: what it is told is all it knows, and when the pipe closes it is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from ..errors import UnstirError

__all__ = ["Cancelled", "Runner", "Tell", "main", "serve"]

Tell = Callable[[Mapping[str, Any]], None]


class Cancelled(Exception):
    """Nobody wants what is being done any more."""


class Runner(Protocol):
    """Does the jobs of a batch, all of the same settings; `tell` reports each, `wanted` says which still matter."""

    def __call__(self, jobs: list[dict[str, Any]], tell: Tell, wanted: Wanted) -> None: ...


class Wanted:
    """Which of the jobs at hand are still wanted; the thread that reads crosses them out."""

    def __init__(self) -> None:
        self._unwanted: set[str] = set()

    def cross_out(self, job: str) -> None:
        self._unwanted.add(job)

    def __contains__(self, job: object) -> bool:
        return job not in self._unwanted

    def require(self, jobs: list[dict[str, Any]]) -> None:
        """Raises Cancelled where none of them is."""
        if all(job["id"] in self._unwanted for job in jobs):
            raise Cancelled


def serve(runner: Runner, source: BinaryIO, sink: BinaryIO) -> None:
    """Until the source ends."""
    lock, wanted = threading.Lock(), Wanted()
    batches: list[list[dict[str, Any]]] = []
    news = threading.Condition()

    def tell(message: Mapping[str, Any]) -> None:
        line = json.dumps(message, allow_nan=False, default=str).encode() + b"\n"
        with lock:
            sink.write(line)
            sink.flush()

    def read() -> None:
        for line in source:
            message = json.loads(line)
            if "cancel" in message:
                wanted.cross_out(message["cancel"])
                continue
            with news:
                batches.append(message["do"])
                news.notify()
        os._exit(0)  # the server is gone, and nobody will hear what comes of this

    threading.Thread(target=read, daemon=True).start()
    tell({"ready": os.getpid()})
    while True:
        with news:
            news.wait_for(lambda: batches)
            jobs = batches.pop(0)
        _do(runner, jobs, tell, wanted)
        tell({"idle": True})


def _do(runner: Runner, jobs: list[dict[str, Any]], tell: Tell, wanted: Wanted) -> None:
    told: set[str] = set()

    def report(message: Mapping[str, Any]) -> None:
        if "progress" not in message:
            told.update(message[word] for word in ("done", "failed") if word in message)
        tell(message)

    error: dict[str, Any] | None = None
    try:
        wanted.require(jobs)
        runner(jobs, report, wanted)
    except Cancelled:
        pass
    except UnstirError as known:
        error = known.to_dict()
    except Exception as unknown:
        error = _unknown(unknown)
    for job in jobs:
        if job["id"] not in told and job["id"] in wanted:
            tell(
                {"failed": job["id"], "error": error or _unknown(RuntimeError("the worker forgot this job"))}
            )
        elif job["id"] not in told:
            tell({"cancelled": job["id"]})


def _unknown(error: Exception) -> dict[str, Any]:
    import traceback

    traceback.print_exception(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        hint = "ask for fewer samples or smaller pictures, or close other programs"
        return {"code": "device", "message": "out of memory", "field": None, "hint": hint}
    message = f"{type(error).__name__}: {error}"
    return {
        "code": "failed",
        "message": message,
        "field": None,
        "hint": "this is a fault of unstir; see the server's log",
    }


def main(make: Callable[[dict[str, Any]], Runner] | None = None) -> None:
    """The process: its setting-up is the last argument, as JSON."""
    setup = json.loads(sys.argv[-1])
    # whatever else prints goes to the log, not between the messages
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if make is None:
        from .drawing import Drawing

        make = Drawing
    serve(make(setup), sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
