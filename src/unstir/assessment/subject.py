"""Who is judged, and by which data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import config
from ..addresses import SHIPPED
from ..data import Dataset, open_data, spread
from ..errors import CheckpointError, ConfigError, DataError, IncompatibleError
from ..evaluate import Drawn
from ..files import read_json
from ..model import find_model, run_of
from ..pipeline import Pipeline, load
from ..recipes import Evaluation
from ..recipes.base import Sampling

__all__ = ["Subject", "data_of", "open_subject"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, or samples that were drawn elsewhere."""

    name: str
    digest: str
    path: Path | None = None
    """The model's file, or that of the samples; None: it is in memory."""
    pipe: Pipeline | None = None
    drawn: Drawn | None = None
    notes: tuple[str, ...] = ()

    @property
    def run(self) -> Path | None:
        """The run whose model it is."""
        run = run_of(self.path) if self.path and self.pipe else None
        return run if run and (run / "config.yaml").is_file() else None

    @property
    def folder(self) -> Path | None:
        """Where its results go: beside the model; for one that came with the package, here."""
        if self.path is None:
            return None
        return Path("eval") if self.path.parent == SHIPPED else (self.run or self.path.parent) / "eval"

    @property
    def step(self) -> int | None:
        """Of its training, where a run's file says so."""
        names = "/".join(self.path.parts[-2:]) if self.path and self.run else ""
        found = re.search(r"step-(\d+)", names)
        return int(found[1]) if found else None

    @property
    def fingerprint(self) -> str | None:
        """Of the data that it was trained on, where its checkpoint says so."""
        with suppress(CheckpointError, KeyError, TypeError):
            if self.run is not None:
                state = self.run / "checkpoints" / f"step-{self.step}" / "state.json"
                return str(read_json(state)["meta"]["fingerprint"])
        return None


def open_subject(model: str | Path | Pipeline, request: Evaluation) -> tuple[Subject, Dataset, Dataset]:
    if isinstance(model, Pipeline):
        subject = Subject(model.name, model.digest, pipe=model)
    elif _are_samples(Path(model).expanduser()):
        return _open_samples(Path(model).expanduser(), request)
    else:
        device = "cuda" if torch.cuda.is_available() and not request.exact else None
        pipe = load(model, device)
        subject = Subject(str(model), pipe.digest, find_model(model).resolve(), pipe)
    assert subject.pipe is not None
    subject.pipe.condition(None)  # raises for a classifier, and where the model has to be told of a picture
    return subject, *data_of(subject, subject.pipe, request)


def _are_samples(path: Path) -> bool:
    """Whether it is an .npz file or a folder, and no model's."""
    own = ("model.safetensors", "checkpoints", "config.yaml")
    return path.suffix == ".npz" or (path.is_dir() and not any((path / name).exists() for name in own))


def data_of(subject: Subject, pipe: Pipeline, request: Evaluation) -> tuple[Dataset, Dataset]:
    """The data as the model was trained on it: of its size and channels, the same items held out."""
    model, source = pipe.config, request.data or pipe.config.source
    if not source:
        raise ConfigError(
            f"{subject.name} does not say what it was trained on", field="data", hint="give data=photos/"
        )
    square = model.kind == "image" and model.size[1] == model.size[2]
    # one that reads ignores labels, but what tells classes apart tells more of its pictures
    wanted: dict[str, Any] = {"labels": bool(model.classes) or model.prompt is not None, "heldout": None}
    if square:
        wanted |= {"size": model.size[1], "channels": model.size[0]}
    if subject.run is not None:
        trained = config.read_file(subject.run / "config.yaml").values.get("data") or {}
        words = ("size", "channels", "labels", "max_bad", "heldout")
        wanted |= {word: trained[word] for word in words if trained.get(word) is not None}
    if request.heldout is not None:
        wanted["heldout"] = request.heldout
    try:
        train, heldout = open_data(source, **wanted)
    except DataError as error:
        if request.data is not None:
            raise
        raise DataError(
            f"the data that {subject.name} was trained on: {error.message}",
            field="data",
            hint="say where it is now: data=...",
        ) from error
    found = train.info
    if (found.kind, found.shape) != (model.kind, model.size):
        raise IncompatibleError(
            f"{source} is {found.kind} of shape {found.shape}, the model's data {model.kind} of shape {model.size}",
            field="data",
            hint="give data of the model's kind; pictures are resized where the model's are square",
        )
    return train, heldout


def _open_samples(path: Path, request: Evaluation) -> tuple[Subject, Dataset, Dataset]:
    """Samples that were drawn elsewhere, and data of their size."""
    if request.data is None:
        raise ConfigError(
            f"{path} holds samples, and nothing to compare them with",
            field="data",
            hint=f"give it: unstir evaluate {path} data=photos/",
        )
    for word in ("label", "prompt", "sweep"):
        if getattr(request, word) is not None:
            raise ConfigError(f"{word} is for models", field=word, hint=f"{path} holds samples: leave it out")
    if request.sampling != Sampling():
        raise ConfigError(
            f"{path} holds samples: they are drawn already", field="sampling", hint="leave sampling.* out"
        )
    train, heldout = open_data(request.data, heldout=request.heldout)
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    prompts: list[str] | None = None
    if train.info.kind == "points":
        x, y = _points(path, train.info.shape), None
    else:
        found = open_data(path, channels=train.info.shape[0], heldout=0)[0]
        _, height, width = found.info.shape
        if found.info.shape != train.info.shape and height == width:
            train, heldout = open_data(
                request.data, size=height, channels=train.info.shape[0], heldout=request.heldout
            )
        x, y, classes = np.asarray(found.x), found.y, found.info.classes
        prompts = found.texts if found.info.captions == len(found) else None
        notes = tuple(f"{path}: {note}" for note in found.info.notes)
    if x.shape[1:] != train.items.pixels.shape[1:]:
        raise IncompatibleError(
            f"{path} holds samples of shape {x.shape[1:]}, {request.data} items of {train.items.pixels.shape[1:]}",
            field="data",
            hint="give the data that they should look like; square pictures are resized to their size",
        )
    wanted = len(x) if request.n is None else request.n
    if not 2 <= wanted <= len(x):
        raise ConfigError(
            f"n={wanted}, and {path} holds {len(x):,}",
            field="n",
            hint="leave n out to take all" if len(x) > 1 else "numbers of samples take 2 or more: give more",
        )
    digest = hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()
    rows = spread(len(x), wanted)
    if y is not None:
        numbers = _numbers_of(classes, train.info.classes)
        if numbers is None:
            notes = (*notes, f"the classes of {path} are not those of {request.data}: they count for nothing")
        y = None if numbers is None else numbers[y[rows]]
    texts = None if prompts is None else tuple(prompts[row] for row in rows)
    drawn = Drawn(x[rows], y, prompts=texts)
    return Subject(str(path), digest, path.resolve(), drawn=drawn, notes=notes), train, heldout


def _points(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """x of an .npz file, float (N, D)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = arrays["x"]
    except Exception as error:  # what a strange file makes numpy raise has no end
        raise DataError(
            f"cannot read {path}: {error}", field="model", hint="give an .npz file with x"
        ) from error
    if x.ndim != 2 or x.dtype.kind != "f" or not np.isfinite(x).all():
        raise DataError(
            f"{path}: x is {x.dtype} of shape {x.shape}",
            field="model",
            hint=f"give finite points, (N, {shape[0]})",
        )
    return x.astype(np.float32)


def _numbers_of(classes: Sequence[str], known: Sequence[str]) -> np.ndarray | None:
    """The numbers of classes among the known ones, by name, or where they are numbers themselves; None: neither."""
    if classes and set(classes) <= set(known):
        return np.array([known.index(name) for name in classes])
    if classes and all(name.isdecimal() and int(name) < len(known) for name in classes):
        return np.array([int(name) for name in classes])
    return None
