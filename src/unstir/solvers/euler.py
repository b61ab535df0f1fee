"""Euler: the simplest step of the probability-flow ODE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Frame, Solver, Step, Variable, hold

__all__ = ["Euler"]


@dataclass(frozen=True)
class Euler(Solver):
    """y_s = y_t + (h_s - h_t) dy/dh in a `Frame`.

    Best for: flow models (variable = "time" is their classic step) and as a baseline. With
    variable = "sigma" it is DDIM(eta = 0), to rounding. The step to sigma = 0 returns alpha x_0.

    Args:
        variable: "angle", "sigma" or "time".
    """

    variable: Variable = "angle"
    process = Gaussian
    order = 1
    evaluations = 1
    pure = True

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        frame = Frame(self.variable, process)
        x_0 = denoiser(x_t, t)
        if frame.touches_end(t, s):
            return Step(hold(process, x_t, x_0, t, s), x_0)
        return Step(frame.advance(x_t, frame.slope(x_t, x_0, t), t, s), x_0)
