"""Predicting noise, data, score, v or velocity: one denoiser behind all of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from truth import PARAMETERIZATIONS, SCHEDULES, approx, double, label, mixture, preconditioned
from unstir import times
from unstir.condition import Condition
from unstir.denoiser import Preconditioned
from unstir.errors import ConfigError, IncompatibleError
from unstir.parameterization import EDM, X0, Eps, Parameterization, Score, V, Velocity
from unstir.process import BetaLinear, Cosine, Gaussian, Linear, Schedule, Sigmoid
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, Heun

T = double(0.0505, 0.3005, 0.6005, 0.9005)  # between the steps of a chain, where its velocity jumps


def works(parameterization: Parameterization, schedule: Schedule) -> bool:
    try:
        parameterization.check(schedule)
    except IncompatibleError:
        return False
    return True


PAIRS = [(p, s) for p, s in itertools.product(PARAMETERIZATIONS, SCHEDULES) if works(p, s)]


def pair_id(value: object) -> str:
    return label(value)


@pytest.mark.parametrize(("parameterization", "schedule"), PAIRS, ids=pair_id)
def test_the_exact_network_is_the_exact_denoiser(
    parameterization: Parameterization, schedule: Schedule
) -> None:
    denoiser = mixture(schedule)
    x_t = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 4)), T, Rng.of(1, 4))
    assert torch.allclose(
        preconditioned(denoiser, parameterization)(x_t, T), denoiser(x_t, T), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_targets_are_what_they_are_called(schedule: Schedule) -> None:
    """F* = (x_0 - c_skip x_t)/c_out against the definitions, for any x_0 and noise."""
    process = Gaussian(schedule)
    x_0, eps = (Rng.of(i, 4).normal((4, 3), torch.float64) for i in (1, 2))
    alpha, sigma = process.scales(T, x_0)
    x_t = alpha * x_0 + sigma * eps
    dalpha, dsigma = (d(T)[:, None] for d in (schedule.dalpha, schedule.dsigma))
    expected = {
        X0(): x_0,
        Eps(): eps,
        Score(): -eps / sigma,
        Score("sigma"): -eps,
        V(): alpha * eps - sigma * x_0,
        Velocity(): dalpha * x_0 + dsigma * eps,
        EDM(): (x_0 - alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * x_t)
        / (sigma * 0.5 / torch.sqrt(alpha**2 * 0.25 + sigma**2)),
    }
    assert set(expected) == set(PARAMETERIZATIONS)
    for parameterization in PARAMETERIZATIONS:
        c_skip, c_out = (c[:, None] for c in parameterization.coefficients(schedule, T))
        target = (x_0 - c_skip * x_t) / c_out
        assert torch.allclose(target, expected[parameterization], rtol=1e-8, atol=1e-8)
    assert torch.allclose(process.eps(x_t, x_0, T), eps, rtol=1e-9, atol=1e-9)
    assert torch.allclose(process.score(x_t, x_0, T), -eps / sigma, rtol=1e-8, atol=1e-8)
    assert torch.allclose(process.velocity(x_t, x_0, T), expected[Velocity()], rtol=1e-8, atol=1e-8)


def test_velocity_is_the_derivative_of_the_path() -> None:
    x_0, eps, h = double(0.3)[None], double(-1.2)[None], 1e-6
    for schedule in SCHEDULES:
        t = double(0.4005)
        path = lambda u, schedule=schedule: schedule.alpha(u) * x_0 + schedule.sigma(u) * eps  # noqa: E731
        u = Gaussian(schedule).velocity(path(t), x_0, t)
        assert u == approx((path(t + h) - path(t - h)) / (2 * h), rel=1e-6)


def test_edm_keeps_unit_variance() -> None:
    """For data of standard deviation d: network input and target have variance 1 at every noise level."""
    d, n = 0.3, 200_000
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(n, generator=generator, dtype=torch.float64) * s for s in (d, 1.0))
    wrapped = Preconditioned(nn.Identity(), Gaussian(Linear()), EDM(d), sigma_data=d)
    for t in T:
        c_skip, c_out, c_in = wrapped.coefficients(t)
        x_t = (1 - t) * x_0 + t * eps
        assert (c_in * x_t).var() == approx(1, abs=0.01)
        assert ((x_0 - c_skip * x_t) / c_out).var() == approx(1, abs=0.01)


@pytest.mark.parametrize("solver", [DDIM(), Heun()], ids=label)
@pytest.mark.parametrize("schedule", [BetaLinear(), Cosine()], ids=label)
def test_samples_do_not_depend_on_what_is_predicted(schedule: Schedule, solver: object) -> None:
    denoiser = mixture(schedule)
    grid = times.uniform(8)[
        1 if schedule.alpha(double(1.0)) == 0 else 0 :
    ]  # log-SNR is clamped at pure noise
    x = Rng.of(0, 4).normal((4, 2), torch.float64)
    exact = sample(denoiser, solver, grid, x, rng=Rng.of(0, 4))
    for parameterization in PARAMETERIZATIONS:
        if works(parameterization, schedule):
            found = sample(preconditioned(denoiser, parameterization), solver, grid, x, rng=Rng.of(0, 4))
            assert (found - exact).abs().max() < 1e-10, label(parameterization)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=label)
def test_what_cannot_work_is_refused(parameterization: Parameterization, schedule: Schedule) -> None:
    """Noise and score say nothing about x_0 where alpha = 0; nor does a velocity that is infinite there."""
    no_signal = schedule.alpha(double(1.0)) == 0
    divides = isinstance(parameterization, (Eps, Score)) and no_signal
    vertical = isinstance(parameterization, Velocity) and schedule.dalpha(double(1.0)).isinf()
    if divides or vertical:
        with pytest.raises(IncompatibleError, match="at t = 1") as error:
            Preconditioned(nn.Identity(), Gaussian(schedule), parameterization)
        assert error.value.field == "parameterization"
        assert "predict v" in error.value.hint
    else:
        c_skip, c_out = parameterization.coefficients(
            schedule, torch.linspace(1e-4, 1, 50, dtype=torch.float64)
        )
        assert c_skip.isfinite().all()
        assert c_out.isfinite().all()
        assert (c_out != 0).all()


def test_the_network_never_sees_an_infinite_noise_level() -> None:
    class Recording(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
            assert noise.abs().max() <= 5
            assert x.isfinite().all()
            return x

    for schedule in (Linear(), Sigmoid(), BetaLinear()):
        wrapped = Preconditioned(Recording(), Gaussian(schedule), V())
        assert wrapped(torch.ones(3, 2), torch.tensor([1.0, 1e-9, 0.0])).isfinite().all()


def test_low_precision_stays_in_the_network() -> None:
    class Low(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
            out = self.linear(x)
            assert out.dtype == torch.bfloat16
            return out * 0

    x_t = Rng.of(0, 4).normal((4, 2), torch.float32)
    wrapped = Preconditioned(Low(), Gaussian(Cosine()), V(), dtype=torch.bfloat16)
    out = wrapped(x_t, T)
    assert out.dtype == torch.float32
    assert torch.allclose(out, Cosine().alpha(T)[:, None].float() * x_t, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_wrong_settings_are_named(value: float) -> None:
    with pytest.raises(ConfigError) as error:
        EDM(sigma_data=value)
    assert error.value.field == "parameterization.sigma_data"


def test_a_wrong_unit_is_named() -> None:
    with pytest.raises(ConfigError, match="unit is 'alpha'") as error:
        Score("alpha")
    assert error.value.field == "parameterization.unit"
