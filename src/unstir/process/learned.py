"""Schedules that are learned: a vector of betas, and a monotone network for the log-SNR.

Both keep alpha^2 + sigma^2 = 1, which loses nothing: the bound depends on a Gaussian process through its SNR alone.
Only the variational bound can teach a schedule (`objectives.Bound`); the weighted losses would be smallest where
nothing is left to predict.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..modules import twin
from .base import Schedule
from .schedule import BetaLinear, Chain

__all__ = ["BetaVector", "BetaVectorConfig", "Learned", "LearnedConfig", "Monotone", "MonotoneConfig"]


class Learned(nn.Module, Schedule):
    """A schedule with parameters. A `Preconditioned` denoiser registers it among its own, so that it is trained,
    averaged, saved and moved with the network.

    Times that it is asked for carry no gradient.
    """

    @property
    def in_training(self) -> bool:
        """Whether any of its parameters is to be trained."""
        return any(p.requires_grad for p in self.parameters())

    def time(self, log_snr: Tensor) -> Tensor:
        with torch.no_grad():
            return super().time(log_snr)


class LearnedConfig(Schedule, ABC):
    """The settings of a learned schedule; as a schedule, the curve that learning starts from."""

    @abstractmethod
    def build(self) -> Learned:
        """The schedule with its parameters."""

    def alpha(self, t: Tensor) -> Tensor:
        return _start(self).alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return _start(self).sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        return _start(self).log_snr(t)

    def dalpha(self, t: Tensor) -> Tensor:
        return _start(self).dalpha(t)  # built here, not inside the derivative

    def dsigma(self, t: Tensor) -> Tensor:
        return _start(self).dsigma(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return _start(self).time(log_snr)


@functools.lru_cache(maxsize=32)
def _start(config: LearnedConfig) -> Learned:
    return config.build().requires_grad_(False)


# -- a vector of betas -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BetaVectorConfig(LearnedConfig):
    """A chain whose beta_2..beta_T are learned; beta_1, where the decoder works, stays.

    Sohl-Dickstein et al. 2015, "Deep Unsupervised Learning using Nonequilibrium Thermodynamics", section 2.4.1. To be
    trained by `Bound(steps=T, variable="time")`, which looks at the chain's own times.

    Args:
        steps: T, 2 or more.
        start: where learning starts, at T even times.
    """

    steps: int = 1000
    start: Schedule = BetaLinear()

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ConfigError(
                f"steps is {self.steps}",
                field="schedule.steps",
                hint="accepted: steps >= 2; beta_1 is not learned",
            )

    def build(self) -> BetaVector:
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)[1:]
        # log alpha^2 of the variance-preserving schedule with the same SNR; at t = 0 it is 0, all of the data
        log_alpha_bar = -F.softplus(-self.start.log_snr(t))
        betas = -torch.expm1(torch.diff(log_alpha_bar, prepend=log_alpha_bar.new_zeros(1)))
        return BetaVector(betas.clamp(max=BetaVector.MAX_BETA))


class BetaVector(Learned, Chain):
    """alpha^2(k/T) = prod_{i<=k} (1 - beta_i), beta_i = sigmoid(logits_i) for i >= 2, as in `BetaLinear` between.

    Args:
        betas: (T,) in (0, 1).
    """

    MAX_BETA = 0.999  # as in Nichol & Dhariwal 2021, section 3.2: a step that forgets all cannot be gone back

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        self.steps = len(betas)
        self.beta_1 = float(betas[0])
        self.logits = nn.Parameter(torch.logit(betas[1:]).float())

    def betas(self) -> Tensor:
        """beta_1..beta_T in float64."""
        logits = self.logits.double()
        return torch.cat((logits.new_tensor([self.beta_1]), torch.sigmoid(logits)))

    def table(self) -> Tensor:
        logits = self.logits.double()
        each = torch.cat((logits.new_tensor([0.0, math.log1p(-self.beta_1)]), F.logsigmoid(-logits)))
        return each.cumsum(0)


# -- a monotone network ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MonotoneConfig(LearnedConfig):
    """log_snr as a monotone network of t, its two ends learned as well; at first nearly linear.

    Kingma et al. 2021, "Variational Diffusion Models", section 4 and appendix H. To be trained by
    `Bound(variable="time")`: the ends minimise the bound, the curve between them the variance of its estimate.

    Args:
        log_snr_0: log-SNR at t = 0, at first.
        log_snr_1: log-SNR at t = 1, at first, < log_snr_0.
        bends: how many bends the curve can have.
    """

    log_snr_0: float = 13.3
    log_snr_1: float = -5.0
    bends: int = 32

    def __post_init__(self) -> None:
        if not -math.inf < self.log_snr_1 < self.log_snr_0 < math.inf:
            raise ConfigError(
                f"log-SNR runs from {self.log_snr_0} to {self.log_snr_1}",
                field="schedule.log_snr_0",
                hint="accepted: log_snr_0 > log_snr_1, both finite",
            )
        if self.bends < 1:
            raise ConfigError(f"bends is {self.bends}", field="schedule.bends", hint="accepted: bends >= 1")

    def build(self) -> Monotone:
        return Monotone(self.log_snr_0, self.log_snr_1, self.bends)


class Monotone(Learned):
    """lambda(t) = lambda_0 + (lambda_1 - lambda_0) (h(t) - h(0))/(h(1) - h(0)),

        h(t) = t + mean_i exp(a_i) sigmoid(exp(b_i) t - c_i),

    with lambda = log_snr. The parameters are the `ends` (lambda_0, lambda_1) and the `curve` (a, b, c), each `bends`
    numbers.

    Kingma et al. 2021, appendix H, with the weights made positive by an exponential.
    """

    def __init__(self, log_snr_0: float, log_snr_1: float, bends: int) -> None:
        super().__init__()
        self.ends = nn.Parameter(torch.tensor([log_snr_0, log_snr_1]))
        places = torch.arange(bends) + 0.5  # evenly over t, each as wide as the gap to the next
        self.curve = nn.Parameter(
            torch.cat((torch.zeros(bends), torch.full((bends,), math.log(bends)), places))
        )
        self._rows: Tensor | None = None

    def log_snr(self, t: Tensor) -> Tensor:
        first, last = self.ends.to(t)
        h_0, h, h_1 = (self._height(u) for u in (torch.zeros_like(t), t, torch.ones_like(t)))
        return first + (last - first) * ((h - h_0) / (h_1 - h_0))

    def _height(self, t: Tensor) -> Tensor:
        """h(t)."""
        rows = self._rows if self._rows is not None and t.shape == self._rows.shape[:1] else self.curve
        a, b, c = rows.to(t).unflatten(-1, (3, -1)).unbind(-2)
        return t + (a.exp() * torch.sigmoid(b.exp() * t[..., None] - c)).mean(-1)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(torch.sigmoid(self.log_snr(t)))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(torch.sigmoid(-self.log_snr(t)))

    def per_sample(self, n: int) -> Monotone:
        """The same schedule and parameters; at times (n,) each has a copy of the curve to itself, for `weigh`."""
        return twin(self, _rows=self.curve.expand(n, -1))

    def weigh(self, factors: Tensor) -> None:
        """On the way back, what sample i has to say about the curve counts factors_i times; the ends see no change.

        With factors = 2 L_i the gradient of sum_i L_i turns into that of sum_i L_i^2 for the curve. The mean of the
        bound's estimate L does not depend on it, so this lowers its variance. Kingma et al. 2021, appendix I.2.
        """
        assert self._rows is not None, "weigh needs per_sample"
        if self._rows.requires_grad:
            self._rows.register_hook(lambda gradient: gradient * factors[:, None].to(gradient))
