"""Restart: back up to an earlier noise level by fresh noise, and down again, a few times."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Solver, Step
from .heun import Heun

__all__ = ["Restart"]


@dataclass(frozen=True)
class Restart(Solver):
    """The solver's own steps; the one that passes `low` pauses there, and `repeats` times

        x_high ~ q(x_high | x_low),  x_low = solver from high down to low in `steps` steps.

    Adding noise contracts the errors made so far, and coming down again by the differential equation makes small
    ones: better than either at 50 calls and more. Both ways keep the law, so what is left is the solver's error on
    these `steps`, which does not shrink with the grid: no order is claimed.
    Best for: the best quality of a learned model where calls are not counted.
    Xu et al. 2023, "Restart Sampling for Improving Generative Processes", algorithm 1.

    Args:
        solver: any.
        low: where a restart begins and ends, 0 < low < high.
        high: the time it returns to, high <= 1.
        repeats: how often, 1 or more.
        steps: even ones in t from high down to low, 1 or more.
    """

    solver: Solver = Heun()
    low: float = 0.1
    high: float = 0.3
    repeats: int = 2
    steps: int = 4
    process = Gaussian
    order = None
    evaluations = None
    stochastic = True

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high <= 1:
            raise ConfigError(
                f"low, high are {self.low}, {self.high}",
                field="solver.low",
                hint="accepted: 0 < low < high <= 1, two times; 1 is pure noise",
            )
        for field in ("repeats", "steps"):
            if getattr(self, field) < 1:
                raise ConfigError(
                    f"{field} is {getattr(self, field)}", field=f"solver.{field}", hint="accepted: 1 or more"
                )

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        low = t.new_tensor(self.low)
        if not s <= low < t:
            return self.solver.step(denoiser, x_t, t, s, state, noise)
        step = self.solver.step(denoiser, x_t, t, low, state, noise)
        times = torch.linspace(self.high, self.low, self.steps + 1, dtype=t.dtype)
        ratio, std = (unsqueeze_like(c, x_t) for c in denoiser.process.kernel(low, times[0]))
        for k in range(self.repeats):
            path = noise.fork(k)  # the same times again must not meet the same noise
            step = Step(ratio * step.x + std * path.fresh("restart"), step.x_0)
            for u, v in pairwise(times):
                step = self.solver.step(denoiser, step.x, u, v, step.state, path)
        return step if s == low else self.solver.step(denoiser, step.x, low, s, step.state, noise)
