"""What the routes share."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.responses import JSONResponse

from ...errors import UnstirError
from ..core import Core
from ..faults import in_form_of
from ..jobs import Full
from ..messages import Fault

__all__ = ["RESPONSES", "TOLD", "Cursor", "Limit", "Served", "answer", "done", "refused"]

STATUS = {
    "missing": 404,
    "conflict": 409,
    "cancelled": 409,
    "full": 429,
    "config": 422,
    "incompatible": 422,
    "data": 422,
    "numeric": 422,
    "checkpoint": 507,
    "deadline": 503,
    "late": 503,
}
"""By the code of the error; any other is a fault of ours, 500."""
TOLD = {
    400: "no valid HTTP or JSON",
    401: "no token, or a wrong one",
    403: "another page asks",
    404: "there is nothing of this name",
    405: "not with this method",
    408: "too slow",
    409: "this Idempotency-Key came with another request",
    413: "too large",
    421: "not under this host name",
    422: "a field is wrong; it is named",
    429: "the queue is full; Retry-After says when to come back",
    503: "it took too long",
    507: "the disk is full",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": text} for status, text in TOLD.items()
}


def _core(request: Request) -> Core:
    found: Core = request.app.state.core
    return found


Served = Annotated[Core, Depends(_core)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[int | None, Query(ge=0, lt=2**63)]


def refused(core: Core, error: UnstirError, path: str) -> JSONResponse:
    """The error as every route tells it."""
    status = STATUS.get(error.code, 500)
    headers = {"Retry-After": str(core.retry_after())} if status == 429 else None
    return answer(status, error.to_dict(), headers, path)


def answer(
    status: int, error: dict[str, Any], headers: dict[str, str] | None = None, path: str = ""
) -> JSONResponse:
    status, body, more = in_form_of(path, status, error)
    return JSONResponse(body, status, {**(headers or {}), **more})


class Late(UnstirError):
    """Nobody waits for it any more."""

    code = "late"


async def done(core: Core, request: Request, job: str, seconds: float) -> dict[str, Any]:
    """The job, once it is done. It is called off where it takes longer than that, or the client leaves.

    Raises:
        UnstirError: what it failed with.
        Late: it was called off.
        Full: the server is being stopped.
    """
    ending = asyncio.ensure_future(core.done(job, seconds))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((ending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if core.hub.closed:
            raise Full("the server is being stopped", hint="try again after the time in Retry-After")
        if not ending.done() or not ending.result():
            await core.cancel(job, "nobody waits for it any more")
            raise Late(f"it took longer than {seconds:.0f} s", hint="ask for less, or submit it to /api/jobs")
    finally:
        ending.cancel()
        leaving.cancel()
    told = core.views.job(job)
    if told["state"] != "done":
        raise UnstirError.from_dict(told["error"])
    return told


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
