"""What the routes share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.responses import JSONResponse

from ...errors import CheckpointError, ConfigError, DataError, UnstirError
from ..catalog import Missing
from ..core import Core
from ..jobs import Conflict, Full
from ..messages import Fault

__all__ = ["RESPONSES", "Cursor", "Limit", "Served", "answer", "refused", "status_of"]

STATUS: tuple[tuple[type[UnstirError], int], ...] = (
    (Missing, 404),
    (Conflict, 409),
    (Full, 429),
    (ConfigError, 422),
    (DataError, 422),
    (CheckpointError, 507),
)
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


def status_of(error: UnstirError) -> int:
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def refused(core: Core, error: UnstirError) -> JSONResponse:
    """The error as every route tells it."""
    status = status_of(error)
    headers = {"Retry-After": str(core.retry_after())} if status == 429 else None
    return answer(status, error.to_dict(), headers)


def answer(status: int, error: dict[str, Any], headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": error}, status, headers)
