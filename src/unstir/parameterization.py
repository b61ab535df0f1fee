"""What a network predicts: one affine pair each, x_0 = c_skip(t) x_t + c_out(t) F.

The network's regression target is the inverse, F* = (x_0 - c_skip x_t) / c_out, so predicting noise, data,
score, v or velocity differ in these two numbers and in nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .errors import ConfigError, IncompatibleError
from .process import Schedule

__all__ = ["EDM", "X0", "Eps", "Parameterization", "Score", "V", "Velocity"]


class Parameterization(ABC):
    """x_0 = c_skip(t) x_t + c_out(t) F."""

    @abstractmethod
    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """(c_skip(t), c_out(t)), elementwise in t."""

    def check(self, schedule: Schedule) -> None:
        """Raises IncompatibleError where c_skip or c_out is infinite, or c_out zero, at t = 1."""
        c_skip, c_out = self.coefficients(schedule, torch.ones((), dtype=torch.float64))
        if not (c_skip.isfinite() and c_out.isfinite() and c_out != 0):
            alpha = float(schedule.alpha(torch.ones(())))
            raise IncompatibleError(
                f"{type(self).__name__} cannot recover x_0 on {type(schedule).__name__}: at t = 1, where "
                f"alpha = {alpha:g}, its c_skip is {float(c_skip):g} and c_out {float(c_out):g}",
                field="parameterization",
                hint="predict v, x0 or edm, or use a schedule that keeps some signal, as beta_linear does",
            )


@dataclass(frozen=True)
class X0(Parameterization):
    """F = x_0: c_skip = 0, c_out = 1."""

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)


@dataclass(frozen=True)
class Eps(Parameterization):
    """F = eps: c_skip = 1/alpha, c_out = -sigma/alpha. Ho et al. 2020, eq. 15."""

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = schedule.alpha(t)
        return 1 / alpha, -schedule.sigma(t) / alpha


@dataclass(frozen=True)
class Score(Parameterization):
    """F = unit(t) grad log q(x_t): c_skip = 1/alpha, c_out = sigma^2/(alpha unit) (Tweedie). Song & Ermon 2019.

    The score grows as 1/sigma. In the unit sigma the network's target has unit variance at every noise level
    (it is -eps), and its squared error is the score's, weighted by sigma^2: Song & Ermon 2020, "Improved
    Techniques for Training Score-Based Generative Models", technique 3.
    """

    unit: Literal["one", "sigma"] = "one"

    def __post_init__(self) -> None:
        if self.unit not in ("one", "sigma"):
            raise ConfigError(
                f"unit is {self.unit!r}", field="parameterization.unit", hint="accepted: 'one', 'sigma'"
            )

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return 1 / alpha, sigma ** (2 if self.unit == "one" else 1) / alpha


@dataclass(frozen=True)
class V(Parameterization):
    """F = v = alpha eps - sigma x_0: c_skip = alpha/(alpha^2+sigma^2), c_out = -sigma/(alpha^2+sigma^2).

    Salimans & Ho 2022, "Progressive Distillation", appendix D.
    """

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        total = alpha**2 + sigma**2
        return alpha / total, -sigma / total


@dataclass(frozen=True)
class Velocity(Parameterization):
    """F = u = alpha' x_0 + sigma' eps: c_skip = sigma'/d, c_out = -sigma/d with d = alpha sigma' - alpha' sigma.

    Lipman et al. 2022, "Flow Matching"; for `Linear` u = eps - x_0.
    """

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma, dalpha, dsigma = (
            f(t) for f in (schedule.alpha, schedule.sigma, schedule.dalpha, schedule.dsigma)
        )
        determinant = alpha * dsigma - dalpha * sigma
        return dsigma / determinant, -sigma / determinant


@dataclass(frozen=True)
class EDM(Parameterization):
    """The pair that keeps network input, target and error of unit variance for data of std sigma_data = d:

        c_skip = alpha d^2/(alpha^2 d^2 + sigma^2),  c_out = sigma d/sqrt(alpha^2 d^2 + sigma^2).

    Karras et al. 2022, table 1, written for any alpha.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ConfigError(
                f"sigma_data is {self.sigma_data}",
                field="parameterization.sigma_data",
                hint="give the standard deviation of the data, > 0",
            )

    def coefficients(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma, d = schedule.alpha(t), schedule.sigma(t), self.sigma_data
        total = alpha**2 * d**2 + sigma**2
        return alpha * d**2 / total, sigma * d / torch.sqrt(total)
