"""The order of convergence of a solver, measured where the answer is known."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from ..analytic import GaussianMixture
from ..process import Cosine, Gaussian
from ..rng import Rng
from ..sampling import sample
from ..solvers.base import Solver

__all__ = ["measured_order"]

START, END = 0.75, 0.25


def measured_order(solver: Solver, steps: int = 12) -> float | None:
    """log2 of |end(N) - end(2N)| / |end(2N) - end(4N)|, N = steps; None for solvers that claim no order.

    The end is that of four paths of a mixture of two Gaussians, from t = 3/4 to 1/4 of the cosine schedule; for a
    stochastic solver, mean and variance of three Gaussian laws, without sampling error.
    """
    if solver.order is None:
        return None
    end = _moments if solver.stochastic else _paths
    ends = [end(solver, torch.linspace(START, END, k * steps + 1, dtype=torch.float64)) for k in (1, 2, 4)]
    coarse, fine = (float((a - b).abs().sum()) for a, b in pairwise(ends))
    return math.log2(coarse / fine)


def _law(means: list[list[float]], stds: list[float]) -> GaussianMixture:
    places, spread = (torch.tensor(values, dtype=torch.float64) for values in (means, stds))
    weights = torch.ones(len(means), dtype=torch.float64)
    return GaussianMixture(
        Gaussian(Cosine()), weights, places, spread.square().diag().expand(len(means), -1, -1)
    )


def _paths(solver: Solver, times: Tensor) -> Tensor:
    x = torch.tensor([-1.3, -0.4, 0.2, 0.9], dtype=torch.float64)[:, None]
    return sample(_law([[-0.6], [0.8]], [0.4]), solver, times, x, rng=Rng.of(0, 4))


def _moments(solver: Solver, times: Tensor) -> Tensor:
    """On a Gaussian x_s = b + a x_t + sum_i c_i z_i: b is in the first row, a + b in the last, c_i + b between."""
    mean, stds = 0.8, [0.2, 0.4, 0.8]
    law = _law([[mean] * len(stds)], stds)
    alpha, sigma = law.process.scales(times[0], times)
    x = torch.zeros(4 * len(times) + 40, len(stds), dtype=torch.float64)
    x[-1] = 1
    x = sample(law, solver, times, x, rng=cast(Rng, _Unit()))
    b, a, c = x[0], x[-1] - x[0], x[1:-1] - x[0]
    start = (alpha * torch.tensor(stds, dtype=torch.float64)) ** 2 + sigma**2
    return torch.stack((b + a * alpha * mean, a**2 * start + c.square().sum(0)))


class _Unit:
    """In place of an `Rng`: a generator whose draws are the unit vectors along the batch, one for each label."""

    def __init__(self, path: tuple[object, ...] = (), rows: dict[object, int] | None = None) -> None:
        self.path, self.rows = path, {} if rows is None else rows

    def fork(self, *labels: str | int | float | Tensor) -> _Unit:
        words = (float(label) if isinstance(label, Tensor) else label for label in labels)
        return _Unit((*self.path, *words), self.rows)

    def normal(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        z = torch.zeros(shape, dtype=dtype)
        z[self.rows.setdefault(self.path, len(self.rows) + 1)] = 1
        return z
