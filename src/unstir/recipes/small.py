"""Few pictures, `small_data=on`: what keeps a model from learning them by heart, in any recipe for pictures.

docs/small-data.md has the measurements behind the numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

from ..data import Dataset
from ..embedders import Augmentation
from ..errors import IncompatibleError
from ..networks import UNetConfig
from ..train.settings import Training
from .base import Recipe

__all__ = ["FEW", "about_small", "is_small", "small"]

Part = TypeVar("Part")

UNFIT = {"classifier": "a classifier", "autoencoder": "an autoencoder", "decoder": "a decoder"}
"""The tasks that draw nothing."""
FEW = 500
"""Below so many pictures auto is on: training sees each of them 300 times and more, and begins to copy."""
MILD = Augmentation(
    mirror=False, upside_down=False, shift=0.07, scale=0.05, rotation=0.02, stretch=0.1, move=0.0
)
"""As pictures of a kind differ anyway. The stronger a change is, the longer it leaks into samples: a network takes
thousands of steps to learn that what is told undoes it."""
OFTEN = 2_000
"""Training shows a picture so often at most, unless its length is given: from then on it learns details by heart."""
LEAST = 1_000
"""Steps below which nothing is learned sharply enough to be a copy: neither shortened nor watched."""
EVERY = 500
"""Steps between looks at samples."""
COPIES = 0.9
"""Training ends, and goes back, when a larger share of samples are copies: nothing is left to be gained."""


def is_small(recipe: Recipe, data: Dataset) -> bool:
    """What `small_data=` says, or the number of pictures where it says nothing.

    Raises:
        IncompatibleError: it was asked for where there are no pictures to generate.
    """
    pictures = data.info.kind == "image" and recipe.task not in UNFIT and not recipe.codec
    if recipe.small_data and not pictures:
        what = f"data with shape {data.info.shape}"
        if recipe.task in UNFIT or recipe.codec:
            what = UNFIT.get(recipe.task, "a latent space, where pictures cannot be moved and turned")
        raise IncompatibleError(
            f"small_data=on is for pictures that are generated or restored, this is {what}",
            field="small_data",
            hint="leave small_data out",
        )
    return pictures and len(data) < FEW if recipe.small_data is None else recipe.small_data


def small(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe, for so few pictures that it would copy them."""
    n, network, training, sampling = len(data), measured.network, measured.training, measured.sampling
    if n < FEW:
        network = _narrower(network)
        sampling = replace(sampling, guidance=1.0)  # beyond, samples move on toward the pictures
        training = _watched(training, n, free=measured.task == "generate")
    augment = replace(MILD, probability=round(min(0.25, 2.5 / n**0.5), 3))
    return replace(measured, network=network, augment=augment, training=training, sampling=sampling)


def _narrower(network: Part) -> Part:
    """Two thirds as wide, in steps of 32: it learns fewer details by heart, in half of the time."""
    if not isinstance(network, UNetConfig):
        return network
    widths = tuple(max(32, width * 2 // 3 // 32 * 32) for width in network.widths)
    return replace(network, widths=widths)


def _watched(training: Training, n: int, *, free: bool) -> Training:
    """The settings of a run that ends before it has nothing but copies to offer; `free`: it draws free samples."""
    steps, batch = training.steps, training.batch or 1
    if steps is not None:
        training = replace(training, steps=min(steps, max(LEAST, math.ceil(OFTEN * n / batch))))
    if not free or (training.steps or LEAST) < LEAST:
        return training
    return replace(training, evaluate_every=EVERY, copies=COPIES, best="fid")


def about_small(recipe: Recipe, count: int) -> list[str]:
    """What is done against copying, in a line for people; none where nothing is."""
    if not recipe.small_data:
        return []
    done = []
    if (augmentation := recipe.augment) is not None:
        done.append(f"{augmentation.probability:.0%} augmented in each way, which the network is told")
    if dropout := getattr(recipe.network, "dropout", 0):
        done.append(f"dropout {dropout:g}")
    if recipe.patches is not None:
        done.append(f"{1 - recipe.patches.whole:.0%} of the steps on parts of pictures")
    if count < FEW and isinstance(recipe.network, UNetConfig):
        done.append(f"a network of widths {', '.join(map(str, recipe.network.widths))}")
    if count < FEW:
        done.append(f"guidance {recipe.sampling.guidance:g}")
    if recipe.training.copies is not None:
        done.append(f"an early end when {recipe.training.copies:.0%} of samples are copies")
    return [f"{count:,} pictures: " + ", ".join([*done, "small_data=off leaves this out"])]
