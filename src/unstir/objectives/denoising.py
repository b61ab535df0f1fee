"""The denoising objective: every Gaussian family's training loss, up to its weight and its times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from ..condition import Batch
from ..denoiser import Denoiser
from ..errors import IncompatibleError
from ..process import Learned, Schedule
from ..process.base import unsqueeze_like
from ..rng import Rng
from ..spec import Range
from .base import Objective, taught
from .draws import Draws, Uniform, spread
from .weights import Target, Weight

__all__ = ["Denoising"]


@dataclass(frozen=True)
class Denoising(Objective):
    """w(t) |D(x_t, t) - x_0|^2 averaged over the components of x_0, t ~ draws.

    With weight = Target() it is the mean squared error of what the network predicts: L_simple of Ho et al.
    2020, eq. 14, for eps; flow matching for velocity; EDM's loss for EDM with LogNormal draws.

    Where the network makes a draft of x_0 from the condition alone, its squared error is minimised as well (`taught`).

    Args:
        weight: w(t).
        draws: the law of t.
        draft: how much the error of a draft counts.
    """

    weight: Weight = Target()
    draws: Draws = Uniform()
    draft: Annotated[float, Range(ge=0)] = 1.0

    def times(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        """(B,) float64 times; raises IncompatibleError where the schedule is being learned."""
        schedule: Schedule = denoiser.process.schedule  # type: ignore[attr-defined]
        if torch.is_grad_enabled() and isinstance(schedule, Learned) and schedule.in_training:
            raise IncompatibleError(
                f"{type(schedule).__name__} would be learned to leave nothing to predict",
                field="objective",
                hint="objective=bound objective.variable=time learns it, or choose a fixed schedule",
            )
        return self.draws.quantile(spread(batch, rng), schedule)

    def loss(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        loss = self.loss_at(denoiser, batch, self.times(denoiser, batch, rng), rng)
        return taught(loss, denoiser, batch, self.draft)

    def loss_at(self, denoiser: Denoiser, batch: Batch, t: Tensor, rng: Rng) -> Tensor:
        """The loss at given times (B,): what a held-out loss per noise level averages."""
        x_t = denoiser.process.corrupt(batch.x_0, t, rng.fork("noise"))
        error = (denoiser(x_t, t, batch.cond) - batch.x_0) ** 2
        return (unsqueeze_like(self.weight(denoiser, t), error) * error).flatten(1).mean(1)
