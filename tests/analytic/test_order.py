"""Solvers against the exact flow of the probability-flow ODE: do errors fall as fast as claimed?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from truth import (
    DEFAULT_SCHEDULES,
    DETERMINISTIC,
    END,
    SCHEDULES,
    SHOWN_SCHEDULES,
    START,
    Counting,
    double,
    error,
    gaussian_solution,
    label,
    measured_order,
    mixture,
    one_gaussian,
    problem,
    solution,
)
from unstir import spec
from unstir.errors import ConfigError, NumericError
from unstir.process import EDM, BetaLinear, Cosine, Schedule
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, Adaptive, DPMpp2M, Euler, Heun, RungeKutta
from unstir.solvers.base import Solver
from unstir.solvers.runge_kutta import TABLEAUX, Tableau

CLAIMING = tuple(s for s in DETERMINISTIC if s.order is not None)
PAGE = Path(__file__).parents[2] / "docs" / "solvers.md"


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_the_reference_is_exact(schedule: Schedule) -> None:
    """Where the solution has a closed form, for one Gaussian, the reference reproduces it to 1e-11."""
    denoiser, t, s = one_gaussian(schedule), double(START), double(END)
    x = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 8)), t, Rng.of(1, 8))
    difference = solution(denoiser, x, t, s) - gaussian_solution(denoiser, x, t, s)
    assert difference.abs().max() < 1e-11


EVERYWHERE = DDIM(), Heun(), DPMpp2M(), RungeKutta()


@pytest.mark.parametrize(
    ("solver", "schedule"),
    [
        *((s, schedule) for s in CLAIMING for schedule in SHOWN_SCHEDULES),
        *(
            (s, schedule)
            for s in EVERYWHERE
            for schedule in DEFAULT_SCHEDULES
            if schedule not in SHOWN_SCHEDULES
        ),
    ],
    ids=label,
)
def test_error_falls_with_the_claimed_order(solver: Solver, schedule: Schedule) -> None:
    assert measured_order(solver, schedule) == pytest.approx(solver.order, abs=0.35)


def test_the_published_table_is_what_is_measured() -> None:
    """docs/solvers.md is written by tools/make_solvers.py; every solver that claims an order must be in it."""
    rows = re.findall(
        r"^\| `(\w+(?:\(.*?\))?)` \|(.*)\|$", PAGE.read_text().partition("<!-- orders -->")[2], re.M
    )
    table = {name: [float(cell) for cell in cells.split("|")] for name, cells in rows[: len(CLAIMING)]}
    measured = {label(s): [measured_order(s, schedule) for schedule in SHOWN_SCHEDULES] for s in CLAIMING}
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


# -- Runge-Kutta -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLEAUX)
def test_a_tableau_has_the_order_it_says(name: str) -> None:
    """The conditions on its numbers, one for each rooted tree. Hairer et al. 1993, table II.2.2."""
    tableau = TABLEAUX[name]
    n = len(tableau.b)
    a, b = torch.zeros(n, n, dtype=torch.float64), double(*tableau.b)
    for i, row in enumerate(tableau.a):
        a[i + 1, : i + 1] = torch.tensor(row, dtype=torch.float64)
    c = a.sum(1)
    conditions = {
        1: [(b.sum(), 1)],
        2: [(b @ c, 2)],
        3: [(b @ c**2, 3), (b @ a @ c, 6)],
        4: [(b @ c**3, 4), (b @ (c * (a @ c)), 8), (b @ a @ c**2, 12), (b @ a @ a @ c, 24)],
    }
    for order, equations in conditions.items():
        holds = all(abs(value - 1 / number) < 1e-14 for value, number in equations)
        assert holds is (order <= tableau.order)


def test_a_tableau_of_ones_own() -> None:
    """Heun's, given as numbers, is Heun; what is no tableau is refused; it is written and read as any setting."""
    own = RungeKutta(Tableau(2, ((1.0,),), (0.5, 0.5)))
    denoiser, x, _ = problem(Cosine())
    one, other = (sample(denoiser, s, double(START, 0.5, END), x, rng=Rng.of(0, 8)) for s in (own, Heun()))
    assert (one - other).abs().max() < 1e-14
    assert spec.load(spec.dump(own), Solver) == own
    for a, b in [
        (((1.0,),), (0.5, 0.6)),
        (((1.0, 0.0),), (0.5, 0.5)),
        (((0.0,),), (0.5, 0.5)),
        ((), (0.5, 0.5)),
    ]:
        with pytest.raises(ConfigError) as error:
            Tableau(2, a, b)
        assert error.value.field == "solver.tableau"


# -- adaptive steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Cosine(), BetaLinear(), EDM()], ids=label)
@pytest.mark.parametrize("pair", ["bs32", "dp54"])
def test_the_error_follows_the_tolerance(pair: str, schedule: Schedule) -> None:
    denoiser, x, exact = problem(schedule)
    calls = []
    for tolerance in (1e-2, 1e-4, 1e-6):
        counted = Counting(denoiser)
        found = sample(counted, Adaptive(pair, tolerance, tolerance), double(START, END), x, rng=Rng.of(0, 8))
        size = exact.square().mean().sqrt().clamp(min=1)
        assert (found - exact).square().mean().sqrt() < 3 * tolerance * size
        calls.append(counted.calls)
    assert calls == sorted(set(calls))


def test_a_neighbour_does_not_change_the_steps_of_a_sample() -> None:
    """Alone, or beside one that takes many more: the same numbers, to the rounding of the products inside."""
    denoiser = mixture(Cosine())
    easy, hard = double(3.0, -2.0)[None], double(0.05, 0.1)[None]  # between the clusters it must decide
    grid, solver = double(1.0, 0.4, 0.0), Adaptive("bs32", 1e-5, 1e-5)
    alone = sample(denoiser, solver, grid, easy, rng=Rng.of(0, 1))
    beside = sample(denoiser, solver, grid, torch.cat((hard, easy, hard)), rng=Rng.of(0, 3))[1:2]
    assert (alone - beside).abs().max() < 1e-12


def test_adaptive_steps_end() -> None:
    """By an error that says what to do: out of sub-steps, or a denoiser that no step is short enough for."""
    denoiser, x, _ = problem(Cosine())
    with pytest.raises(NumericError, match="3 sub-steps") as error:
        sample(denoiser, Adaptive(limit=3), double(START, END), x, rng=Rng.of(0, 8))
    assert error.value.hint
    with pytest.raises(NumericError, match="stays above its tolerance") as error:
        sample(denoiser, Adaptive(), double(START, END), x * float("nan"), rng=Rng.of(0, 8))
    assert error.value.hint


def test_from_noise_to_data_in_one_adaptive_step() -> None:
    """The whole way, ends included, against the closed form for one Gaussian."""
    denoiser = one_gaussian(Cosine())
    x = denoiser.process.prior((8, 2), Rng.of(0, 8), torch.float64)
    exact = gaussian_solution(denoiser, x, double(1.0), double(0.0))
    for tolerance in (1e-3, 1e-6):
        found = sample(
            denoiser, Adaptive(rtol=tolerance, atol=tolerance), double(1.0, 0.0), x, rng=Rng.of(0, 8)
        )
        assert (found - exact).abs().max() < 5 * tolerance
