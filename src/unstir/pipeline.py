"""A trained model as one object and one file: codec + embedder + denoiser + sampling defaults."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import times
from .codecs import Codec, IdentityConfig, ScaleConfig
from .condition import Condition
from .denoiser import Denoiser, Preconditioned
from .embedders import Label, LabelConfig
from .errors import CheckpointError, ConfigError, IncompatibleError, did_you_mean
from .files import read_header, sha256, verify_file, write_atomic
from .guidance import ClassifierFree
from .networks.base import NetworkConfig, count_parameters
from .parameterization import Parameterization
from .process import Gaussian, Schedule
from .rng import Rng
from .sampling import sample
from .solvers import DPMpp2M
from .solvers.base import Solver, Step
from .spec import choices, dump, load as read_settings
from .tensors import load_tensors, save_tensors

__all__ = ["FORMAT", "Defaults", "ModelConfig", "Pipeline", "Samples", "find_model", "load"]

FORMAT = 1
"""Version of the model file; a newer one is refused."""


@dataclass(frozen=True)
class Defaults:
    """How a model is sampled unless asked otherwise."""

    solver: Solver = DPMpp2M()
    grid: str = "uniform"
    steps: int = 20
    guidance: float = 1.0
    micro_batch: int = 16
    """Samples per network call in exact mode: always this many, padded, so that no neighbour changes a bit."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything but the weights: what the header of a model file holds."""

    network: NetworkConfig
    schedule: Schedule
    parameterization: Parameterization
    sigma_data: float
    codec: ScaleConfig | IdentityConfig
    shape: tuple[int, ...]
    """(C, *S) of x_0."""
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    embedder: LabelConfig | None = None
    defaults: Defaults = Defaults()
    kind: str = "image"
    source: str = ""
    """The name of the data it was trained on."""

    def build(self, dtype: torch.dtype | None = None) -> Preconditioned:
        """The denoiser with fresh weights."""
        embedder = self.embedder.build(len(self.classes)) if self.embedder and self.classes else None
        width = self.embedder.width if self.embedder and self.classes else 0
        network = self.network.build(self.shape[0], self.shape[1:], width)
        network.to(memory_format=network.memory_format)  # type: ignore[call-overload]
        process = Gaussian(self.schedule)
        return Preconditioned(network, process, self.parameterization, self.sigma_data, dtype, embedder)


@dataclass
class Samples:
    """What `Pipeline.sample` returns.

    `images` is uint8 (N, H, W, C); for points it is float32 (N, D). `labels` are class numbers or None,
    `recipe` is everything needed to make the same bytes again. In a notebook it shows itself as a grid.
    """

    images: np.ndarray
    seeds: list[int]
    labels: list[int] | None
    recipe: dict[str, Any]
    evaluations: int
    seconds: float
    frames: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list, repr=False)
    """With record=True: x_t and the denoiser's x_0 after each step, each like `images`."""

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: str | Path) -> Path:
        """Write a grid (.png; one sample: the bare picture), arrays (.npz), a movie (.gif) or a folder of files."""
        from .modalities import write_samples

        return write_samples(self, path)

    def _repr_png_(self) -> bytes:
        from .modalities import grid_png

        return grid_png(self)


class Pipeline:
    """A model that samples.

    Args:
        config: everything but the weights.
        denoiser: built from it, with weights.
        digest: sha256 of the model file, "" for a model in memory.
        name: what the user calls it.
    """

    def __init__(
        self, config: ModelConfig, denoiser: Preconditioned, digest: str = "", name: str = "model"
    ) -> None:
        self.config, self.denoiser, self.digest, self.name = config, denoiser, digest, name
        self.codec: Codec = config.codec.build()
        self._exact: dict[tuple[str, int], int] = {}

    # -- files --------------------------------------------------------------------------------------------
    @classmethod
    def load(cls, path: str | Path, device: str | torch.device | None = None) -> Pipeline:
        """The pipeline in a model file (.safetensors).

        Raises:
            CheckpointError: the file is missing, damaged, not ours or newer than this unstir.
        """
        path = Path(path)
        name, config, denoiser = _read_model(path)
        if problem := verify_file(path):
            raise CheckpointError(problem, field=str(path), hint="use an earlier checkpoint: RUN@STEP")
        denoiser.load_state_dict(load_tensors(path, denoiser.state_dict()))
        denoiser.to(device or "cpu").eval()
        return cls(config, denoiser, sha256(path), name)

    def write(self, path: Path) -> None:
        """Write weights and config at `path`; not atomic, for use inside one atomic write."""
        document = {"format": FORMAT, "name": self.name, "config": dump(self.config, ModelConfig)}
        save_tensors(path, self.denoiser.state_dict(), {"unstir": document})

    def save(self, path: str | Path) -> Path:
        """Write one file that samples, exports and serves by itself."""
        write_atomic(path, self.write)
        return Path(path)

    # -- use ----------------------------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def sample(
        self,
        n: int = 16,
        steps: int | None = None,
        seed: int = 0,
        solver: str | Solver | None = None,
        guidance: float | None = None,
        label: int | str | Sequence[int | str] | None = None,
        size: int | None = None,
        grid: str | None = None,
        exact: bool | None = None,
        record: bool = False,
        on_batch: Callable[[int], None] | None = None,
    ) -> Samples:
        """n samples; sample i depends on seed + i, its label and the settings alone.

        Args:
            n: how many, >= 1.
            steps: solver steps, >= 1.
            seed: of the first sample, >= 0.
            solver: a name of `unstir solvers` or a solver.
            guidance: scale of classifier-free guidance, >= 0; 1 = none.
            label: a class number or name, or one per sample; None draws it as often as in training.
            size: side in pixels, where not that of training.
            grid: where the steps fall: uniform, log_snr, karras, shifted, trailing.
            exact: fixed padded micro-batches, so that neighbours cannot change a bit; None: on a CPU only.
            record: keep x_t and x_0 of every step.
            on_batch: called with the number of samples that are done, after each micro-batch.

        Raises:
            ConfigError: an argument is unknown or out of range; it names the field.
            NumericError: the result is not finite.
        """
        defaults = self.config.defaults
        chosen = _solver(solver or defaults.solver)
        label = _plain(label)
        steps = defaults.steps if steps is None else steps
        guidance = defaults.guidance if guidance is None else float(guidance)
        grid = grid or defaults.grid
        if not isinstance(n, int) or n < 1:
            raise ConfigError(f"n is {n!r}", field="n", hint="ask for 1 sample or more")
        shape = self._shape(size)
        rng = Rng.of(seed, n)
        labels = self._labels(label, rng)
        if guidance != 1 and labels is None:
            raise IncompatibleError(
                f"guidance={guidance:g} needs a condition and this model has none",
                field="guidance",
                hint="leave guidance out, or train on labelled data",
            )
        if exact is None:
            exact = self.device.type == "cpu"
        micro = self.micro_batch() if exact else min(n, max(defaults.micro_batch, 64))
        nodes = self._grid(grid, steps)
        calls: list[int] = []
        parts = []
        handle = self.denoiser.register_forward_hook(lambda *_: calls.append(1))
        start = time.perf_counter()
        try:
            for i in range(0, n, micro):
                rows = slice(i, min(i + micro, n))
                parts.append(self._run(chosen, nodes, guidance, labels, rng, shape, rows, micro, record))
                if on_batch is not None:
                    on_batch(rows.stop)
        finally:
            handle.remove()
        frames = [
            (np.concatenate([p[1][k][0] for p in parts]), np.concatenate([p[1][k][1] for p in parts]))
            for k in range(len(parts[0][1]))
        ]
        return Samples(
            images=np.concatenate([p[0] for p in parts]),
            seeds=list(range(seed, seed + n)),
            labels=None if labels is None else labels.tolist(),
            recipe={
                "unstir": _version(),
                "model": self.name,
                "model_sha256": self.digest,
                "n": n,
                "seed": seed,
                "steps": steps,
                "solver": dump(chosen),
                "grid": grid,
                "guidance": guidance,
                "label": label,
                "size": size,
                "exact": exact,
            },
            evaluations=len(calls) // len(parts),
            seconds=time.perf_counter() - start,
            frames=frames,
        )

    @torch.no_grad()
    def _run(
        self,
        solver: Solver,
        nodes: Tensor,
        guidance: float,
        labels: Tensor | None,
        rng: Rng,
        shape: tuple[int, ...],
        rows: slice,
        micro: int,
        record: bool,
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Samples `rows`, in a batch padded to `micro` by repeating the last one."""
        index = torch.arange(rows.start, rows.start + micro).clamp(max=rows.stop - 1)
        count, keys = rows.stop - rows.start, rng[index].to(self.device)
        denoiser, cond = self._guided(guidance, None if labels is None else labels[index])
        process: Gaussian = self.denoiser.process
        x = process.prior((micro, *shape), keys.fork("prior"), torch.float32, self.device)
        frames: list[tuple[np.ndarray, np.ndarray]] = []

        def keep(step: Step) -> None:
            frames.append((self._decode(step.x[:count]), self._decode(step.x_0[:count])))

        on_step = keep if record else None
        x = sample(denoiser, solver, nodes, x, cond=cond, rng=keys.fork("solver"), on_step=on_step)
        return self._decode(x[:count]), frames

    def _guided(self, guidance: float, labels: Tensor | None) -> tuple[Denoiser, Condition | None]:
        embedder = self.denoiser.embedder
        if not isinstance(embedder, Label) or labels is None:
            return self.denoiser, None
        cond = embedder(labels.to(self.device))
        if guidance == 1:
            return self.denoiser, cond
        return ClassifierFree(self.denoiser, guidance, embedder(None, len(labels))), cond

    def _decode(self, x: Tensor) -> np.ndarray:
        data = self.codec.decode(x).cpu()
        return (data.movedim(1, -1) if data.ndim > 2 else data).contiguous().numpy()

    def _grid(self, name: str, steps: int) -> Tensor:
        if name not in times.__all__:
            raise ConfigError(
                f"unknown grid {name!r}", field="grid", hint=did_you_mean(name, times.__all__, "grid")
            )
        return getattr(times, name)(steps, self.config.schedule)

    def _shape(self, size: int | None) -> tuple[int, ...]:
        if size is None:
            return self.config.shape
        if size < 1 or self.config.kind != "image":
            raise ConfigError(
                f"size is {size}", field="size", hint="give a side in pixels, for models of pictures"
            )
        return (self.config.shape[0], size, size)

    def _labels(self, label: Any, rng: Rng) -> Tensor | None:
        classes, n = self.config.classes, len(rng)
        if not classes:
            if label is not None:
                raise IncompatibleError(
                    f"label={label!r}, but this model was trained without labels",
                    field="label",
                    hint="leave label out, or train on data with sub-folders per class",
                )
            return None
        if label is None:
            share = torch.tensor(self.config.class_counts, dtype=torch.float64).cumsum(0)
            u = rng.fork("label").uniform((n, 1), torch.float64)
            return (u > share / share[-1]).sum(1).clamp(max=len(classes) - 1)
        if not isinstance(label, list):
            return torch.full((n,), self._class(label))
        if len(label) != n:
            raise ConfigError(
                f"{len(label)} labels for n={n}", field="label", hint="give one label, or one per sample"
            )
        return torch.tensor([self._class(x) for x in label])

    def _class(self, label: int | str) -> int:
        classes = self.config.classes
        if isinstance(label, str):
            if label in classes:
                return classes.index(label)
            if not label.isdecimal():
                raise ConfigError(
                    f"unknown label {label!r}", field="label", hint=did_you_mean(label, classes, "label")
                )
            label = int(label)
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise ConfigError(
                f"label is {label}",
                field="label",
                hint=f"accepted: 0 to {len(classes) - 1}, or a name: {', '.join(classes[:12])}",
            )
        return label

    @torch.no_grad()
    def micro_batch(self) -> int:
        """The fixed batch in which each row is bit for bit independent of its place and of its neighbours.

        Verified once per device with this network and, where the kernels do not keep it, 1.
        """
        size = self.config.defaults.micro_batch
        key = (str(self.device), size)
        if key not in self._exact:
            rows = Rng.of(0, size).to(self.device).normal((size, *self.config.shape), torch.float32)
            labels = torch.zeros(size, dtype=torch.int64) if self.config.classes else None
            cond = self._guided(1.0, labels)[1]
            t = torch.tensor(0.5, dtype=torch.float64)
            mirrored = self.denoiser(rows.flip(0), t, cond).flip(0)
            self._exact[key] = size if torch.equal(self.denoiser(rows, t, cond), mirrored) else 1
        return self._exact[key]

    def describe(self) -> dict[str, Any]:
        """The model in a few JSON-able words."""
        return {
            "name": self.name,
            "sha256": self.digest,
            "kind": self.config.kind,
            "data": self.config.source,
            "shape": list(self.config.shape),
            "classes": list(self.config.classes),
            "parameters": count_parameters(self.denoiser),
            "config": dump(self.config, ModelConfig),
        }


def _read_model(path: Path) -> tuple[str, ModelConfig, Preconditioned]:
    """The model's name and config, from the header of its file, and a denoiser without its weights yet."""
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


def _solver(solver: str | Solver) -> Solver:
    if isinstance(solver, Solver):
        return solver
    known = choices(Solver)
    match = {name.lower(): name for name in known}.get(solver.lower())
    if match is None:
        hint = did_you_mean(solver, [name.lower() for name in known], "solver")
        raise ConfigError(f"unknown solver {solver!r}", field="solver", hint=hint)
    return known[match]()


def _plain(label: Any) -> Any:
    """A label or a list of them, free of the types of numpy and torch."""
    label = label.tolist() if hasattr(label, "tolist") else label
    return list(label) if isinstance(label, tuple) else label


def _version() -> str:
    from . import __version__

    return __version__


def load(model: str | Path, device: str | torch.device | None = None) -> Pipeline:
    """The pipeline of a run directory, a run's name, RUN@STEP or a .safetensors file.

    Raises:
        CheckpointError: there is no such model, or its file is damaged.
    """
    path = find_model(model)
    pipe = Pipeline.load(path, device)
    pipe.name = str(model)
    return pipe


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
    runs = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    hint = did_you_mean(name, runs, "run") if runs else "give a run directory or a .safetensors file"
    raise CheckpointError(f"there is no model {str(model)!r}", field="model", hint=hint)
