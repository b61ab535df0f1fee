"""Replacement: known pixels are taken from y on every step, and with RePaint every stretch is taken several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..denoiser import Move
from ..errors import IncompatibleError
from ..noise import Noise
from ..operators import Measurement
from ..operators.mask import Selection
from ..solvers.base import Bound, Solver
from ..solvers.ddpm import DDPM
from ..spec import Count, validate
from .posterior import Method

__all__ = ["Replacement"]


@dataclass(frozen=True)
class Replacement(Method):
    """x_s = alpha_s y + sqrt(sigma_s^2 - alpha_s^2 Var[n]) z where y is known, with fresh z, at the end of each step.

    So x_s ~ q(x_s | x_0) there: y is x_0 with some noise and gets the rest. Where x_s is to have less noise than y, y
    has said all it knows, and the model removes its noise. Without noise D' is y there, and so is the result.

    The unknown pixels are fitted to the known ones, these never to them: seams. RePaint, `resample` > 1, goes up again
    by `jump` steps and down, until both agree, for about `resample` times the calls. Lugmayr et al. 2022, "RePaint:
    Inpainting using Denoising Diffusion Probabilistic Models", eq. 8 and algorithm 1, jumps as in appendix B; theirs
    is resample = jump = 10 on 250 steps.

    Takes masks, any noise, and solvers whose step is a function of x_t: those that remember earlier steps would take
    the change of the noise for one of x_0. Where no noise is to be fresh, `DDNM` is replacement with the noise kept,
    for every solver. With noise in y use a stochastic one, or the model's part has no spread, and jumps that reach
    above y's level: below it, going up and down forgets y.

    Args:
        resample: times that each stretch is taken, r of the paper; 1 = plain replacement.
        jump: steps of a stretch, j of the paper.
    """

    resample: Count = 1
    jump: Count = 10
    solver: ClassVar[Solver | None] = DDPM()
    exact: ClassVar[str] = "unknown pixels independent of the known ones, stochastic solvers, as steps grow"

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        x_0 = denoiser(x_t, t)
        known, y, variance = self._known(measurement, x_0)
        return torch.where(known & (variance == 0), y, x_0)

    def settle(
        self, denoiser: Bound, move: Move, measurement: Measurement, noise: Noise, memory: dict[Any, Any]
    ) -> Tensor:
        known, y, variance = self._known(measurement, move.x_s)
        alpha, sigma = denoiser.process.scales(move.s, move.x_s)
        lacking = sigma**2 - alpha**2 * variance
        x_s = alpha * y + lacking.clamp(min=0).sqrt() * noise.fresh("known", move.s)
        return torch.where(known & (lacking >= 0), x_s, move.x_s)

    def times(self, grid: Tensor) -> Tensor:
        """The grid with rises of `jump` steps at the last noisy time and every `jump` steps above it, none to t = 1."""
        last = len(grid) - 1
        rises = dict.fromkeys(range(last - 1, self.jump, -self.jump), self.resample - 1)
        places = [0]
        while places[-1] < last:
            here = places[-1] + 1
            places.append(here)
            if rises.get(here):
                rises[here] -= 1
                places.append(here - self.jump)
        return grid[places]

    def check_measurement(self, measurement: Measurement) -> None:
        shape = measurement.operator.source(tuple(measurement.y.shape[1:]))
        if shape is None:
            raise _not_a_mask(measurement)
        self._known(measurement, measurement.y.new_zeros(1, *shape))

    def check_solver(self, solver: Solver) -> None:
        if not solver.pure and (solver.order, solver.evaluations) != (1, 1):
            raise IncompatibleError(
                f"replacement draws known pixels anew on every step, and {type(solver).__name__} looks back at them",
                field="solver",
                hint="use solver=ddpm or heun with it, or method=ddnm, which takes every solver",
            )

    def _known(self, measurement: Measurement, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which pixels are known (C, *S), y and Var[n] there and 0 elsewhere, (B or 1, C, *S)."""
        svd = measurement.operator.svd(like)
        if not isinstance(svd, Selection):
            raise _not_a_mask(measurement)
        y = measurement.y
        return svd.s > 0, svd.left(y), svd.left(measurement.variance.expand(y.shape))


def _not_a_mask(measurement: Measurement) -> IncompatibleError:
    return IncompatibleError(
        f"replacement is for masks, where y is some of the pixels; {measurement.operator.title} mixes them",
        field="method",
        hint="use method=ddnm, or method=auto",
    )
