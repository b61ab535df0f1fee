"""A classifier of noisy data, to guide a generative model by: what its task changes in a recipe."""

from __future__ import annotations

from dataclasses import replace

from ..data import Dataset
from ..errors import DataError
from ..networks import ClassifierConfig
from ..objectives import Classification
from ..train.optim import AdamW
from .base import Recipe

__all__ = ["classifier"]


def classifier(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe for telling the classes apart at every noise level.

    Raises:
        DataError: the data has no labels.
    """
    info = data.info
    if len(info.classes) < 2:
        raise DataError(
            f"{info.source} has no classes to tell apart",
            field="data",
            hint="give data with one sub-folder per class, and leave labels=false out",
        )
    size = max(info.shape[1:], default=1)
    return replace(
        measured,
        network=ClassifierConfig(unshuffle=1 if size <= 16 else 2),
        objective=Classification(),
        optimizer=AdamW(lr=2e-3),
    )
