"""Ancestral sampling: any deterministic step, taken too far, and the process's own noise back up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Solver, Step
from .euler import Euler

__all__ = ["Ancestral"]


@dataclass(frozen=True)
class Ancestral(Solver):
    """x_s ~ q(x_s | x_u), where x_u is the solver's step from t to u < s,

        (sigma_u/alpha_u)^2 = r_s^2 (1 - eta^2 (1 - r_s^2 / r_t^2)),  r = sigma/alpha.

    Both halves keep the law of x_t exactly, so the law of the samples converges with the order of the solver, which
    is the order claimed here: weak, and from the right law on. Best for: fresh noise at an order above
    one, as `Ancestral(Heun())`. With Euler("sigma"), the default, it is k-diffusion's Euler ancestral and gives the
    numbers of DDIM(eta), which for eta = 1 are those of DDPM("lower"); with "time", its counterpart for flow models.
    Where sigma(0) > 0 the time u stays at 0 or above.
    Crowson 2022, k-diffusion, `sample_euler_ancestral`; here for any solver.

    Args:
        solver: a pure one, such as Euler, Heun, RungeKutta.
        eta: share of fresh noise, 0 < eta <= 1.
    """

    solver: Solver = Euler("sigma")
    eta: float = 1.0
    process = Gaussian
    stochastic = True

    def __post_init__(self) -> None:
        if not 0 < self.eta <= 1:
            raise ConfigError(f"eta is {self.eta}", field="solver.eta", hint="accepted: 0 < eta <= 1")
        if not self.solver.pure:
            raise ConfigError(
                f"Ancestral cannot wrap {self.solver}",
                field="solver.solver",
                hint="give a solver without noise or history, as Euler, Heun or RungeKutta",
            )

    @property
    def order(self) -> int | None:
        return self.solver.order

    @property
    def evaluations(self) -> int | None:
        return self.solver.evaluations

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        u = self.below(process, t, s)
        step = self.solver.step(denoiser, x_t, t, u, None, noise)
        if bool((u == s).all()):
            return step
        ratio, std = process.kernel(u, s)
        added = unsqueeze_like(std, x_t) * noise.between(t, s)
        return Step(unsqueeze_like(ratio, x_t) * step.x + added, step.x_0)

    def below(self, process: Gaussian, t: Tensor, s: Tensor) -> Tensor:
        """The time u that the solver steps to."""
        log_snr_t, log_snr_s = process.schedule.log_snr(t), process.schedule.log_snr(s)
        share = -(self.eta**2) * torch.expm1(log_snr_t - log_snr_s)  # eta^2 (1 - r_s^2 / r_t^2)
        u = process.schedule.time(log_snr_s - torch.log1p(-share))
        return torch.where(log_snr_s.isposinf(), s, torch.minimum(u.to(s), s))
