"""DDPM: ancestral sampling from the exact posterior of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Solver, Step, check_choice

__all__ = ["DDPM"]


@dataclass(frozen=True)
class DDPM(Solver):
    """x_s = mean of q(x_s | x_t, x_0) + std z with x_0 = E[x_0 | x_t], and no noise into sigma_s = 0.

    Best for: many steps (100 and more), where its fresh noise corrects earlier errors.
    Ho et al. 2020, algorithm 2 and section 3.2; Nichol & Dhariwal 2021, "Improved DDPM", section 3.1.

    Args:
        variance: "lower" is the posterior's own variance (right if x_0 were known); "upper" is that of
            q(x_t | x_s) (right if x_0 were standard normal). Between them lies the truth. "learned" is the truth,
            component by component, of denoisers that know Var[x_0|x_t]: models trained by `objectives.Hybrid`,
            mixtures. It claims no order: it is exact for independent Gaussian components, in steps of any length.

    Raises:
        IncompatibleError: on the first step, variance = "learned" of a denoiser that does not know it.
    """

    variance: Literal["lower", "upper", "learned"] = "lower"
    process = Gaussian
    evaluations = 1
    stochastic = True

    def __post_init__(self) -> None:
        check_choice("variance", self.variance, "lower", "upper", "learned")

    @property
    def order(self) -> int | None:
        return None if self.variance == "learned" else 1

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        learned = self.variance == "learned"
        x_0, known = denoiser.moments(x_t, t) if learned else (denoiser(x_t, t), None)
        mean, std = process.posterior(x_t, x_0, t, s, known)
        if bool((process.schedule.sigma(s) == 0).all()):
            return Step(mean, x_0)
        if self.variance == "upper":
            std = unsqueeze_like(process.kernel(s, t)[1], x_t)
        z = noise.between(t, s)
        return Step(mean + std * z, x_0)
