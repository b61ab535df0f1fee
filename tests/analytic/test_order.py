"""Solvers against the exact flow of the probability-flow ODE: do errors fall as fast as claimed?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from truth import (
    DEFAULT_SCHEDULES,
    DETERMINISTIC,
    END,
    SCHEDULES,
    START,
    double,
    error,
    gaussian_solution,
    label,
    measured_order,
    one_gaussian,
    problem,
    solution,
)
from unstir.process import BetaLinear, Schedule
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, Euler, Heun
from unstir.solvers.base import Solver

PAGE = Path(__file__).parents[2] / "docs" / "solvers.md"


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_the_reference_is_exact(schedule: Schedule) -> None:
    """Where the solution has a closed form, for one Gaussian, the reference reproduces it to 1e-11."""
    denoiser, t, s = one_gaussian(schedule), double(START), double(END)
    x = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 8)), t, Rng.of(1, 8))
    difference = solution(denoiser, x, t, s) - gaussian_solution(denoiser, x, t, s)
    assert difference.abs().max() < 1e-11


@pytest.mark.parametrize("schedule", DEFAULT_SCHEDULES, ids=label)
@pytest.mark.parametrize("solver", DETERMINISTIC, ids=label)
def test_error_falls_with_the_claimed_order(solver: Solver, schedule: Schedule) -> None:
    if solver.order is None:
        pytest.skip("claims no order")
    assert measured_order(solver, schedule) == pytest.approx(solver.order, abs=0.35)


def test_the_published_table_is_what_is_measured() -> None:
    """docs/solvers.md is written by tools/make_solvers.py; every solver and schedule must be in it."""
    rows = re.findall(
        r"^\| `(\w+(?:\(.*?\))?)` \|(.*)\|$", PAGE.read_text().partition("<!-- orders -->")[2], re.M
    )
    table = {name: [float(cell) for cell in cells.split("|")] for name, cells in rows[: len(DETERMINISTIC)]}
    measured = {
        label(s): [measured_order(s, schedule) for schedule in DEFAULT_SCHEDULES] for s in DETERMINISTIC
    }
    assert table.keys() == measured.keys(), "run tools/make_solvers.py"
    for name, orders in measured.items():
        assert table[name] == pytest.approx(orders, abs=0.02), f"{name}: run tools/make_solvers.py"


@pytest.mark.parametrize("schedule", DEFAULT_SCHEDULES, ids=label)
def test_euler_in_sigma_is_ddim(schedule: Schedule) -> None:
    """dy/dr = eps with y = x/alpha, r = sigma/alpha is the straight line that DDIM walks."""
    denoiser, x, _ = problem(schedule)
    times = double(START, 0.6, 0.2, 0.1)
    one, other = (sample(denoiser, s, times, x, rng=Rng.of(0, 8)) for s in (DDIM(), Euler("sigma")))
    assert (one - other).abs().max() < 1e-12 * max(1.0, float(x.abs().max()))


def test_heun_in_time_sees_the_steps_of_a_chain() -> None:
    """Why `fine` exists: on 1000 betas dx/dt jumps 1000 times, and Heun over t loses its order there."""
    coarse, fine = (error(Heun(variable="time"), BetaLinear(), n) for n in (67, 134))
    assert coarse / fine < 3, "if this fails the chain has become smooth: `fine` can go"
    assert fine < 1e-3
    assert error(Heun(), BetaLinear(), 134) < fine
