"""The noise of a trajectory is Brownian motion: its law, exactly, and one path for every grid."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from truth import Basis, double
from unstir import times
from unstir.noise import Noise
from unstir.process import EDM, Cosine
from unstir.rng import Rng

GRIDS = {
    "one step": times.uniform(1),
    "uniform": times.uniform(20),
    "dyadic": times.uniform(64),
    "karras": times.karras(15, EDM()),
    "log_snr": times.log_snr(15, Cosine()),
    "finer than the tree": torch.linspace(0.31, 0.30, 101, dtype=torch.float64),
    "two scales": double(1.0, 0.5, 0.4999999, 0.4999998, 1e-9, 0.0),
}


def increments(noise: Noise, grid: Tensor) -> list[Tensor]:
    return [noise.between(t, s) for t, s in itertools.pairwise(grid)]


def path(grid: Tensor, seed: int = 0, n: int = 3) -> dict[float, Tensor]:
    """W(t) - W(0) at every time of a grid that ends at 0."""
    steps = increments(Noise(Rng.of(seed, n), torch.zeros(n, 2, dtype=torch.float64)), grid)
    values, total = {0.0: torch.zeros(n, 2, dtype=torch.float64)}, torch.zeros(n, 2, dtype=torch.float64)
    for (t, s), z in reversed(list(zip(itertools.pairwise(grid), steps, strict=True))):
        total = total + (t - s).sqrt() * z
        values[float(t)] = total
    return values


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_increments_are_independent_and_of_unit_variance(grid: Tensor) -> None:
    """Written in the independent normals it is made of, every increment is a vector; they are orthonormal."""
    rows = 20 * len(grid)
    drawn = torch.cat(increments(Noise(Basis(rows), torch.zeros(rows + 1, 1, dtype=torch.float64)), grid), 1)
    shortest = float((-grid.diff()).min())  # where the difference of two values of W loses digits
    assert (drawn.T @ drawn - torch.eye(len(grid) - 1)).abs().max() < 1e-14 / shortest


@pytest.mark.parametrize("steps", [4, 8, 10, 20])
def test_a_finer_grid_refines_the_same_path(steps: int) -> None:
    coarse, fine = path(times.uniform(steps)), path(times.uniform(2 * steps))
    for t, value in coarse.items():
        nearest = min(fine, key=lambda u: abs(u - t))
        assert (fine[nearest] - value).abs().max() < 1e-12


def test_unlike_grids_meet_nearly() -> None:
    """Where other times share a leaf of the tree, W moves by a bridge over that leaf: 1/32 at most."""
    moved = []
    one = path(times.uniform(100), n=200)
    for steps in (300, 700):
        two = path(times.uniform(steps), n=200)
        moved += [(two[t] - value).square().mean().sqrt() for t, value in one.items() if t in two]
    assert len(moved) > 100
    assert max(moved) < 1 / 32
    assert max(moved) > 1e-3, "if the path never moves, the docstring can promise more"


def test_it_is_a_function_of_the_sample_and_the_interval() -> None:
    grid = times.uniform(7)
    many, one = path(grid, seed=0, n=5), path(grid, seed=3, n=1)
    assert all(torch.equal(many[t][3], one[t][0]) for t in many)
    assert not torch.equal(many[1.0][0], many[1.0][1])


def test_fresh_and_forked_noise_are_independent_of_the_path() -> None:
    x = torch.zeros(100, 1, dtype=torch.float64)
    noise = Noise(Basis(98), x)
    t, s = double(1.0), double(0.5)
    drawn = [
        noise.between(t, s),
        noise.fresh("a", t),
        noise.fresh("b", t),
        noise.fresh("a", s),
        noise.fork(0).between(t, s),
        noise.fork(1).between(t, s),
        noise.fork(1).fresh("a", t),
    ]
    table = torch.cat(drawn, 1)
    assert (table.T @ table - torch.eye(len(drawn))).abs().max() < 1e-12
    assert torch.equal(noise.fresh("a", t), drawn[1])


@pytest.mark.parametrize(("steps", "most"), [(10, 6.0), (20, 5.0), (100, 4.0), (1000, 1.5)])
def test_it_draws_and_keeps_little(steps: int, most: float) -> None:
    rows = 8 * steps
    basis = Basis(rows)
    noise = Noise(basis, torch.zeros(rows + 1, 1))
    for t, s in itertools.pairwise(times.uniform(steps)):
        noise.between(t, s)
        assert len(noise._times) <= Noise.DEPTH + 5
    assert len(basis.rows) / steps < most


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_has_the_shape_and_precision_of_x(dtype: torch.dtype) -> None:
    noise = Noise(Rng.of(0, 2), torch.zeros(2, 3, 4, dtype=dtype))
    for z in (noise.between(double(0.7), double(0.2)), noise.fresh("a")):
        assert z.shape == (2, 3, 4)
        assert z.dtype == dtype
