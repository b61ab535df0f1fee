"""Denoising losses: their minimum is the truth, at every weight and law of times."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from truth import PARAMETERIZATIONS, SCHEDULES, approx, double, exported, label, mixture, preconditioned
from unstir import objectives
from unstir.condition import Batch, Condition
from unstir.denoiser import Denoiser, Preconditioned
from unstir.errors import ConfigError, IncompatibleError
from unstir.objectives import (
    Denoising,
    Draws,
    EDMWeight,
    LogitNormal,
    LogNormal,
    MinSNR,
    SigmoidWeight,
    Target,
    Uniform,
    Unit,
    Weight,
)
from unstir.parameterization import V
from unstir.process import EDM, BetaLinear, Cosine, Geometric, Linear, Schedule
from unstir.rng import Rng

WEIGHTS = tuple(exported(objectives, Weight))
DRAWS = tuple(exported(objectives, Draws))


class Bent(Denoiser):
    """The exact denoiser plus size times a direction: a constant, x_t itself, or something between."""

    def __init__(self, exact: Preconditioned, direction: int, size: float, factor: float = 1.0) -> None:
        super().__init__()
        self.exact, self.direction, self.size, self.factor = exact, direction, size, factor
        self.process = exact.process

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        bend = (torch.ones_like(x_t), x_t, torch.sin(3 * x_t) * t[:, None])[self.direction]
        return self.factor * self.exact(x_t, t, cond) + self.size * bend


class Forwarded(Weight):
    """The weight that the exact denoiser has: a bent one has no network to ask."""

    def __init__(self, weight: Weight) -> None:
        self.weight = weight

    def __call__(self, denoiser: Denoiser, t: Tensor) -> Tensor:
        assert isinstance(denoiser, Bent)
        return self.weight(denoiser.exact, t)


def slopes(exact: Preconditioned, objective: Denoising, factor: float = 1.0, n: int = 3000) -> Tensor:
    """Derivatives of each sample's loss along three directions: (3, n). Losses are quadratic, so that the
    central difference is the derivative."""
    objective = Denoising(weight=Forwarded(objective.weight), draws=objective.draws)
    batch = Batch(mixture(exact.process.schedule).draw(Rng.of(0, n)), index=torch.arange(n))
    rows = []
    for direction in range(3):
        losses = [objective.loss(Bent(exact, direction, h, factor), batch, Rng.of(5, n)) for h in (0.1, -0.1)]
        rows.append((losses[0] - losses[1]) / 0.2)
    return torch.stack(rows)


def z_scores(samples: Tensor) -> Tensor:
    return samples.mean(1).abs() / (samples.std(1) / math.sqrt(samples.shape[1]))


@pytest.mark.parametrize("draws", DRAWS, ids=label)
@pytest.mark.parametrize("weight", WEIGHTS, ids=label)
@pytest.mark.parametrize("schedule", [Linear(), BetaLinear(), EDM()], ids=label)
def test_the_truth_has_no_gradient(schedule: Schedule, weight: Weight, draws: Draws) -> None:
    """E[w (D - x_0) g] = 0 for every g when D = E[x_0 | x_t]: within its standard error, in three directions."""
    exact = preconditioned(mixture(schedule), V())
    assert z_scores(slopes(exact, Denoising(weight, draws))).max() < 4.2


def test_what_is_not_the_truth_has_one() -> None:
    """A denoiser 10% too long is noticed, so that the zeros above mean something."""
    exact = preconditioned(mixture(Linear()), V())
    for weight in WEIGHTS:
        assert z_scores(slopes(exact, Denoising(weight, LogitNormal()), factor=1.1)).max() > 6


def batch_of(schedule: Schedule, n: int, first: int = 0) -> Batch:
    return Batch(mixture(schedule).draw(Rng.of(0, n)), index=torch.arange(first, first + n))


@pytest.mark.parametrize("draws", DRAWS, ids=label)
@pytest.mark.parametrize("weight", WEIGHTS, ids=label)
@pytest.mark.parametrize("indexed", [True, False])
def test_loss_does_not_depend_on_the_split(weight: Weight, draws: Draws, indexed: bool) -> None:
    """A micro-batch of the batch has the losses of the batch."""
    objective, denoiser = Denoising(weight, draws), preconditioned(mixture(Cosine()), V())
    whole, rng = batch_of(Cosine(), 8), Rng.of(3, 8)
    if not indexed:
        whole = Batch(whole.x_0)
    together = objective.loss(denoiser, whole, rng)
    parts = [
        objective.loss(
            denoiser, Batch(whole.x_0[i], index=None if whole.index is None else whole.index[i]), rng[i]
        )
        for i in (slice(0, 3), slice(3, 8))
    ]
    assert together.shape == (8,)
    assert torch.allclose(torch.cat(parts), together, rtol=1e-10)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=label)
def test_target_weight_is_the_plain_error_of_the_network(parameterization: object) -> None:
    """L_simple for eps, flow matching for velocity, and so on: mean |F - F*|^2."""
    schedule = BetaLinear()
    denoiser = preconditioned(mixture(schedule), parameterization)
    batch, rng, objective = batch_of(schedule, 16), Rng.of(3, 16), Denoising(Target(), Uniform())
    t = objective.times(denoiser, batch, rng)
    eps = rng.fork("noise").normal((16, 2), torch.float64)
    alpha, sigma = denoiser.process.scales(t, eps)
    x_t = alpha * batch.x_0 + sigma * eps
    c_skip, c_out, c_in = (c[:, None] for c in denoiser.coefficients(t))
    F = denoiser.network(c_in * x_t, schedule.log_snr(t) / 4, None)
    plain = ((F - (batch.x_0 - c_skip * x_t) / c_out) ** 2).mean(1)
    assert torch.allclose(objective.loss(denoiser, batch, rng), plain, rtol=1e-6)


def test_target_needs_a_network() -> None:
    with pytest.raises(IncompatibleError, match="no network target") as error:
        Denoising().loss(mixture(Linear()), batch_of(Linear(), 2), Rng.of(0, 2))
    assert error.value.field == "objective.weight"


# -- weights, each by its formula ------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_weights_are_the_published_ones(schedule: Schedule) -> None:
    denoiser = preconditioned(mixture(schedule), V())
    t = double(0.0505, 0.3005, 0.7005, 0.9005)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    snr, s, d, h = alpha**2 / sigma**2, sigma / alpha, 0.5, 1e-6
    rate = (schedule.log_snr(t + h) - schedule.log_snr(t - h)) / (2 * h)
    expected = {
        Unit(): torch.ones_like(t),
        MinSNR(5.0): torch.minimum(snr, double(5.0)),
        EDMWeight(d): (s**2 + d**2) / (s * d) ** 2,
        SigmoidWeight(-1.0): -rate * snr * torch.sigmoid(-1.0 - torch.log(snr)),
        Target(): denoiser.coefficients(t)[1] ** -2,
    }
    assert {type(w) for w in expected} == {type(w) for w in WEIGHTS}
    for weight, values in expected.items():
        assert torch.allclose(weight(denoiser, t), values, rtol=1e-5), label(weight)


def test_weights_are_positive_and_finite_at_every_time_drawn() -> None:
    u = torch.tensor([2.0**-33, 1e-6, 0.5, 1 - 1e-6, 1 - 2.0**-33], dtype=torch.float64)
    for schedule in SCHEDULES:
        denoiser = preconditioned(mixture(schedule), V())
        for draws in DRAWS:
            t = draws.quantile(u, schedule)
            for weight in WEIGHTS:
                value = weight(denoiser, t)
                assert value.isfinite().all(), (label(schedule), label(draws), label(weight))
                assert (value >= 0).all()


# -- times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize("draws", DRAWS, ids=label)
def test_quantiles_rise_within_the_interval(draws: Draws, schedule: Schedule) -> None:
    u = torch.linspace(1e-9, 1 - 1e-9, 500, dtype=torch.float64)
    t = draws.quantile(u, schedule)
    assert (t.diff() >= 0).all()
    assert t[0] > 0
    assert t[-1] <= 1


def test_draws_are_the_laws_they_are_named_after() -> None:
    u = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    laws = {
        Uniform(): (lambda t: t, stats.uniform()),
        LogitNormal(0.3, 0.8): (torch.logit, stats.norm(0.3, 0.8)),
        LogNormal(-1.2, 1.2): (lambda t: torch.log(Geometric(1e-4, 1e4).sigma(t)), stats.norm(-1.2, 1.2)),
    }
    assert {type(d) for d in laws} == {type(d) for d in DRAWS}
    for draws, (transform, law) in laws.items():
        t = draws.quantile(u, Geometric(1e-4, 1e4))
        assert stats.kstest(transform(t).numpy(), law.cdf).pvalue > 1e-3


def discrepancy(u: Tensor) -> float:
    """The largest gap between the share of points below a value and the value."""
    u, n = u.sort().values, len(u)
    return float(torch.maximum((u - torch.arange(n) / n).abs(), (u - torch.arange(1, n + 1) / n).abs()).max())


@pytest.mark.parametrize("first", [0, 1, 12_345, 10**6, 10**8, 10**10])
@pytest.mark.parametrize("n", [16, 64, 1000])
def test_any_stretch_of_samples_is_spread_evenly(first: int, n: int) -> None:
    """Low discrepancy, far along a long run too, where a float32 counter would have lost its fraction."""
    batch = Batch(torch.zeros(n, 2), index=torch.arange(first, first + n))
    t = Denoising(Unit(), Uniform()).times(mixture(Linear()), batch, Rng.of(0, n))
    assert t.dtype == torch.float64
    assert len(t.unique()) == n
    assert discrepancy(t) < 2.5 / n + 2e-4
    assert discrepancy(torch.rand(n, generator=torch.Generator().manual_seed(0))) > 2.5 / n


class Shrink(Denoiser):
    """The exact denoiser of N(0, 1) data: alpha x_t."""

    process = mixture(Cosine()).process

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.process.scales(t, x_t)[0] * x_t


def test_even_times_lower_the_variance() -> None:
    """Of the mean loss of a batch, where items are pictures, so that their loss is mostly a matter of t."""
    n, losses = 32, {True: [], False: []}
    for k in range(20):
        index = torch.arange(k * n, (k + 1) * n)
        x_0, rng = Rng.of(k * n, n).normal((n, 200), torch.float64), Rng.of(0, n).fork("train", index)
        for indexed, values in losses.items():
            batch = Batch(x_0, index=index if indexed else None)
            values.append(Denoising(Unit(), Uniform()).loss(Shrink(), batch, rng).mean())
    even, drawn = torch.stack(losses[True]), torch.stack(losses[False])
    assert even.std() < 0.4 * drawn.std()
    assert even.mean() == approx(0.5, abs=0.02)  # the integral of sin^2(pi t / 2)


def test_loss_at_given_times() -> None:
    """What a held-out loss per noise level averages: at the exact denoiser of N(0, 1), sigma^2/(alpha^2 + sigma^2)."""
    n = 20_000
    x_0 = Rng.of(0, n).normal((n, 1), torch.float64)
    for t in (0.2, 0.5, 1.0):
        loss = Denoising(Unit()).loss_at(
            Shrink(), Batch(x_0), torch.full((n,), t, dtype=torch.float64), Rng.of(n, n)
        )
        assert loss.mean() == approx(Cosine().sigma(double(t)) ** 2, rel=0.04)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (MinSNR, {"gamma": 0.0}),
        (LogitNormal, {"std": 0.0}),
        (LogNormal, {"std": -1.0}),
        (LogNormal, {"std": math.nan}),
    ],
)
def test_wrong_settings_are_named(kind: type, fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        kind(**fields)
    assert next(iter(fields)) in error.value.field
    assert error.value.hint
