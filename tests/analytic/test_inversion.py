"""Inversion: from data to the noise it comes from, and back."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from truth import (
    DEFAULT_SCHEDULES,
    SOLVERS,
    Counting,
    double,
    gaussian_solution,
    label,
    mixture,
    one_gaussian,
)
from unstir import times
from unstir.errors import ConfigError, IncompatibleError
from unstir.process import Cosine, Schedule
from unstir.rng import Rng
from unstir.sampling import invert, sample
from unstir.solvers import DDIM, Euler, Heun, RungeKutta
from unstir.solvers.base import Solver

PURE = [s for s in SOLVERS if s.pure]
RNG = Rng.of(0, 16)


def way_back(solver: Solver, schedule: Schedule, steps: int, iterations: int) -> Tensor:
    """Root mean square distance between data and what its inverse is sampled to."""
    denoiser = mixture(schedule)
    x, grid = denoiser.draw(RNG), times.uniform(steps)
    z = invert(denoiser, solver, grid, x, iterations=iterations)
    return (sample(denoiser, solver, grid, z, rng=RNG) - x).square().mean().sqrt()


@pytest.mark.parametrize("solver", PURE, ids=label)
def test_there_and_back(solver: Solver) -> None:
    """Whatever the solver's own error: it is the solver's step that is undone."""
    assert way_back(solver, Cosine(), steps=20, iterations=6) < 1e-5


@pytest.mark.parametrize("schedule", DEFAULT_SCHEDULES, ids=label)
def test_on_every_schedule(schedule: Schedule) -> None:
    """Where sigma(0) > 0 data is taken for x at t = 0, which it differs from by that much noise."""
    assert way_back(Euler(), schedule, steps=20, iterations=10) < 1e-4 + 10 * schedule.sigma(double(0.0)) ** 2


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_every_iteration_gains_an_order(iterations: int) -> None:
    coarse, fine = (way_back(DDIM(), Cosine(), steps, iterations) for steps in (20, 40))
    assert math.log2(coarse / fine) == pytest.approx(iterations, abs=0.35)


def test_the_way_back_is_exact_in_the_end() -> None:
    assert way_back(DDIM(), Cosine(), steps=20, iterations=25) < 1e-13


@pytest.mark.parametrize("solver", [DDIM(), Heun(), RungeKutta()], ids=label)
def test_it_finds_the_noise_of_the_exact_flow(solver: Solver) -> None:
    """For one Gaussian the noise is known. It is approached with the order of the solver; from t > 0 on, since the
    last step to sigma = 0 is first order."""
    denoiser, t, s = one_gaussian(Cosine()), double(1.0), double(0.25)
    x = denoiser.process.corrupt(denoiser.draw(RNG), s, RNG.fork("noise"))
    exact = gaussian_solution(denoiser, x, s, t)
    grids = (torch.linspace(1, 0.25, n + 1, dtype=torch.float64) for n in (12, 24))
    errors = [float((invert(denoiser, solver, g, x, iterations=25) - exact).square().mean()) for g in grids]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) / 2 == pytest.approx(solver.order, abs=0.35)


def test_it_takes_the_calls_it_says() -> None:
    denoiser = Counting(mixture(Cosine()))
    invert(denoiser, Heun(), times.uniform(5), denoiser.denoiser.draw(RNG), iterations=3)
    assert denoiser.calls == 3 * (4 * 2 + 1)


@pytest.mark.parametrize("solver", [s for s in SOLVERS if not s.pure], ids=label)
def test_what_cannot_be_undone_is_refused_before_any_work(solver: Solver) -> None:
    denoiser = Counting(mixture(Cosine()))
    with pytest.raises(IncompatibleError, match="cannot be undone") as error:
        invert(denoiser, solver, times.uniform(5), torch.zeros(16, 2, dtype=torch.float64))
    assert error.value.field == "solver"
    assert denoiser.calls == 0


@pytest.mark.parametrize(("grid", "iterations"), [(times.uniform(4).flip(0), 3), (times.uniform(4), 0)])
def test_wrong_settings_are_named(grid: Tensor, iterations: int) -> None:
    with pytest.raises(ConfigError) as error:
        invert(mixture(Cosine()), DDIM(), grid, torch.zeros(16, 2).double(), iterations=iterations)
    assert error.value.field in ("times", "iterations")
    assert error.value.hint
