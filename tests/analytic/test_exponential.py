"""Exponential and multistep methods: their integrals, steps and starts against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from truth import SCHEDULES, double, error, label, mixture
from unstir import times
from unstir.condition import Condition
from unstir.denoiser import Denoiser
from unstir.errors import ConfigError
from unstir.guidance import ClassifierFree
from unstir.noise import Noise
from unstir.process import BetaLinear, Cosine, Gaussian, Linear, Schedule
from unstir.rng import Rng
from unstir.sampling import sample, trajectory
from unstir.solvers import (
    DDIM,
    DDPM,
    DEIS,
    PNDM,
    AdamsBashforth,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    SASolver,
    UniPC,
)
from unstir.solvers.base import Bound, Solver, hold
from unstir.solvers.exponential import Node, average, carry

PAST = (0.3, -0.1, -0.45, -1.2)


def weights(places: tuple[float, ...], a: float, b: float, rate: float = 0.0) -> list[float]:
    """Those of `average`: its value for unit vectors."""
    basis = torch.eye(len(places), dtype=torch.float64)
    nodes = [Node(double(-p), double(p), e[None]) for p, e in zip(places, basis, strict=True)]
    return average(nodes, double(a), double(b), rate)[0].tolist()


# -- averages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((0, -1), (3 / 2, -1 / 2)),
        ((0, -1, -2), (23 / 12, -16 / 12, 5 / 12)),
        ((0, -1, -2, -3), (55 / 24, -59 / 24, 37 / 24, -9 / 24)),
        ((1, 0), (1 / 2, 1 / 2)),
        ((1, 0, -1), (5 / 12, 8 / 12, -1 / 12)),
        ((2 / 3, 0), (3 / 4, 1 / 4)),
    ],
)
def test_even_steps_have_the_weights_of_adams(places: tuple[float, ...], expected: tuple[float, ...]) -> None:
    """Bashforth, Moulton, and Ralston's node at two thirds."""
    assert weights(places, 0, 1) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("h", [1e-3, 0.5, 8.0])
def test_exponential_weights_are_phi_functions(h: float) -> None:
    """Of a line over the step: -phi_2/phi_1 = -(1 - (1 - e^-h)/h)/(1 - e^-h) times h over the gap between the nodes."""
    phi_1 = -math.expm1(-h) / h
    phi_2 = (1 - phi_1) / h if h > 0.1 else 1 / 2 - h / 6 + h**2 / 24 - h**3 / 120
    slope = h / 0.7 * phi_2 / phi_1
    assert weights((0, -0.7), 0, h, rate=1) == pytest.approx([1 + slope, -slope], rel=1e-13)


@pytest.mark.parametrize("rate", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_averages_are_the_integrals(count: int, rate: float) -> None:
    """Against adaptive quadrature, on uneven nodes; weights sum to one and integrate every polynomial they hold."""
    a, b, places = PAST[0], 2.1, PAST[:count]
    mass = quad(lambda u: math.exp(rate * u), a, b)[0]
    found = weights(places, a, b, rate)
    assert sum(found) == pytest.approx(1, abs=1e-13)
    for power in range(count):
        exact = quad(lambda u, p=power: math.exp(rate * u) * u**p, a, b, epsabs=1e-13)[0] / mass
        assert sum(w * p**power for w, p in zip(found, places, strict=True)) == pytest.approx(
            exact, rel=1e-11
        )


def test_times_may_differ_per_sample() -> None:
    together = [
        Node(double(-p, -p), double(p, 2 * p), torch.full((2, 3), p, dtype=torch.float64)) for p in PAST
    ]
    both = average(together, double(0.3, 0.6), double(1.0, 1.4), rate=1)
    for i, (scale, a, b) in enumerate(((1, 0.3, 1.0), (2, 0.6, 1.4))):
        alone = [Node(double(-p), double(scale * p), double(p)[None]) for p in PAST]
        assert torch.allclose(both[i], average(alone, double(a), double(b), rate=1), rtol=1e-14)


# -- steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.6), (0.7, 0.3), (0.4, 0.0), (1.0, 0.0)])
def test_the_exact_step_is_the_ode_at_zero_and_the_chain_at_one(
    schedule: Schedule, t: float, s: float
) -> None:
    process, x_t, x_0 = Gaussian(schedule), double(0.4, -1.3)[None], double(0.2, 0.5)[None]
    ode = carry(schedule, double(t), double(s))
    assert torch.allclose(ode(x_t, x_0), hold(process, x_t, x_0, double(t), double(s)), rtol=1e-12, atol=0)
    chain = carry(schedule, double(t), double(s), eta=1.0)
    mean, std = process.posterior(x_t, x_0, double(t), double(s))
    assert torch.allclose(chain(x_t, x_0), mean, rtol=1e-9, atol=1e-9)
    assert torch.allclose(chain.std, std, rtol=1e-9, atol=0)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_the_exact_step_composes(eta: float) -> None:
    """Two steps are one: in the mean and in the variance of what is added."""
    t, m, s = double(0.9), double(0.55), double(0.2)
    whole, first, second = (carry(Cosine(), *pair, eta) for pair in ((t, s), (t, m), (m, s)))
    assert torch.allclose(whole.keep, first.keep * second.keep, rtol=1e-13)
    assert torch.allclose(whole.pull, second.keep * first.pull + second.pull, rtol=1e-13)
    assert torch.allclose(whole.std**2, (second.keep * first.std) ** 2 + second.std**2, rtol=1e-13)


class Known(Denoiser):
    """E[x_0 | x_t] = a polynomial of the half-log-SNR: the equation is a plain integral."""

    def __init__(self, schedule: Schedule, *coefficients: float) -> None:
        super().__init__()
        self.process, self.coefficients = Gaussian(schedule), coefficients

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        l = self.process.schedule.log_snr(t) / 2  # noqa: E741
        return sum(c * l**k for k, c in enumerate(self.coefficients)) * torch.ones_like(x_t)


@pytest.mark.parametrize(
    ("solver", "degree"),
    [(DPMpp3M(), 2), (UniPC(3), 2), (DDIM(), 0), (DPMpp3M(eta=1.0), 2), (SASolver(3, 3), 2)],
    ids=str,
)
def test_polynomials_are_integrated_exactly(solver: Solver, degree: int) -> None:
    """Once the history is complete. A corrector then has nothing to correct."""
    schedule = Linear()
    denoiser, grid = Known(schedule, *(0.7, -0.4, 0.3)[: degree + 1]), double(0.8, 0.65, 0.6, 0.4, 0.15)
    x = double(0.3, -2.0)[:, None]
    rng = Rng.of(0, 2)
    steps = list(trajectory(denoiser, solver, grid, x, rng=rng))
    before, after = steps[-2].x, steps[-1].x
    noise = Noise(rng, x)
    drawn = [noise.between(t, s) for t, s in pairwise(grid)][-1]
    eta = getattr(solver, "eta", getattr(solver, "tau", 0.0))
    step = carry(schedule, grid[-2], grid[-1], eta)
    k = 1 + eta**2
    a, b = (float(schedule.log_snr(u)) / 2 for u in grid[-2:])
    value = lambda u: sum(c * u**i for i, c in enumerate(denoiser.coefficients))  # noqa: E731
    mass = quad(lambda u: math.exp(k * u), a, b)[0]
    mean = quad(lambda u: math.exp(k * u) * value(u), a, b, epsabs=1e-14)[0] / mass
    expected = step(before, torch.full_like(x, mean), drawn if eta else None)
    assert torch.allclose(after, expected, rtol=0, atol=1e-11)


def test_a_midpoint_asks_in_the_middle_of_log_snr() -> None:
    """DPM-Solver++ (2S) holds what the denoiser says halfway, at the point that the first answer leads to."""
    denoiser, x, t, s = mixture(Cosine()), double(0.3, -0.8)[None], double(0.7), double(0.35)
    log_snr = Cosine().log_snr
    m = Cosine().time((log_snr(t) + log_snr(s)) / 2)
    x_m = hold(denoiser.process, x, denoiser(x, t), t, m)
    expected = hold(denoiser.process, x, denoiser(x_m, m), t, s)
    found = DPMpp2S().step(Bound(denoiser), x, t, s, None, Noise(Rng.of(0, 1), x))
    assert torch.allclose(found.x, expected, rtol=1e-13)
    assert torch.equal(found.x_0, denoiser(x, t))


def test_the_weights_of_pndm_on_even_times() -> None:
    """(55, -59, 37, -9)/24 for the last four eps, then DDIM. Liu et al. 2022."""
    denoiser, x, grid = mixture(BetaLinear()), double(0.3, -0.8)[None], double(0.9, 0.8, 0.7, 0.6, 0.5)
    steps = list(trajectory(denoiser, PNDM(), grid, x, rng=Rng.of(0, 1)))
    process = denoiser.process
    points = [x, *(step.x for step in steps[:-1])]
    said = [process.eps(y, denoiser(y, t), t) for y, t in zip(points, grid, strict=False)]
    eps = sum(w * e for w, e in zip((-9 / 24, 37 / 24, -59 / 24, 55 / 24), said, strict=True))
    alpha, sigma = process.scales(grid[3], x)
    expected = hold(process, points[3], (points[3] - sigma * eps) / alpha, grid[3], grid[4])
    assert torch.allclose(steps[-1].x, expected, rtol=1e-12)


# -- histories ---------------------------------------------------------------------------------------------

HISTORIES = (
    AdamsBashforth(4),
    AdamsBashforth(3, "sigma"),
    DEIS(3),
    DEIS(3, "time"),
    DPMpp2M(),
    DPMpp3M(),
    DPMpp3M(eta=1.0),
    PNDM(),
    SASolver(),
    UniPC(3),
)


@pytest.mark.parametrize("solver", HISTORIES, ids=label)
def test_what_does_not_lie_above_is_forgotten(solver: Solver) -> None:
    """A state from a lower time, as a caller's own loop may carry over, is as good as none."""
    denoiser, x = Bound(mixture(Linear())), double(0.3, -0.8)[None]

    def step(t: float, s: float, state: object) -> object:
        return solver.step(denoiser, x, double(t), double(s), state, Noise(Rng.of(0, 1), x))

    below = step(0.5, 0.4, None)
    assert torch.equal(step(0.8, 0.6, below.state).x, step(0.8, 0.6, None).x)
    above = step(0.9, 0.8, None)
    assert not torch.equal(step(0.8, 0.6, above.state).x, step(0.8, 0.6, None).x)


@pytest.mark.parametrize("solver", HISTORIES, ids=label)
def test_infinite_ends_are_not_remembered(solver: Solver) -> None:
    """Out of alpha = 0 and into sigma = 0 a step is that of DDIM, or with noise of DDPM; what follows starts anew."""
    denoiser, x, rng = mixture(Linear()), double(0.3, -0.8)[None], Rng.of(0, 1)
    steps = list(trajectory(denoiser, solver, double(1.0, 0.7, 0.4, 0.0), x, rng=rng))
    first = DDPM() if solver.stochastic else DDIM()
    if getattr(solver, "variable", None) != "angle":  # there t = 1 is a place like any other
        assert torch.allclose(steps[0].x, sample(denoiser, first, double(1.0, 0.7), x, rng=rng), atol=1e-14)
        assert steps[0].state is None
    assert torch.equal(steps[2].x, steps[2].x_0)


class Blend(Denoiser):
    """Guidance written out: 2.5 strong - 1.5 weak opinions of one mixture, as a denoiser of its own."""

    def __init__(self, schedule: Schedule, strong: Condition) -> None:
        super().__init__()
        self.mixture, self.strong = mixture(schedule), strong
        self.process = self.mixture.process

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return 2.5 * self.mixture(x_t, t, self.strong) - 1.5 * self.mixture(x_t, t)


@pytest.mark.parametrize("solver", HISTORIES, ids=label)
def test_histories_hold_what_guidance_made_of_it(solver: Solver) -> None:
    """Nothing that a step remembers bypasses the guided denoiser."""
    strong, x = Condition(vector=double(0.8, 0.2).log()[None]), double(0.3, -0.8)[None]
    guided, grid = ClassifierFree(mixture(Cosine()), 2.5), times.uniform(9)
    one = sample(guided, solver, grid, x, cond=strong, rng=Rng.of(0, 1))
    other = sample(Blend(Cosine(), strong), solver, grid, x, rng=Rng.of(0, 1))
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", [DPMpp2M, DPMpp2S], ids=lambda s: s.__name__)
def test_little_noise_is_none(solver: type[DPMpp2M | DPMpp2S]) -> None:
    """eta -> 0 is the ODE."""
    denoiser, x, grid = mixture(Cosine()), double(0.3, -0.8)[None], double(0.95, 0.8, 0.6, 0.4, 0.2)
    ode, sde = (sample(denoiser, s, grid, x, rng=Rng.of(0, 1)) for s in (solver(), solver(eta=1e-7)))
    assert (ode - sde).abs().max() < 1e-6


@pytest.mark.parametrize("eta", [1e-3, 1.0])
def test_out_of_pure_noise_any_noise_is_all(eta: float) -> None:
    """Where alpha = 0 there are infinitely many decades of noise to cross, and nothing of x_1 survives them."""
    step = carry(Linear(), double(1.0), double(0.5), eta)
    assert step.keep == 0
    assert step.std == Linear().sigma(double(0.5))


@pytest.mark.parametrize("solver", [AdamsBashforth(4), DPMpp3M()], ids=label)
def test_a_start_of_first_order_would_cost_the_order(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why `startup` exists: without it the single first step leaves an error of second order."""
    started = math.log2(error(solver, Cosine(), 100) / error(solver, Cosine(), 200))
    assert started == pytest.approx(solver.order, abs=0.2)
    monkeypatch.setattr(type(solver), "startup", 0)
    assert math.log2(error(solver, Cosine(), 100) / error(solver, Cosine(), 200)) < 2.6


@pytest.mark.parametrize(
    ("solver", "fields"),
    [
        (AdamsBashforth, {"order": 1}),
        (AdamsBashforth, {"order": 5}),
        (AdamsBashforth, {"variable": "log"}),
        (DEIS, {"order": 4}),
        (DEIS, {"variable": "sigma"}),
        (DPMpp2M, {"eta": -0.1}),
        (DPMpp2M, {"eta": float("nan")}),
        (DPMpp2S, {"eta": 1.1}),
        (DPMpp3M, {"eta": 2.0}),
        (SASolver, {"predictor": 0}),
        (SASolver, {"corrector": 5}),
        (SASolver, {"tau": 0.0}),
        (SASolver, {"tau": float("nan")}),
        (UniPC, {"predictor": 4}),
        (UniPC, {"variant": "bh3"}),
    ],
)
def test_wrong_settings_are_named(solver: type[Solver], fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        sample(
            mixture(Linear()), solver(**fields), times.uniform(2), double(0.0, 0.0)[None], rng=Rng.of(0, 1)
        )
    assert error.value.field == f"solver.{next(iter(fields))}"
    assert error.value.hint
