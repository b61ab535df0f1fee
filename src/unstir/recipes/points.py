"""Points in the plane: the smallest data there is, for learning how diffusion works."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..data import Dataset
from ..errors import ConfigError
from ..networks import MLPConfig
from ..objectives import Denoising
from ..parameterization import EDM
from ..process import Linear
from ..solvers import DPMpp2M
from ..train.optim import AdamW
from .base import Recipe, Sampling, paced

__all__ = ["points"]


def points(recipe: Recipe, data: Dataset, device: torch.device) -> Recipe:
    """An MLP and a few thousand large batches, for every setting that may be left open."""
    if recipe.data.flip:
        raise ConfigError("points cannot be mirrored", field="data.flip", hint="leave flip out")
    return replace(
        recipe,
        data=replace(recipe.data, flip=False),
        schedule=Linear(),
        parameterization=EDM(sigma_data=round(data.info.std, 3)),
        network=MLPConfig(),
        objective=Denoising(),
        optimizer=AdamW(lr=2e-3),
        training=paced(recipe.training, device, batch=512, samples=5000 * 512, every=1000),
        sampling=Sampling(solver=DPMpp2M(), steps=20, grid="uniform", guidance=1.0),
    )
