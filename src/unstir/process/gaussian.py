"""The Gaussian process: q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I) and everything that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from ..rng import Rng
from .base import Process, Schedule, unsqueeze_like
from .schedule import Linear

__all__ = ["Gaussian", "Normal"]


class Normal(NamedTuple):
    """A normal law with independent components: mean (B, *S) and std, broadcastable to it."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Gaussian(Process):
    """x_t = alpha(t) x_0 + sigma(t) eps, eps ~ N(0, I).

    Times are () or (B,) tensors in [0, 1]; pictures are (B, *S). The discrete chain of DDPM is
    `Gaussian(BetaLinear())` with times that are multiples of 1/1000.

    Every method takes any pair s < t, so the "one step" of `transition` may be one step of a chain or half
    the way to noise: the steps compose exactly.
    """

    schedule: Schedule = Linear()

    @property
    def ends_clean(self) -> bool:
        return bool(self.schedule.sigma(torch.zeros((), dtype=torch.float64)) == 0)

    def scales(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """alpha(t) and sigma(t), shaped to multiply x; evaluated in t's precision, returned in x's."""
        return unsqueeze_like(self.schedule.alpha(t), x), unsqueeze_like(self.schedule.sigma(t), x)

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t eps. Ho et al. 2020, eq. 4."""
        alpha, sigma = self.scales(t, x_0)
        return alpha * x_0 + sigma * rng.normal(tuple(x_0.shape), x_0.dtype, x_0.device)

    def transition(self, x_s: Tensor, s: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """x_t = (alpha_t / alpha_s) x_s + sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2) eps, for s < t.

        For one step of the chain this is sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps, Ho et al. 2020, eq. 2.
        """
        ratio, std = self.kernel(s, t)
        noise = rng.normal(tuple(x_s.shape), x_s.dtype, x_s.device)
        return unsqueeze_like(ratio, x_s) * x_s + unsqueeze_like(std, x_s) * noise

    def kernel(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The mean factor and the standard deviation of q(x_t | x_s): (alpha_t/alpha_s, sigma_{t|s})."""
        if bool((s > t).any()):
            raise ConfigError(f"s = {s} is after t = {t}", field="s", hint="noise is added forward: s < t")
        ratio = self.schedule.alpha(t) / self.schedule.alpha(s)
        sigma_t, shrunk = self.schedule.sigma(t), ratio * self.schedule.sigma(s)
        # a difference of squares as a product keeps its digits for close times
        return ratio, torch.sqrt(((sigma_t - shrunk) * (sigma_t + shrunk)).clamp(min=0))

    def posterior(
        self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, variance: Tensor | None = None
    ) -> Normal:
        """q(x_s | x_t, x_0) = N(mean, std^2) for s < t, with r = alpha_t/alpha_s:

            mean = r sigma_s^2/sigma_t^2 x_t + alpha_s sigma_{t|s}^2/sigma_t^2 x_0,
            std  = sigma_{t|s} sigma_s / sigma_t.

        Ho et al. 2020, eq. 6 and 7; Kingma et al. 2021, "Variational Diffusion Models", eq. 25, for any pair.

        With x_0 = E[x_0|x_t] and `variance` = Var[x_0|x_t] (B, *S) these are the mean and the standard deviation of
        q(x_s | x_t): std^2 grows by the factor 1 + (SNR(s) - SNR(t)) variance. Bao et al. 2022, "Estimating the Optimal
        Covariance with Imperfect Mean".
        """
        ratio, std = self.kernel(s, t)
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        keep, pull = ratio * (sigma_s / sigma_t) ** 2, self.schedule.alpha(s) * (std / sigma_t) ** 2
        mean = unsqueeze_like(keep, x_t) * x_t + unsqueeze_like(pull, x_t) * x_0
        lower = unsqueeze_like(std * sigma_s / sigma_t, x_t)
        if variance is None:
            return Normal(mean, lower)
        return Normal(mean, torch.sqrt(lower**2 + unsqueeze_like(pull**2, x_t) * variance))

    def prior(
        self,
        shape: tuple[int, ...],
        rng: Rng,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """x_1 ~ N(0, sigma(1)^2 I)."""
        x = rng.normal(shape, dtype, device)
        return unsqueeze_like(self.schedule.sigma(torch.ones((), dtype=torch.float64)), x) * x

    def eps(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """The noise: eps = (x_t - alpha x_0) / sigma."""
        alpha, sigma = self.scales(t, x_t)
        return (x_t - alpha * x_0) / sigma

    def score(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """grad log q(x_t | x_0) = (alpha x_0 - x_t) / sigma^2; with x_0 = E[x_0|x_t] the score of q(x_t)."""
        alpha, sigma = self.scales(t, x_t)
        return (alpha * x_0 - x_t) / sigma**2

    def velocity(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """u = dx_t/dt = alpha' x_0 + sigma' eps: the field of the probability-flow ODE over t."""
        schedule = self.schedule
        dalpha, dsigma = (unsqueeze_like(d, x_t) for d in (schedule.dalpha(t), schedule.dsigma(t)))
        return dalpha * x_0 + dsigma * self.eps(x_t, x_0, t)
