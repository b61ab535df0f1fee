"""DDIM: the exact step of the ODE while x_0 stands still, with any share of fresh noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Solver, Step, check_range, hold

__all__ = ["DDIM"]


@dataclass(frozen=True)
class DDIM(Solver):
    """x_s = alpha_s x_0 + sigma_s (sqrt(1 - tau) eps + sqrt(tau) z),

    with tau = eta^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2).

    eta = 0 is deterministic; eta = 1 has the law of `DDPM(variance="lower")`, step by step. Best for: a
    reference, and for inversion.
    Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12 and 16.

    Args:
        eta: share of fresh noise, 0 <= eta <= 1.
    """

    eta: float = 0.0
    process = Gaussian
    order = 1
    evaluations = 1

    def __post_init__(self) -> None:
        check_range("eta", self.eta, 0, 1)

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    @property
    def pure(self) -> bool:
        return self.eta == 0

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        x_0 = denoiser(x_t, t)
        if not self.stochastic:
            return Step(hold(process, x_t, x_0, t, s), x_0)
        schedule = process.schedule
        ratio = schedule.alpha(t) * schedule.sigma(s) / (schedule.alpha(s) * schedule.sigma(t))
        tau = self.eta**2 * (1 - ratio**2)
        alpha_s, sigma_s = process.scales(s, x_t)
        kept, fresh = unsqueeze_like(torch.sqrt(1 - tau), x_t), unsqueeze_like(torch.sqrt(tau), x_t)
        z = noise.between(t, s)
        return Step(alpha_s * x_0 + sigma_s * (kept * process.eps(x_t, x_0, t) + fresh * z), x_0)
