"""Explicit Runge-Kutta methods of any tableau."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Frame, Solver, Step, Variable, hold

__all__ = ["TABLEAUX", "RungeKutta", "Stage", "Tableau", "stages"]


@dataclass(frozen=True)
class Tableau:
    """k_i = slope(y + h sum_j a_ij k_j, c_i h) with c_i = sum_j a_ij;  y_s = y + h sum_i b_i k_i.

    Butcher 1964, "On Runge-Kutta Processes of High Order".

    Args:
        order: of the global error.
        a: one row for each stage after the first, of 1, 2, 3, ... numbers whose sum is not 0.
        b: one number for each stage, of sum 1.
    """

    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]

    def __post_init__(self) -> None:
        rows = [len(row) for row in self.a]
        if rows != list(range(1, len(self.b))) or not all(map(sum, self.a)) or abs(sum(self.b) - 1) > 1e-12:
            raise ConfigError(
                f"tableau has rows of {rows} numbers and {len(self.b)} weights of sum {sum(self.b):g}",
                field="solver.tableau",
                hint="give rows of 1, 2, 3, ... numbers, none of sum 0, and one weight more than rows, of sum 1",
            )


TABLEAUX = {
    "midpoint": Tableau(2, ((1 / 2,),), (0, 1)),
    "ralston": Tableau(2, ((2 / 3,),), (1 / 4, 3 / 4)),
    "kutta3": Tableau(3, ((1 / 2,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6)),
    "rk4": Tableau(4, ((1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Runge 1895, Ralston 1962 (the smallest error bound with two stages), Kutta 1901 (of order 3 and 4)."""


@dataclass(frozen=True)
class RungeKutta(Solver):
    """The step of a `Tableau` in a `Frame`; the step to sigma = 0 is first order.

    Best for: `rk4` where many digits are wanted, as in likelihoods and reference solutions. Heun's tableau is
    `Heun`.

    Args:
        tableau: "midpoint", "ralston", "kutta3", "rk4", or one of your own.
        variable: "angle", "sigma" or "time".
    """

    tableau: Literal["midpoint", "ralston", "kutta3", "rk4"] | Tableau = "rk4"
    variable: Variable = "angle"
    process = Gaussian
    pure = True

    def __post_init__(self) -> None:
        if not isinstance(self.tableau, Tableau) and self.tableau not in TABLEAUX:
            raise ConfigError(
                f"tableau is {self.tableau!r}",
                field="solver.tableau",
                hint=f"accepted: {', '.join(map(repr, TABLEAUX))} or a Tableau",
            )

    @property
    def _tableau(self) -> Tableau:
        return self.tableau if isinstance(self.tableau, Tableau) else TABLEAUX[self.tableau]

    @property
    def order(self) -> int:
        return self._tableau.order

    @property
    def evaluations(self) -> int:
        return len(self._tableau.b)

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        frame = Frame(self.variable, denoiser.process)
        x_0 = denoiser(x_t, t)
        if frame.touches_end(t, s):
            return Step(hold(denoiser.process, x_t, x_0, t, s), x_0)
        slopes = [frame.slope(x_t, x_0, t)]
        slopes += [stage.slope for stage in stages(self._tableau.a, frame, denoiser, x_t, slopes[0], t, s)]
        return Step(frame.advance(x_t, mean(self._tableau.b, slopes), t, s), x_0)


class Stage(NamedTuple):
    """A point on the way of a step, what the denoiser says there, and dy/dh."""

    x: Tensor
    x_0: Tensor
    slope: Tensor


def stages(
    a: Sequence[Sequence[float]],
    frame: Frame,
    denoiser: Bound,
    x_t: Tensor,
    slope: Tensor,
    t: Tensor,
    s: Tensor,
) -> Iterator[Stage]:
    """The stages after the first, whose slope is given; t and s are () or (B,)."""
    slopes = [slope]
    start, end = frame.coordinate(t), frame.coordinate(s)
    for row in a:
        c = sum(row)
        u = s if abs(c - 1) < 1e-12 else frame.time(torch.lerp(start, end, c))
        x_u = frame.advance(x_t, mean([weight / c for weight in row], slopes), t, u)
        x_0 = denoiser(x_u, u)
        slopes.append(frame.slope(x_u, x_0, u))
        yield Stage(x_u, x_0, slopes[-1])


def mean(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """sum_i weights_i slopes_i."""
    return torch.stack([w * k for w, k in zip(weights, slopes, strict=True) if w]).sum(0)
