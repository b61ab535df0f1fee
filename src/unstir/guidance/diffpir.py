"""DiffPIR: a proximal step from what the model says towards what the measurement says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ..operators import GaussianNoise, Measurement, Operator
from ..process.base import unsqueeze_like
from ..solvers.base import Bound, Solver
from ..solvers.ddim import DDIM
from ..spec import Positive, validate
from .posterior import Method, spread

__all__ = ["DiffPIR"]

# for a nonlinear A without noise: what one step of Gauss and Newton cannot explain is taken for noise
LEAST_STD = 0.01


@dataclass(frozen=True)
class DiffPIR(Method):
    """D' = argmin over x of |y - A x|^2/(2 Var[n]) + weight |x - D|^2/(2 r^2),  r^2 = sigma^2/(alpha^2 + sigma^2),

    which is D + r^2 A^T (r^2 A A^T + weight Var[n])^-1 (y - A D). A nonlinear A is replaced by its tangent at D: one
    step of Gauss and Newton; further ones change little. Without noise it is `DDNM`, whatever the weight.

    r^2 is Var[x_0 | x_t] of data of variance 1. The paper's is sigma^2/alpha^2, the same toward the data, but without
    bound toward t = 1, where D' is then A^+ y: for a blur, mostly noise. Zhu et al. 2023, "Denoising Diffusion Models
    for Plug-and-Play Image Restoration", algorithm 1, whose lambda is `weight` and whose zeta, the share of fresh noise
    in a step, is eta of `DDIM`, at a rate over time.

    Takes every operator, noise and solver. Operators that do not know their SVD, nonlinear ones and Poisson noise are
    solved by conjugate gradients on every call.

    Args:
        weight: of the model against the measurement.
    """

    weight: Positive = 1.0
    solver: ClassVar[Solver | None] = DDIM(eta=1.0)
    exact: ClassVar[str] = "y without noise, and independent of it what it leaves open, as steps grow"

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        x_0 = denoiser(x_t, t)
        r2 = (spread(denoiser.process, t) / self.weight).to(x_0)
        gap = tangent(measurement, x_0).resolvent(measurement.residual(x_0), r2, x_0)
        return x_0 + unsqueeze_like(r2, x_0) * measurement.operator.vjp(x_0, gap)


class Tangent(Operator):
    """J = dA/dx at a point (B, C, *S)."""

    def __init__(self, operator: Operator, point: Tensor) -> None:
        self.operator, self.point = operator, point

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.jvp(self.point, x)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.operator.vjp(self.point, v)


def tangent(measurement: Measurement, point: Tensor) -> Measurement:
    """The measurement with a linear operator: its own, or J at the point, whose noise does not vanish."""
    if measurement.operator.linear:
        return measurement
    noise = GaussianNoise(LEAST_STD) if measurement.noiseless else measurement.noise
    return replace(measurement, operator=Tangent(measurement.operator, point), noise=noise)
