"""Adaptive steps: an embedded Runge-Kutta pair and a controller that keeps its error at a tolerance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, NumericError
from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Frame, Solver, Step, check_choice, hold
from .runge_kutta import mean, stages

__all__ = ["Adaptive"]


class Pair(NamedTuple):
    """A tableau whose last stage is the result, and the weights of its error: `lower` is its embedded order."""

    lower: int
    a: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]


PAIRS = {
    "bs32": Pair(
        2,
        ((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        (-5 / 72, 1 / 12, 1 / 9, -1 / 8),
    ),
    "dp54": Pair(
        4,
        (
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}
"""Bogacki & Shampine 1989; Dormand & Prince 1980."""

PID = (0.49, -0.34, 0.10)
"""Powers of the last three errors. Kennedy & Carpenter 2003, section 2."""


class Control(NamedTuple):
    """What is remembered of each sample: the next sub-step (radians) and its last two errors, (B,) each."""

    length: Tensor
    error: Tensor
    before: Tensor

    def after(self, error: Tensor, left: Tensor, order: int) -> Control:
        """length <- 0.9 length error^(-0.49/k) last^(0.34/k) before^(-0.10/k), k = order; from 1/5 to 5 times."""
        error = error.clamp(min=1e-6)
        product = math.prod(
            e ** (-p / order) for e, p in zip((error, self.error, self.before), PID, strict=True)
        )
        factor = torch.where(error <= 1, product, error ** (-1 / order))
        length = torch.minimum(self.length, left) * (0.9 * factor).clamp(0.2, 5)
        taken = (error <= 1) & (left > 0)
        # a sub-step cut short by the end says nothing against longer ones
        length = torch.where(taken & (self.length >= left), torch.maximum(length, self.length), length)
        return Control(
            torch.where(left > 0, length, self.length),
            torch.where(taken, error, self.error),
            torch.where(taken, self.error, self.before),
        )


class Point(NamedTuple):
    """Where every sample is: its time and angle (B,), x, what the denoiser says there, and dy/d angle."""

    t: Tensor
    angle: Tensor
    x: Tensor
    x_0: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Adaptive(Solver):
    """Sub-steps over the angle atan2(sigma, alpha) of error < atol + rtol |y|, y = x/sqrt(alpha^2 + sigma^2).

    The error is the root mean square over one sample, and every sample has steps of its own, so that a neighbour does
    not change it; those that have arrived wait. One step of the grid is enough: uniform(1). The last sub-step goes
    from angle sqrt(atol)/10 to sigma = 0 and returns alpha x_0. Calls: about 3 (bs32) or 6 (dp54) for each sub-step of
    the slowest sample. Best for: a stated accuracy, and finding out how many steps a model needs.
    Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section II.4; Soderlind 2003, "Digital
    Filters in Adaptive Time-Stepping", for control by several past errors.

    Args:
        pair: "dp54" (Dormand-Prince, order 5) or "bs32" (Bogacki-Shampine, order 3, for loose tolerances).
        rtol: relative tolerance, 0 <= rtol < 1.
        atol: absolute tolerance, 0 < atol < 1.
        limit: sub-steps a step may take, 1 or more.

    Raises:
        NumericError: the limit was reached, or the error cannot be lowered by shorter sub-steps.
    """

    pair: Literal["dp54", "bs32"] = "dp54"
    rtol: float = 1e-3
    atol: float = 1e-3
    limit: int = 1000
    process = Gaussian
    order = None
    evaluations = None

    def __post_init__(self) -> None:
        check_choice("pair", self.pair, "dp54", "bs32")
        if not 0 <= self.rtol < 1:
            raise ConfigError(f"rtol is {self.rtol}", field="solver.rtol", hint="accepted: 0 <= rtol < 1")
        if not 0 < self.atol < 1:
            raise ConfigError(f"atol is {self.atol}", field="solver.atol", hint="accepted: 0 < atol < 1")
        if self.limit < 1:
            raise ConfigError(f"limit is {self.limit}", field="solver.limit", hint="accepted: 1 or more")

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process, pair, B = denoiser.process, PAIRS[self.pair], len(x_t)
        frame = Frame("angle", process)
        clean = frame.coordinate(s).clamp(min=math.sqrt(self.atol) / 10)
        t_end = torch.where(clean > frame.coordinate(s), frame.time(clean), s).minimum(t).expand(B)
        end, t = frame.coordinate(t_end), t.expand(B)
        x_0 = denoiser(x_t, t)
        at = Point(t, frame.coordinate(t), x_t, x_0, frame.slope(x_t, x_0, t))
        control = state or Control(torch.full_like(end, 0.05), torch.ones_like(end), torch.ones_like(end))
        for _ in range(self.limit):
            left = at.angle - end  # samples that have arrived take sub-steps of length 0
            if not bool(left.any()):
                break
            angle = torch.where(control.length < left, at.angle - control.length, end)
            u = torch.where(control.length < left, frame.time(angle), t_end)
            made = list(stages(pair.a, frame, denoiser, at.x, at.slope, at.t, u))
            slope = mean(pair.error, [at.slope, *(stage.slope for stage in made)])
            error = self._size(frame, slope, at, made[-1].x, u)
            new = Point(u, angle, *made[-1])
            at = Point(*(choose(error <= 1, a, b) for a, b in zip(new, at, strict=True)))
            control = control.after(error, left, pair.lower + 1)
            if bool((control.length < 1e-9).any()):
                raise NumericError(
                    "the error of the adaptive solver stays above its tolerance however short the sub-step",
                    field="solver.atol",
                    hint="raise atol and rtol, lower the guidance; if it persists, the model diverged",
                )
        else:
            raise NumericError(
                f"the adaptive solver took {self.limit} sub-steps and has not arrived",
                field="solver.limit",
                hint="raise rtol and atol, or limit",
            )
        if bool((t_end == s).all()):
            return Step(at.x, at.x_0, control)
        return Step(hold(process, at.x, at.x_0, at.t, s), at.x_0, control)

    def _size(self, frame: Frame, slope: Tensor, at: Point, x_u: Tensor, u: Tensor) -> Tensor:
        """Root mean square of error / (atol + rtol max(|y_t|, |y_u|)) of each sample, (B,); NaN counts as infinite."""
        length = unsqueeze_like(at.angle - frame.coordinate(u), at.x)
        y_t, y_u = (x / unsqueeze_like(frame.scale(w), x) for x, w in ((at.x, at.t), (x_u, u)))
        share = length * slope / (self.atol + self.rtol * torch.maximum(y_t.abs(), y_u.abs()))
        size = share.double().reshape(len(share), -1).square().mean(1).sqrt().to(u.device)
        return torch.nan_to_num(size, nan=math.inf, posinf=math.inf)


def choose(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """new in those rows (B,), old in the others."""
    return torch.where(rows.to(new.device).reshape(-1, *(1,) * (new.ndim - 1)), new, old)
