"""The exact denoisers themselves, held against densities, sums and solves written another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from truth import SCHEDULES, double, energy_distance, label, mixture
from unstir.analytic import Empirical, GaussianMixture
from unstir.condition import Condition
from unstir.errors import ConfigError
from unstir.process import Gaussian, Linear, Schedule
from unstir.rng import Rng

WEIGHTS = (0.35, 0.65)
MEANS = np.array([[0.9, -0.3], [-0.7, 0.5]])
COVARIANCES = np.array([[[0.30, 0.12], [0.12, 0.10]], [[0.15, -0.10], [-0.10, 0.40]]])


def by_hand(schedule: Schedule, x_t: Tensor, t: Tensor, weights: object = WEIGHTS) -> tuple[Tensor, Tensor]:
    """E[x_0 | x_t] by linear solves and log q(x_t) by scipy, point by point."""
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    means, log_density = [], []
    for x in x_t.numpy():
        joint, parts = [], []
        for w, m, C in zip(weights, MEANS, COVARIANCES, strict=True):
            total = alpha**2 * C + sigma**2 * np.eye(2)
            joint.append(w * multivariate_normal.pdf(x, alpha * m, total))
            parts.append(m + alpha * C @ np.linalg.solve(total, x - alpha * m))
        means.append(np.average(parts, axis=0, weights=joint))
        log_density.append(np.log(sum(joint)))
    return torch.tensor(np.array(means)), torch.tensor(log_density)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_mixture_is_the_posterior_mean(schedule: Schedule) -> None:
    denoiser = mixture(schedule)
    for t in (double(0.1), double(0.5), double(0.9)):
        x_t = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 5)), t, Rng.of(1, 5))
        mean, log_density = by_hand(schedule, x_t, t)
        assert torch.allclose(denoiser(x_t, t), mean, rtol=1e-9, atol=1e-11)
        assert torch.allclose(denoiser.log_prob(x_t, t), log_density, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_tweedie(schedule: Schedule) -> None:
    """E[x_0 | x_t] = (x_t + sigma^2 grad log q(x_t)) / alpha, the gradient by autograd."""
    denoiser = mixture(schedule)
    t = double(0.2, 0.4, 0.6, 0.8)
    x_t = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 4)), t, Rng.of(1, 4)).requires_grad_()
    (score,) = torch.autograd.grad(denoiser.log_prob(x_t, t).sum(), x_t)
    alpha, sigma = denoiser.process.scales(t, x_t)
    assert torch.allclose(denoiser(x_t, t), (x_t + sigma**2 * score) / alpha, rtol=1e-8, atol=1e-9)
    assert torch.allclose(denoiser.process.score(x_t, denoiser(x_t, t), t), score, rtol=1e-8, atol=1e-9)


def test_at_pure_noise_it_is_the_mean_of_the_data() -> None:
    x = Rng.of(0, 3).normal((3, 2), torch.float64)
    mean = torch.tensor(np.average(MEANS, axis=0, weights=WEIGHTS))
    assert torch.allclose(mixture(Linear())(x, double(1.0)), mean.expand(3, 2), rtol=1e-13)


def test_conditions_are_weights_per_sample() -> None:
    denoiser, t = mixture(Linear()), double(0.5)
    x_t = Rng.of(0, 3).normal((3, 2), torch.float64)
    weights = double(0.9, 0.1, 0.2, 0.8, 0.5, 0.5).reshape(3, 2)
    found = denoiser(x_t, t, Condition(vector=weights.log()))
    for i in range(3):
        assert torch.allclose(found[i], by_hand(Linear(), x_t[i : i + 1], t, weights[i].tolist())[0][0])


def test_isotropic_components_are_given_by_their_deviation() -> None:
    means = double(1.0, 2.0, -1.0, 0.5).reshape(2, 2)
    short = GaussianMixture(Gaussian(Linear()), double(1.0, 3.0), means, double(0.5, 0.2))
    covariances = double(0.25, 0.04)[:, None, None] * torch.eye(2, dtype=torch.float64)
    long = GaussianMixture(Gaussian(Linear()), double(0.25, 0.75), means, covariances)
    x = Rng.of(0, 3).normal((3, 2), torch.float64)
    assert torch.allclose(short(x, double(0.3)), long(x, double(0.3)), rtol=1e-12)


def test_mixture_draws_its_own_law() -> None:
    n = 2000
    drawn = mixture(Linear()).draw(Rng.of(0, n))
    rng = np.random.default_rng(0)
    k = rng.choice(2, n, p=WEIGHTS)
    other = torch.tensor(np.stack([rng.multivariate_normal(MEANS[i], COVARIANCES[i]) for i in k]))
    assert energy_distance(drawn, other) < 3e-3
    assert energy_distance(drawn + 0.1, other) > 3e-3, "a tenth of a unit would be seen"


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"\(3,\)"):
        GaussianMixture(Gaussian(Linear()), torch.ones(3), torch.zeros(2, 2), torch.ones(2))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)], ids=str)
def test_empirical_is_the_weighted_sum(schedule: Schedule, shape: tuple[int, ...]) -> None:
    data = Rng.of(5, 7).normal((7, *shape), torch.float64)
    denoiser = Empirical(Gaussian(schedule), data)
    t = double(0.1, 0.5, 0.9)
    x_t = denoiser.process.corrupt(data[:3], t, Rng.of(1, 3))
    found = denoiser(x_t, t)
    for i in range(3):
        alpha, sigma = schedule.alpha(t[i]), schedule.sigma(t[i])
        distances = torch.stack([((x_t[i] - alpha * x) ** 2).sum() for x in data])
        weights = torch.softmax(-distances / (2 * sigma**2), 0)
        expected = sum(w * x for w, x in zip(weights, data, strict=True))
        assert torch.allclose(found[i], expected, rtol=1e-8, atol=1e-10)
        assert torch.allclose(denoiser(x_t[i : i + 1], t[i])[0], found[i], rtol=1e-10)


def test_empirical_copies_its_data_at_low_noise() -> None:
    data = Rng.of(5, 7).normal((7, 2), torch.float64)
    denoiser = Empirical(Gaussian(Linear()), data)
    assert torch.allclose(denoiser(data * 0.99, double(0.01)), data, atol=1e-6)
    assert torch.allclose(denoiser(data, double(1.0)), data.mean(0).expand(7, 2), atol=1e-12)
