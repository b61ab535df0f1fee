"""Pictures: every blank of a recipe filled from what was measured, never from a data set's name.

What decides is the number of pictures, their size and channels, their labels, their spread of values, the
time there is and the device. docs/performance.md has the measurements behind the numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from ..data import Dataset, spread
from ..networks import UNetConfig
from ..objectives import Denoising, LogitNormal, Target
from ..parameterization import EDM
from ..process import Linear, Schedule, Shifted
from ..sizes import resolution_shift
from ..solvers import DPMpp2M
from ..train.optim import Muon
from .base import Recipe, Sampling, paced

__all__ = ["image", "mirrors"]

# with minutes to spend the number of updates counts: docs/performance.md, "What a minute buys"
BATCH = 64
PLAIN = 64
"""The largest side of pictures that are learned on the plain path; more positions need more noise."""


def image(recipe: Recipe, data: Dataset, device: torch.device) -> Recipe:
    """What the data suggests, for every setting that may be left open."""
    info = data.info
    size = max(info.shape[1:])
    return replace(
        recipe,
        data=replace(
            recipe.data,
            size=size if info.shape[1] == info.shape[2] else None,
            channels=1 if info.shape[0] == 1 else 3,
            flip=mirrors(data) if recipe.data.flip is None else recipe.data.flip,
        ),
        schedule=_schedule(info.shape),
        parameterization=EDM(sigma_data=round(info.std, 3)),
        network=_network(size, info.shape[0]),
        objective=Denoising(weight=Target(), draws=LogitNormal()),
        optimizer=Muon(lr=1e-2),
        # as many samples as a small set can teach, and no more than a large one needs at first
        training=paced(
            recipe.training,
            device,
            batch=BATCH,
            samples=min(max(100 * info.count, 150_000), 3_000_000),
            every=500,
        ),
        sampling=Sampling(
            solver=DPMpp2M(), steps=20, grid="uniform", guidance=_guidance(size, bool(info.classes))
        ),
    )


def _schedule(shape: tuple[int, ...]) -> Schedule:
    """The straight path, for more than 64 x 64 positions moved toward noise by what their number asks for.

    The reference of Hoogeboom et al. 2023, section 2.1. Training draws and sampling steps both move with it.
    """
    shift = round(resolution_shift(math.prod(shape[1:]), PLAIN**2), 3)
    return Shifted(Linear(), shift) if shift > 1 else Linear()


def _network(size: int, channels: int) -> UNetConfig:
    """A U-Net whose finest level is 8 to 16 positions wide and whose coarsest is about 4.

    The finest level is the dearest per channel and needs the fewest: 48, more where a position holds many
    pixel values.
    """
    unshuffle = 1
    while size / unshuffle > 16:
        unshuffle *= 2
    levels = max(1, min(3, 1 + round(math.log2(max(size / unshuffle, 4) / 4))))
    widths = (48, 96, 160) if channels * unshuffle**2 <= 16 else (64, 128, 192)
    return UNetConfig(widths=widths[:levels], blocks=(1, 1, 2)[:levels], unshuffle=unshuffle)


def _guidance(size: int, labelled: bool) -> float:
    """2 for labelled pictures that a few minutes do not exhaust; tiny ones are learned without it.

    Guidance buys agreement with the label and pays in variety (docs/performance.md has both).
    """
    return 2.0 if labelled and size > 16 else 1.0


def mirrors(data: Dataset, at_most: int = 2000) -> bool:
    """Whether the pictures' mean is its own mirror image, so that mirroring one does not change what it means.

    The asymmetry |m - mirror(m)| of the mean picture m is compared with what chance leaves in a symmetric
    set, pixel std / sqrt(N), summed over classes; letters, digits and shoes differ from their mirror image
    many times more than that, faces and landscapes do not.
    """
    rows = spread(len(data), at_most)
    x = np.asarray(data.x[rows], dtype=np.float32)
    groups = [slice(None)] if data.y is None else [data.y[rows] == k for k in np.unique(data.y[rows])]
    asymmetry = chance = 0.0
    for group in groups:
        part = x[group]
        if len(part) < 8:
            continue
        mean = part.mean(0)
        asymmetry += len(part) * float(((mean - mean[:, ::-1]) ** 2).mean())
        chance += 2 * float(part.var(0).mean())
    return chance > 0 and asymmetry < 3 * chance
