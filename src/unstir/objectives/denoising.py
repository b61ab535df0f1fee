"""The denoising objective: every Gaussian family's training loss, up to its weight and its times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..condition import Batch
from ..denoiser import Denoiser
from ..process.base import unsqueeze_like
from ..rng import Rng
from .base import Objective
from .draws import Draws, Uniform
from .weights import Target, Weight

__all__ = ["Denoising"]

# the fractional parts of multiples of this fill (0, 1) more evenly than any other sequence of the kind
GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class Denoising(Objective):
    """w(t) |D(x_t, t) - x_0|^2 averaged over the components of x_0, t ~ draws.

    With weight = Target() it is the mean squared error of what the network predicts: L_simple of Ho et al.
    2020, eq. 14, for eps; flow matching for velocity; EDM's loss for EDM with LogNormal draws.

    A batch with `index` gets the times of a low-discrepancy sequence of the samples' running numbers, which
    spreads any stretch of samples evenly over t and lowers the variance of the loss (Kingma et al. 2021,
    appendix I.1, stratify within a batch; the sequence also does so across batches).

    Args:
        weight: w(t).
        draws: the law of t.
    """

    weight: Weight = Target()
    draws: Draws = Uniform()

    def times(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        """(B,) float64 times."""
        if batch.index is None:
            u = rng.fork("time").uniform((len(rng), 1), torch.float64, batch.x_0.device)[:, 0]
        else:
            u = torch.frac((batch.index.double() + 0.5) * GOLDEN_RATIO)
        return self.draws.quantile(u.to(batch.x_0.device), denoiser.process.schedule)  # type: ignore[attr-defined]

    def loss(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        return self.loss_at(denoiser, batch, self.times(denoiser, batch, rng), rng)

    def loss_at(self, denoiser: Denoiser, batch: Batch, t: Tensor, rng: Rng) -> Tensor:
        """The loss at given times (B,): what a held-out loss per noise level averages."""
        x_t = denoiser.process.corrupt(batch.x_0, t, rng.fork("noise"))
        error = (denoiser(x_t, t, batch.cond) - batch.x_0) ** 2
        return (unsqueeze_like(self.weight(denoiser, t), error) * error).flatten(1).mean(1)
