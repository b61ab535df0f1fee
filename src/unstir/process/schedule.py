"""Noise schedules: alpha(t) and sigma(t), nothing else.

Ends are exact: wherever a schedule reaches pure data or pure noise, sigma(0) or alpha(1) is 0 and not a
rounding error, because solvers and parameterizations branch on it. Small quantities are computed directly
(`expm1`, products of sines), never as 1 - (something close to 1).
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError, IncompatibleError
from .base import Schedule

__all__ = [
    "EDM",
    "VP",
    "BetaLinear",
    "Cosine",
    "Geometric",
    "Linear",
    "Shifted",
    "Sigmoid",
    "SubVP",
    "ZeroTerminal",
]


def _require(ok: bool, field: str, got: object, accepted: str) -> None:
    if not ok:
        raise ConfigError(f"{field} is {got}", field=field, hint=f"accepted: {accepted}")


@dataclass(frozen=True)
class Linear(Schedule):
    """alpha = 1 - t, sigma = t: the straight path of rectified flow.

    Liu et al. 2022, "Flow Straight and Fast"; Lipman et al. 2022, "Flow Matching", eq. 20 with sigma_min = 0.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t + 0.0

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = cos(u pi/2) / cos(u_0 pi/2), u = (t + offset)/(1 + offset), u_0 = u(0); sigma^2 = 1 - alpha^2.

    Nichol & Dhariwal 2021, "Improved DDPM", eq. 17, use offset = 0.008; offset = 0 is the exact quarter circle.
    """

    offset: float = 0.0

    def __post_init__(self) -> None:
        _require(0 <= self.offset < 1, "schedule.offset", self.offset, "0 <= offset < 1")

    def alpha(self, t: Tensor) -> Tensor:
        # cos(u pi/2) written as a sine of the remaining angle, which is exactly 0 at t = 1
        return torch.sin((1 - t) * (math.pi / 2 / (1 + self.offset))) / self._cos_0

    def sigma(self, t: Tensor) -> Tensor:
        # 1 - cos^2 a / cos^2 b = sin(a - b) sin(a + b) / cos^2 b
        quarter = math.pi / 2 / (1 + self.offset)
        if self.offset == 0:
            return torch.sin(t * quarter)
        return torch.sqrt(torch.sin(t * quarter) * torch.sin((t + 2 * self.offset) * quarter)) / self._cos_0

    def time(self, log_snr: Tensor) -> Tensor:
        alpha, sigma = torch.sqrt(torch.sigmoid(log_snr)), torch.sqrt(torch.sigmoid(-log_snr))
        if self.offset == 0:
            return torch.atan2(sigma, alpha) * (2 / math.pi)
        # the angle of t alone, by sine and cosine of a difference in which nothing cancels
        cos_0, sin_0 = self._cos_0, math.sqrt(1 - self._cos_0**2)
        sine = torch.hypot(sigma * cos_0, torch.full_like(sigma, sin_0))  # of the whole angle
        angle = torch.atan2(cos_0 * sigma**2 / (sine + alpha * sin_0), alpha * cos_0**2 + sine * sin_0)
        return (angle * (2 / math.pi * (1 + self.offset))).clamp(max=1)

    @property
    def _cos_0(self) -> float:
        return math.cos(math.pi / 2 * self.offset / (1 + self.offset))


class Chain(Schedule, ABC):
    """A discrete chain of T = `steps` steps: log alpha^2 at t = k/T from a table, linear in t between; sigma^2 =
    1 - alpha^2.
    """

    steps: int

    @abstractmethod
    def table(self) -> Tensor:
        """log alpha^2(k/T) for k = 0..T in float64, falling from 0."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha_bar(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(0.0 - torch.expm1(self._log_alpha_bar(t)))

    def time(self, log_snr: Tensor) -> Tensor:
        table = self.table().to(log_snr.device)
        value = -torch.nn.functional.softplus(-log_snr.double())
        k = (torch.searchsorted(-table, -value) - 1).clamp(0, self.steps - 1)
        t = (k + (value - table[k]) / (table[k + 1] - table[k])) / self.steps
        return t.clamp(0, 1).to(log_snr.dtype)

    def _log_alpha_bar(self, t: Tensor) -> Tensor:
        table = self.table().to(t.device)
        position = t.double() * self.steps
        k = position.detach().floor().long().clamp(0, self.steps - 1)
        return torch.lerp(table[k], table[k + 1], position - k).to(t.dtype)


@dataclass(frozen=True)
class BetaLinear(Chain):
    """alpha^2(k/T) = prod_{i<=k} (1 - beta_i), sigma^2 = 1 - alpha^2: the discrete chain, exact at t = k/T.

    beta_i runs from beta_1 to beta_T linearly, or with spacing = "scaled" linearly in sqrt(beta) (Stable
    Diffusion: beta_1 = 0.00085, beta_T = 0.012). Between the steps log alpha^2 is interpolated linearly, and
    alpha(0) = 1. Ho et al. 2020, "DDPM", section 4.
    """

    steps: int = 1000
    beta_1: float = 1e-4
    beta_T: float = 0.02
    spacing: Literal["linear", "scaled"] = "linear"

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "schedule.steps", self.steps, "steps >= 1")
        _require(
            0 < self.beta_1 <= self.beta_T < 1,
            "schedule.beta_1",
            (self.beta_1, self.beta_T),
            "0 < beta_1 <= beta_T < 1",
        )
        _require(
            self.spacing in ("linear", "scaled"), "schedule.spacing", repr(self.spacing), "'linear', 'scaled'"
        )

    @classmethod
    def stable_diffusion(cls) -> BetaLinear:
        """The scaled-linear chain of Stable Diffusion 1 and 2 (Rombach et al. 2022)."""
        return cls(steps=1000, beta_1=0.00085, beta_T=0.012, spacing="scaled")

    def betas(self) -> Tensor:
        """beta_1..beta_T in float64, for comparison with papers; nothing in the library reads it."""
        power = 0.5 if self.spacing == "scaled" else 1.0
        first, last = self.beta_1**power, self.beta_T**power
        return torch.linspace(first, last, self.steps, dtype=torch.float64) ** (1 / power)

    def table(self) -> Tensor:
        return _log_alpha_bar_table(self)


@functools.lru_cache(maxsize=32)
def _log_alpha_bar_table(schedule: BetaLinear) -> Tensor:
    cumulative = torch.log1p(-schedule.betas()).cumsum(0)
    return torch.cat((torch.zeros(1, dtype=torch.float64), cumulative))


@dataclass(frozen=True)
class _BetaRamp(Schedule, ABC):
    """log alpha = -B(t)/2, B(t) = beta_min t + (beta_max - beta_min) t^2/2: beta(t) = B'(t) rises linearly."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _require(
            0 < self.beta_min <= self.beta_max < math.inf,
            "schedule.beta_min",
            (self.beta_min, self.beta_max),
            "0 < beta_min <= beta_max",
        )

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self._integral(t) / 2)

    def _integral(self, t: Tensor) -> Tensor:
        """B(t)."""
        return t * (self.beta_min + (self.beta_max - self.beta_min) / 2 * t)

    def _time_of(self, integral: Tensor) -> Tensor:
        """The t of a B, by the root of the quadratic in the form that does not cancel."""
        B = integral.clamp(max=(self.beta_min + self.beta_max) / 2)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * B)
        return (2 * B / (self.beta_min + root)).clamp(max=1)


@dataclass(frozen=True)
class VP(_BetaRamp):
    """alpha^2 = exp(-B(t)), sigma^2 = 1 - alpha^2, B(t) = beta_min t + (beta_max - beta_min) t^2/2.

    The chain of `BetaLinear` in continuous time: dx = -beta/2 x dt + sqrt(beta) dw with beta(t) = B'(t), from
    beta_min to beta_max. Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 32 and 33.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(0.0 - torch.expm1(-self._integral(t)))

    def time(self, log_snr: Tensor) -> Tensor:
        return self._time_of(torch.nn.functional.softplus(-log_snr))


@dataclass(frozen=True)
class SubVP(_BetaRamp):
    """alpha as in `VP`, sigma = 1 - alpha^2: the square of VP's, less noise at every time between the ends.

    dx = -beta/2 x dt + sqrt(beta (1 - alpha^4)) dw. Song et al. 2021, eq. 34 to 36; made for likelihoods.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return 0.0 - torch.expm1(-self._integral(t))

    def time(self, log_snr: Tensor) -> Tensor:
        # sigma/alpha = 1/alpha - alpha = 2 sinh(B/2)
        return self._time_of(2 * torch.asinh(torch.exp(-log_snr / 2) / 2))


@dataclass(frozen=True)
class Geometric(Schedule):
    """alpha = 1, sigma = sigma_min^(1-t) sigma_max^t: variance exploding.

    Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 9 and appendix C.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        _require_sigmas(self.sigma_min, self.sigma_max)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min ** (1 - t) * self.sigma_max**t

    def time(self, log_snr: Tensor) -> Tensor:
        t = (-log_snr / 2 - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)
        return t.clamp(0, 1)


@dataclass(frozen=True)
class EDM(Schedule):
    """alpha = 1, sigma = (sigma_min^(1/rho) (1 - t) + sigma_max^(1/rho) t)^rho.

    Karras et al. 2022, "Elucidating the Design Space", eq. 5; a uniform grid of t is their sampling grid.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _require_sigmas(self.sigma_min, self.sigma_max)
        _require(self.rho > 0, "schedule.rho", self.rho, "rho > 0")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (low + (high - low) * t) ** self.rho

    def time(self, log_snr: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return ((torch.exp(-log_snr / (2 * self.rho)) - low) / (high - low)).clamp(0, 1)


def _require_sigmas(sigma_min: float, sigma_max: float) -> None:
    _require(
        0 < sigma_min < sigma_max < math.inf,
        "schedule.sigma_min",
        f"{sigma_min} and sigma_max {sigma_max}",
        "0 < sigma_min < sigma_max",
    )


@dataclass(frozen=True)
class Sigmoid(Schedule):
    """alpha^2 = (S(end) - S(start + t (end - start))) / (S(end) - S(start)), S(u) = sigmoid(u / tau).

    Jabri et al. 2022, "Scalable Adaptive Computation for Iterative Generation", appendix B.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        _require(self.start < self.end, "schedule.start", (self.start, self.end), "start < end")
        _require(self.tau > 0, "schedule.tau", self.tau, "tau > 0")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(self._difference(t, torch.ones_like(t)) / self._whole)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(self._difference(torch.zeros_like(t), t) / self._whole)

    def time(self, log_snr: Tensor) -> Tensor:
        start = torch.sigmoid(torch.tensor(self.start / self.tau, dtype=torch.float64))
        level = start + self._whole * torch.sigmoid(-log_snr.double())
        t = (torch.logit(level) * self.tau - self.start) / (self.end - self.start)
        return t.clamp(0, 1).to(log_snr.dtype)

    def _difference(self, t: Tensor, s: Tensor) -> Tensor:
        # S(b) - S(a) = sinh((b - a)/2) / (2 cosh(a/2) cosh(b/2)): no cancellation, exactly 0 for t = s
        a, b = ((self.start + u * (self.end - self.start)) / self.tau for u in (t, s))
        gap = (s - t) * ((self.end - self.start) / self.tau)
        return torch.sinh(gap / 2) / (2 * torch.cosh(a / 2) * torch.cosh(b / 2))

    @property
    def _whole(self) -> float:
        a, b = self.start / self.tau, self.end / self.tau
        return math.sinh((b - a) / 2) / (2 * math.cosh(a / 2) * math.cosh(b / 2))


@dataclass(frozen=True)
class Shifted(Schedule):
    """log_snr(t) = schedule.log_snr(t) - 2 log(shift): more noise at equal t, for larger pictures.

    The same alpha and sigma at a moved time; for `Linear` it is t -> shift t / (1 + (shift - 1) t), Esser et
    al. 2024, "Stable Diffusion 3", eq. 23; Hoogeboom et al. 2023, "Simple diffusion", eq. 3, for `Cosine`.

    Raises:
        IncompatibleError: the schedule does not run from pure data to pure noise, so that a moved time
            would leave [0, 1].
    """

    schedule: Schedule = Linear()
    shift: float = 3.0

    def __post_init__(self) -> None:
        _require(0 < self.shift < math.inf, "schedule.shift", self.shift, "shift > 0")
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        if self.schedule.sigma(ends)[0] != 0 or self.schedule.alpha(ends)[1] != 0:
            raise IncompatibleError(
                f"{type(self.schedule).__name__} cannot be shifted: its log-SNR is finite at an end",
                field="schedule.schedule",
                hint="shift Linear, Cosine, Sigmoid or ZeroTerminal(...), or change sigma_max instead",
            )

    def alpha(self, t: Tensor) -> Tensor:
        if isinstance(self.schedule, Linear):
            return (1 - t) / (1 + (self.shift - 1) * t)
        return self.schedule.alpha(self._moved(t))

    def sigma(self, t: Tensor) -> Tensor:
        return self.schedule.sigma(self._moved(t))

    def time(self, log_snr: Tensor) -> Tensor:
        return self.schedule.time(log_snr + 2 * math.log(self.shift))

    def _moved(self, t: Tensor) -> Tensor:
        if isinstance(self.schedule, Linear):
            return self.shift * t / (1 + (self.shift - 1) * t)
        return _ShiftedTime.apply(t, self.schedule, 2 * math.log(self.shift))


class _ShiftedTime(torch.autograd.Function):
    """u(t) with lambda(u) = lambda(t) - shift; du/dt = lambda'(t) / lambda'(u), which bisection cannot give."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor, schedule: Schedule, shift: float) -> Tensor:
        u = schedule.time(schedule.log_snr(t) - shift)
        return torch.where((t == 0) | (t == 1), t, u)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        t, ctx.schedule, ctx.shift = inputs
        ctx.save_for_backward(t, output)
        ctx.save_for_forward(t, output)

    @staticmethod
    def _slope(ctx) -> Tensor:  # type: ignore[no-untyped-def]
        # lambda' = -2 w / (alpha sigma) with w = alpha sigma' - alpha' sigma. The ratio of the alpha sigma, 0/0 at
        # the ends, is |u|^2 k / (alpha(t)^2 + k^2 sigma(t)^2) with |u|^2 = alpha(u)^2 + sigma(u)^2, k = e^(shift/2).
        (t, u), schedule, k = ctx.saved_tensors, ctx.schedule, math.exp(ctx.shift / 2)

        def wronskian(x: Tensor) -> Tensor:
            return schedule.alpha(x) * schedule.dsigma(x) - schedule.dalpha(x) * schedule.sigma(x)

        norm_u = schedule.alpha(u) ** 2 + schedule.sigma(u) ** 2
        norm_t = schedule.alpha(t) ** 2 + (k * schedule.sigma(t)) ** 2
        return wronskian(t) / wronskian(u) * k * norm_u / norm_t

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return grad * _ShiftedTime._slope(ctx), None, None

    @staticmethod
    def jvp(ctx, tangent, *_):  # type: ignore[no-untyped-def]
        return tangent * _ShiftedTime._slope(ctx)


@dataclass(frozen=True)
class ZeroTerminal(Schedule):
    """alpha = (alpha' - alpha'(1)) / (1 - alpha'(1)), sigma^2 = 1 - alpha^2: no signal is left at t = 1.

    For variance-preserving schedules alpha'. Lin et al. 2023, "Common Diffusion Noise Schedules and Sample
    Steps Are Flawed", algorithm 1, with alpha(0) = 1 as the end that is kept.

    Raises:
        IncompatibleError: the schedule does not preserve variance.
    """

    schedule: Schedule = BetaLinear()

    def __post_init__(self) -> None:
        t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
        total = self.schedule.alpha(t) ** 2 + self.schedule.sigma(t) ** 2
        if not torch.allclose(total, torch.ones_like(total)):
            raise IncompatibleError(
                f"{type(self.schedule).__name__} does not keep alpha^2 + sigma^2 = 1",
                field="schedule.schedule",
                hint="ZeroTerminal takes BetaLinear, VP, Cosine or Sigmoid",
            )

    def alpha(self, t: Tensor) -> Tensor:
        end = self.schedule.alpha(torch.ones_like(t))
        return (self.schedule.alpha(t) - end) / (1 - end)

    def sigma(self, t: Tensor) -> Tensor:
        # sigma^2 = (1 - alpha) (1 + alpha) with 1 - alpha = sigma'^2 / ((1 + alpha') (1 - alpha'(1)))
        whole = (1 + self.schedule.alpha(t)) * (1 - self.schedule.alpha(torch.ones_like(t)))
        return self.schedule.sigma(t) * torch.sqrt((1 + self.alpha(t)) / whole)
