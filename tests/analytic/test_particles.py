"""Twisted particles: samples of the posterior itself, for every law and operator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inverse import Inverse, full, matrix, two_modes
from truth import Counting, double
from unstir import times
from unstir.analytic import GaussianMixture
from unstir.errors import ConfigError, IncompatibleError
from unstir.guidance import DPS, TDS, Posterior
from unstir.operators import Clip, GaussianNoise, Measurement
from unstir.process import Gaussian, Linear
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, DDPM, DPMpp2M
from unstir.solvers.base import Solver

UPPER = DDPM("upper")


def clouds(problem: Inverse, particles: int, n: int, steps: int = 50) -> Tensor:
    """(n, K, D)."""
    return problem.draw(TDS(particles), UPPER, times.uniform(steps), n)


def off(found: Tensor, exact: Tensor | float) -> float:
    """How far the mean of n clouds' own means (n, ...) is from the exact one, in standard errors: 1 is chance."""
    error = (found.mean(0) - exact).square().sum().sqrt()
    return float(error / (found.var(0).sum() / len(found)).sqrt())


def share(problem: Inverse, x: Tensor) -> Tensor:
    """Of the particles of each cloud (n, K, D), those nearest to the first mode, (n,)."""
    return (torch.cdist(x, problem.posterior.means).argmin(-1) == 0).double().mean(1)


@pytest.mark.parametrize("std", [0.3, 0.05, 0.0])
def test_mean_and_covariance_are_the_posteriors(std: float) -> None:
    problem = Inverse.drawn(full(), matrix(), std)
    x = clouds(problem, 16, 128)
    m, C = problem.moments
    apart = x - m
    assert off(x.mean(1), m) < 2
    assert off((apart[..., :, None] * apart[..., None, :]).mean(1), C) < 2


@pytest.mark.slow
@pytest.mark.parametrize("std", [0.3, 0.05])
def test_enough_particles_leave_one_percent(std: float) -> None:
    problem = Inverse.drawn(full(), matrix(), std)
    mean, covariance = problem.errors(clouds(problem, 64, 2500, steps=100).flatten(0, 1))
    assert mean < 0.01
    assert covariance < 0.05


def test_the_error_falls_with_the_number_of_particles() -> None:
    """The data are three times as narrow as the method believes: that costs particles, and nothing else."""
    problem = Inverse.drawn(full(scale=0.3), matrix(), 0.05)
    few, many = (problem.errors(clouds(problem, K, 2048 // K).flatten(0, 1))[0] for K in (1, 16))
    assert many < few / 3


def test_modes_get_their_weights_which_guidance_alone_gets_wrong() -> None:
    problem = two_modes()
    weight = problem.posterior.log_weights[0].exp()
    plain = problem.draw(DPS(), DPMpp2M(), times.uniform(50), 1024)
    assert share(problem, plain).mean() < weight - 0.15
    assert off(share(problem, clouds(problem, 16, 256)), weight) < 3


def test_every_row_of_a_cloud_is_a_sample() -> None:
    problem = two_modes()
    x = clouds(problem, 8, 1024)
    for row in range(8):
        assert off(share(problem, x[:, row : row + 1]), problem.posterior.log_weights[0].exp()) < 3


def test_nonlinear_operators() -> None:
    """A saturated measurement of one number, against the posterior by quadrature."""
    prior = GaussianMixture(
        Gaussian(Linear()), double(0.3, 0.7), double(0.8, -0.8)[:, None], double(0.5, 0.5)
    )
    measurement = Measurement(Clip(), double(0.45).reshape(1, 1), GaussianNoise(0.2))
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None]
    density = (prior.log_prob(x, double(0.0)) + measurement.log_likelihood(x)).softmax(0)
    exact = torch.stack([density @ x[:, 0] ** k for k in (1, 2)])
    K, n = 16, 256
    rng = Rng.of(0, n * K)
    start = prior.process.prior((n * K, 1), rng, torch.float64)
    guided = Posterior(prior, measurement, TDS(K))
    found = sample(guided, UPPER, times.uniform(100), start, rng=rng).view(n, K)
    assert off(torch.stack([(found**k).mean(1) for k in (1, 2)], 1), exact) < 2.5


def test_other_samples_never_matter() -> None:
    problem = Inverse.drawn(full(), matrix(), 0.05)
    x = problem.draw(TDS(4), UPPER, times.uniform(10), 3)
    assert torch.equal(problem.draw(TDS(4), UPPER, times.uniform(10), 1, seed=2)[0], x[2])


def test_a_step_costs_one_evaluation_of_each_particle() -> None:
    problem = two_modes()
    counted = Counting(problem.prior)
    rng = Rng.of(0, 8)
    start = problem.prior.process.prior((8, 3), rng, torch.float64)
    sample(Posterior(counted, problem.measurement, TDS(4)), UPPER, times.uniform(10), start, rng=rng)
    assert counted.calls == 10


@pytest.mark.parametrize("solver", [DDPM(), DDPM("learned"), DDIM(eta=1.0), DPMpp2M()], ids=repr)
def test_other_solvers_are_refused(solver: Solver) -> None:
    with pytest.raises(IncompatibleError, match=r"DDPM.*upper") as caught:
        two_modes().draw(TDS(), solver, times.uniform(4), 1)
    assert caught.value.field == "solver"


def test_rows_that_make_no_clouds_are_refused() -> None:
    problem, rng = two_modes(), Rng.of(0, 6)
    guided = Posterior(problem.prior, problem.measurement, TDS(4))
    with pytest.raises(IncompatibleError, match="6 rows"):
        sample(guided, UPPER, times.uniform(4), rng.normal((6, 3), torch.float64), rng=rng)


@pytest.mark.parametrize("wrong", [{"particles": 0}, {"threshold": 1.5}, {"std": 0.0}], ids=repr)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TDS(**wrong)
