"""The models there are: the shipped ones, the runs of a folder, and those named on the command line.

Read from the headers of their files: nothing here knows torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..addresses import SHIPPED, find_checkpoint, find_file, read_address
from ..errors import CheckpointError, ConfigError, UnstirError, did_you_mean
from ..files import read_header, read_json

__all__ = ["Catalog", "Missing", "Model"]

KINDS = {"Classifier": "classifier", "VAE": "autoencoder", "VQVAE": "autoencoder", "Consistency": "decoder"}
"""What networks that do not generate are for."""
SPATIAL = {"LowResolution": "upscale", "Masked": "inpaint"}
"""What models do that are told of a picture."""
DEFAULTS = ("steps", "guidance", "solver", "grid", "micro_batch")


class Missing(UnstirError):
    """There is nothing of this name."""

    code = "missing"


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the header of a model's file says of it."""

    name: str
    path: Path
    run: Path | None
    kind: str
    task: str
    size: tuple[int, int]
    channels: int
    prompt: bool
    classes: tuple[str, ...]
    parameters: int
    bytes: int
    created: float
    steps: int | None
    defaults: Mapping[str, Any]
    source: str

    @property
    def public(self) -> dict[str, Any]:
        """What is told of it; never where it lies."""
        hidden = ("path", "run")
        told = {word: value for word, value in vars(self).items() if word not in hidden}
        return told | {
            "shipped": self.shipped,
            "metrics": self._metrics(),
            "sheet": self._sheet(),
        }

    def _metrics(self) -> dict[str, float]:
        """The newest numbers that `unstir evaluate` measured of it."""
        found: dict[str, float] = {}
        if self.shipped:
            files = [self.path.with_suffix(".json")]
        else:
            files = sorted((self.run / "eval").glob("*.json"), key=_changed) if self.run else []
        for file in files[-4:]:
            with suppress(UnstirError, KeyError, TypeError, ValueError):
                found |= {str(one["name"]): float(one["value"]) for one in read_json(file)["numbers"]}
        return found

    def _sheet(self) -> str | None:
        return f"/api/models/{self.name}/sheet" if self.cover() else None

    def cover(self) -> Path | None:
        """A picture of what it makes."""
        beside = self.path.with_suffix(".webp")
        newest = [path for _, path in self.samples()][-1:]
        return beside if self.shipped and beside.is_file() else newest[0] if newest else None

    @property
    def shipped(self) -> bool:
        return self.path.parent == SHIPPED

    def samples(self) -> list[tuple[int, Path]]:
        """The sheets that were drawn while it trained: (step, file)."""
        return samples_of(self.run) if self.run else []


def samples_of(run: Path) -> list[tuple[int, Path]]:
    """The sheets drawn while a run trained, by their steps."""
    files = {path.stem.removeprefix("step-"): path for path in (run / "samples").glob("step-*.png")}
    return sorted((int(step), path) for step, path in files.items() if step.isdecimal())


class Catalog:
    """The models by name.

    Args:
        named: names or paths of models to serve.
        runs: a folder of runs, all of which are served; None: none but the named ones.
        shipped: whether the models that come with the package are served.
    """

    def __init__(self, named: Sequence[str], runs: Path | None, shipped: bool) -> None:
        self.runs, self.shipped = runs, shipped
        self.named = {_name(model): model for model in named}
        self._read: dict[Path, tuple[int, Model]] = {}
        for model in named:
            _described(_name(model), self._find(model))  # raises where there is none

    def names(self) -> list[str]:
        folder = self.runs
        runs = [path.parent.name for path in sorted(folder.glob("*/checkpoints"))] if folder else []
        shipped = sorted(path.stem for path in SHIPPED.glob("*.safetensors")) if self.shipped else []
        return list(dict.fromkeys((*self.named, *shipped, *runs)))

    def models(self) -> list[Model]:
        """All that can be read; a run without a checkpoint yet, or a broken one, is none."""
        found = []
        for name in self.names():
            with suppress(UnstirError, OSError):
                found.append(self[name])
        return found

    def __getitem__(self, name: str) -> Model:
        """The model of this name; raises Missing."""
        names = self.names()
        if name not in names:
            raise Missing(
                f"there is no model {name!r}", field="model", hint=did_you_mean(name, names, "model")
            )
        path = self._find(self.named.get(name, name))
        changed = path.stat().st_mtime_ns
        known = self._read.get(path)
        if known is None or known[0] != changed:
            known = self._read[path] = changed, _described(name, path)
        return known[1]

    def _find(self, model: str) -> Path:
        root = self.runs or Path("runs")
        found = find_file(model, root)
        return (found or find_checkpoint(read_address(model, root), root) / "model.safetensors").resolve()


def _name(model: str) -> str:
    path = Path(model)
    if path.name == "model.safetensors":
        path = path.resolve().parents[2]
    return path.stem if path.suffix == ".safetensors" else path.name


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _described(name: str, path: Path) -> Model:
    header = read_header(path)
    try:
        config = json.loads(header.metadata["unstir"])["config"]
        network, spatial = config["network"]["name"], (config.get("spatial") or {}).get("name")
        channels, *size = config.get("data_shape") or config["shape"]
        classes = tuple(map(str, config["classes"]))
        defaults = {word: config["defaults"][word] for word in DEFAULTS if word in config["defaults"]}
        kind, prompt, source = str(config["kind"]), config.get("prompt") is not None, str(config["source"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{name}: the header of its file is damaged", field="model") from error
    step = path.parent.name.removeprefix("step-")
    stat = path.stat()
    return Model(
        name=name,
        path=path,
        run=path.parents[2] if path.parents[1].name == "checkpoints" else None,
        kind=kind,
        task=KINDS.get(network) or SPATIAL.get(spatial or "") or "generate",
        size=(size[0], size[1]) if len(size) == 2 else (1, 1),
        channels=channels,
        prompt=prompt,
        classes=classes,
        parameters=sum(math.prod(shape) for _, shape in header.tensors.values()),
        bytes=stat.st_size,
        created=stat.st_mtime,
        steps=int(step) if step.isdecimal() else None,
        defaults=defaults,
        source=source,
    )


def require_task(model: Model, tasks: Sequence[str], verb: str) -> None:
    """Raises ConfigError unless the model is for one of these."""
    if model.task not in tasks:
        raise ConfigError(
            f"{model.name} is made to {model.task}, and this is to {verb}",
            field="model",
            hint="choose a model of: " + ", ".join(tasks),
        )
