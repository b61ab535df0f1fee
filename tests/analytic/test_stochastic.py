"""Stochastic solvers: the law they end in, by exact moments and by samples."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from truth import (
    DEFAULT_SCHEDULES,
    END,
    START,
    STOCHASTIC,
    approx,
    double,
    energy_distance,
    gaussian_solution,
    label,
    mixture,
)
from unstir import times
from unstir.analytic import GaussianMixture
from unstir.noise import Noise
from unstir.process import BetaLinear, Cosine, Gaussian, Linear, Schedule
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, DDPM, Heun
from unstir.solvers.base import Bound, Solver

MEAN, STD = 0.7, 0.4


class Constant:
    """A generator whose every draw is the same number: it measures how much noise a step adds."""

    def __init__(self, value: float) -> None:
        self.value = value

    def fork(self, *labels: object) -> Constant:
        return self

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype, device: object) -> Tensor:
        return torch.full(shape, self.value, dtype=dtype)


def constant(value: float, x: Tensor) -> Noise:
    """Noise whose every draw is this number."""
    noise = Noise(Constant(value), x)
    noise.between = lambda t, s: noise.fresh()
    return noise


def line(schedule: Schedule) -> GaussianMixture:
    """N(MEAN, STD^2) on the line: its denoiser is affine in x_t, so every solver's step is too."""
    return GaussianMixture(
        Gaussian(schedule), double(1.0)[None], double(MEAN).reshape(1, 1), double(STD)[None]
    )


def terminal_moments(solver: Solver, schedule: Schedule, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance after the whole grid without a single sample: x -> a x + b + c z, step by step."""
    denoiser = line(schedule)
    mean = schedule.alpha(grid[0]) * MEAN
    variance = (schedule.alpha(grid[0]) * STD) ** 2 + schedule.sigma(grid[0]) ** 2
    for t, s in itertools.pairwise(grid):
        x = double(0.0, 1.0).reshape(2, 1)
        quiet, noisy = (solver.step(Bound(denoiser), x, t, s, None, constant(z, x)).x for z in (0.0, 1.0))
        b, a, c = quiet[0], quiet[1] - quiet[0], noisy[0] - quiet[0]
        mean, variance = a * mean + b, a**2 * variance + c**2
    return mean, variance


def moment_error(solver: Solver, schedule: Schedule, steps: int) -> float:
    mean, variance = terminal_moments(
        solver, schedule, torch.linspace(START, END, steps + 1, dtype=torch.float64)
    )
    alpha, sigma = schedule.alpha(double(END)), schedule.sigma(double(END))
    return float(abs(mean - alpha * MEAN) + abs(variance - (alpha * STD) ** 2 - sigma**2))


@pytest.mark.parametrize("schedule", DEFAULT_SCHEDULES, ids=label)
@pytest.mark.parametrize("solver", [s for s in STOCHASTIC if s.order is not None], ids=label)
def test_moments_converge_with_the_claimed_order(solver: Solver, schedule: Schedule) -> None:
    """Weak order, exactly: mean and variance of the terminal law of a Gaussian, no sampling error."""
    coarse, fine = (moment_error(solver, schedule, n) for n in (25, 50))
    assert math.log2(coarse / fine) == pytest.approx(solver.order, abs=0.35)


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
    x = double(0.0, 1.0).reshape(2, 1)
    t, s = double(0.7), double(0.4)
    quiet, noisy = (DDPM("upper").step(Bound(denoiser), x, t, s, None, constant(z, x)).x for z in (0.0, 1.0))
    assert (quiet[1] - quiet[0]) ** 2 + (noisy[0] - quiet[0]) ** 2 == approx(1.0, rel=1e-12)


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
    found = sample(denoiser, solver, times.uniform(100), x, rng=Rng.of(0, n))
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
    fixed = [moment_error(Heun(churn=0.1), Cosine(), n) for n in (50, 100)]
    shared = [moment_error(Heun(churn=5 / n), Cosine(), n) for n in (50, 100)]
    assert fixed[0] / fixed[1] < 1.7
    assert shared[0] / shared[1] == pytest.approx(4, rel=0.05)


def test_churn_adds_the_noise_it_says() -> None:
    """Up to sigma/alpha (1 + churn), by the process's own transition."""
    churn, t = 0.3, double(0.4)
    noisier = Heun(churn=churn)._noisier(Gaussian(Linear()), t)
    ratio = lambda u: Linear().sigma(u) / Linear().alpha(u)  # noqa: E731
    assert ratio(noisier) == approx((1 + churn) * ratio(t), rel=1e-12)
    assert Heun(churn=churn)._noisier(Gaussian(Linear()), double(0.999)) <= 1
