"""Stochastic solvers: the law they end in, by exact moments and by samples."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from truth import (
    DEFAULT_SCHEDULES,
    END,
    START,
    STOCHASTIC,
    Basis,
    Counting,
    approx,
    double,
    energy_distance,
    fine,
    gaussian_solution,
    label,
    mixture,
    sees_jumps,
)
from unstir import times
from unstir.analytic import GaussianMixture
from unstir.noise import Noise
from unstir.process import EDM, BetaLinear, Cosine, Gaussian, Linear, Schedule
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, DDPM, Ancestral, Euler, EulerMaruyama, Heun, PredictorCorrector, Restart
from unstir.solvers.base import Bound, Solver
from unstir.solvers.langevin import correct

MEAN, STD = 0.7, double(0.4)[None]
WIDTHS = double(0.1, 0.2, 0.4, 0.8, 1.6)


def line(schedule: Schedule, std: Tensor = STD) -> GaussianMixture:
    """N(MEAN, std^2), one dimension for each: its denoiser is affine in x_t, so every solver's step is too."""
    return GaussianMixture(
        Gaussian(schedule), double(1.0)[None], MEAN * torch.ones_like(std)[None], torch.diag(std**2)[None]
    )


def terminal_moments(
    solver: Solver, schedule: Schedule, grid: Tensor, std: Tensor = STD
) -> tuple[Tensor, Tensor]:
    """Means and variances (D,) after the whole grid, exactly, without a single sample.

    On a Gaussian x_s = b + a x_t + sum_i c_i z_i, whatever is remembered and however many normals are drawn: row 0
    of the batch carries b, the last row a + b, the rows between c_i + b, in one trajectory.
    """
    denoiser, draws = line(schedule, std), 4 * len(grid) + 300
    x = torch.zeros(draws + 2, len(std), dtype=torch.float64)
    x[-1] = 1
    with pytest.MonkeyPatch.context() as patch:
        # the increments of a path are independent; the path itself would be many more draws
        patch.setattr(Noise, "between", lambda noise, t, s: noise.fresh(t, s))
        x = sample(denoiser, solver, grid, x, rng=Basis(draws))
    b, a, c = x[0], x[-1] - x[0], x[1:-1] - x[0]
    mean = a * schedule.alpha(grid[0]) * MEAN + b
    start = (schedule.alpha(grid[0]) * std) ** 2 + schedule.sigma(grid[0]) ** 2
    return mean, a**2 * start + (c**2).sum(0)


def moment_error(solver: Solver, schedule: Schedule, steps: int, std: Tensor = WIDTHS) -> float:
    """Over several widths at once: the error of one may vanish by chance, where it changes sign."""
    schedule = fine(schedule) if sees_jumps(solver) else schedule
    mean, variance = terminal_moments(
        solver, schedule, torch.linspace(0.875, 0.125, steps + 1, dtype=torch.float64), std
    )
    alpha, sigma = schedule.alpha(double(0.125)), schedule.sigma(double(0.125))
    wrong = abs(mean - alpha * MEAN) + abs(variance - (alpha * std) ** 2 - sigma**2)
    return float(wrong.norm())


CLAIMING = [s for s in STOCHASTIC if s.order is not None]


@pytest.mark.parametrize("schedule", DEFAULT_SCHEDULES, ids=label)
@pytest.mark.parametrize("solver", CLAIMING, ids=label)
def test_moments_converge_with_the_claimed_order(solver: Solver, schedule: Schedule) -> None:
    """Weak order, exactly: mean and variance of the terminal law of a Gaussian, no sampling error.

    At least the claim: on schedules that explode in t, Euler-Maruyama's first-order term is small, and 24 steps still
    show the second.
    """
    steps = 24 if solver.order == 1 or solver.evaluations == 2 else 128  # histories show their order later
    coarse, fine = (moment_error(solver, schedule, n) for n in (steps, 2 * steps))
    assert math.log2(coarse / fine) > solver.order - 0.35
    if schedule == Cosine():
        assert math.log2(coarse / fine) == pytest.approx(solver.order, abs=0.35)


@pytest.mark.parametrize("solver", CLAIMING, ids=label)
def test_finer_grids_refine_the_same_sample(solver: Solver) -> None:
    """Strong order 1, on the mixture: twice the steps of the same Brownian path halve the distance to the limit.

    At least: with as few steps, the error that multistep methods make without any noise still rules.
    """
    denoiser, n = mixture(Cosine()), 300
    rng = Rng.of(0, n)
    x = denoiser.process.corrupt(denoiser.draw(rng), double(0.75), rng.fork("start"))
    ends = [
        sample(denoiser, solver, torch.linspace(0.75, 0.25, steps + 1, dtype=torch.float64), x, rng=rng)
        for steps in (16, 32, 64)
    ]
    coarse, fine = ((a - b).square().mean().sqrt() for a, b in pairwise(ends))
    assert math.log2(coarse / fine) > 1 - 0.35
    assert fine < 0.03


def test_the_moment_recursion_is_right() -> None:
    """The deterministic DDIM, whose limit is known point by point, converges in the same recursion."""
    x, t, s = double(0.3).reshape(1, 1), double(START), double(END)
    exact = gaussian_solution(line(Cosine()), x, t, s)
    found = sample(
        line(Cosine()), DDIM(), torch.linspace(START, END, 401, dtype=torch.float64), x, rng=Rng.of(0, 1)
    )
    assert found == approx(exact, rel=5e-3)
    assert moment_error(DDIM(), Cosine(), 100) == pytest.approx(
        moment_error(DDIM(), Cosine(), 50) / 2, rel=0.05
    )


def test_the_two_variances_bracket_the_truth() -> None:
    """Lower is right for known data, upper for standard normal data. Ho et al. 2020, section 3.2."""
    grid = torch.linspace(START, END, 21, dtype=torch.float64)
    alpha, sigma = Cosine().alpha(grid[-1]), Cosine().sigma(grid[-1])
    exact = (alpha * STD) ** 2 + sigma**2
    assert (
        terminal_moments(DDPM("lower"), Cosine(), grid)[1]
        < exact
        < terminal_moments(DDPM("upper"), Cosine(), grid)[1]
    )


def test_upper_is_exact_for_standard_normal_data() -> None:
    """There x_t stays N(0, 1) and q(x_s | x_t) is the transition itself, backwards."""
    denoiser = GaussianMixture(
        Gaussian(Cosine()), double(1.0)[None], double(0.0).reshape(1, 1), double(1.0)[None]
    )
    x = torch.zeros(42, 1, dtype=torch.float64)
    x[-1] = 1
    x_s = sample(denoiser, DDPM("upper"), double(0.7, 0.4), x, rng=Basis(40))
    assert (x_s**2).sum() == approx(1.0, rel=1e-12)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), BetaLinear()], ids=label)
def test_ddim_with_eta_one_is_ddpm(schedule: Schedule) -> None:
    """Given the same noise, step by step: the same numbers."""
    denoiser, rng = mixture(schedule), Rng.of(0, 6)
    x = denoiser.process.prior((6, 2), rng.fork("prior"), torch.float64)
    one, other = (sample(denoiser, s, times.uniform(12), x, rng=rng) for s in (DDIM(eta=1.0), DDPM("lower")))
    assert torch.allclose(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("solver", STOCHASTIC, ids=label)
def test_samples_have_the_law_of_the_data(solver: Solver) -> None:
    """From pure noise to data: mean, covariance and energy distance to fresh draws of a mixture."""
    n = 1500
    denoiser = mixture(Cosine())
    x = denoiser.process.prior((n, 2), Rng.of(0, n).fork("prior"), torch.float64)
    steps = 30 if (solver.evaluations or 1) >= 10 else 100
    found = sample(denoiser, solver, times.uniform(steps), x, rng=Rng.of(0, n))
    data = denoiser.draw(Rng.of(10_000, n))
    assert torch.allclose(found.mean(0), data.mean(0), atol=0.08)
    assert torch.allclose(torch.cov(found.T), torch.cov(data.T), atol=0.1)
    assert energy_distance(found, data) < 4e-3


def test_energy_distance_sees_what_is_wrong() -> None:
    """The bound above would not pass a law that is 15% too wide, or shifted by a tenth of its width."""
    n, denoiser = 1500, mixture(Cosine())
    one, two = denoiser.draw(Rng.of(0, n)), denoiser.draw(Rng.of(10_000, n))
    assert energy_distance(one, two) < 2e-3
    centre = one.mean(0)
    assert energy_distance(centre + 1.2 * (one - centre), two) > 4e-3
    assert energy_distance(one + double(0.12, 0.0), two) > 4e-3


def test_churn_keeps_the_law_and_moves_the_sample() -> None:
    """Noise added and removed again: another sample, the same moments to the size of the step."""
    mean, variance = terminal_moments(
        Heun(churn=0.05), Cosine(), torch.linspace(START, END, 101, dtype=torch.float64)
    )
    alpha, sigma = Cosine().alpha(double(END)), Cosine().sigma(double(END))
    assert mean == approx(alpha * MEAN, abs=2e-4)
    assert variance == approx((alpha * STD) ** 2 + sigma**2, abs=2e-3)


def test_churn_shrinks_with_the_steps_or_stays() -> None:
    """Why Heun with churn claims no order: a fixed churn leaves a bias; S_churn/N, as published, converges."""
    fixed = [moment_error(Heun(churn=0.1), Cosine(), n, STD) for n in (50, 100)]
    shared = [moment_error(Heun(churn=5 / n), Cosine(), n, STD) for n in (50, 100)]
    assert fixed[0] / fixed[1] < 1.7
    assert shared[0] / shared[1] == pytest.approx(4, rel=0.05)


def test_churn_adds_the_noise_it_says() -> None:
    """Up to sigma/alpha (1 + churn), by the process's own transition."""
    churn, t = 0.3, double(0.4)
    noisier = Heun(churn=churn)._noisier(Gaussian(Linear()), t)
    ratio = lambda u: Linear().sigma(u) / Linear().alpha(u)  # noqa: E731
    assert ratio(noisier) == approx((1 + churn) * ratio(t), rel=1e-12)
    assert Heun(churn=churn)._noisier(Gaussian(Linear()), double(0.999)) <= 1


# -- what wraps or mixes solvers ---------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), BetaLinear()], ids=label)
def test_ancestral_euler_is_ddim(schedule: Schedule, eta: float) -> None:
    """k-diffusion's Euler ancestral: the same numbers, given the same noise."""
    denoiser, rng = mixture(schedule), Rng.of(0, 6)
    x = denoiser.process.prior((6, 2), rng.fork("prior"), torch.float64)
    pair = DDIM(eta), Ancestral(Euler("sigma"), eta)
    one, other = (sample(denoiser, s, times.uniform(12), x, rng=rng) for s in pair)
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("variable", ["angle", "sigma", "time"])
def test_euler_maruyama_without_noise_is_euler(variable: str) -> None:
    denoiser, rng = mixture(Cosine()), Rng.of(0, 6)
    x = denoiser.process.prior((6, 2), rng, torch.float64)
    pair = Euler(variable), EulerMaruyama(0.0, variable)
    one, other = (sample(denoiser, s, times.uniform(12), x, rng=rng) for s in pair)
    assert torch.equal(one, other)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("variable", ["angle", "sigma", "time"])
def test_any_amount_of_noise_has_the_same_law(variable: str, noise: float) -> None:
    coarse, fine = (moment_error(EulerMaruyama(noise, variable), Cosine(), n) for n in (24, 96))
    assert fine < coarse / 3


@pytest.mark.parametrize("schedule", [Cosine(), EDM()], ids=label)
def test_corrections_leave_the_law_invariant_but_for_what_they_say(schedule: Schedule) -> None:
    """One Langevin step on a Gaussian is x <- b + a x + c z: its stationary law is known."""
    denoiser, t, snr = line(schedule), double(0.4), 0.2
    x = torch.zeros(10, 1, dtype=torch.float64)
    x[-1] = 1
    x_new = correct(Bound(denoiser), x, t, snr, 1, Noise(Basis(8), x)).x
    b, a, c = x_new[0], x_new[-1] - x_new[0], x_new[1] - x_new[0]
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    variance = (alpha * STD) ** 2 + sigma**2
    assert b / (1 - a) == approx(alpha * MEAN, rel=1e-10)
    assert c**2 / (1 - a**2) == approx(variance / (1 - (snr * sigma) ** 2 / variance), rel=1e-10)


def test_corrections_pull_any_law_to_the_right_one() -> None:
    """On the mixture: draws of q(x_t) keep their law under 150 corrections, others come to it."""
    n, t = 1500, double(0.5)
    denoiser = mixture(Cosine())
    fresh, x = (
        denoiser.process.corrupt(denoiser.draw(Rng.of(k, n)), t, Rng.of(k + 1, n)) for k in (0, 10**6)
    )
    wrong = 0.5 * Rng.of(5, n).normal((n, 2), torch.float64) + 0.6
    noise = Noise(Rng.of(7, n), x)
    moved, pulled = (correct(Bound(denoiser), start, t, 0.2, 150, noise).x for start in (x, wrong))
    assert (moved - x).square().mean().sqrt() > 0.3
    assert energy_distance(wrong, fresh) > 0.1
    assert energy_distance(moved, fresh) < 4e-3
    assert energy_distance(pulled, fresh) < 4e-3


def test_the_corrector_mends_what_the_predictor_breaks() -> None:
    """Eight steps of DDPM end too narrow; many corrections at every level bring most of the variance back."""
    grid = torch.linspace(START, 0.5, 9, dtype=torch.float64)
    exact = (Cosine().alpha(grid[-1]) * STD) ** 2 + Cosine().sigma(grid[-1]) ** 2
    errors = [
        terminal_moments(s, Cosine(), grid)[1] - exact
        for s in (DDPM(), *(PredictorCorrector(DDPM(), n, 0.1) for n in (5, 30)))
    ]
    assert errors[0] < errors[1] < errors[2] < 0.01
    assert abs(errors[2]) < abs(errors[0]) / 2


def test_restart_contracts_earlier_errors() -> None:
    """Xu et al. 2023, theorem 1: what the coarse steps above spoilt is forgotten in the noise."""
    grid = torch.linspace(START, 0.05, 5, dtype=torch.float64)
    alpha, sigma = Cosine().alpha(grid[-1]), Cosine().sigma(grid[-1])

    def mistake(solver: Solver) -> float:
        mean, variance = terminal_moments(solver, Cosine(), grid)
        return float(abs(mean - alpha * MEAN) + abs(variance - (alpha * STD) ** 2 - sigma**2))

    alone, once, often = (
        mistake(s)
        for s in (
            Euler("sigma"),
            Restart(Euler("sigma"), 0.1, 0.7, repeats=1, steps=40),
            Restart(Euler("sigma"), 0.1, 0.7, repeats=3, steps=40),
        )
    )
    assert often < once < alone / 2


@pytest.mark.parametrize("times_", [(1.0, 0.0), (0.8, 0.1, 0.0), (0.8, 0.05)], ids=str)
def test_restart_pauses_where_it_is_told(times_: tuple[float, ...]) -> None:
    """At `low` itself, whether or not the grid knows it: the calls are those of the pieces."""
    denoiser = Counting(mixture(Cosine()))
    x = denoiser.process.prior((3, 2), Rng.of(0, 3), torch.float64)
    sample(denoiser, Restart(DDIM(), 0.1, 0.3, repeats=2, steps=4), double(*times_), x, rng=Rng.of(0, 3))
    pieces = len({*times_, 0.1}) - 1
    assert denoiser.calls == pieces + 2 * 4
