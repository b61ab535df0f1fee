"""Recipes: one function per file that fills in what a user left open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..codecs import ConsistencyConfig, LatentConfig, VAEConfig, VQVAEConfig
from ..embedders import LowResolution, Masked
from ..errors import IncompatibleError
from ..networks import ClassifierConfig
from ..networks.base import NetworkConfig
from ..objectives import Classification, Consistency, Reconstruction
from ..spec import name
from .base import Data, Recipe, Request, Sampling, fill
from .editing import Edit, Restore, Upscale
from .evaluation import Evaluation
from .scoring import Scoring
from .small import about_small

if TYPE_CHECKING:
    import torch

    from ..data import Dataset

__all__ = [
    "Data",
    "Edit",
    "Evaluation",
    "Recipe",
    "Request",
    "Restore",
    "Sampling",
    "Scoring",
    "Upscale",
    "about_small",
    "resolve",
]


def resolve(recipe: Recipe, data: Dataset, device: torch.device) -> Recipe:
    """The recipe without a None that training would have to guess; `data` is what the network sees.

    What is given counts most, then what its family says, then the recipe of the data's kind.

    Raises:
        IncompatibleError: a part is made for another task, or the task for other data.
    """
    from .classifier import classifier
    from .families import FAMILIES
    from .image import image
    from .latent import autoencoder, decoder, latent
    from .points import points
    from .restoration import inpaint, upscale
    from .small import is_small, small
    from .systems import system
    from .text import reads, text

    measured = {"image": image, "points": points}[data.info.kind](recipe, data, device)
    if recipe.codec and recipe.task == "generate":
        measured = latent(measured)
    told = reads(recipe, data)
    if told:
        measured = text(measured, data)
    if recipe.system is not None:
        measured = system(recipe.system, measured, data, latent=bool(recipe.codec), reads=told)
    if recipe.process is not None:
        family = FAMILIES[recipe.process](data)
        sampling = fill(family.sampling, measured.sampling)
        measured = replace(measured, **family._asdict() | {"sampling": sampling})
    tasks = {
        "classifier": classifier,
        "upscale": upscale,
        "inpaint": inpaint,
        "autoencoder": autoencoder,
        "decoder": decoder,
    }
    if recipe.task in tasks:
        measured = tasks[recipe.task](measured, data)
    few = is_small(recipe, data)
    measured = replace(small(measured, data) if few else measured, small_data=few)
    measured = replace(measured, data=replace(measured.data, captions=told), text=measured.text or ())
    return _joined(_checked(fill(recipe, measured)), data.info.shape)


def _checked(recipe: Recipe) -> Recipe:
    """The recipe, its parts made for its task."""
    if recipe.task == "decoder" and not recipe.codec:
        raise IncompatibleError(
            "task=decoder decodes the latents of an autoencoder, and none is given",
            field="codec",
            hint="name its run: codec=RUN; unstir train DATA task=autoencoder trains one",
        )
    if recipe.codec and (recipe.task not in ("generate", "decoder") or recipe.augment is not None):
        what = f"task={recipe.task}" if recipe.task != "generate" else "augment"
        raise IncompatibleError(
            f"{what} does not go with codec={recipe.codec}: it works on the pictures themselves",
            field="codec",
            hint="leave task out: every model of latents fills in and enlarges, by unstir edit and unstir upscale"
            if recipe.task in ("inpaint", "upscale")
            else "leave codec out",
        )
    if recipe.data.buckets and recipe.task not in ("generate", "autoencoder"):
        raise IncompatibleError(
            f"buckets do not go with task={recipe.task}",
            field="data.buckets",
            hint="leave buckets out: it is trained on squares, and takes pictures of any shape",
        )
    for field, part, kind, task in (
        ("network", recipe.network, ClassifierConfig, "classifier"),
        ("network", recipe.network, (VAEConfig, VQVAEConfig), "autoencoder"),
        ("network", recipe.network, ConsistencyConfig, "decoder"),
        ("objective", recipe.objective, Classification, "classifier"),
        ("objective", recipe.objective, Reconstruction, "autoencoder"),
        ("objective", recipe.objective, Consistency, "decoder"),
        ("spatial", recipe.spatial, LowResolution, "upscale"),
        ("spatial", recipe.spatial, Masked, "inpaint"),
    ):
        if isinstance(part, kind) != (recipe.task == task):
            hint = f"leave {field} out" if recipe.task == task else f"use task={task}, or leave {field} out"
            raise IncompatibleError(
                f"{name(type(part))} is not made for task={recipe.task}", field=field, hint=hint
            )
    if recipe.patches is not None and isinstance(recipe.network, NetworkConfig) and recipe.network.draft:
        raise IncompatibleError(
            "a draft is of a whole picture, and patches shows parts",
            field="network.draft",
            hint="leave one of them out: network.draft=0",
        )
    for field, told, wrong in (
        ("augment", recipe.augment, recipe.task in ("classifier", "autoencoder", "decoder")),
        ("patches", recipe.patches, recipe.task != "generate"),
    ):
        if told is not None and wrong:
            hint = f"leave {field} out"
            raise IncompatibleError(f"{field} does not go with task={recipe.task}", field=field, hint=hint)
    return recipe


def _joined(recipe: Recipe, shape: tuple[int, ...]) -> Recipe:
    """The recipe with a network that has room for what it is told of a picture."""
    network, channels = recipe.network, 0
    for part in (recipe.spatial, recipe.augment, recipe.patches):
        if part is not None:
            part.check(shape)
    if recipe.spatial is not None:
        channels = recipe.spatial.channels(shape[0])
    if recipe.patches is not None:
        channels += 2
    if isinstance(network, LatentConfig):  # a kind that was chosen by name knows nothing of the data
        network = replace(network, data_channels=shape[0], axes=len(shape) - 1)
        return replace(recipe, network=network)
    if not isinstance(network, NetworkConfig):
        return recipe
    if network.spatial_channels not in (0, channels):
        raise IncompatibleError(
            f"spatial_channels={network.spatial_channels}, but task={recipe.task} has {channels}",
            field="network.spatial_channels",
            hint="leave it out",
        )
    network = replace(network, spatial_channels=channels)  # type: ignore[type-var]
    return replace(recipe, network=network)
