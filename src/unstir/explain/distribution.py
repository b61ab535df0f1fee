"""A law in the plane, flowing to noise and back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import times
from ..analytic import GaussianMixture
from ..pipeline import Pipeline
from ..process import Cosine, Gaussian, Schedule
from ..rng import Rng
from ..sampling import sample
from ..solvers import Heun
from ..solvers.base import Solver
from ..spec import Range
from .base import Chart, Cloud, Explanation, Scatter, Seed, Subject, Table, gaussian, said, some, visible
from .laws import Law, LawName, law_of

__all__ = ["Distribution"]

REACH = 2.8
ARROWS = 15
"""In a row of the field."""


@dataclass(frozen=True, kw_only=True)
class Distribution(Subject):
    """Particles of a law in the plane flowing to noise, and noise flowing back by the exact score."""

    title: ClassVar = "A distribution to noise and back"
    place: ClassVar = 3

    law: LawName = "moons"
    """What the particles are drawn from: a mixture of Gaussians, whose score is known at every noise level."""
    schedule: Schedule = Cosine()
    """How data becomes noise."""
    solver: Solver = Heun()
    """The method that steps from noise to data."""
    steps: Annotated[int, Range(ge=1, le=100)] = 30
    """Of the solver, and of the chain."""
    particles: Annotated[int, Range(ge=10, le=1000)] = 400
    """How many."""
    seed: Seed = 0
    """Of the particles and of the noise."""

    @torch.no_grad()
    def explain(self, pipe: Pipeline | None = None, picture: np.ndarray | None = None) -> Explanation:
        exact = law_of(self.law)
        denoiser = exact.to(torch.float32).denoiser(gaussian(self.schedule))
        grid = times.uniform(self.steps)
        there, back = self.noised(denoiser, grid.flip(0)), self.denoised(denoiser, grid)
        fields = [_field(denoiser, t) for t in grid]
        text = (
            f"Each particle of the law takes {self.steps} steps of q(x_t | x_s) to noise. Fresh noise then goes back "
            f"by {said(self.solver)}, steered by the score ∇ log q(x_t) = (α E[x_0|x_t] - x_t)/σ², the grey arrows, "
            "which is known exactly, for the law is a mixture of Gaussians. Colours say where in it a particle began, "
            "or will end."
        )
        return self.explanation(
            text,
            clouds=[
                self._cloud(
                    "To noise", there, exact.group_of(there[0]), denoiser.process, grid.flip(0), fields[::-1]
                ),
                self._cloud("And back", back, exact.group_of(back[-1]), denoiser.process, grid, fields),
            ],
            charts=[_spread(exact, denoiser.process, grid, there, back)],
            table=_table(exact, denoiser, Rng.of(self.seed, self.particles), back[-1]),
        )

    def noised(self, denoiser: GaussianMixture, grid: Tensor) -> list[Tensor]:
        """Particles of the law at each of the rising times, by one step of the chain after the other."""
        rng = Rng.of(self.seed, self.particles)
        x = denoiser.process.corrupt(denoiser.draw(rng.fork("law")), grid[0], rng.fork("chain", grid[0]))
        found = [x]
        for s, t in pairwise(grid):
            found.append(denoiser.process.transition(found[-1], s, t, rng.fork("chain", t)))
        return found

    def denoised(self, denoiser: GaussianMixture, grid: Tensor) -> list[Tensor]:
        """Noise at each of the falling times, as the solver carries it to data."""
        rng = Rng.of(self.seed, self.particles)
        x = denoiser.process.prior((self.particles, 2), rng.fork("prior"))
        found = [x]
        end = sample(
            denoiser, self.solver, grid, x, rng=rng.fork("solver"), on_step=lambda step: found.append(step.x)
        )
        return [*found[:-1], end]  # where a schedule ends noisy, `sample` has removed what was left

    @staticmethod
    def _cloud(
        title: str,
        way: list[Tensor],
        groups: Tensor,
        process: Gaussian,
        grid: Tensor,
        fields: list[Tensor | None],
    ) -> Cloud:
        frames = [
            Scatter(
                f"t = {float(grid[k]):.2f}",
                visible(way[k], process, grid[k]).numpy(),
                None if (field := fields[k]) is None else field.numpy(),
            )
            for k in some(len(way))
        ]
        return Cloud(title, frames, groups.tolist(), REACH)


def _field(denoiser: GaussianMixture, t: Tensor) -> Tensor | None:
    """Arrows (M, 4) along sigma times the score on a grid of what is seen; None where there is no noise.

    Their lengths are at most 3/4 of a cell's side, so that they do not cross.
    """
    process = denoiser.process
    sigma = process.schedule.sigma(t)
    if sigma == 0:
        return None
    cell = 2 * REACH / ARROWS
    side = (torch.arange(ARROWS) + 0.5) * cell - REACH
    places = torch.cartesian_prod(side, side)
    x_t = places / visible(torch.ones_like(places), process, t)
    pull = sigma.to(x_t) * process.score(x_t, denoiser(x_t, t), t)
    length = pull.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.cat((places, pull / length * torch.tanh(length / 2) * (0.75 * cell)), 1)


def _spread(exact: Law, process: Gaussian, grid: Tensor, there: list[Tensor], back: list[Tensor]) -> Chart:
    """Standard deviations of both coordinates, on both ways and by the formula."""
    alpha, sigma = (scale(grid)[:, None] for scale in (process.schedule.alpha, process.schedule.sigma))
    ways = {
        "formula": torch.sqrt(alpha**2 * exact.variance() + sigma**2),
        "to noise": torch.stack([x.std(0) for x in reversed(there)]),
        "and back": torch.stack([x.std(0) for x in back]),
    }
    curves = {f"{axis}, {way}": std[:, k].flip(0) for k, axis in enumerate("xy") for way, std in ways.items()}
    title, growing = "Spread of the particles: √(α² Var x_0 + σ²)", bool(sigma.max() > 4)
    return Chart(title, "time t", grid.flip(0), "standard deviation", curves, log_y=growing)


def _table(exact: Law, denoiser: GaussianMixture, rng: Rng, returned: Tensor) -> Table:
    """The law, as many fresh draws from it, and the particles that came back, in numbers."""
    again, other = (denoiser.draw(rng.fork(word)) for word in ("again", "other"))

    def measured(x: Tensor) -> list[float]:
        shares = [(exact.group_of(x) == group).float().mean() for group in groups]
        return [*x.mean(0).tolist(), *x.std(0).tolist(), *map(float, shares), energy_distance(x, other)]

    groups = exact.groups.unique().tolist()
    shares = [float(exact.weights[exact.groups == group].sum()) for group in groups]
    law = [*exact.mean().tolist(), *exact.variance().sqrt().tolist(), *shares, 0.0]
    words = [
        "mean of x",
        "mean of y",
        "std of x",
        "std of y",
        *(f"share of group {group + 1}" for group in groups),
    ]
    columns = zip(
        [*words, "energy distance to other draws"], law, measured(again), measured(returned), strict=True
    )
    rows = [[word, *(round(value, 4) for value in values)] for word, *values in columns]
    return Table(("", "the law", "drawn from it", "came back"), rows)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| over different pairs: about 0 for samples of one law. Székely & Rizzo 2013."""
    n, m = len(x), len(y)
    own = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return float(2 * torch.cdist(x, y).mean() - own)
