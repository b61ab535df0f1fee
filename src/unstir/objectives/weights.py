"""How much each noise level counts: w(t) multiplies the squared error of x_0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, Preconditioned
from ..errors import ConfigError, IncompatibleError
from ..process import Gaussian

__all__ = ["EDMWeight", "MinSNR", "SigmoidWeight", "Target", "Unit", "Weight"]


class Weight(ABC):
    """w(t) > 0."""

    @abstractmethod
    def __call__(self, denoiser: Denoiser, t: Tensor) -> Tensor:
        """w at t, elementwise."""


@dataclass(frozen=True)
class Target(Weight):
    """w = 1/c_out^2: the plain squared error of the network's own target (eps, v, velocity, ...)."""

    def __call__(self, denoiser: Denoiser, t: Tensor) -> Tensor:
        if not isinstance(denoiser, Preconditioned):
            raise IncompatibleError(
                f"{type(denoiser).__name__} has no network target",
                field="objective.weight",
                hint="use unit, min_snr or edm_weight, which need no network",
            )
        return denoiser.coefficients(t)[1] ** -2


@dataclass(frozen=True)
class Unit(Weight):
    """w = 1: the plain squared error of x_0."""

    def __call__(self, denoiser: Denoiser, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class MinSNR(Weight):
    """w = min(SNR, gamma). Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting", eq. 6."""

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ConfigError(
                f"gamma is {self.gamma}", field="objective.weight.gamma", hint="accepted: gamma > 0"
            )

    def __call__(self, denoiser: Denoiser, t: Tensor) -> Tensor:
        return _log_snr(denoiser, t).exp().clamp(max=self.gamma)


@dataclass(frozen=True)
class EDMWeight(Weight):
    """w = (s^2 + d^2)/(s d)^2 with s = sigma/alpha, d = sigma_data. Karras et al. 2022, table 1."""

    sigma_data: float = 0.5

    def __call__(self, denoiser: Denoiser, t: Tensor) -> Tensor:
        return _log_snr(denoiser, t).exp() + self.sigma_data**-2


@dataclass(frozen=True)
class SigmoidWeight(Weight):
    """w = -lambda'(t) SNR sigmoid(bias - lambda): the bound's weight, faded out above log-SNR = bias.

    Kingma & Gao 2023, "Understanding Diffusion Objectives as the ELBO", and Hoogeboom et al. 2024, "Simpler
    Diffusion (SiD2)", for uniform t.
    """

    bias: float = 0.0

    def __call__(self, denoiser: Denoiser, t: Tensor) -> Tensor:
        schedule = _process(denoiser).schedule
        log_snr = schedule.log_snr(t)
        rate = torch.func.jvp(schedule.log_snr, (t,), (torch.ones_like(t),))[1]
        return -rate * torch.exp(log_snr) * torch.sigmoid(self.bias - log_snr)


def _process(denoiser: Denoiser) -> Gaussian:
    return denoiser.process  # type: ignore[return-value]


def _log_snr(denoiser: Denoiser, t: Tensor) -> Tensor:
    return _process(denoiser).schedule.log_snr(t)
