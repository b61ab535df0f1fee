"""DDPM: ancestral sampling from the exact posterior of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Solver, Step

__all__ = ["DDPM"]


@dataclass(frozen=True)
class DDPM(Solver):
    """x_s = mean of q(x_s | x_t, x_0) + std z with x_0 = E[x_0 | x_t], and no noise into sigma_s = 0.

    Best for: many steps (100 and more), where its fresh noise corrects earlier errors.
    Ho et al. 2020, algorithm 2 and section 3.2.

    Args:
        variance: "lower" is the posterior's own variance (right if x_0 were known); "upper" is that of
            q(x_t | x_s) (right if x_0 were standard normal). Between them lies the truth.
    """

    variance: Literal["lower", "upper"] = "lower"
    process = Gaussian
    order = 1
    evaluations = 1
    stochastic = True

    def __post_init__(self) -> None:
        if self.variance not in ("lower", "upper"):
            raise ConfigError(
                f"variance is {self.variance!r}", field="solver.variance", hint="accepted: 'lower', 'upper'"
            )

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        x_0 = denoiser(x_t, t)
        mean, std = process.posterior(x_t, x_0, t, s)
        if bool((process.schedule.sigma(s) == 0).all()):
            return Step(mean, x_0)
        if self.variance == "upper":
            std = unsqueeze_like(process.kernel(s, t)[1], x_t)
        z = noise.between(t, s)
        return Step(mean + std * z, x_0)
