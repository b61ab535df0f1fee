"""What there is: models, settings, runs; and pages' questions about how diffusion works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import Field

from ... import __version__, config
from ..asks import HIDDEN, KINDS, public_schema
from ..catalog import Missing, samples_of
from ..messages import Id, Message, Models, Strict, Wish
from ..runs import metrics_of, run_path, runs_of, samples, settings_of_run, summary
from ..store import decoded
from .common import Served, done

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["models"])

PATIENCE = 60.0
"""Seconds in which an explanation is expected."""
NEARLY = 0.99
"""Share of a training from which on a run without a job counts as ended: budgets in time are not met exactly."""
STATES = {"cancelled": "paused", "failed": "stopped"}
"""What the end of its job means for a run."""
Verb = Literal["sample", "edit", "upscale", "restore", "train", "evaluate", "explain"]


class Question(Strict):
    """What is to be explained, by which settings."""

    what: Annotated[str, Field(max_length=40, examples=["schedule"])]
    model: Annotated[str, Field(max_length=200)] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    image: Id | None = None


class Metrics(Message):
    rows: list[dict[str, Any]]
    next: int
    """Give it as `after` to read on."""


@router.get("/info")
async def info(core: Served) -> dict[str, Any]:
    """The server in a few words, and where its events are now."""
    limits = ("queue", "samples", "pixels", "body", "upload")
    return {
        "version": __version__,
        "studio": core.settings.studio,
        "train": core.catalog.runs is not None,
        "kinds": list(KINDS),
        "data": list(core.builtin),
        "presets": config.presets(),
        "limits": {word: getattr(core.settings, word) for word in limits},
        "cursor": core.hub.last,
    }


@router.get("/models", response_model=Models)
async def models(core: Served) -> Any:
    """The models that can be asked."""
    return {"models": [model.public for model in core.catalog.models()]}


@router.get("/models/{name}/sheet", response_class=FileResponse)
async def cover(name: str, core: Served) -> Response:
    """Pictures that it made."""
    path = core.catalog[name].cover()
    if path is None:
        raise Missing(f"{name} has no pictures yet", field="name")
    return FileResponse(path, media_type=f"image/{path.suffix[1:]}")


@router.get("/schema/{verb}")
async def schema(verb: Verb) -> dict[str, Any]:
    """The JSON Schema of a verb's settings; of explain, one for each subject."""
    return dict(config.subjects() if verb not in HIDDEN else public_schema(verb))


@router.post("/explain")
async def explain(question: Question, request: Request, core: Served) -> dict[str, Any]:
    """Charts, pictures and movies, computed now; see docs/explain.md."""
    inputs: Any = {"image": question.image} if question.image else {}
    settings = {**question.settings, "what": question.what}
    wish = Wish(kind="explain", model=question.model, settings=settings, inputs=inputs, priority=10)
    job, _ = await core.submit(wish)
    told = await done(core, request, job, PATIENCE)
    await core.store.write(lambda db: db.execute("DELETE FROM jobs WHERE id = ?", (job,)))
    found: dict[str, Any] = told["result"]["explanation"]
    return found


# -- runs --------------------------------------------------------------------------------------------------
@router.get("/runs")
async def runs(core: Served) -> dict[str, Any]:
    """Trainings, the newest first."""
    jobs, titles = _training(core), _titles(core)
    return {"runs": [_run(run, jobs, titles) for run in runs_of(core.catalog.runs)]}


@router.get("/runs/{name}")
async def run(name: str, core: Served) -> dict[str, Any]:
    """One of them, with its settings and the sheets it drew."""
    path = run_path(core.catalog.runs, name)
    report = f"/api/runs/{name}/report" if (path / "report.html").is_file() else None
    settings = {key: value for key, value in settings_of_run(path).items() if key != "data"}
    row = _run(path, _training(core), _titles(core))
    return row | {"settings": settings, "samples": samples(path), "report": report}


@router.get("/runs/{name}/metrics", response_model=Metrics)
async def metrics(name: str, core: Served, after: Annotated[int, Query(ge=0, lt=2**63)] = 0) -> Any:
    """What it logged since."""
    rows, further = metrics_of(run_path(core.catalog.runs, name), after)
    return {"rows": rows, "next": further}


@router.get("/runs/{name}/samples/{step}", response_class=FileResponse)
async def sheet(name: str, step: int, core: Served) -> Response:
    """What it drew at a step, a PNG."""
    try:
        path = dict(samples_of(run_path(core.catalog.runs, name))).get(step)
    except Missing:
        path = dict(core.catalog[name].samples()).get(step)
    if path is None:
        raise Missing(f"{name} drew nothing at step {step}", field="step")
    return FileResponse(path, media_type="image/png")


@router.get("/runs/{name}/report", response_class=FileResponse)
async def report(name: str, core: Served) -> Response:
    """Its report, a page without scripts."""
    path = run_path(core.catalog.runs, name) / "report.html"
    if not path.is_file():
        raise Missing(f"{name} has no report yet", field="run", hint="unstir report RUN writes it")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
    return FileResponse(path, media_type="text/html", headers={"content-security-policy": policy})


def _training(core: Served) -> dict[str, tuple[str, str]]:
    """{run: (job, state)} of the newest job of each run."""
    query = "SELECT id, state, asked FROM jobs WHERE kind = 'train' ORDER BY number"
    return {decoded(row["asked"])["more"]["run"]: (row["id"], row["state"]) for row in core.store.rows(query)}


def _titles(core: Served) -> dict[str, str]:
    """{data set: what it is called} of those that were uploaded."""
    return {row["id"]: row["name"] for row in core.store.rows("SELECT id, name FROM datasets")}


def _run(path: Path, jobs: dict[str, tuple[str, str]], titles: dict[str, str]) -> dict[str, Any]:
    told = summary(path)
    told["data"] = titles.get(told["data"], told["data"])
    job, state = jobs.get(path.name, (None, "done" if (told["fraction"] or 0) > NEARLY else "cancelled"))
    active = state in ("queued", "running")
    return told | {"job": job if active else None, "state": STATES.get(state, state)}
