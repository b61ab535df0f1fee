"""The forward process: how data becomes noise, one closed form and one Markov step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..rng import Rng

__all__ = ["Process", "Schedule", "unsqueeze_like"]


def unsqueeze_like(t: Tensor, x: Tensor) -> Tensor:
    """A time-like tensor, () or (B,), shaped to broadcast against x (B, *S) and in x's dtype and device."""
    if t.ndim:
        t = t.reshape(t.shape + (1,) * (x.ndim - t.ndim))
    return t.to(x) if t.ndim else t.to(x.dtype)


class Schedule(ABC):
    """x_t = alpha(t) x_0 + sigma(t) eps for t in [0, 1]: t = 0 is data, t = 1 is noise.

    A schedule needs `alpha` and `sigma`, elementwise, in the dtype of t, differentiable by torch; the
    rest follows from them. Fixed schedules are frozen dataclasses; of learned ones (`learned.py`) those are the
    settings, and `build` makes the module with the parameters.
    """

    def build(self) -> Schedule:
        """The schedule that a denoiser works with: itself, unless it is learned."""
        return self

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor of x_0."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The factor of eps."""

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda(t) = log(alpha^2 / sigma^2), decreasing; infinite where alpha or sigma is zero."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`, clamped to [0, 1]; by bisection unless a schedule knows a closed form."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(80 if log_snr.dtype == torch.float64 else 40):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) < log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return (low + high) / 2

    def dalpha(self, t: Tensor) -> Tensor:
        """d alpha / dt."""
        return _rate(self.alpha, t)

    def dsigma(self, t: Tensor) -> Tensor:
        """d sigma / dt."""
        return _rate(self.sigma, t)


def _rate(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """df/dt, elementwise."""
    # expanded times share their memory, which jvp refuses
    return torch.func.jvp(f, (t.contiguous(),), (torch.ones_like(t),))[1]


class Process(ABC):
    """q(x_t | x_0), q(x_t | x_s) and q(x_s | x_t, x_0): all that Gaussian and token processes share."""

    @abstractmethod
    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """x_t ~ q(x_t | x_0): the closed form, one jump from data to time t."""

    @abstractmethod
    def transition(self, x_s: Tensor, s: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """x_t ~ q(x_t | x_s) for s < t: one step of the Markov chain."""

    @abstractmethod
    def posterior(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Any:
        """The parameters of q(x_s | x_t, x_0) for s < t."""

    @property
    def ends_clean(self) -> bool:
        """Whether x_t at t = 0 is the data itself, with no noise left to remove."""
        return True

    @abstractmethod
    def prior(self, shape: tuple[int, ...], rng: Rng) -> Tensor:
        """x_1, where sampling starts."""
