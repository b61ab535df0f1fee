"""What goes over the wire, in both directions: checked on the way in, documented by OpenAPI, typed for clients."""

from __future__ import annotations

import json
from abc import ABC
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = [
    "Board",
    "Fault",
    "File",
    "Item",
    "Items",
    "Job",
    "Jobs",
    "ModelInfo",
    "Models",
    "Progress",
    "Result",
    "Wish",
]

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["5f0c3ad1b2e497c86a10de27"])]
DEEPEST = 32
"""Levels of lists and objects in what comes in."""


def _is_within(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels >= 0 and all(_is_within(one, levels - 1) for one in inner)


class Message(BaseModel, ABC):
    """Whatever is said; what is written below a field tells OpenAPI what it is."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Strict(Message, ABC):
    """What comes in: nothing but what is known, and what can be said again."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _can_be_said(cls, value: Any) -> Any:
        """No deeper than can be walked, of numbers and letters that exist."""
        if not _is_within(value, DEEPEST):
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        json.dumps(value, allow_nan=False, ensure_ascii=False, default=lambda _: None).encode()
        return value


class Wish(Strict):
    """A job that somebody would like to have done."""

    kind: Literal["sample", "edit", "upscale", "restore", "plot", "train", "evaluate", "data", "explain"]
    model: Annotated[str, Field(max_length=200)] | None = None
    """The name of a model in GET /api/models."""
    settings: dict[str, Any] = {}
    """As KEY=VALUE of the command of the same name: {"prompt": "red heart", "n": 4, "steps": 20}."""
    inputs: dict[Literal["image", "mask"], Id] = {}
    """Ids of uploads or of pictures made here; white in the mask is repainted."""
    parent: Id | None = None
    """The picture that this one comes from."""
    board: Id | None = None
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    deadline: Annotated[float, Field(gt=0, le=7 * 86400)] | None = None
    """Seconds from now after which nobody wants it any more."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"kind": "sample", "model": "emoji", "settings": {"prompt": "red heart", "n": 4, "seed": 7}},
                {
                    "kind": "edit",
                    "model": "emoji",
                    "inputs": {"image": "5f0c3ad1b2e497c86a10de27"},
                    "settings": {"strength": 0.5, "prompt": "blue heart"},
                },
            ]
        },
    )


class FaultDetail(Message):
    """What was got, what is accepted, what to do."""

    code: str
    message: str
    field: str | None = None
    hint: str | None = None


class Fault(Message):
    """The body of every answer that is an error."""

    error: FaultDetail


class Progress(Message):
    """How far a running job is."""

    step: int = 0
    steps: int = 0
    done: int = 0
    n: int = 0
    fraction: float = 0.0
    eta: float | None = None
    """Seconds that are left, as far as one can tell."""
    text: str = ""


class Item(Message):
    """A picture that was made here."""

    id: str
    job: str
    index: int
    url: str
    thumb: str
    width: int
    height: int
    kind: str
    model: str
    seed: int | None = None
    prompt: str | None = None
    label: int | str | None = None
    settings: dict[str, Any]
    """What makes exactly this picture again, as a job of its kind."""
    inputs: dict[str, str]
    parent: str | None
    command: str | None
    """The command line that makes it again."""
    starred: bool
    board: str | None
    created: float
    deleted: float | None
    seconds: float | None = None


class Result(Message):
    """What came of a job; which fields beside `items` there are depends on its kind."""

    items: list[Item] = []
    model_config = ConfigDict(extra="allow")


class Job(Message):
    """A job and where it stands."""

    id: str
    kind: str
    model: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    parent: str | None
    board: str | None
    priority: int
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    attempt: int
    created: float
    started: float | None
    ended: float | None
    position: int | None
    """How many jobs are before it; None: it does not wait."""
    progress: Progress | None
    result: Result | None
    error: FaultDetail | None


class Jobs(Message):
    jobs: list[Job]
    next: str | None
    """Give it as `before` to read on."""


class Items(Message):
    items: list[Item]
    next: str | None


class ModelInfo(Message):
    """A model that is served."""

    name: str
    kind: str
    task: str
    size: tuple[int, int]
    """(height, width)"""
    channels: int
    prompt: bool
    """Whether it reads prompts."""
    classes: list[str]
    parameters: int
    bytes: int
    created: float
    steps: int | None
    """How long it was trained."""
    defaults: dict[str, Any]
    metrics: dict[str, float]
    sheet: str | None
    source: str
    shipped: bool


class Models(Message):
    models: list[ModelInfo]


class File(Message):
    """Something uploaded."""

    id: str
    kind: Literal["image"]
    type: str
    width: int
    height: int
    bytes: int
    recipe: dict[str, Any] | None
    """How it was made, where it is one of ours."""
    remake: str | None
    """The command line that makes it again."""


class Board(Message):
    id: str
    name: str
    count: int = 0
