"""`unstir restore`: what a picture was, from what was made of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, IncompatibleError
from .common import Arguments, DryRun, Json, Quiet, SettingsFile
from .drawing import Job

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..operators import Operator
    from ..pipeline import Pipeline
    from ..recipes import Restore

__all__ = ["restore"]

FILES = {"mask": "mask.png, white where nothing is known", "kernel": "kernel.npy, or a small grey picture"}
"""What operators are read from."""


def restore(
    arguments: Arguments = None,
    config: SettingsFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Recover a picture from damage of a known kind.

    operator= says what was done, std= or peak= how noisy it is; operator=mask reads mask=, white where nothing is
    known, operator=kernel reads kernel=. An input that is no picture is an .npy file. The method is chosen by
    operator and noise, and explained. simulate=1 takes a clean picture, spoils it so, writes what came of it
    beside, restores that and compares. All keys: unstir config restore

    \b
    Examples:
      unstir restore runs/photos blurred.png operator=blur:sigma=2 std=0.05 out=sharp.png
      unstir restore runs/photos holes.png operator=mask mask=mask.png n=8 uncertainty=1
      unstir restore runs/photos clean.png operator=downsample:scale=2 peak=30 simulate=1
    """
    job = Job.of("restore", arguments, config, dry_run, as_json, quiet)
    request = job.request
    _check(request)

    from .. import load
    from ..pipeline import restoration

    pipe = load(job.model)
    reference = None
    if request.simulate:
        reference = job.picture(job.input, pipe)
        operator = _operator(job, reference.shape[:2])
        y: Any = _simulated(pipe, reference, operator, request)
    else:
        y, operator = _measurement(job, pipe)
        if request.reference is not None:
            reference = job.picture(request.reference, pipe, "reference")
    drawing = restoration.restore(pipe, y, operator, request.std, request.peak, reference, job.wish(pipe))
    if restored := job.draw(drawing):
        measured = _shown(pipe, y, operator) if request.simulate else None
        job.report(restored, measured, mask=request.mask, kernel=request.kernel)


def _check(request: Restore) -> None:
    """Refuses, before anything is read, what cannot work together."""
    both, twice = request.peak is not None and request.std, request.simulate and request.reference
    wrong = [
        ("peak", both, "is Poisson noise and std= Gaussian: give one of them"),
        ("reference", twice, "is the input itself with simulate=1: leave it out"),
    ]
    for word in FILES:
        given, needed = getattr(request, word) is not None, request.operator == word
        wrong.append((word, needed and not given, f"is missing: give {word}={FILES[word]}"))
        wrong.append((word, given and not needed, f"is for operator={word}"))
    for field, refused, reason in wrong:
        if refused:
            raise ConfigError(f"{field}= {reason}", field=field, hint="unstir restore --help")


# -- the input ---------------------------------------------------------------------------------------------


def _measurement(job: Job, pipe: Pipeline) -> tuple[np.ndarray, Operator]:
    """y, a picture or an array, and what it was made by."""
    from ..data.picture import ARRAYS, read_array
    from ..pipeline.restoration import measured_channels

    if job.input.lower().endswith(ARRAYS):
        y = read_array(job.input, "input")
        return y, _operator(job, y.shape[-2:])
    found = job.read(job.input, "input")
    size = found.pixels.shape[:2]
    operator = _operator(job, size)
    channels = measured_channels(pipe, operator, size)
    if channels < pipe.config.size[0] and not found.grey:
        raise IncompatibleError(
            f"{job.input} is in colour, and what {operator.title} makes is grey",
            field="input",
            hint="give the grey picture that it made, or another operator=",
        )
    return job.converted(job.input, found, channels), operator


def _operator(job: Job, size: tuple[int, ...]) -> Operator:
    """The operator that was asked for; a mask or a kernel is read from its file."""
    import torch

    from ..operators import Kernel, Mask

    operator = job.request.operator
    if operator == "kernel":
        return Kernel(torch.from_numpy(_kernel(job)))
    if operator != "mask":
        return operator
    unknown = job.mask(size, "unknown")
    if not unknown.any():
        raise ConfigError("the mask is black everywhere", field="mask", hint="white is what is unknown")
    return Mask(torch.from_numpy(~unknown))


def _kernel(job: Job) -> np.ndarray:
    """The numbers of the kernel's file, of sum 1."""
    from ..data.picture import ARRAYS, read_array

    path = os.path.expanduser(job.request.kernel)
    if path.lower().endswith(ARRAYS):
        kernel = read_array(path, "kernel")
    else:
        kernel = job.read(path, "kernel").of(1)[..., 0].astype("float32")
    if not kernel.sum():
        raise ConfigError(f"{path} has the sum 0", field="kernel", hint="give a kernel that keeps some light")
    return kernel / kernel.sum()


# -- simulation --------------------------------------------------------------------------------------------


def _simulated(pipe: Pipeline, picture: np.ndarray, operator: Operator, request: Restore) -> Tensor:
    """y = A x + n, (*T), in units where black is -1 and white 1, with the noise of the seed."""
    import torch

    from ..operators import GaussianNoise, PoissonNoise
    from ..rng import Rng

    noise = GaussianNoise(request.std) if request.peak is None else PoissonNoise(request.peak)
    x = pipe.data.encode(torch.from_numpy(picture).movedim(-1, 0)[None].to(pipe.device))
    rng = Rng.of(request.seed, 1).fork("measurement").to(pipe.device)
    return operator.measured(noise.corrupt(operator.forward(x), rng))[0]


def _shown(pipe: Pipeline, y: Tensor, operator: Operator) -> tuple[np.ndarray, np.ndarray | None]:
    """y as an array to restore from again and, where it is one, as pictures (1, H, W, C) to look at."""
    from ..pipeline.restoration import makes_pictures

    pictures = makes_pictures(operator)
    shown = pipe.data.decode(y[None]).movedim(1, -1).cpu().numpy() if pictures else None
    return y.cpu().numpy(), shown
