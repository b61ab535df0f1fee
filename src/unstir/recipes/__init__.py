"""Recipes: one function per file that fills in what a user left open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import IncompatibleError
from ..networks import ClassifierConfig
from ..objectives import Classification
from .base import Data, Recipe, Request, Sampling, fill
from .scoring import Scoring

if TYPE_CHECKING:
    import torch

    from ..data import Dataset

__all__ = ["Data", "Recipe", "Request", "Sampling", "Scoring", "resolve"]


def resolve(recipe: Recipe, data: Dataset, device: torch.device) -> Recipe:
    """The recipe without a None that training would have to guess.

    What is given counts most, then what its family says, then the recipe of the data's kind.

    Raises:
        IncompatibleError: a part is made for another task.
    """
    from .classifier import classifier
    from .families import FAMILIES
    from .image import image
    from .points import points

    measured = {"image": image, "points": points}[data.info.kind](recipe, data, device)
    if recipe.process is not None:
        family = FAMILIES[recipe.process](data)
        sampling = fill(family.sampling, measured.sampling)
        measured = replace(measured, **family._asdict() | {"sampling": sampling})
    if recipe.task == "classifier":
        measured = classifier(measured, data)
    return _checked(fill(recipe, measured))


def _checked(recipe: Recipe) -> Recipe:
    """The recipe, its network and objective made for its task."""
    classifies = recipe.task == "classifier"
    for field, part, kind in (
        ("network", recipe.network, ClassifierConfig),
        ("objective", recipe.objective, Classification),
    ):
        if isinstance(part, kind) != classifies:
            hint = f"leave {field} out" if classifies else f"use task=classifier, or leave {field} out"
            name = type(part).__name__.removesuffix("Config")
            raise IncompatibleError(f"{name} is not made for task={recipe.task}", field=field, hint=hint)
    return recipe
