"""Jobs: asked for, looked at, called off."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from ...errors import ConfigError, did_you_mean
from ..jobs import STATES
from ..messages import Job, Jobs, Wish
from .common import Cursor, Limit, Served

__all__ = ["router"]

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

Key = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[!-~]+$")
]


@router.post(
    "", status_code=201, response_model=Job, responses={200: {"model": Job, "description": "known already"}}
)
async def submit(wish: Wish, core: Served, response: Response, key: Key = None) -> Any:
    """Ask for a job. With an Idempotency-Key the same request, sent again, gives the same job."""
    job, new = await core.submit(wish, key)
    response.status_code = 201 if new else 200
    return core.views.job(job)


@router.get("", response_model=Jobs)
async def listing(
    core: Served,
    state: Annotated[str, Query(max_length=100, examples=["queued,running"])] = "",
    limit: Limit = 50,
    before: Cursor = None,
) -> Any:
    """The jobs, the newest first."""
    states = [word.strip() for word in state.split(",") if word.strip()]
    for word in states:
        if word not in STATES:
            raise ConfigError(
                f"there is no state {word!r}", field="state", hint=did_you_mean(word, STATES, "state")
            )
    jobs, further = core.views.jobs(states, before, limit)
    return {"jobs": jobs, "next": further}


@router.get("/{job}", response_model=Job)
async def one(job: str, core: Served) -> Any:
    """A job and where it stands."""
    return core.views.job(job)


@router.post("/{job}/cancel", response_model=Job)
async def cancel(job: str, core: Served) -> Any:
    """Call it off: at once where it waits, within a step where it runs. Training ends with a checkpoint."""
    core.views.job(job)
    await core.cancel(job)
    return core.views.job(job)
