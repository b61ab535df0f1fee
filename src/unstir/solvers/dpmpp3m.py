"""DPM-Solver++ (3M): a three-step exponential method in half-log-SNR, one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step, check_range
from .multistep import Data, multistep

__all__ = ["DPMpp3M"]


@dataclass(frozen=True)
class DPMpp3M(Solver):
    """x_s = (sigma_s/sigma_t) x_t + sigma_s int e^l p(l) dl over l = log(alpha/sigma), from t to s,

    with p the parabola through the last three x_0, integrated exactly. The published coefficients, those of diffusers,
    halve its second derivative and are of order two: docs/solvers.md shows it. The first step makes a further call, so
    that it is no worse than the others. With eta > 0, see `carry`, fresh noise is added; the weak order is then two.
    Best for: 20 and more steps.
    Lu et al. 2022, "DPM-Solver++", section 4.

    Args:
        eta: share of fresh noise, 0 <= eta <= 1; 0 is the ODE, 1 the reverse SDE.
    """

    eta: float = 0.0
    process = Gaussian
    evaluations = 1

    def __post_init__(self) -> None:
        check_range("eta", self.eta, 0, 1)

    @property
    def order(self) -> int:
        return 2 if self.stochastic else 3

    @property
    def startup(self) -> int:
        return self.order - 2

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        form = Data(denoiser.process, noise, self.eta)
        return multistep(form, 3, self.startup, denoiser, x_t, t, s, state)
