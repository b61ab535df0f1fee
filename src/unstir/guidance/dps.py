"""DPS: the gradient of |y - A(D(x_t))|^2, for every operator and noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Measurement
from ..solvers.base import Bound
from ..solvers.ddim import DDIM
from ..spec import Positive, validate
from .posterior import Method, jacobian_product
from .projected import dot, rows

__all__ = ["DPS"]


@dataclass(frozen=True)
class DPS(Method):
    """D' = D + scale/s^2 V J^T r,  r = y - A(D),  V = sigma^2/alpha (dD/dx_t)^T,  J = dA/dx at D,

    which is D + scale sigma^2/alpha grad log N(y; A(D), s^2) by x_t. How far y lies from A(D) is what the paper's
    p(y|x_t) ~ p(y|x_0 = D) leaves open; here s^2 is the variance of y given x_t along r,

        s^2 = r^T (J V J^T + Var[n]) r/|r|^2.

    Algorithm 1 of the paper subtracts zeta grad |r|^2/|r| once a step, whatever the step's length, so that with more
    steps, or another solver, guidance has another strength. D' knows of no steps and serves all solvers. A step of
    DDPM with it is one of algorithm 1 with zeta = scale beta |r|/(2 s^2), beta = alpha_s/alpha_t Var[x_t|x_s].
    Chung et al. 2023, "Diffusion Posterior Sampling for General Noisy Inverse Problems", theorem 1.

    Args:
        scale: of the gradient; 1 = as Bayes has it.
    """

    scale: Positive = 1.0
    solver = DDIM(eta=1.0)
    steps = 60
    exact = "x_0 ~ N(m, C), A linear, A C A^T = c I, as where y is one number"

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        x_0, product = jacobian_product(denoiser, x_t, t)
        operator, r = measurement.operator, measurement.residual(x_0)
        step = product(operator.vjp(x_0, r))
        along = dot(r, operator.jvp(x_0, step))
        # a network's V may be negative along r: then it says nothing
        length = torch.where(along > 0, dot(r, r) / (along + dot(r, measurement.variance * r)), 0)
        return x_0 + rows(self.scale * length, step)
