"""Time grids: decreasing tensors of steps + 1 times from 1 to 0, and the only place that builds them.

Every grid starts at exactly 1 and ends at exactly 0, in float64. Grids that are even in a quantity which is
infinite at the ends (log-SNR, the logarithm of sigma) place their inner times between the log-SNRs of
t = 1 - CLIP and t = CLIP.

`__all__` names the grids that any model takes; `optimised` needs the times that `unstir tune` found for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .errors import ConfigError
from .process import Schedule

__all__ = ["beta", "exponential", "karras", "log_snr", "shifted", "trailing", "uniform"]

CLIP = 1e-3


def uniform(steps: int, schedule: Schedule | None = None) -> Tensor:
    """t_i = 1 - i/N."""
    return torch.linspace(1, 0, _checked(steps) + 1, dtype=torch.float64)


def trailing(steps: int, schedule: Schedule | None = None, *, chain: int = 1000) -> Tensor:
    """t_i = round(T (1 - i/N)) / T: uniform times on the chain of T steps, counted from its noisy end.

    Lin et al. 2023, table 2. With N > T times would repeat, which is refused.
    """
    if _checked(steps) > chain:
        raise ConfigError(
            f"{steps} steps on a chain of {chain}", field="steps", hint=f"use at most {chain} steps"
        )
    return torch.round(uniform(steps) * chain) / chain


def log_snr(steps: int, schedule: Schedule) -> Tensor:
    """Even in lambda(t) inside. Lu et al. 2022, "DPM-Solver", section 3.4."""
    return exponential(steps, schedule, rho=1.0)


def exponential(steps: int, schedule: Schedule, *, rho: float = 1.5) -> Tensor:
    """lambda falls from data to noise as u^rho, u = 1 - i/N, inside: even in u for rho = 1, which is `log_snr`.

    With rho > 1 the steps are shorter toward the data, with rho < 1 toward the noise. It is the "polyexponential"
    grid of k-diffusion, whose "exponential" is rho = 1: even in log(sigma/alpha) is even in the log-SNR.
    """
    if not 0 < rho < math.inf:
        raise ConfigError(f"rho is {rho}", field="rho", hint="accepted: rho > 0; 1 is the log_snr grid")
    return _between(steps, schedule, lambda u, low, high: high + (low - high) * (1 - u) ** rho)


def karras(steps: int, schedule: Schedule, *, rho: float = 7.0) -> Tensor:
    """Even in (sigma/alpha)^(1/rho) inside. Karras et al. 2022, eq. 5."""

    def place(u: Tensor, low: Tensor, high: Tensor) -> Tensor:
        a, b = torch.exp(-low / (2 * rho)), torch.exp(-high / (2 * rho))
        return -2 * rho * torch.log(a + (b - a) * u)

    return _between(steps, schedule, place)


def shifted(steps: int, schedule: Schedule | None = None, *, shift: float = 3.0) -> Tensor:
    """t -> shift t / (1 + (shift - 1) t): more of the steps at high noise. Esser et al. 2024, eq. 23."""
    if not 0 < shift < math.inf:
        raise ConfigError(
            f"shift is {shift}", field="shift", hint="accepted: shift > 0; 1 is the uniform grid"
        )
    t = uniform(steps)
    return shift * t / (1 + (shift - 1) * t)


def moved(times: Tensor, schedule: Schedule, shift: float) -> Tensor:
    """Any grid with sigma/alpha `shift` times as large at every time: u -> shift u / (1 + (shift - 1) u).

    u = sigma / (alpha + sigma), which is t itself where the schedule is `Linear`: Esser et al. 2024, eq. 23. In
    log-SNR it is a fall by 2 log(shift), Hoogeboom et al. 2023, eq. 3. A schedule whose u runs from u_0 > 0 or to
    u_1 < 1 keeps its ends: the map is that of (u - u_0) / (u_1 - u_0). shift = 1 changes nothing.

    Raises ConfigError unless shift > 0.
    """
    if not 0 < shift < math.inf:
        raise ConfigError(
            f"shift is {shift}", field="shift", hint="accepted: shift > 0; 1 leaves the times as they are"
        )
    if shift == 1:
        return times
    low, high = torch.sigmoid(-schedule.log_snr(times.new_tensor([0.0, 1.0])) / 2)
    v = (torch.sigmoid(-schedule.log_snr(times) / 2) - low) / (high - low)
    u = low + (high - low) * (shift * v / (1 + (shift - 1) * v))
    t = schedule.time(torch.log1p(-u).sub(torch.log(u)).mul(2))
    return torch.where((times == 0) | (times == 1), times, t)


def beta(steps: int, schedule: Schedule | None = None, *, a: float = 0.6, b: float = 0.6) -> Tensor:
    """t_i = the (1 - i/N)-quantile of Beta(a, b); with a, b < 1 more of the steps at both ends, 1 is uniform.

    Lee et al. 2024, "Beta Sampling is All You Need", section 3.
    """
    if not (0.3 <= a <= 10 and 0.3 <= b <= 10):
        raise ConfigError(
            f"a, b are {a}, {b}", field="a", hint="accepted: 0.3 <= a, b <= 10; 1, 1 is uniform"
        )
    p = uniform(steps)
    half = _beta_cdf(torch.tensor(0.5, dtype=torch.float64), a, b)
    # from the end that is nearer, where the quantile is known to relative accuracy
    from_data, from_noise = _beta_quantile(p, a, b), 1 - _beta_quantile(1 - p, b, a)
    return torch.where(p <= half, from_data, from_noise)


def optimised(steps: int, times: Sequence[float]) -> Tensor:
    """The times t_i found for a model, with other step counts by monotone interpolation over i/N.

    Cubic with the slopes of Fritsch & Butland 1984, so that the result falls and meets every t_i it can.

    Raises:
        ConfigError: the times do not fall from 1 to 0.
    """
    t = torch.tensor(times, dtype=torch.float64)
    if not (len(t) >= 2 and t[0] == 1 and t[-1] == 0 and bool((t.diff() < 0).all())):
        raise ConfigError(
            f"times are {','.join(f'{x:.4g}' for x in times) or 'none'}",
            field="times",
            hint="give falling times from 1 to 0, as times=1,0.8,0.4,0; `unstir tune MODEL` finds good ones",
        )
    n = len(t) - 1
    u = torch.linspace(0, n, _checked(steps) + 1, dtype=torch.float64)
    k = u.long().clamp(max=n - 1)
    rise = t.diff()
    slope = torch.cat((rise[:1], 2 / (1 / rise[1:] + 1 / rise[:-1]), rise[-1:]))
    w, start, end = u - k, t[k], t[k + 1]
    inside = (1 - w) ** 2 * (start + w * (2 * start + slope[k])) + w**2 * (
        end + (1 - w) * (2 * end - slope[k + 1])
    )
    return torch.where(w == 0, start, torch.where(w == 1, end, inside))


def _between(steps: int, schedule: Schedule, place: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    low, high = schedule.log_snr(torch.tensor([1 - CLIP, CLIP], dtype=torch.float64))
    inner = schedule.time(place(1 - uniform(steps), low, high)[1:-1])
    ends = inner.new_tensor([1.0, 0.0])
    return torch.cat((ends[:1], inner, ends[1:]))


def _beta_cdf(x: Tensor, a: float, b: float) -> Tensor:
    """I_x(a, b) = x^a / B(a, b) sum_k (1 - b)_k / k! x^k / (a + k), for 0 <= x <= 1/2: 2^-60 at the 60th term."""
    total, term = torch.zeros_like(x), torch.ones_like(x)
    for k in range(60):
        total = total + term / (a + k)
        term = term * x * (1 - b + k) / (k + 1)
    return x**a * total * math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))


def _beta_quantile(p: Tensor, a: float, b: float) -> Tensor:
    """x <= 1/2 with I_x(a, b) = p by bisection over y = x^a, in which I is nearly straight at 0."""
    low, high = torch.zeros_like(p), torch.full_like(p, 0.5**a)
    for _ in range(60):
        middle = (low + high) / 2
        below = _beta_cdf(middle ** (1 / a), a, b) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.where(p == 0, 0.0, high ** (1 / a))


def _checked(steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ConfigError(f"steps is {steps!r}", field="steps", hint="use a whole number of steps, 1 or more")
    return steps
