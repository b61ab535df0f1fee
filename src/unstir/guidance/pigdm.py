"""PiGDM: the residual weighed by the inverse of its covariance, through the network's Jacobian."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..operators import Measurement
from ..solvers.base import Bound
from ..solvers.ddim import DDIM
from ..spec import Positive, validate
from .posterior import Method, jacobian_product, require_linear, spread

__all__ = ["PiGDM"]


@dataclass(frozen=True)
class PiGDM(Method):
    """D' = D + V A^T (r_t^2 A A^T + Var[n])^-1 (y - A D),  V = sigma^2/alpha (dD/dx_t)^T,

    with r_t^2 = sigma^2 std^2/(alpha^2 std^2 + sigma^2), the variance of x_0 ~ N(m, std^2 I) given x_t. Without noise
    it is D + V/r_t^2 (A^+ y - A^+ A D).

    The gradient is weighed as Bayes has it, and knows of no steps. Algorithm 1 of the paper, for y without noise,
    multiplies it by r_t^2 again and adds it once a step of `DDIM(eta=1)`, whatever the step's length. Where the data
    are wider than std along a direction, as pictures are along smooth ones, D' overshoots at high noise; solvers that
    draw noise forgive it, multistep ones do not.
    Song et al. 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems", section 3.

    Args:
        std: of the data, in its own units; 1 is the paper's.
    """

    std: Positive = 1.0
    solver = DDIM(eta=1.0)
    exact = "x_0 ~ N(m, std^2 I)"

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        x_0, product = jacobian_product(denoiser, x_t, t)
        variance = spread(denoiser.process, t, self.std).to(x_0)
        gap = measurement.resolvent(measurement.residual(x_0), variance, x_0)
        return x_0 + product(measurement.operator.adjoint(gap, x_0))

    def check_measurement(self, measurement: Measurement) -> None:
        require_linear(self, measurement)
