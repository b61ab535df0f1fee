"""CFG++: guided data, unguided noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import IncompatibleError
from ..process import Gaussian
from .base import Linear, Place, Rule

__all__ = ["CFGPlusPlus"]


@dataclass(frozen=True)
class CFGPlusPlus(Rule):
    """x_s = alpha_s (weak + scale (strong - weak)) + sigma_s eps(weak): only the data is guided, not the noise.

    As a denoiser for `DDIM` this is `Linear` with the scale

        w = alpha_s scale / (alpha_s - alpha_t sigma_s/sigma_t),

    large for short steps and `scale` on the step to sigma_s = 0. Scales go up to 1: each step adds
    alpha_s scale (strong - weak) however short it is, so twice the steps guide about twice as much, and there is no
    limit of many steps. Exact for `DDIM`; other solvers of first order add a little more or less, by a share that
    falls with the step. Those of higher order, which would take w for part of the differential equation, and
    stochastic ones are refused.
    Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models", algorithm 2.
    """

    largest_scale = 1.0

    def scale(self, scale: Tensor, place: Place) -> Tensor:
        if place.s is None:  # outside a step, as on one to clean data
            return scale
        process: Gaussian = place.process  # type: ignore[assignment]
        alpha, sigma = process.schedule.alpha, process.schedule.sigma
        t, s = place.t, place.s
        return scale * alpha(s) / (alpha(s) - alpha(t) * sigma(s) / sigma(t))

    def combine(self, weak: Tensor, strong: Tensor, scale: Tensor, place: Place) -> Tensor:
        return Linear().combine(weak, strong, scale, place)

    def check(self, solver: Any) -> None:
        if solver.stochastic or (solver.order, solver.evaluations) != (1, 1):
            raise IncompatibleError(
                f"CFG++ guides single deterministic steps; {type(solver).__name__} takes others",
                field="solver",
                hint="use solver=ddim with it, or another rule",
            )
