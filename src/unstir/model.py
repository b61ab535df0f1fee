"""What a model file holds, how it is written and read, and where a name finds it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from .classifier import NoisyClassifier
from .codecs import IdentityConfig, ScaleConfig
from .denoiser import Preconditioned
from .embedders import LabelConfig, Spatial
from .errors import CheckpointError, IncompatibleError, did_you_mean
from .files import read_header, verify_file
from .guidance import Linear, Rule
from .guidance.base import check_interval
from .networks import ClassifierConfig
from .networks.base import NetworkConfig
from .parameterization import Parameterization
from .process import Gaussian, Schedule
from .solvers import DPMpp2M
from .solvers.base import Solver
from .spec import dump, load as read_settings
from .tensors import load_tensors, save_tensors

__all__ = ["FORMAT", "Defaults", "ModelConfig", "find_model", "read_model", "write_model"]

FORMAT = 1
"""Version of the model file; a newer one is refused."""


@dataclass(frozen=True)
class Defaults:
    """How a model is sampled unless asked otherwise."""

    solver: Solver = DPMpp2M()
    """The method that steps from noise to data."""
    grid: str = "uniform"
    """Where the steps fall: a name of `unstir.times`, or optimised: through `times`."""
    steps: int = 20
    times: tuple[float, ...] = ()
    """From 1 to 0, what `unstir tune` found; another number of steps is interpolated between them."""
    guidance: float = 1.0
    """How far from the weaker opinion: 1 = not at all."""
    interval: tuple[float, float] = (0.0, 1.0)
    """The times between which guidance acts."""
    rule: Rule = Linear()
    """How guidance combines the two opinions."""
    weaker: str = "unconditional"
    """Whose opinion guidance moves away from: the model's own without the condition, without "attention", without
    "layers" (or "layers:3,4"), or that of a worse model: RUN@STEP, or a model file."""
    classifier: str = ""
    """A classifier of noisy data, RUN@STEP or a file, whose gradient guidance follows in place of a weaker opinion."""
    threshold: float = 0.0
    """Percentile of dynamic thresholding, 0 = off."""
    micro_batch: int = 16
    """Samples per network call in exact mode: always this many, padded, so that no neighbour changes a bit."""

    def __post_init__(self) -> None:
        check_interval(self.interval)

    @classmethod
    def of(cls, sampling: Any) -> Defaults:
        """From an object with fields of the same names; what it leaves None stays as it is here."""
        given = {f.name: getattr(sampling, f.name, None) for f in fields(cls)}
        return cls(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class ModelConfig:
    """Everything but the weights: what the header of a model file holds."""

    network: NetworkConfig | ClassifierConfig
    """A classifier's network makes it a classifier of noisy data, which guides and generates nothing."""
    schedule: Schedule
    parameterization: Parameterization
    sigma_data: float
    codec: ScaleConfig | IdentityConfig
    shape: tuple[int, ...]
    """(C, *S) of x_0."""
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    embedder: LabelConfig | None = None
    spatial: Spatial | None = None
    """What it is told of a picture that it restores; None: it generates freely."""
    variance: bool = False
    """Whether the network also says how uncertain x_0 is: twice the channels of output."""
    defaults: Defaults = Defaults()
    kind: str = "image"
    source: str = ""
    """The name of the data it was trained on."""

    def build(self, dtype: torch.dtype | None = None) -> Preconditioned | NoisyClassifier:
        """The denoiser, or the classifier, with fresh weights."""
        process = Gaussian(self.schedule.build())
        if isinstance(self.network, ClassifierConfig):
            classifier = self.network.build(self.shape[0], self.shape[1:], len(self.classes))
            return NoisyClassifier(classifier, process, self.sigma_data, dtype)
        embedder = self.embedder.build(len(self.classes)) if self.embedder and self.classes else None
        width = self.embedder.width if self.embedder and self.classes else 0
        out = self.shape[0] * (2 if self.variance else 1)
        network = self.network.build(self.shape[0], self.shape[1:], width, out)
        network.to(memory_format=network.memory_format)  # type: ignore[call-overload]
        return Preconditioned(
            network, process, self.parameterization, self.sigma_data, dtype, embedder, self.variance
        )


def write_model(path: Path, name: str, config: ModelConfig, module: torch.nn.Module) -> None:
    """Write weights and config at `path`; not atomic, for use inside one atomic write."""
    document = {"format": FORMAT, "name": name, "config": dump(config, ModelConfig)}
    save_tensors(path, module.state_dict(), {"unstir": document})


def read_model(path: Path) -> tuple[str, ModelConfig, Preconditioned | NoisyClassifier]:
    """The model's name, its config, and its module with its weights.

    Raises:
        CheckpointError: the file is missing, damaged, not ours or newer than this unstir.
    """
    name, config, module = _described(path)
    if problem := verify_file(path):
        raise CheckpointError(problem, field=str(path), hint="use an earlier checkpoint: RUN@STEP")
    module.load_state_dict(load_tensors(path, module.state_dict()))
    return name, config, module


def _described(path: Path) -> tuple[str, ModelConfig, Preconditioned | NoisyClassifier]:
    """The model's name and config, from the header of its file, and its module without its weights yet."""
    text = read_header(path).metadata.get("unstir")
    if text is None:
        raise CheckpointError(
            f"{path} was not written by unstir",
            field=str(path),
            hint="give a run directory or a model.safetensors of one",
        )
    try:
        document = json.loads(text)
        version, name, settings = int(document["format"]), str(document["name"]), document["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is damaged", field=str(path)) from error
    if version > FORMAT:
        raise IncompatibleError(
            f"{path} has model format {version}, this unstir reads up to {FORMAT}",
            field=str(path),
            hint="install a newer unstir",
        )
    try:
        config = read_settings(settings, ModelConfig)
        return name, config, config.build()
    except Exception as error:  # settings of a strange file may make any part object in its own way
        raise CheckpointError(f"{path}: its settings describe no model: {error}", field=str(path)) from error


def find_model(model: str | Path, root: Path = Path("runs")) -> Path:
    """The model file that a name means: RUN, RUN@STEP, RUN@last, a checkpoint folder or a .safetensors file."""
    path = Path(model).expanduser()
    if path.is_file():
        return path
    name, at, step = str(model).rpartition("@")
    if not at or path.is_dir() or (root / path).is_dir():  # an @ may be part of the name
        name, step = str(model), ""
    for run in (Path(name).expanduser(), root / name):
        if (run / "model.safetensors").is_file():
            return run / "model.safetensors"
        folder = run / "checkpoints"
        if not folder.is_dir() and not (run / "config.yaml").is_file():
            continue
        found = folder / ("last" if step in ("", "last") else f"step-{step}") / "model.safetensors"
        if found.is_file():
            return found
        known = sorted(int(p.name[5:]) for p in folder.glob("step-*") if p.name[5:].isdecimal())
        if not known:
            raise CheckpointError(
                f"{run} has no checkpoint yet", field="model", hint="wait for its first one, or train it on"
            )
        if step in ("", "last"):  # the link is missing or dangles: the newest one is what it meant
            return folder / f"step-{known[-1]}" / "model.safetensors"
        raise CheckpointError(
            f"{run} has no checkpoint of step {step}",
            field="model",
            hint="it has " + ", ".join(f"{name}@{k}" for k in known),
        )
    # a folder of a training that was refused holds no run
    runs = sorted({p.parent.name for word in ("config.yaml", "checkpoints") for p in root.glob(f"*/{word}")})
    hint = did_you_mean(name, runs, "run") if runs else "give a run directory or a .safetensors file"
    raise CheckpointError(f"there is no model {str(model)!r}", field="model", hint=hint)
