"""Euler: the simplest step of the probability-flow ODE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from ..process import Gaussian
from ..rng import Rng
from .base import Frame, Solver, Step, Variable
from .ddim import hold

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

    @property
    def order(self) -> int:
        return 1

    @property
    def evaluations(self) -> int:
        return 1

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        cond: Condition | None,
        state: Any,
        rng: Rng,
    ) -> Step:
        process: Gaussian = denoiser.process  # type: ignore[assignment]
        frame = Frame(self.variable, process)
        x_0 = denoiser(x_t, t, cond)
        if frame.touches_end(t, s):
            return Step(hold(process, x_t, x_0, t, s), x_0)
        return Step(frame.advance(x_t, frame.slope(x_t, x_0, t), t, s), x_0)
