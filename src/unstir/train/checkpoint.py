"""Checkpoints of a run: RUN/checkpoints/step-N, each complete and verified, and the links `last` and `best`.

step-N holds model.safetensors (which samples by itself), state/{weights,ema,optimizer}.safetensors,
state.json and manifest.json. A checkpoint is published by one rename; older ones go only after it was read
back, and the best one stays until a better one is there.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..errors import CheckpointError, IncompatibleError, NumericError
from ..files import read_json, remove_folder, remove_leftovers, verify_folder, write_folder, write_link
from ..tensors import first_lines, load_tensors, nbytes, non_finite, save_tensors
from .trainer import Trainer, TrainState

if TYPE_CHECKING:
    from .metrics import MetricsLog

__all__ = [
    "FORMAT",
    "Checkpoint",
    "Checkpointer",
    "best_step",
    "go_back",
    "load",
    "load_latest",
    "mark_best",
    "prune",
    "save",
]

FORMAT = 1
"""Version of the layout; a newer one is refused."""

_log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A verified checkpoint in memory."""

    path: Path
    state: TrainState
    meta: dict[str, Any]
    """What `save` was given."""


def save(
    run: Path, state: TrainState, model_file: Callable[[Path], None], meta: Mapping[str, Any] | None = None
) -> Path:
    """Publish `state` as RUN/checkpoints/step-N and move `last` to it; the path of the checkpoint.

    `model_file(path)` writes model.safetensors, `meta` (JSON) is kept beside the counters. Raises
    `NumericError` when a tensor is not finite and `CheckpointError` when the disk refuses; in both cases the
    checkpoints that were there stay and nothing half-written is left.
    """
    folder = run / "checkpoints"
    path = folder / f"step-{state.counters['step']}"
    if broken := non_finite(state.tensors):
        raise NumericError(
            f"{path} was not written, there is NaN or infinity in:\n" + first_lines(broken),
            hint="resume from the last checkpoint with a lower lr=, or precision=fp32",
        )
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    if path.exists():  # a run meets each step once: this is the same state, or one that was found broken
        if not verify_folder(path):
            write_link(folder / "last", path.name)  # a killed writer may not have come to it
            return path
        remove_folder(path)
    document = {"format": FORMAT, "counters": state.counters, "meta": meta or {}}
    document["environment"] = _environment()
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.tensors.items():
        parts.setdefault(name.partition(".")[0], {})[name] = tensor
    write_folder(
        path,
        {
            "model.safetensors": model_file,
            **{f"state/{part}.safetensors": partial(save_tensors, tensors=x) for part, x in parts.items()},
            "state.json": json.dumps(document, indent=1).encode(),
        },
        needed=nbytes(state.tensors.values()),
    )
    if problems := verify_folder(path):
        remove_folder(path)
        raise CheckpointError(
            "the disk did not keep what was written:\n" + first_lines(problems), field=str(path)
        )
    write_link(folder / "last", path.name)
    return path


def load(path: Path) -> Checkpoint:
    """The checkpoint in the folder `path`, every file checked against its manifest.

    Raises `CheckpointError` naming what is wrong with which file, `IncompatibleError` for a newer format.
    """
    if problems := verify_folder(path):
        raise CheckpointError(f"{path} is damaged:\n" + first_lines(problems), field=str(path))
    document = read_json(path / "state.json")
    try:
        version, counters, meta = document["format"], document["counters"], document["meta"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path / 'state.json'} is not a training state", field=str(path)) from error
    if version > FORMAT:
        raise IncompatibleError(
            f"{path} has checkpoint format {version}, this unstir reads up to {FORMAT}",
            field=str(path),
            hint="install a newer unstir",
        )
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted((path / "state").glob("*.safetensors")):
        tensors |= load_tensors(file)
    before, now = document["environment"], _environment()
    if changes := [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]:
        _log.warning("resuming is correct but not bit for bit: %s", "; ".join(changes))
    return Checkpoint(path, TrainState(tensors, counters), meta)


def load_latest(run: Path) -> Checkpoint | None:
    """The newest checkpoint of the run that is whole; None when the run has none yet.

    Damaged ones are passed over with a warning. Raises `CheckpointError` when there are only damaged ones.
    """
    failures = []
    for path in _newest_first(run):
        try:
            return load(path)
        except CheckpointError as error:
            failures.append(error.message)
            _log.warning("%s\ngoing back to the checkpoint before it", error.message)
    if failures:
        raise CheckpointError(
            f"{run} has no whole checkpoint", field=str(run), hint="start again with --overwrite"
        )
    return None


def prune(run: Path, keep: int) -> None:
    """Remove all checkpoints older than the `keep` newest whole ones, except the best one."""
    whole, best = 0, best_step(run)
    for path in _newest_first(run):
        if whole >= keep:
            if path.name != f"step-{best}":
                remove_folder(path)
        elif not verify_folder(path):
            whole += 1


def best_step(run: Path) -> int | None:
    """The step that the link `best` points to; None where there is no such checkpoint."""
    link = run / "checkpoints" / "best"
    if not link.is_symlink() or not link.is_dir():
        return None
    step = os.readlink(link).removeprefix("step-")
    return int(step) if step.isdecimal() else None


def mark_best(run: Path, step: int | None) -> None:
    """Point the link `best` at the checkpoint of `step`; None: at no one."""
    link = run / "checkpoints" / "best"
    if step is None:
        link.unlink(missing_ok=True)
    elif best_step(run) != step:
        write_link(link, f"step-{step}")


def go_back(run: Path, step: int) -> Path:
    """Make the checkpoint of `step` the last one: `last` points to it, later ones are removed; its path.

    Done again after a crash it finishes the work. Raises `CheckpointError`, and removes none, when that one is damaged.
    """
    path = run / "checkpoints" / f"step-{step}"
    if problems := verify_folder(path):
        raise CheckpointError(f"{path} is damaged:\n" + first_lines(problems), field=str(path))
    write_link(run / "checkpoints" / "last", path.name)
    for later in _newest_first(run):  # the latest first: what is left always ends where training once was
        if later == path:
            break
        remove_folder(later)
    return path


class Checkpointer:
    """Saves the trainer's state into the run every so many steps; a consumer of `Trainer.steps()`.

    A disk that refuses is tried again at the next interval; the third refusal in a row is raised.

    Args:
        run: the run directory.
        trainer: the trainer, between two steps whenever this is called.
        model_file: writes model.safetensors at a path.
        meta: JSON kept with the state.
        metrics: flushed to the disk before each checkpoint, so that the log holds every step of it.
    """

    PATIENCE = 3

    def __init__(
        self,
        run: Path,
        trainer: Trainer,
        model_file: Callable[[Path], None],
        *,
        meta: Mapping[str, Any] | None = None,
        metrics: MetricsLog | None = None,
    ) -> None:
        self.run, self.trainer, self.model_file = run, trainer, model_file
        self.meta, self.metrics = meta, metrics
        self._failures = 0

    def __call__(self, step: int, best: bool = False) -> None:
        """Save if `step` is a multiple of `checkpoint_every`, or the best so far."""
        every = self.trainer.settings.checkpoint_every
        if best or (every is not None and step % every == 0):
            try:
                self.save(best)
            except CheckpointError as error:
                self._failures += 1
                if self._failures == self.PATIENCE:
                    raise
                when = f"in {every} steps" if every else "when one is better"
                _log.warning("%s\ntraining goes on, the next checkpoint is tried %s", error, when)

    def save(self, best: bool = False) -> Path:
        """Save now, as the `best` or not, and remove old checkpoints; raises what `save` of this module raises."""
        if self.metrics is not None:
            self.metrics.sync()
        path = save(self.run, self.trainer.state_dict(), self.model_file, self.meta)
        if best:
            mark_best(self.run, self.trainer.step)
        prune(self.run, self.trainer.settings.keep)
        self._failures = 0
        return path


def _newest_first(run: Path) -> list[Path]:
    steps = {path: path.name.removeprefix("step-") for path in (run / "checkpoints").glob("step-*")}
    return sorted((path for path, step in steps.items() if step.isdecimal()), key=lambda p: -int(steps[p]))


def _environment() -> dict[str, Any]:
    """What may change the last bits of a result."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
