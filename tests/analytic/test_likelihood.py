"""Likelihoods against the truth: every term by its definition, bounds and the ODE against log q in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from truth import (
    DEFAULT_SCHEDULES as SCHEDULES,
    approx,
    double,
    gaussian_solution,
    label,
    mixture,
    one_gaussian,
    preconditioned,
)
from unstir import likelihood
from unstir.analytic import GaussianMixture
from unstir.condition import Batch, Condition
from unstir.denoiser import Denoiser
from unstir.errors import ConfigError, IncompatibleError
from unstir.objectives import Bound
from unstir.objectives.bound import bits, prior, rate, reconstruction, step
from unstir.parameterization import V
from unstir.process import EDM, BetaLinear, Cosine, Gaussian, Linear, MonotoneConfig, Schedule
from unstir.process.learned import LearnedConfig
from unstir.rng import Rng

PURE = tuple(s for s in SCHEDULES if float(s.alpha(double(1.0))) == 0)
"""Those that end in pure noise, where the model's prior is the law of x_1."""


class Given(Rng):
    """A generator whose every normal is the one given."""

    def __init__(self, eps: Tensor) -> None:
        self.eps, self.keys = eps, torch.zeros(len(eps), dtype=torch.int64)

    def fork(self, *labels: object) -> Given:
        return self

    def normal(self, shape: object, dtype: object = None, device: object = None) -> Tensor:
        return self.eps


def hermite(n: int) -> tuple[Tensor, Tensor]:
    """Nodes (n^2, 2) and weights of the mean over a standard normal in the plane."""
    nodes, weights = (torch.as_tensor(x) for x in np.polynomial.hermite_e.hermegauss(n))
    weights = weights / weights.sum()
    return torch.cartesian_prod(nodes, nodes), torch.outer(weights, weights).flatten()


def diffusion(
    objective: Bound, denoiser: GaussianMixture, x_0: Tensor, n: int = 24, strata: int = 40
) -> Tensor:
    """The diffusion term of one x_0 (2,) in nats, by quadrature over noise and times instead of draws."""
    eps, weights = hermite(n)
    count = objective.count(denoiser.process.schedule)
    if count is not None:
        u, share = (torch.arange(count).double() + 0.5) / count, torch.full((count,), 1 / count).double()
    else:
        nodes, share = (torch.as_tensor(x) / 2 for x in np.polynomial.legendre.leggauss(strata))
        u = nodes + 0.5
    rows = x_0.expand(len(u) * len(eps), 2)
    many = objective.diffusion(
        denoiser, Batch(rows), u.repeat_interleave(len(eps)), Given(eps.repeat(len(u), 1))
    )
    return share @ many.reshape(len(u), len(eps)) @ weights


def divergence(denoiser: GaussianMixture, x_0: Tensor, t: Tensor, n: int = 60) -> Tensor:
    """KL(q(x_t|x_0) | q(x_t)) by quadrature."""
    eps, weights = hermite(n)
    alpha, sigma = denoiser.process.schedule.alpha(t), denoiser.process.schedule.sigma(t)
    given = -(eps**2).sum(1) / 2 - 2 * torch.log(sigma) - math.log(2 * math.pi)
    return (given - denoiser.log_prob(alpha * x_0 + sigma * eps, t)) @ weights


# -- the terms, each by its definition -------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_prior_is_a_divergence(schedule: Schedule) -> None:
    x_0, one = Rng.of(0, 4).normal((4, 2), torch.float64), double(1.0)
    alpha, sigma = schedule.alpha(one), schedule.sigma(one)
    expected = kl_divergence(Normal(alpha * x_0, sigma), Normal(0.0 * x_0, sigma)).sum(1)
    assert torch.allclose(prior(schedule, x_0), expected, rtol=1e-9, atol=1e-30)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_a_step_is_a_divergence_of_the_chain(schedule: Schedule) -> None:
    """Between q(x_s|x_t,x_0) and the model's step, whose mean and standard deviation `Gaussian` gives."""
    process, t, s = Gaussian(schedule), double(0.6), double(0.5)
    x_0, guess, x_t = Rng.of(0, 12).normal((12, 3), torch.float64).reshape(3, 4, 3)
    true, model = process.posterior(x_t, x_0, t, s), process.posterior(x_t, guess, t, s)
    wide, variance = process.kernel(s, t)[1], double(0.3).expand(4, 3)
    learned = process.posterior(x_t, guess, t, s, variance)
    for got, std in (
        (step(schedule, x_0, guess, t, s), model.std),
        (step(schedule, x_0, guess, t, s, share=1.0), wide),
        (step(schedule, x_0, guess, t, s, variance=variance), learned.std),
    ):
        expected = kl_divergence(Normal(true.mean, true.std), Normal(model.mean, std)).sum(1)
        assert torch.allclose(got, expected, rtol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_the_rate_is_the_limit_of_short_steps(schedule: Schedule) -> None:
    x_0, guess = Rng.of(0, 8).normal((8, 3), torch.float64).reshape(2, 4, 3)
    t, h = double(0.5505), 1e-5  # within one step of the chain, whose SNR has a kink at its times
    short = step(schedule, x_0, guess, t + h / 2, t - h / 2) / h
    assert torch.allclose(rate(schedule, x_0, guess, t), short, rtol=1e-6)


@pytest.mark.parametrize("end", [-6.0, 0.0, 3.0, 9.0, 13.0])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_the_decoder_normalises_over_the_levels(levels: int, end: float) -> None:
    """-log of q(x_t|x_0) / sum_v q(x_t|v), written out."""
    values = torch.linspace(-1, 1, levels, dtype=torch.float64)
    eps, t = 2 * Rng.of(1, 40).normal((40, 2, 3), torch.float64), Linear().time(double(end))
    x_0 = values[Rng.of(0, 40).integers(levels, (40, 2, 3))]
    got = reconstruction(Linear(), x_0, t, levels, Given(eps))
    alpha, sigma = Linear().alpha(t), Linear().sigma(t)
    log_q = Normal(alpha * values, sigma).log_prob((alpha * x_0 + sigma * eps)[..., None])
    mine = (x_0[..., None] - values).abs().argmin(-1, keepdim=True)
    expected = -log_q.log_softmax(-1).gather(-1, mine).flatten(1).sum(1)
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_the_decoder_of_real_numbers_is_a_normal_law() -> None:
    t, n = double(0.3), 20_000
    x_0 = Rng.of(0, 1).normal((1, 3), torch.float64).expand(n, 3)
    x_t = Gaussian(Cosine()).corrupt(x_0, t, Rng.of(1, n))
    alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
    drawn = -Normal(x_t / alpha, sigma / alpha).log_prob(x_0).sum(1)
    got = reconstruction(Cosine(), x_0, t, None, Rng.of(1, n))
    assert (got == got[0]).all()
    assert got[0] == approx(drawn.mean(), abs=4 * float(drawn.std()) / math.sqrt(n))


def test_data_of_other_levels_is_refused() -> None:
    for x_0 in (torch.tensor([[0.1]]), torch.tensor([[2.0]])):
        with pytest.raises(ConfigError, match="equal steps") as error:
            reconstruction(Linear(), x_0, double(0.1), 3, Rng.of(0, 1))
        assert error.value.field == "objective.levels"


# -- the bound ---------------------------------------------------------------------------------------------------

ITEMS = double(0.9, -0.3, -0.7, 0.5, 0.1, 0.0, 2.0, -1.0).reshape(4, 2)


@pytest.mark.parametrize("variable", ["snr", "time"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_the_diffusion_term_is_information(schedule: Schedule, variable: str) -> None:
    """For an exact denoiser 1/2 int |x_0 - E[x_0|x_t]|^2 dSNR = KL(q(x_{t_0}|x_0) | q(x_{t_0})) - the same at t = 1,
    for every x_0 (Guo, Shamai, Verdu 2005; pointwise). Times even in t meet kinks and a pole: there, not so exactly."""
    if variable == "snr" and isinstance(schedule, LearnedConfig):
        return  # slow, and not what they are made for
    objective, denoiser = Bound(variable=variable, levels=None, end=5.0), mixture(schedule)
    for x_0 in ITEMS:
        ends = [divergence(denoiser, x_0, t) for t in (objective.start(schedule), double(1.0))]
        got = diffusion(objective, denoiser, x_0)
        assert got == approx(ends[0] - ends[1], rel=2e-4 if variable == "snr" else 0.02)


@pytest.mark.parametrize("schedule", PURE, ids=label)
def test_the_continuous_bound_lies_above_the_truth_by_little(schedule: Schedule) -> None:
    """By 1e-4 bits per dimension at most, where no signal is left at t = 1: with the diffusion term of the test above,
    the mean over x_0 of KL(q(x_{t_0}|x_0) | q(x_{t_0})) + reconstruction + log q(x_0), every x_0 by quadrature."""
    objective, denoiser, n = Bound(levels=None), mixture(schedule), 500
    x_0, t_0 = denoiser.draw(Rng.of(0, n)), objective.start(schedule)
    clean = GaussianMixture(Gaussian(Linear()), *parts(denoiser)).log_prob(x_0, double(0.0))
    divergences = torch.stack([divergence(denoiser, x, t_0, n=12) for x in x_0])
    gap = bits(divergences + reconstruction(schedule, x_0, t_0, None, Rng.of(0, n)) + clean, x_0)
    assert 0 < gap.mean() < 1e-4
    assert gap.std() / math.sqrt(n) < 1e-5


def parts(denoiser: GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
    covariances = denoiser.axes * denoiser.variances[:, None] @ denoiser.axes.mT
    return denoiser.log_weights.exp(), denoiser.means, covariances


@pytest.mark.parametrize("variance", ["lower", "upper"])
def test_a_chain_comes_down_to_continuous_time(variance: str) -> None:
    """Like 1/steps, always from above."""
    denoiser, x_0 = mixture(Cosine()), ITEMS[1]
    limit = diffusion(Bound(end=5.0), denoiser, x_0)
    chains = [Bound(steps=steps, variance=variance, end=5.0) for steps in (8, 16, 32, 64, 128)]
    excess = torch.stack([diffusion(chain, denoiser, x_0, n=16) for chain in chains]) - limit
    assert (excess > 0).all()
    assert (excess.diff() < 0).all()
    assert excess[-2] / excess[-1] == approx(2.0, rel=0.1)


def test_a_learned_variance_beats_both_fixed_ones() -> None:
    """The exact Var[x_0|x_t] of one Gaussian, whose reverse step is a normal law: nothing is lost along its axes."""
    axes = GaussianMixture(
        Gaussian(Cosine()), double(1.0)[None], double(0.4, -0.8)[None], torch.diag(double(0.5, 0.2))[None]
    )

    n, steps = 4000, 8
    x_0 = axes.draw(Rng.of(0, n))
    losses = {
        variance: likelihood.bound(
            axes,
            Batch(x_0),
            Rng.of(1, n),
            objective=Bound(steps=steps, variance=variance, levels=None),
            draws=2 * steps,
        ).bits
        for variance in ("lower", "upper", "learned")
    }
    true = bits(-axes.log_prob(x_0, double(1e-9)), x_0)
    lost = {variance: loss - true for variance, loss in losses.items()}
    assert lost["learned"].mean().abs() < 4 * lost["learned"].std() / math.sqrt(n)
    assert lost["learned"].mean() + 0.05 < lost["upper"].mean() < lost["lower"].mean()


def test_the_chain_of_the_papers() -> None:
    """T - 1 divergences at t = i/T, and the decoder from 1/T, where data is clean at 0; T and the decoder at 0 where
    it is not; as many as asked for where times follow the SNR."""
    chain = Bound(steps=20, variable="time")
    u = (torch.arange(19).double() + 1) / 19
    assert (chain.count(BetaLinear(20)), float(chain.start(BetaLinear(20)))) == (19, 0.05)
    assert torch.allclose(chain.time(BetaLinear(20), u), torch.arange(2, 21).double() / 20, rtol=1e-12)
    assert (chain.count(EDM()), float(chain.start(EDM()))) == (20, 0.0)
    spread = Bound(steps=20, end=9.0)
    assert spread.count(Linear()) == 20
    assert Linear().log_snr(spread.start(Linear())) == approx(9.0)
    assert spread.start(EDM(sigma_min=0.1)) == 0.0


@pytest.mark.parametrize(
    "objective", [Bound(levels=None, end=9.0), Bound(steps=50, levels=None, end=9.0)], ids=label
)
def test_the_error_of_an_estimate_is_its_error(objective: Bound) -> None:
    """Differences from the exact bound of each of 400 items are as large as is said."""
    denoiser, n = mixture(Linear()), 400
    x_0 = ITEMS[:1].expand(n, 2)
    exact = bits(
        diffusion(objective, denoiser, ITEMS[0])
        + reconstruction(Linear(), x_0, objective.start(Linear()), None, Rng.of(0, n)),
        x_0,
    )
    found = likelihood.bound(denoiser, Batch(x_0), Rng.of(0, n), objective=objective, draws=64)
    z = (found.bits - exact) / found.error
    assert z.mean().abs() < 4 / math.sqrt(n)
    assert z.std() == approx(1.0, abs=0.15)
    assert torch.allclose(found.bits, sum(found.terms.values()))


def test_a_loss_is_an_unbiased_bound() -> None:
    """Every sample's loss from one time and one noise: on average over many, the bound of the item."""
    objective, denoiser, n = Bound(levels=None, end=5.0), mixture(Linear()), 20_000
    x_0 = ITEMS[:1].expand(n, 2)
    losses = objective.loss(denoiser, Batch(x_0, index=torch.arange(n)), Rng.of(0, n))
    exact = bits(
        diffusion(objective, denoiser, ITEMS[0])
        + reconstruction(Linear(), x_0[:1], objective.start(Linear()), None, Rng.of(0, 1))[0],
        x_0,
    )
    assert losses.mean() == approx(exact, abs=4 * float(losses.std()) / math.sqrt(n))


def test_items_do_not_see_their_neighbours() -> None:
    denoiser, rng = mixture(Linear()), Rng.of(3, 6)
    x_0 = denoiser.draw(Rng.of(0, 6))
    for way in (
        lambda x, r: likelihood.bound(denoiser, Batch(x), r, objective=Bound(levels=None), draws=4),
        lambda x, r: likelihood.ode(denoiser, Batch(x), r, levels=None, steps=8),
    ):
        whole, part = way(x_0, rng), way(x_0[2:4], rng[2:4])
        assert torch.allclose(whole.bits[2:4], part.bits, rtol=1e-10)
        assert torch.allclose(whole.error[2:4], part.error, rtol=1e-10)


@pytest.mark.parametrize(
    "objective",
    [
        Bound(levels=None, end=3.0),
        Bound(steps=10, levels=None, end=3.0),
        Bound(variable="time", levels=None, end=3.0),
    ],
    ids=label,
)
def test_the_truth_has_no_gradient(objective: Bound) -> None:
    """At the exact denoiser, along a constant, x_t and a sine, within the standard error."""
    n, denoiser = 3000, preconditioned(mixture(Cosine()), V())
    batch = Batch(mixture(Cosine()).draw(Rng.of(0, n)), index=torch.arange(n))
    for direction in (torch.ones_like, lambda x: x, lambda x: torch.sin(3 * x)):
        size = torch.zeros(n, dtype=torch.float64, requires_grad=True)

        class Bent(Denoiser):
            process = denoiser.process

            def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
                return denoiser(x_t, t, cond) + size[:, None] * direction(x_t)  # noqa: B023

        (slopes,) = torch.autograd.grad(objective.loss(Bent(), batch, Rng.of(5, n)).sum(), size)
        assert slopes.isfinite().all()
        assert slopes.mean().abs() < 4.2 * slopes.std() / math.sqrt(n)


# -- the probability-flow ODE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_the_ode_is_the_change_of_variables(schedule: Schedule) -> None:
    """One Gaussian, whose flow is linear: log N(x_1; 0, sigma_1^2) + log |dx_1/dx_t|, on every schedule."""
    denoiser, t, one = one_gaussian(schedule), double(0.1), double(1.0)
    x_t = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 6)), t, Rng.of(1, 6))
    x_1 = gaussian_solution(denoiser, x_t, t, one)
    totals = [schedule.alpha(u) ** 2 * denoiser.variances[0] + schedule.sigma(u) ** 2 for u in (t, one)]
    expected = Normal(0.0, schedule.sigma(one)).log_prob(x_1).sum(1) + (totals[1] / totals[0]).log().sum() / 2
    got = likelihood.log_prob(denoiser, x_t, t, Rng.of(0, 6), steps=60)
    assert torch.allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("schedule", PURE, ids=label)
def test_the_ode_gives_the_true_density(schedule: Schedule) -> None:
    """Of a mixture, from a log-SNR of 13 up to pure noise in 40 steps."""
    denoiser, t = mixture(schedule), schedule.time(double(13.0))
    x_t = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 16)), t, Rng.of(1, 16))
    got = likelihood.log_prob(denoiser, x_t, t, Rng.of(0, 16), steps=40)
    assert torch.allclose(got, denoiser.log_prob(x_t, t), atol=1e-4)


def test_the_ode_converges_at_order_four() -> None:
    denoiser, t = mixture(Linear()), Linear().time(double(6.0))
    x_t = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 8)), t, Rng.of(1, 8))
    true = denoiser.log_prob(x_t, t)
    errors = [
        float((likelihood.log_prob(denoiser, x_t, t, Rng.of(0, 8), steps=steps) - true).abs().max())
        for steps in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.35)


def test_random_probes_are_right_within_their_error() -> None:
    """The mean over 100 of them, against the exact trace, item by item."""
    denoiser, t, draws = mixture(Linear()), Linear().time(double(6.0)), 100
    x_t = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 8)), t, Rng.of(1, 8))
    exact = likelihood.log_prob(denoiser, x_t, t, Rng.of(0, 8), steps=12, exact=True)
    rng = Rng.of(0, 8 * draws)
    many = likelihood.log_prob(denoiser, x_t.repeat(draws, 1), t, rng, steps=12, exact=False).reshape(
        draws, 8
    )
    assert ((many.mean(0) - exact).abs() < 4 * many.std(0) / math.sqrt(draws)).all()
    assert many.std(0).min() > 0.01


def test_the_estimate_by_ode_is_the_truth_within_its_error() -> None:
    denoiser, n = mixture(Linear()), 48
    x_0 = denoiser.draw(Rng.of(0, n))
    true = bits(-denoiser.log_prob(x_0, double(1e-6)), x_0)
    found = likelihood.ode(
        denoiser, Batch(x_0), Rng.of(1, n), levels=None, exact=False, steps=12, end=11.0, draws=12
    )
    z = (found.bits - true) / found.error
    assert z.mean().abs() < 4 / math.sqrt(n)
    assert z.std() < 1.5
    assert torch.allclose(found.bits, sum(found.terms.values()))


# -- data of levels --------------------------------------------------------------------------------------------------


def test_both_ways_give_the_probability_of_a_level() -> None:
    """Of a law on four levels, -log2 p_k: nothing is lost in the decoder, nor between bound and ODE."""
    shares, n = double(0.1, 0.2, 0.3, 0.4), 4
    values = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    denoiser = GaussianMixture(Gaussian(Cosine()), shares, values, torch.zeros(4, dtype=torch.float64))
    true = -torch.log2(shares)
    found = likelihood.ode(denoiser, Batch(values), Rng.of(0, n), levels=4, end=7.0, steps=60, draws=2)
    assert torch.allclose(found.bits, true, atol=2e-3)
    many = 1000
    bound = likelihood.bound(
        denoiser,
        Batch(values.repeat(many, 1)),
        Rng.of(0, n * many),
        objective=Bound(levels=4, end=7.0),
        draws=16,
    )
    z = bound.bits.reshape(many, n) - true
    assert (z.mean(0).abs() < 4 * z.std(0) / math.sqrt(many)).all()


def test_uniform_noise_fills_the_gaps_of_a_smooth_law() -> None:
    """-log of the law's mass between two levels; the bound is off by the curvature within a gap."""
    levels, n = 64, 200
    denoiser = GaussianMixture(
        Gaussian(Linear()), double(1.0)[None], double(0.1)[None, None], double(0.3)[None]
    )
    gap = 2 / (levels - 1)
    x_0 = ((denoiser.draw(Rng.of(0, n)) + 1) / gap).round().clamp(0, levels - 1) * gap - 1
    law = Normal(0.1, 0.3)
    true = -torch.log2(law.cdf(x_0 + gap / 2) - law.cdf(x_0 - gap / 2))[:, 0]
    found = likelihood.ode(
        denoiser, Batch(x_0), Rng.of(0, n), levels=levels, dequantise="uniform", end=13.0, steps=20, draws=4
    )
    excess = found.bits - true
    assert excess.mean() > -4 * excess.std() / math.sqrt(n)
    assert excess.mean() < 0.01


def test_the_decoder_takes_over_where_the_denoiser_fails() -> None:
    """A denoiser that knows nothing of low noise makes the bound worse there than the decoder does."""
    exact = mixture(Linear())

    class Coarse(Denoiser):
        process = exact.process

        def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
            fails = self.process.schedule.log_snr(t)[:, None] > 6
            return exact(x_t, t) + 0.5 * fails

    batch, rng = Batch(exact.draw(Rng.of(0, 64))), Rng.of(1, 64)
    assert likelihood.best_end(Coarse(), batch, rng, levels=None) == 5.0


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"steps": 1}, "steps"),
        ({"variable": "sigma"}, "variable"),
        ({"variance": "middle"}, "variance"),
        ({"levels": 1}, "levels"),
        ({"end": math.nan}, "end"),
        ({"end": math.inf}, "end"),
    ],
)
def test_wrong_settings_are_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        Bound(**fields)
    assert error.value.field == f"objective.{field}"
    assert error.value.hint


def test_what_cannot_be_is_refused() -> None:
    denoiser, unsure = mixture(Linear()), preconditioned(mixture(Linear()), V())
    batch, rng = Batch(ITEMS), Rng.of(0, 4)
    for wrong, field in (
        (lambda: likelihood.bound(denoiser, batch, rng, draws=3), "draws"),
        (lambda: likelihood.ode(denoiser, batch, rng, levels=None, steps=0), "steps"),
        (lambda: likelihood.ode(denoiser, batch, rng, levels=None, dequantise="uniform"), "dequantise"),
        (lambda: likelihood.bound(denoiser, batch, rng), "objective.levels"),
        (
            lambda: Bound(steps=4, variance="learned", levels=None).loss(unsure, batch, rng),
            "solver.variance",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            wrong()
        assert error.value.field == field


def test_times_do_not_follow_a_schedule_that_is_learned() -> None:
    learned = mixture(MonotoneConfig().build())
    with pytest.raises(IncompatibleError, match="while it is learned"):
        Bound(levels=None).loss(learned, Batch(ITEMS), Rng.of(0, 4))
    assert Bound(levels=None, variable="time").loss(learned, Batch(ITEMS), Rng.of(0, 4)).requires_grad
