"""The annealed likelihood of Langevin dynamics: y against x_t itself, without the network's Jacobian."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..operators import Measurement
from ..process.base import unsqueeze_like
from ..solvers.base import Bound
from ..solvers.langevin import Langevin
from ..spec import Positive, validate
from .posterior import Method, require_linear, spread

__all__ = ["AnnealedLikelihood"]


@dataclass(frozen=True)
class AnnealedLikelihood(Method):
    """D' = D + r_t^2 A^T (r_t^2 A A^T + Var[n])^-1 (y - A w x_t),  w = alpha std^2/(alpha^2 std^2 + sigma^2),

    so that the score of x_t gains that of N(y; A w x_t, r_t^2 A A^T + Var[n]), the law of y if x_0 ~ N(0, std^2 I),
    with r_t^2 = sigma^2 std^2/(alpha^2 std^2 + sigma^2) what is then left of its variance.

    x_t follows laws q(x_t) p~(y|x_t) that are not those of noisy samples, but the last of them, as sigma falls to 0, is
    p(x_0|y) for any data. Langevin dynamics moves to it through the others: exact with many levels and many small
    corrections. Other solvers take each law for the noisy last one and end elsewhere, unless the data are as above. The
    paper has std = infinity, where w = 1/alpha and r_t = sigma/alpha, and a number gamma_t^2 for r_t^2 A A^T.
    Jalal et al. 2021, "Robust Compressed Sensing MRI with Deep Generative Priors"; "Score-ALD" in surveys.

    Args:
        std: of the data, in its own units.
    """

    std: Positive = 1.0
    solver = Langevin(corrections=5, snr=0.4)
    exact = "x_0 ~ N(0, std^2 I); any x_0 in the limit of Langevin dynamics"

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        x_0, operator = denoiser(x_t, t), measurement.operator
        alpha, sigma = denoiser.process.scales(t, x_t)
        white = alpha * self.std**2 / ((alpha * self.std) ** 2 + sigma**2) * x_t
        variance = spread(denoiser.process, t, self.std).to(x_0)
        gap = measurement.resolvent(measurement.residual(white), variance, x_0)
        return x_0 + unsqueeze_like(variance, x_0) * operator.adjoint(gap, x_0)

    def check_measurement(self, measurement: Measurement) -> None:
        require_linear(self, measurement)
