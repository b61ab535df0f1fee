"""The forward process: its steps compose, Bayes' rule gives its posterior, and wrong steps are told apart."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from truth import SCHEDULES, approx, double, label
from unstir.errors import ConfigError
from unstir.process import BetaLinear, Cosine, Gaussian, Linear, Schedule
from unstir.rng import Rng

PAIRS = [(double(s), double(t)) for s, t in itertools.combinations((0.0, 0.02, 0.3, 0.31, 0.9, 1.0), 2)]


@pytest.fixture(params=SCHEDULES, ids=label)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return request.param


def test_steps_compose(schedule: Schedule) -> None:
    """q(x_t | x_s) after q(x_s | x_0) is q(x_t | x_0), in mean and in variance, for any s < t."""
    for s, t in PAIRS:
        ratio, std = Gaussian(schedule).kernel(s, t)
        assert ratio * schedule.alpha(s) == approx(schedule.alpha(t), rel=1e-12)
        assert ratio**2 * schedule.sigma(s) ** 2 + std**2 == approx(schedule.sigma(t) ** 2, rel=1e-12)


def test_three_times_compose(schedule: Schedule) -> None:
    process = Gaussian(schedule)
    for r, s, t in itertools.combinations((double(u) for u in (0.0, 0.2, 0.5, 0.8, 0.95)), 3):
        (ratio_1, std_1), (ratio_2, std_2) = process.kernel(r, s), process.kernel(s, t)
        ratio, std = process.kernel(r, t)
        assert ratio_1 * ratio_2 == approx(ratio, rel=1e-12)
        assert torch.sqrt((ratio_2 * std_1) ** 2 + std_2**2) == approx(std, rel=1e-11)


def test_a_step_of_no_length_does_nothing(schedule: Schedule) -> None:
    ratio, std = Gaussian(schedule).kernel(double(0.4), double(0.4))
    assert ratio == 1
    assert std == 0


def test_close_times_keep_their_digits(schedule: Schedule) -> None:
    """sigma_t^2 - ratio^2 sigma_s^2 of neighbours, in float32, against float64."""
    s = torch.tensor([0.2, 0.5, 0.8])
    t = s + torch.tensor(2.0**-10)
    single, exact = Gaussian(schedule).kernel(s, t)[1], Gaussian(schedule).kernel(s.double(), t.double())[1]
    assert torch.allclose(single.double(), exact, rtol=5e-3)


def test_the_draws_follow_the_kernels(schedule: Schedule) -> None:
    """`corrupt` and `transition` add exactly ratio x + std z, z the generator's own numbers."""
    process, rng = Gaussian(schedule), Rng.of(0, 4)
    x, s, t = Rng.of(9, 4).normal((4, 3), torch.float64), double(0.3), double(0.7)
    z = rng.normal((4, 3), torch.float64)
    ratio, std = process.kernel(s, t)
    assert torch.allclose(process.transition(x, s, t, rng), ratio * x + std * z, rtol=1e-13)
    assert torch.allclose(
        process.corrupt(x, t, rng), schedule.alpha(t) * x + schedule.sigma(t) * z, rtol=1e-13
    )
    assert torch.allclose(
        process.prior((4, 3), rng, torch.float64), schedule.sigma(double(1.0)) * z, rtol=1e-13
    )


def test_a_time_per_sample(schedule: Schedule) -> None:
    process, rng = Gaussian(schedule), Rng.of(0, 3)
    x, x_0 = (Rng.of(i, 3).normal((3, 2, 2), torch.float64) for i in (5, 6))
    s, t = double(0.1, 0.3, 0.5), double(0.2, 0.9, 0.6)
    together = [
        process.corrupt(x, t, rng),
        process.transition(x, s, t, rng),
        process.posterior(x, x_0, t, s).mean,
    ]
    together += [f(x, x_0, t) for f in (process.eps, process.score, process.velocity)]
    for i in range(3):
        one = slice(i, i + 1)
        alone = [process.corrupt(x[one], t[i], rng[one]), process.transition(x[one], s[i], t[i], rng[one])]
        alone += [process.posterior(x[one], x_0[one], t[i], s[i]).mean]
        alone += [f(x[one], x_0[one], t[i]) for f in (process.eps, process.score, process.velocity)]
        for many, single in zip(together, alone, strict=True):
            assert torch.allclose(many[one], single, rtol=1e-12)


def test_posterior_is_bayes_rule(schedule: Schedule) -> None:
    """q(x_s | x_t, x_0) is proportional to q(x_t | x_s) q(x_s | x_0): precisions add, means weigh by them."""
    process = Gaussian(schedule)
    x_t, x_0 = double(0.7)[None], double(-0.4)[None]
    for s, t in PAIRS:
        ratio, std = process.kernel(s, t)
        alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        if sigma_s == 0:  # x_s is alpha x_0, whatever x_t is
            expected = alpha_s * x_0, torch.zeros(())
        else:
            precision = (ratio / std) ** 2 + 1 / sigma_s**2
            expected = (ratio * x_t / std**2 + alpha_s * x_0 / sigma_s**2) / precision, precision**-0.5
        mean, found = process.posterior(x_t, x_0, t, s)
        assert mean == approx(expected[0], rel=1e-10, abs=1e-12)
        assert found == approx(expected[1], rel=1e-10)


def test_posterior_by_integration() -> None:
    """The same once more without algebra: the product of the two densities, integrated numerically."""
    process, s, t, x_t, x_0 = Gaussian(Cosine()), double(0.3), double(0.6), 0.7, -0.4
    ratio, std = (float(v) for v in process.kernel(s, t))
    alpha, sigma = float(Cosine().alpha(s)), float(Cosine().sigma(s))

    def moment(power: int) -> float:
        return quad(
            lambda x: x**power * norm.pdf(x_t, ratio * x, std) * norm.pdf(x, alpha * x_0, sigma), -6, 6
        )[0]

    mean, found = process.posterior(double(x_t)[None], double(x_0)[None], t, s)
    assert float(mean) == approx(moment(1) / moment(0), rel=1e-8)
    assert float(found) ** 2 == approx(moment(2) / moment(0) - (moment(1) / moment(0)) ** 2, rel=1e-8)


def test_posterior_marginalises_back(schedule: Schedule) -> None:
    """Drawing x_s ~ q(x_s | x_t, x_0) with x_t ~ q(x_t | x_0) gives q(x_s | x_0): the reverse step is consistent."""
    process = Gaussian(schedule)
    for s, t in PAIRS:
        at_zero = process.posterior(double(0.0)[None], double(1.0)[None], t, s)  # the part from x_0
        at_one = process.posterior(double(1.0)[None], double(0.0)[None], t, s)  # the part from x_t
        mean = at_zero.mean + at_one.mean * schedule.alpha(t)
        variance = (at_one.mean * schedule.sigma(t)) ** 2 + at_zero.std**2
        assert mean == approx(schedule.alpha(s), rel=1e-10)
        assert variance == approx(schedule.sigma(s) ** 2, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("spacing", ["linear", "scaled"])
def test_the_discrete_chain_is_exact(spacing: str) -> None:
    """Each of the 1000 kernels is sqrt(1 - beta_k), sqrt(beta_k); together they are alpha-bar."""
    schedule = BetaLinear(spacing=spacing)
    betas, k = schedule.betas(), torch.arange(1001, dtype=torch.float64) / 1000
    ratio, std = Gaussian(schedule).kernel(k[:-1], k[1:])
    assert torch.allclose(ratio, torch.sqrt(1 - betas), rtol=1e-12, atol=0)
    assert torch.allclose(std, torch.sqrt(betas), rtol=1e-10, atol=0)
    assert torch.allclose(std**2, betas, rtol=0, atol=1e-12)
    assert torch.allclose(ratio.cumprod(0) ** 2, (1 - betas).cumprod(0), rtol=1e-12)
    assert torch.allclose(schedule.alpha(k[1:]) ** 2, (1 - betas).cumprod(0), rtol=1e-12)
    variance = double(0.0)
    for shrink, noise in zip(ratio, std, strict=True):
        variance = shrink**2 * variance + noise**2
    assert variance == approx(1 - (1 - betas).prod(), rel=1e-12)


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_any_number_of_steps_leads_to_the_same_law(steps: int, schedule: Schedule) -> None:
    """Mean factor and variance after N transitions from t = 0 equal the closed form at t = 0.97."""
    times = torch.linspace(0, 0.97, steps + 1, dtype=torch.float64)
    mean, variance = schedule.alpha(times[0]), schedule.sigma(times[0]) ** 2
    for ratio, std in zip(*Gaussian(schedule).kernel(times[:-1], times[1:]), strict=True):
        mean, variance = ratio * mean, ratio**2 * variance + std**2
    assert mean == approx(schedule.alpha(times[-1]), rel=1e-11)
    assert variance == approx(schedule.sigma(times[-1]) ** 2, rel=1e-11)


def variance_after(betas: torch.Tensor, shrink: torch.Tensor, noise: torch.Tensor) -> float:
    """Var x_T of x_k = shrink_k x_{k-1} + noise_k z from Var x_0 = 1."""
    variance = 1.0
    for a, b in zip(shrink.tolist(), noise.tolist(), strict=True):
        variance = a**2 * variance + b**2
    return variance


def test_a_wrong_step_breaks_variance_preservation() -> None:
    """The slips of introductions: noise times beta, or mean times 1 - beta, instead of their roots."""
    betas = BetaLinear().betas()
    assert variance_after(betas, torch.sqrt(1 - betas), torch.sqrt(betas)) == approx(1, abs=1e-12)
    wrong_noise = variance_after(betas, torch.sqrt(1 - betas), betas)
    assert wrong_noise < 0.02, "x_T is all but constant instead of standard normal"
    wrong_mean = variance_after(betas, 1 - betas, torch.sqrt(betas))
    assert wrong_mean == approx(0.503, abs=0.005), "x_T has half the variance"


def test_what_the_draws_preserve() -> None:
    """The same with the library's own draws: unit variance in, unit variance out, over 30 long transitions."""
    process, n = Gaussian(BetaLinear()), 4000
    x = Rng.of(0, n).normal((n, 2), torch.float64)
    times = torch.linspace(0, 1, 31, dtype=torch.float64)
    for i, (s, t) in enumerate(itertools.pairwise(times)):
        x = process.transition(x, s, t, Rng.of(0, n).fork(i))
    assert x.var() == approx(1, abs=0.06)
    assert x.mean() == approx(0, abs=0.04)


def test_backward_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="is after") as error:
        Gaussian(Linear()).kernel(double(0.5), double(0.4))
    assert error.value.field == "s"
