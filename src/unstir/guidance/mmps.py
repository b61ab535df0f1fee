"""MMPS: the covariance of x_0 given x_t by the network's own Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..operators import Measurement
from ..solvers.base import Bound
from ..solvers.ddim import DDIM
from ..spec import Count, validate
from .posterior import Method, jacobian_product
from .projected import dot, rows

__all__ = ["MMPS"]


@dataclass(frozen=True)
class MMPS(Method):
    """D' = D + V A^T M^-1 (y - A D),  M = A V A^T + Var[n],  V = Var[x_0|x_t] = sigma^2/alpha (dD/dx_t)^T,

    with M^-1 by conjugate gradients. An operator that is not linear stands for its tangent at D.

    M is symmetric and positive, but the Jacobian of a network is so only nearly, and conjugate gradients left alone
    diverge on it. Directions p that follow one another are conjugate, p^T M p' = 0, where M is symmetric: a sample
    stops before a direction that is not, or along which V is not positive. Each iteration goes back through
    the network once; the first alone is `DPS`.
    Rozet et al. 2024, "Learning Diffusion Priors from Observations by Expectation Maximization", section 4.2.

    Args:
        iterations: 1 or more; as many as y has numbers are exact.
    """

    iterations: Count = 4
    solver = DDIM(eta=1.0)
    steps = 30
    exact = "x_0 ~ N(m, C), A linear"
    SKEW: ClassVar[float] = 0.2
    """How large the part along the direction before may be, as a share of p^T M p."""

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        guided, product = jacobian_product(denoiser, x_t, t)
        operator, x_0 = measurement.operator, guided
        p = r = measurement.residual(x_0)
        size = dot(r, r)
        solved = size * torch.finfo(r.dtype).eps ** 2
        going = torch.ones_like(size, dtype=torch.bool)
        for _ in range(self.iterations):
            image = product(operator.vjp(x_0, p))
            seen = operator.jvp(x_0, image)
            answer = seen + measurement.variance * p
            bend = dot(p, answer)
            going = (
                going
                & (size > solved)
                & (dot(p, seen) > 0)
                & ((dot(r, answer) - bend).abs() <= self.SKEW * bend)
            )
            length = torch.where(going, size / bend, 0)
            guided, r = guided + rows(length, image), r - rows(length, answer)
            before, size = size, dot(r, r)
            p = r + rows(torch.where(going, size / before, 0), p)
        return guided
