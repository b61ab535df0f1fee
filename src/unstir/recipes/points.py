"""Points in the plane: the smallest data there is, for learning how diffusion works."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..data import Dataset
from ..networks import MLPConfig
from ..objectives import Denoising
from ..parameterization import EDM
from ..process import Linear
from ..solvers import DPMpp2M
from ..spec import complete
from ..train.optim import AdamW
from .base import Recipe, Sampling

__all__ = ["points"]


def points(recipe: Recipe, data: Dataset, device: torch.device) -> Recipe:
    """The recipe with no None left: an MLP and a few thousand large batches."""
    training = recipe.training
    steps = 5000 if training.steps is None and training.time is None else training.steps
    return replace(
        recipe,
        data=replace(recipe.data, flip=False),
        schedule=complete(recipe.schedule, Linear()),
        parameterization=complete(recipe.parameterization, EDM(sigma_data=round(data.info.std, 3))),
        network=complete(recipe.network, MLPConfig()),
        objective=complete(recipe.objective, Denoising()),
        optimizer=complete(recipe.optimizer, AdamW(lr=2e-3)),
        training=replace(
            training,
            steps=steps,
            batch=training.batch or 512,
            device=str(device),
            checkpoint_every=training.checkpoint_every or 1000,
            preview_every=training.preview_every or 1000,
            heldout_every=training.heldout_every or 1000,
        ),
        sampling=Sampling(
            solver=complete(recipe.sampling.solver, DPMpp2M()),
            steps=recipe.sampling.steps or 20,
            grid=recipe.sampling.grid or "uniform",
            guidance=1.0 if recipe.sampling.guidance is None else recipe.sampling.guidance,
        ),
    )
