"""Recipes: one function per file that fills in what a user left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Data, Recipe, Request, Sampling

if TYPE_CHECKING:
    import torch

    from ..data import Dataset

__all__ = ["Data", "Recipe", "Request", "Sampling", "resolve"]


def resolve(recipe: Recipe, data: Dataset, device: torch.device) -> Recipe:
    """The recipe without a None that training would have to guess, by the recipe of the data's kind."""
    from .image import image
    from .points import points

    return {"image": image, "points": points}[data.info.kind](recipe, data, device)
