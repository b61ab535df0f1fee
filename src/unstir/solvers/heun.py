"""Heun: the trapezoidal step, second order, two evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Frame, Solver, Step, Variable, hold

__all__ = ["Heun"]


@dataclass(frozen=True)
class Heun(Solver):
    """y' = y + h d(y);  y_s = y + h (d(y) + d(y')) / 2 in a `Frame`; the step to sigma = 0 is first order.

    Best for: quality at 10 to 50 steps. With churn > 0 noise is first added until sigma/alpha has grown by
    the factor 1 + churn, and the step starts there.
    Karras et al. 2022, algorithm 1 (churn = 0) and 2; their S_churn over N steps is churn = S_churn/N.

    Args:
        churn: 0 <= churn <= sqrt(2) - 1.
        variable: "angle", "sigma" (the frame of the paper) or "time".
    """

    churn: float = 0.0
    variable: Variable = "angle"
    process = Gaussian
    evaluations = 2

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= math.sqrt(2) - 1:
            raise ConfigError(
                f"churn is {self.churn}", field="solver.churn", hint="accepted: 0 <= churn <= 0.4142"
            )

    @property
    def order(self) -> int | None:
        return 2 if self.churn == 0 else None  # what one step adds and removes does not shrink with the step

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    @property
    def pure(self) -> bool:
        return self.churn == 0

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        frame = Frame(self.variable, process)
        if self.churn and bool((process.schedule.alpha(t) > 0).all()):  # pure noise cannot be made noisier
            noisier = self._noisier(process, t)
            ratio, std = process.kernel(t, noisier)
            added = unsqueeze_like(std, x_t) * noise.fresh("churn", t)
            x_t, t = unsqueeze_like(ratio, x_t) * x_t + added, noisier
        x_0 = denoiser(x_t, t)
        if frame.touches_end(t, s):
            return Step(hold(process, x_t, x_0, t, s), x_0)
        first = frame.slope(x_t, x_0, t)
        x_s = frame.advance(x_t, first, t, s)
        second = frame.slope(x_s, denoiser(x_s, s), s)
        return Step(frame.advance(x_t, (first + second) / 2, t, s), x_0)

    def _noisier(self, process: Gaussian, t: Tensor) -> Tensor:
        """The time at which sigma/alpha is 1 + churn times that of t, at most 1."""
        schedule = process.schedule
        later = schedule.time(schedule.log_snr(t) - 2 * math.log1p(self.churn))
        return torch.maximum(later.to(t), t)
