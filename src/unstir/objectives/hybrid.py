"""The hybrid objective: the denoising loss for the mean of x_0, the bound for its variance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..condition import Batch
from ..denoiser import Denoiser
from ..errors import ConfigError
from ..process import Gaussian
from ..process.base import unsqueeze_like
from ..rng import Rng
from .base import Objective, taught
from .bound import bits, step
from .denoising import Denoising

__all__ = ["Hybrid"]


@dataclass(frozen=True)
class Hybrid(Objective):
    """simple + scale T KL(q(x_s|x_t,x_0) | N(mean, std^2)), s = t - 1/T (t/2 on the last step), in bits per dimension.

    The mean of the reverse step is made from E[x_0|x_t], here without gradient, and its variance from the model's
    Var[x_0|x_t]: `Gaussian.posterior`. So the first term alone teaches the mean and the second alone the variance,
    whose minimum is the mean squared error of x_0, at every t. Nichol & Dhariwal 2021, "Improved DDPM", eq. 16, with
    scale = 0.001.

    They learn v in place of Var[x_0|x_t]: std^2 = upper^v lower^(1-v) of `DDPM`, eq. 15. To first order in the step
    that is the same with Var[x_0|x_t] = v sigma_t^2 where alpha^2 + sigma^2 = 1; but v belongs to the steps it was
    learned on, the variance of x_0 to steps of any length.

    Args:
        simple: the loss of the mean, and the times of both.
        scale: > 0.
        steps: T, 1 or more: short steps hardly depend on their variance, so that of the published 4000 it is learned
            slowly except near t = 0.
    """

    simple: Denoising = Denoising()
    scale: float = 1e-3
    steps: int = 100

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"scale is {self.scale}", field="objective.scale", hint="accepted: scale > 0")
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}", field="objective.steps", hint="accepted: steps >= 1")

    @property
    def learns_variance(self) -> bool:
        return True

    def loss(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        loss = self.loss_at(denoiser, batch, self.simple.times(denoiser, batch, rng), rng)
        return taught(loss, denoiser, batch, self.simple.draft)

    def loss_at(self, denoiser: Denoiser, batch: Batch, t: Tensor, rng: Rng) -> Tensor:
        """The loss at given times (B,)."""
        process: Gaussian = denoiser.process  # type: ignore[assignment]
        x_0, s = batch.x_0, torch.maximum(t - 1 / self.steps, t / 2)
        mean, variance = denoiser.moments(process.corrupt(x_0, t, rng.fork("noise")), t, batch.cond)
        error = (unsqueeze_like(self.simple.weight(denoiser, t), x_0) * (mean - x_0) ** 2).flatten(1).mean(1)
        kl = step(process.schedule, x_0, mean.detach(), t, s, variance=variance)
        return error + self.scale * self.steps * bits(kl, x_0)
