"""What an explanation is made of, and what explains: a subject, whose settings are its fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..pipeline import Pipeline
from ..process import Gaussian, Schedule
from ..process.base import unsqueeze_like
from ..spec import Range, dump, name, validate
from .drawing import data_url

__all__ = [
    "Chart",
    "Cloud",
    "Explanation",
    "Movie",
    "Picture",
    "Scatter",
    "Seed",
    "Subject",
    "Table",
    "check_length",
    "gaussian",
    "numbers",
    "said",
    "some",
    "visible",
]

Seed = Annotated[int, Range(ge=0, lt=2**63)]
MOST = {bool: 1, int: 1000, float: 1e4}
"""What numbers of schedules and solvers may be at most, for want of ranges of their own."""
FRAMES = 41
"""What a movie has at most: more steps are shown every second one, every third one, ..."""


Values = Sequence[float] | Tensor


@dataclass(frozen=True)
class Chart:
    """Curves over one x; NaN where a curve has no value."""

    title: str
    x_label: str
    x: Values
    y_label: str
    curves: Mapping[str, Values]
    log_x: bool = False
    log_y: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "x": {"label": self.x_label, "values": numbers(self.x), "log": self.log_x},
            "y": {"label": self.y_label, "log": self.log_y},
            "curves": [{"name": word, "values": numbers(values)} for word, values in self.curves.items()],
        }


@dataclass(frozen=True)
class Picture:
    """uint8 (H, W, C)."""

    title: str
    pixels: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        height, width = self.pixels.shape[:2]
        return {"title": self.title, "src": data_url(self.pixels), "width": width, "height": height}


@dataclass(frozen=True)
class Movie:
    """Frames uint8 (H, W, C), with a line of text to each."""

    title: str
    frames: Sequence[np.ndarray]
    labels: Sequence[str]
    fps: int = 8

    def to_dict(self) -> dict[str, Any]:
        frames = [data_url(frame, "webp") for frame in self.frames]
        return {"title": self.title, "frames": frames, "labels": list(self.labels), "fps": self.fps}


@dataclass(frozen=True)
class Scatter:
    """Points (N, 2) at one time, and arrows (M, 4): x, y, dx, dy."""

    label: str
    points: np.ndarray
    arrows: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        arrows = None if self.arrows is None else _short(self.arrows)
        return {"label": self.label, "points": _short(self.points), "arrows": arrows}


@dataclass(frozen=True)
class Cloud:
    """Points that move: row i of every frame is the same particle, of group `groups[i]`."""

    title: str
    frames: Sequence[Scatter]
    groups: Sequence[int] | None = None
    reach: float = 3.0
    """What is shown is [-reach, reach]^2."""
    fps: int = 8

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "x": [-self.reach, self.reach],
            "y": [-self.reach, self.reach],
            "frames": [frame.to_dict() for frame in self.frames],
            "groups": None if self.groups is None else list(self.groups),
            "fps": self.fps,
        }


@dataclass(frozen=True)
class Table:
    """Rows of numbers and words."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_dict(self) -> dict[str, Any]:
        return {"head": list(self.head), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True)
class Explanation:
    """What a subject shows: words, curves, pictures, movies, points in motion, numbers."""

    what: str
    title: str
    text: str
    settings: Mapping[str, Any]
    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()
    movies: Sequence[Movie] = ()
    clouds: Sequence[Cloud] = ()
    table: Table | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; pictures are data URLs."""
        return {
            "what": self.what,
            "title": self.title,
            "text": self.text,
            "settings": dict(self.settings),
            "charts": [chart.to_dict() for chart in self.charts],
            "pictures": [picture.to_dict() for picture in self.pictures],
            "movies": [movie.to_dict() for movie in self.movies],
            "clouds": [cloud.to_dict() for cloud in self.clouds],
            "table": None if self.table is None else self.table.to_dict(),
        }


class Subject(ABC):
    """Something to explain: a frozen dataclass of settings, each with a default and a limit.

    Whatever is shown is computed by the process, the solvers and the denoisers of the library.
    """

    title: ClassVar[str]
    place: ClassVar[int]
    """Where it comes in a course."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range, or far too large here."""
        validate(self)
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            for part in value if isinstance(value, tuple) else (value,):
                if is_dataclass(part):
                    _require_small(part, f.name)

    @abstractmethod
    def explain(self, pipe: Pipeline | None = None, picture: np.ndarray | None = None) -> Explanation:
        """Computes what there is to see.

        Args:
            pipe: a model; where one is needed and none is given, the one that comes with the package.
            picture: uint8 (H, W, C), a picture of one's own.
        """

    @classmethod
    def what(cls) -> str:
        """The word it is chosen by."""
        return name(cls).lower()

    def settled(self) -> dict[str, Any]:
        """Its settings as plain data."""
        return dump(self, type(self))

    def explanation(self, text: str, **parts: Any) -> Explanation:
        """An explanation by it, of these parts."""
        return Explanation(self.what(), self.title, text, self.settled(), **parts)


def _require_small(component: object, field: str) -> None:
    """ConfigError for a count or a number, in a component or in one that it holds, that would cost minutes."""
    for f in fields(component):  # type: ignore[arg-type]
        value, path = getattr(component, f.name), f"{field}.{f.name}"
        if is_dataclass(value):
            _require_small(value, path)
        elif isinstance(value, (int, float)) and abs(value) > (most := MOST[type(value)]):
            raise ConfigError(
                f"{path} is {value}", field=path, hint=f"accepted in an explanation: at most {most:g}"
            )


def gaussian(schedule: Schedule) -> Gaussian:
    """Its process; raises ConfigError where alpha or sigma is no number, or alpha is 0 before t = 1."""
    process, t = Gaussian(schedule.build()), torch.linspace(0, 1, 1001, dtype=torch.float64)
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    if not bool(alpha.isfinite().all() and sigma.isfinite().all() and (alpha[:-1] > 0).all()):
        hint = "choose less extreme numbers"
        raise ConfigError(f"{said(schedule)} loses all of the data before t = 1", field="schedule", hint=hint)
    return process


def numbers(values: Values) -> list[float | None]:
    """Five digits each; None where a value is not finite: JSON has no word for it."""
    x = torch.as_tensor(values, dtype=torch.float64).detach()
    return [
        float(f"{v:.5g}") if finite else None
        for v, finite in zip(x.tolist(), x.isfinite().tolist(), strict=True)
    ]


def _short(x: np.ndarray) -> list[list[float]]:
    """Two decimals: less than a pixel of any screen."""
    return np.asarray(x, np.float64).round(2).tolist()


def said(component: object) -> str:
    """A component as people name it, with the fields that are not at their default: `Cosine(offset=0.008)`."""
    assert is_dataclass(component)
    values = ((f.name, f.default, getattr(component, f.name)) for f in fields(component))
    changed = [f"{word}={said(v) if is_dataclass(v) else v}" for word, usual, v in values if v != usual]
    return name(type(component)) + (f"({', '.join(changed)})" if changed else "")


def some(count: int) -> list[int]:
    """Which of `count` frames a movie shows: all, or every second, third, ..., always the last."""
    every = -(-(count - 1) // (FRAMES - 1)) or 1
    return sorted({*range(0, count, every), count - 1})


def visible(x: Tensor, process: Gaussian, t: Tensor) -> Tensor:
    """x_t / max(1, sqrt(alpha^2 + sigma^2)): what a schedule that lets variance grow needs in order to be seen."""
    size = torch.hypot(process.schedule.alpha(t), process.schedule.sigma(t)).clamp(min=1)
    return x / unsqueeze_like(size, x)


def check_length(field: str, entries: Sequence[Any], most: int) -> None:
    """ConfigError unless a list has from 1 to `most` entries."""
    if not 1 <= len(entries) <= most:
        raise ConfigError(f"{field} has {len(entries)} entries", field=field, hint=f"accepted: 1 to {most}")
