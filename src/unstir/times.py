"""Time grids: decreasing tensors of steps + 1 times from 1 to 0, and the only place that builds them.

Every grid starts at exactly 1 and ends at exactly 0, in float64. Grids that are even in a quantity which is
infinite at the ends (log-SNR, the logarithm of sigma) place their inner times between the log-SNRs of
t = 1 - CLIP and t = CLIP.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import ConfigError
from .process import Schedule

__all__ = ["karras", "log_snr", "shifted", "trailing", "uniform"]

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
    return _between(steps, schedule, lambda u, low, high: low + (high - low) * u)


def karras(steps: int, schedule: Schedule, *, rho: float = 7.0) -> Tensor:
    """Even in (sigma/alpha)^(1/rho) inside. Karras et al. 2022, eq. 5."""

    def place(u: Tensor, low: Tensor, high: Tensor) -> Tensor:
        a, b = torch.exp(-low / (2 * rho)), torch.exp(-high / (2 * rho))
        return -2 * rho * torch.log(a + (b - a) * u)

    return _between(steps, schedule, place)


def shifted(steps: int, schedule: Schedule | None = None, *, shift: float = 3.0) -> Tensor:
    """t -> shift t / (1 + (shift - 1) t): more of the steps at high noise. Esser et al. 2024, eq. 23."""
    if not shift > 0:
        raise ConfigError(
            f"shift is {shift}", field="shift", hint="accepted: shift > 0; 1 is the uniform grid"
        )
    t = uniform(steps)
    return shift * t / (1 + (shift - 1) * t)


def _between(steps: int, schedule: Schedule, place: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    low, high = schedule.log_snr(torch.tensor([1 - CLIP, CLIP], dtype=torch.float64))
    inner = schedule.time(place(1 - uniform(steps), low, high)[1:-1])
    ends = inner.new_tensor([1.0, 0.0])
    return torch.cat((ends[:1], inner, ends[1:]))


def _checked(steps: int) -> int:
    if not (isinstance(steps, int) and steps >= 1):
        raise ConfigError(f"steps is {steps!r}", field="steps", hint="use a whole number of steps, 1 or more")
    return steps
