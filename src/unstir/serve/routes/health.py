"""Whether it lives, whether it takes jobs, and its numbers for Prometheus."""

from __future__ import annotations

import time

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from ..jobs import STATES
from .common import Served

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/live")
async def live() -> dict[str, bool]:
    """It answers; also while it is being stopped."""
    return {"live": True}


@router.get("/ready", responses={503: {"description": "it is being stopped"}})
async def ready(core: Served) -> Response:
    """It takes jobs."""
    return JSONResponse({"ready": not core.draining}, 503 if core.draining else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(core: Served) -> str:
    """Counts and times in the text format of Prometheus; nothing of what was asked for."""
    counts = dict(tuple(row) for row in core.store.rows("SELECT state, count(*) FROM jobs GROUP BY state"))
    size = core.store.row("SELECT count(*) AS n, coalesce(sum(bytes), 0) AS bytes FROM items")
    assert size is not None
    lines = ["# HELP unstir_jobs Jobs by state.", "# TYPE unstir_jobs gauge"]
    lines += [f'unstir_jobs{{state="{state}"}} {counts.get(state, 0)}' for state in STATES]
    numbers = {
        "ended_total": ("counter", "Jobs that ended since the start.", lambda lane: lane.done),
        "crashes_total": (
            "counter",
            "Worker processes that died since the start.",
            lambda lane: lane.crashes,
        ),
        "running": ("gauge", "Jobs under way.", lambda lane: len(lane.running)),
        "pace_seconds": ("gauge", "Seconds that a job took lately.", lambda lane: round(lane.pace, 4)),
    }
    for name, (kind, text, number) in numbers.items():
        lines += [f"# HELP unstir_lane_{name} {text}", f"# TYPE unstir_lane_{name} {kind}"]
        lines += [f'unstir_lane_{name}{{lane="{lane}"}} {number(it)}' for lane, it in core.lanes.items()]
    single = {
        "pictures": ("Pictures that are kept.", size["n"]),
        "picture_bytes": ("Room that they take.", size["bytes"]),
        "listeners": ("Pages that listen to events.", core.hub.listeners),
        "uptime_seconds": ("Since the start.", round(time.monotonic() - core.begun, 1)),
    }
    for name, (text, value) in single.items():
        lines += [f"# HELP unstir_{name} {text}", f"# TYPE unstir_{name} gauge", f"unstir_{name} {value}"]
    return "\n".join(lines) + "\n"
