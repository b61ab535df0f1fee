"""The averages of a run as it went: RUN/averages/step-N.safetensors, and any other average, made of them afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..files import read_header, read_json, remove_leftovers, verify_folder, write_atomic
from ..tensors import first_lines, load_tensors, save_tensors
from .ema import Fit, Profile, fit

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Averages", "Snapshots", "kept"]

LENGTHS = (0.01, 0.013, 0.017, 0.022, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.17, 0.21, 0.25)
"""The lengths that are looked through for the best one."""

TOLERANCE = 0.05
"""The error of a fit up to which the average counts as having that length."""

_log = logging.getLogger(__name__)


def kept(step: int, most: int, first: int = 4) -> range:
    """The steps of which averages are kept at `step`: multiples of first, 2 first, 4 first, ..., at most `most`.

    >>> list(kept(18, 4)), list(kept(32, 4)), list(kept(39, 4))
    ([4, 8, 12, 16], [8, 16, 24, 32], [8, 16, 24, 32])
    """
    every = first
    while step // every > most:
        every *= 2
    return range(every, step + 1, every)


class Snapshots:
    """Keeps the averages as they are at `training.snapshots` steps of the run; a consumer of `Trainer.steps()`.

    Which steps is a function of the step alone, see `kept`: the interval doubles as the run grows, so a run of unknown
    length is covered evenly and the disk holds a bounded number. Float32, because what tells averages apart, as
    in guidance by one of them, is smaller than the rounding of float16. A run goes on without those that the
    disk refuses.

    Args:
        run: the run directory; what is there of later steps is removed.
        trainer: the trainer, between two steps whenever this is called.
    """

    def __init__(self, run: Path, trainer: Trainer) -> None:
        self.folder, self.trainer = run / "averages", trainer
        if self.folder.is_dir():
            remove_leftovers(self.folder)
            _remove(path for step, path in _files(self.folder).items() if step > trainer.step)

    def __call__(self, step: int) -> None:
        """Store the averages if `step` is one of those to be kept, in place of those that no longer are."""
        steps = kept(step, self.trainer.settings.snapshots)
        if step not in steps:
            return
        try:
            self.folder.mkdir(exist_ok=True)
            _remove(path for other, path in _files(self.folder).items() if other not in steps)
            self._save(self.folder / f"step-{step}.safetensors")
        except (CheckpointError, OSError) as error:
            text = error.message if isinstance(error, CheckpointError) else f"{self.folder}: {error.strerror}"
            _log.warning("%s\ntraining goes on, and RUN@ema:LENGTH will do without step %d", text, step)

    def _save(self, path: Path) -> None:
        trainer = self.trainer
        tensors = {name: x.detach().cpu().contiguous() for name, x in trainer.ema.state_dict().items()}
        about = {
            "n": trainer.step - trainer.skipped,
            "lengths": trainer.settings.ema,
            "sha256": _digest(tensors),
        }
        write_atomic(path, partial(save_tensors, tensors=tensors, metadata={"averages": about}))


class _Stored(NamedTuple):
    """A file with averages <prefix><index>.<parameter>."""

    path: Path
    prefix: str
    profiles: tuple[Profile, ...]


class Averages:
    """Averages of every length at one checkpoint of a run, of its own ones and those kept before it.

    Args:
        checkpoint: RUN/checkpoints/step-N.

    Raises:
        CheckpointError: the checkpoint is damaged, or no averages were kept. Single damaged ones are left out with a
            warning.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        checkpoint = Path(checkpoint)
        self.run = checkpoint.parents[1]
        if problems := verify_folder(checkpoint):
            raise CheckpointError(
                f"{checkpoint} is damaged:\n" + first_lines(problems), field=str(checkpoint)
            )
        counters = read_json(checkpoint / "state.json")["counters"]
        n = counters["step"] - counters["skipped"]
        files = [path for step, path in _files(self.run / "averages").items() if step <= counters["step"]]
        kept = [stored for path in files if (stored := _checked(path)) and 0 < stored.profiles[0].n < n]
        if not kept:
            raise CheckpointError(
                f"{self.run} kept no averages to make others of",
                field="model",
                hint="train with snapshots=16, or choose one of its checkpoints: RUN@STEP",
            )
        own = tuple(Profile(n, profile.length) for profile in kept[-1].profiles)
        self.n = n
        self._stored = [*kept, _Stored(checkpoint / "state" / "ema.safetensors", "ema.", own)]

    def fit(self, length: float) -> Fit:
        """How the averages add up to that of another length."""
        return fit(
            Profile(self.n, length), [profile for stored in self._stored for profile in stored.profiles]
        )

    def lengths(self, candidates: Sequence[float] = LENGTHS) -> list[float]:
        """Those of the candidates, and of the lengths of training, that can be made; rising."""
        trained = {profile.length for profile in self._stored[-1].profiles}
        return sorted(x for x in trained.union(candidates) if self.fit(x).error <= TOLERANCE)

    def average(self, length: float) -> dict[str, Tensor]:
        """The average of the weights, float32, by the names of the parameters.

        Raises:
            ConfigError: the length is outside (0, 0.28].
            CheckpointError: the averages that there are do not add up to it.
        """
        if not 0 < length <= 0.28:
            raise ConfigError(
                f"an average cannot have the length {length:g}",
                field="model",
                hint="lengths are fractions of the run, above 0 to 0.28, as RUN@ema:0.05",
            )
        weights, error = self.fit(length)
        if error > TOLERANCE:
            known = self.lengths()
            raise CheckpointError(
                f"{self.run} has no average of the length {length:g}: the nearest that it has is {error:.0%} off",
                field="model",
                hint=f"it has those from {known[0]:g} to {known[-1]:g}; train with ema={length:g},0.1 for others",
            )
        total: dict[str, Tensor] = {}
        shares = iter(weights.tolist())
        for path, prefix, profiles in self._stored:
            tensors = load_tensors(path)
            for index, share in zip(range(len(profiles)), shares, strict=False):
                start = f"{prefix}{index}."
                for name in (name for name in tensors if name.startswith(start)):
                    part = tensors[name].double().mul_(share)
                    key = name.removeprefix(start)
                    total[key] = total[key].add_(part) if key in total else part
        return {name: x.float() for name, x in total.items()}


def _checked(path: Path) -> _Stored | None:
    """The snapshot in a file; None, with a warning, where it is damaged."""
    try:
        about = json.loads(read_header(path).metadata["averages"])
        profiles = tuple(Profile(int(about["n"]), float(length)) for length in about["lengths"])
        if about["sha256"] != _digest(load_tensors(path)):
            raise CheckpointError(f"{path}: its numbers are not those that were written", field=str(path))
    except (KeyError, TypeError, ValueError, CheckpointError) as error:
        text = error.message if isinstance(error, CheckpointError) else f"{path}: its header is damaged"
        _log.warning("%s; the averages are made without it", text)
        return None
    return _Stored(path, "", profiles)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names and numbers."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _files(folder: Path) -> dict[int, Path]:
    """The snapshots in a folder by their step, rising."""
    steps = {path: path.stem.removeprefix("step-") for path in folder.glob("step-*.safetensors")}
    return dict(sorted((int(step), path) for path, step in steps.items() if step.isdecimal()))


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)
