"""Learned processes: their gradients, what they converge to, and the variance of the reverse step."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call, jvp

from truth import Counting, approx, double, label, mixture, preconditioned
from unstir.analytic import GaussianMixture
from unstir.codecs import IdentityConfig
from unstir.condition import Batch, Condition
from unstir.denoiser import Denoiser, Moments, Preconditioned
from unstir.errors import ConfigError, IncompatibleError
from unstir.model import ModelConfig
from unstir.networks import AutoencoderConfig, DiTConfig, MLPConfig, UNetConfig
from unstir.objectives import Bound, Denoising, Hybrid, Unit
from unstir.objectives.bound import bits, prior, step
from unstir.parameterization import EDM, V
from unstir.pipeline import Pipeline
from unstir.process import (
    BetaLinear,
    BetaVectorConfig,
    Cosine,
    Gaussian,
    Learned,
    Linear,
    Monotone,
    MonotoneConfig,
    Schedule,
)
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDPM
from unstir.train import Trainer
from unstir.train.optim import AdamW
from unstir.train.settings import Training

LEARNED = (
    MonotoneConfig(),
    MonotoneConfig(4.0, -6.0, bends=3),
    BetaVectorConfig(),
    BetaVectorConfig(steps=8, start=Cosine()),
)
INNER = (torch.arange(40, dtype=torch.float64) + 0.37) / 40


def bent(config: MonotoneConfig | BetaVectorConfig, seed: int = 0, by: float = 0.5) -> Learned:
    """The schedule with every parameter moved at random, in float64."""
    schedule = config.build().double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return schedule


# -- what a learned schedule promises --------------------------------------------------------------------------


@pytest.mark.parametrize("config", LEARNED, ids=label)
def test_settings_are_where_learning_starts(config: MonotoneConfig) -> None:
    built = config.build()
    for name in ("alpha", "sigma", "log_snr", "time"):
        assert torch.equal(getattr(config, name)(INNER), getattr(built, name)(INNER).detach())
        assert not getattr(config, name)(INNER).requires_grad
    assert built.in_training
    assert Linear().build() == Linear()


@pytest.mark.parametrize("config", LEARNED, ids=label)
def test_whatever_is_learned_is_a_schedule(config: MonotoneConfig) -> None:
    """log-SNR falls, `time` inverts it without a gradient, alpha^2 + sigma^2 = 1, derivatives are right."""
    t, h = INNER, 1e-6
    for seed in range(3):
        schedule = bent(config, seed)
        log_snr = schedule.log_snr(t)
        assert (log_snr.diff() < 0).all()
        assert not schedule.time(log_snr).requires_grad
        assert torch.allclose(schedule.time(log_snr), t, atol=1e-9)
        assert torch.allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), atol=1e-12)
        central = (schedule.sigma(t + h) - schedule.sigma(t - h)) / (2 * h)
        assert torch.allclose(schedule.dsigma(t), central, rtol=1e-5, atol=1e-8)


def test_the_ends_are_where_they_were_put() -> None:
    schedule = bent(MonotoneConfig())
    assert torch.equal(schedule.log_snr(double(0.0, 1.0)), schedule.ends)


@pytest.mark.parametrize(
    ("config", "start"),
    [(BetaVectorConfig(), BetaLinear()), (BetaVectorConfig(steps=8, start=Cosine(0.008)), Cosine(0.008))],
    ids=label,
)
def test_betas_start_as_those_of_another_schedule(config: BetaVectorConfig, start: Schedule) -> None:
    t = torch.arange(1, config.steps, dtype=torch.float64) / config.steps
    assert torch.allclose(config.alpha(t), start.alpha(t), rtol=1e-6)
    betas = config.build().betas()
    assert torch.allclose(config.alpha(t) ** 2, torch.cumprod(1 - betas, 0)[:-1], rtol=1e-12)
    assert betas.max() <= 0.999 + 1e-6


@pytest.mark.parametrize("config", LEARNED, ids=label)
@pytest.mark.parametrize("function", ["alpha", "sigma", "log_snr", "slope of log_snr"])
def test_gradients(config: MonotoneConfig, function: str) -> None:
    """Those that reach the parameters, through the derivative over t as well, against finite differences."""
    if config.build().state_dict().keys() == {"logits"} and len(config.build().logits) > 100:
        config = BetaVectorConfig(steps=20)
    schedule = bent(config)
    names = [name for name, _ in schedule.named_parameters()]

    class At(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self) -> Tensor:
            if function == "slope of log_snr":
                return jvp(schedule.log_snr, (INNER[::7],), (torch.ones_like(INNER[::7]),))[1]
            return getattr(schedule, function)(INNER[::7])

    def of(*values: Tensor) -> Tensor:
        return functional_call(At(), {f"schedule.{n}": v for n, v in zip(names, values, strict=True)}, ())

    values = tuple(p.detach().clone().requires_grad_() for p in schedule.parameters())
    assert torch.autograd.gradcheck(of, values, eps=1e-6, atol=1e-5)


def test_no_gradient_is_nan_at_the_clean_end() -> None:
    """sigma(0) = 0 is the root of something that no learned beta enters."""
    schedule = BetaVectorConfig(steps=8).build()
    schedule.sigma(double(0.0, 0.05, 0.125, 0.5)).sum().backward()
    assert schedule.logits.grad.isfinite().all()
    assert schedule.logits.grad.abs().sum() > 0


# -- the log-SNR network: the variance of the bound ----------------------------------------------------------------


def on(schedule: Schedule, denoiser: GaussianMixture | None = None) -> GaussianMixture:
    """The mixture with another schedule."""
    denoiser = copy.copy(denoiser or mixture(Linear()))
    denoiser.process = Gaussian(schedule)
    return denoiser


CONTINUOUS = Bound(variable="time", levels=None)


def draw(n: int, seed: int = 0) -> tuple[Batch, Rng]:
    rng = Rng.of(seed, n)
    return Batch(mixture(Linear()).draw(rng.fork("data"))), rng


def test_the_curve_gets_the_gradient_of_the_square() -> None:
    """Of each sample's diffusion term, and the ends that of the bound itself: exactly, sample by sample."""
    batch, rng = draw(16)
    u = rng.fork("u").uniform((16, 1), torch.float64)[:, 0]
    schedule = bent(MonotoneConfig())
    CONTINUOUS.loss_at(on(schedule), batch, u, rng).sum().backward()
    curve, ends = schedule.curve.grad.clone(), schedule.ends.grad.clone()

    diffusion = bits(CONTINUOUS.diffusion(on(schedule), batch, u, rng), batch.x_0)
    (squares,) = torch.autograd.grad((diffusion**2).sum(), schedule.curve, retain_graph=True)
    assert torch.allclose(curve, squares, rtol=1e-9)
    first, last = CONTINUOUS.ends(on(schedule), batch, rng)
    (plain,) = torch.autograd.grad((diffusion + bits(first + last, batch.x_0)).sum(), schedule.ends)
    assert torch.allclose(ends, plain, rtol=1e-9)


def test_a_discrete_bound_teaches_the_curve_itself() -> None:
    batch, rng = draw(16)
    u, objective = (
        rng.fork("u").uniform((16, 1), torch.float64)[:, 0],
        Bound(steps=5, variable="time", levels=None),
    )
    schedule = bent(MonotoneConfig())
    objective.loss_at(on(schedule), batch, u, rng).sum().backward()
    diffusion = bits(objective.diffusion(on(schedule), batch, u, rng), batch.x_0)
    (plain,) = torch.autograd.grad(diffusion.sum(), schedule.curve)
    assert torch.allclose(schedule.curve.grad, plain, rtol=1e-9)


NODES, ITEMS = 200, 200


def everywhere() -> tuple[Batch, Rng]:
    """The same items with the same noise at each of the nodes."""
    rng = Rng(torch.arange(ITEMS).repeat(NODES))
    return Batch(mixture(Linear()).draw(rng.fork("data"))), rng


def nodes() -> Tensor:
    """The midpoint rule on (0, 1)."""
    return ((torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES).repeat_interleave(ITEMS)


@torch.no_grad()
def estimate(schedule: Schedule) -> tuple[float, float]:
    """Mean and second moment of the diffusion term's estimate in bits, without an error from the times."""
    batch, rng = everywhere()
    terms = bits(CONTINUOUS.diffusion(on(schedule), batch, nodes(), rng), batch.x_0)
    return float(terms.mean()), float((terms**2).mean())


def test_the_bound_depends_on_the_ends_alone() -> None:
    """It is the same to 1e-3 bits while its estimate's second moment is not."""
    mean, second = estimate(MonotoneConfig())
    for seed in range(2):
        other = estimate(bent_curve(seed))
        assert other[0] == pytest.approx(mean, abs=1e-3)
        assert abs(other[1] - second) > 0.02 * second


def bent_curve(seed: int) -> Monotone:
    schedule = bent(MonotoneConfig(), seed, by=1.0)
    with torch.no_grad():
        schedule.ends.copy_(double(13.3, -5.0))
    return schedule


@torch.no_grad()
def smallest_second_moment() -> float:
    """(integral of sqrt(E[g^2 | lambda]) d lambda)^2 with g the estimate per unit of log-SNR: no schedule between
    these ends has less, by the Cauchy-Schwarz inequality."""
    straight = MonotoneConfig().build()  # even in log-SNR: its estimate is g times the range
    torch.nn.init.constant_(straight.curve[: len(straight.curve) // 3], -100.0)
    batch, rng = everywhere()
    terms = bits(CONTINUOUS.diffusion(on(straight), batch, nodes(), rng), batch.x_0)
    return float((terms**2).unflatten(0, (NODES, ITEMS)).mean(1).sqrt().mean() ** 2)


def test_learning_lowers_the_variance_and_keeps_the_bound() -> None:
    """By the objective itself, on batches as in training; near the least variance there is."""
    schedule = MonotoneConfig().build()
    before = estimate(schedule)
    optimizer = torch.optim.Adam([schedule.curve], betas=(0.9, 0.99))
    steps, n = 50, 400
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - i / steps)
        index = torch.arange(i * n, (i + 1) * n)
        rng = Rng(torch.zeros(n, dtype=torch.int64)).fork("train", index)
        batch = Batch(mixture(Linear()).draw(rng.fork("data")), index=index)
        optimizer.zero_grad()
        CONTINUOUS.loss(on(schedule), batch, rng).mean().backward()
        optimizer.step()
    after, best = estimate(schedule), smallest_second_moment()
    assert after[0] == pytest.approx(before[0], abs=1e-3)
    variances = [second - before[0] ** 2 for second in (before[1], after[1], best)]
    assert variances[0] > 1.6 * variances[2]
    assert variances[2] < variances[1] < 1.2 * variances[2]


# -- the vector of betas: the bound of few steps -------------------------------------------------------------------

SPREAD = 0.6


def shortest_code(schedule: Schedule, steps: int) -> Tensor:
    """The exact bound, less its reconstruction, of x_0 ~ N(0, SPREAD^2) in nats: every term is quadratic in
    (x_0, eps), so that the four points (+-SPREAD, +-1) have its expectation."""
    x_0, eps = double(SPREAD, SPREAD, -SPREAD, -SPREAD)[:, None], double(1.0, -1.0, 1.0, -1.0)[:, None]
    total = prior(schedule, x_0)
    for k in range(2, steps + 1):
        t, s = double(k / steps), double((k - 1) / steps)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_t = alpha * x_0 + sigma * eps
        guess = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * x_t
        total = total + step(schedule, x_0, guess, t, s)
    return total.mean()


@pytest.mark.parametrize("steps", [2, 8, 20])
def test_betas_find_the_best_chain(steps: int) -> None:
    """With y_k = 1 + SPREAD^2 SNR(k/T) the bound is 1/2 (sum y_{k-1}/y_k - T) up to y_{T+1} = 1; by the inequality of
    the means it is least where all T ratios are the same."""
    schedule = BetaVectorConfig(steps=steps).build().double()
    y_1 = 1 + SPREAD**2 * schedule.log_snr(double(1 / steps)).exp().detach()
    before = shortest_code(schedule, steps).detach()
    optimizer = torch.optim.LBFGS(
        schedule.parameters(), max_iter=60, line_search_fn="strong_wolfe", tolerance_change=1e-13
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = shortest_code(schedule, steps)
        loss.backward()
        return loss

    optimizer.step(closure)
    best = steps / 2 * (y_1 ** (1 / steps) - 1)
    assert shortest_code(schedule, steps).detach() == approx(best, rel=1e-7)
    assert before > 1.005 * best
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    y = 1 + SPREAD**2 * schedule.log_snr(t).exp()
    assert torch.allclose(y.detach(), y_1 ** (1 + 1 / steps - t), rtol=2e-3)


def test_the_objective_lowers_the_bound_of_eight_steps() -> None:
    """On the mixture, in batches: from 2.19 to 1.84 bits per dimension."""
    objective, config, n = Bound(steps=8, variable="time", levels=None), BetaVectorConfig(steps=8), 64
    schedule = config.build()
    optimizer = torch.optim.Adam(schedule.parameters(), lr=0.05)
    for i in range(100):
        index = torch.arange(i * n, (i + 1) * n)
        rng = Rng(torch.zeros(n, dtype=torch.int64)).fork("train", index)
        batch = Batch(mixture(Linear()).draw(rng.fork("data")), index=index)
        optimizer.zero_grad()
        objective.loss(on(schedule), batch, rng).mean().backward()
        optimizer.step()
    batch, rng = draw(2000, seed=5)
    u = (torch.arange(2000, dtype=torch.float64) % 7 + 0.5) / 7
    with torch.no_grad():
        before, after = (objective.loss_at(on(s), batch, u, rng).mean() for s in (config, schedule))
    assert before - after > 0.3


# -- the variance of x_0 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), BetaLinear()], ids=label)
@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_the_mixture_knows_its_variance(schedule: Schedule, t: float) -> None:
    """Var[x_0|x_t] = sigma^2/alpha dE[x_0|x_t]/dx_t, component by component: Tweedie's formula, once more."""
    denoiser, time = mixture(schedule), double(t)
    x = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 6)), time, Rng.of(1, 6))
    mean, variance = denoiser.moments(x, time)
    assert torch.allclose(mean, denoiser(x, time), rtol=1e-12)
    for row in range(6):
        jacobian = torch.autograd.functional.jacobian(lambda y: denoiser(y, time), x[row : row + 1])
        expected = schedule.sigma(time) ** 2 / schedule.alpha(time) * jacobian[0, :, 0].diagonal()
        assert torch.allclose(variance[row], expected, rtol=1e-8)
    assert torch.allclose(denoiser.moments(x, time.expand(6)).variance, variance, rtol=1e-12)


def test_steps_of_any_length_are_exact_for_gaussian_data() -> None:
    """DDPM with the variance of x_0: q(x_s|x_t) itself, so that one step is as good as a hundred."""
    means, stds = double(0.7, -0.2), double(0.4, 1.3)
    denoiser = GaussianMixture(Gaussian(Cosine()), double(1.0)[None], means[None], torch.diag(stds**2)[None])
    schedule, solver, n = Cosine(), DDPM("learned"), 20_000
    for times in (double(1.0, 0.3), double(1.0, 0.8, 0.5, 0.3)):
        x = denoiser.process.prior((n, 2), Rng.of(0, n).fork("prior"), torch.float64)
        x = sample(denoiser, solver, times, x, rng=Rng.of(0, n))
        alpha, sigma = schedule.alpha(times[-1]), schedule.sigma(times[-1])
        spread = torch.sqrt(alpha**2 * stds**2 + sigma**2)
        assert torch.allclose(
            (x.mean(0) - alpha * means) / spread, torch.zeros(2).double(), atol=4 / math.sqrt(n)
        )
        assert torch.allclose(x.std(0) / spread, torch.ones(2).double(), atol=4 / math.sqrt(2 * n))


def test_the_variance_of_the_step_is_that_of_the_law() -> None:
    """Mean and variance of q(x_s|x_t) of a mixture, against importance-weighted draws of its x_0."""
    denoiser, t, s = mixture(Linear()), double(0.6), double(0.2)
    x_0, x_t = denoiser.draw(Rng.of(0, 200_000)), double(0.1, -0.3)[None]
    alpha, sigma = denoiser.process.scales(t, x_t)
    weights = torch.softmax(-((x_t - alpha * x_0) ** 2).sum(1) / (2 * sigma**2), 0)[:, None]
    mean, std = denoiser.process.posterior(x_t, x_0, t, s)  # given each x_0
    expected = (weights * mean).sum(0)
    spread = std**2 + (weights * (mean - expected) ** 2).sum(0)
    found = denoiser.process.posterior(
        x_t, *denoiser.moments(x_t, t)[:1], t, s, denoiser.moments(x_t, t).variance
    )
    assert torch.allclose(found.mean[0], expected, atol=0.01)
    assert torch.allclose(found.std[0] ** 2, spread, rtol=0.02)


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), BetaLinear(), MonotoneConfig()], ids=label)
def test_the_step_of_the_bound_is_the_divergence_of_the_two_normals(schedule: Schedule) -> None:
    rng, t, s = Rng.of(0, 5), double(0.7, 0.5, 0.3, 0.9, 0.2), double(0.69, 0.1, 0.25, 0.5, 0.15)
    x_0, guess, noise = (rng.fork(name).normal((5, 3), torch.float64) for name in ("x_0", "guess", "noise"))
    variance = rng.fork("variance").uniform((5, 3), torch.float64)
    process = Gaussian(schedule)
    x_t = process.scales(t, x_0)[0] * x_0 + process.scales(t, x_0)[1] * noise
    true, ours = process.posterior(x_t, x_0, t, s), process.posterior(x_t, guess, t, s, variance)
    expected = kl_divergence(Normal(true.mean, true.std), Normal(ours.mean, ours.std)).sum(1)
    assert torch.allclose(step(schedule, x_0, guess, t, s, variance=variance), expected, rtol=1e-7)


class Told(Denoiser):
    """A denoiser that says what it is told."""

    def __init__(self, exact: GaussianMixture, shift: Tensor, stretch: Tensor) -> None:
        super().__init__()
        self.exact, self.process, self.shift, self.stretch = exact, exact.process, shift, stretch

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.exact(x_t, t) + self.shift

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        return Moments(self(x_t, t), self.exact.moments(x_t, t).variance * self.stretch)


def test_hybrid_teaches_the_mean_by_one_term_and_the_variance_by_the_other() -> None:
    """At the truth neither has a gradient, within its standard error; elsewhere each sees its own part alone."""
    n, hybrid = 4000, Hybrid(simple=Denoising(weight=Unit()), scale=1.0, steps=10)
    batch, rng = draw(n)
    for by, factor in ((0.0, 1.0), (0.1, 1.0), (0.0, 2.0)):
        shift = torch.full((n, 2), by, dtype=torch.float64, requires_grad=True)
        stretch = torch.full((n, 2), factor, dtype=torch.float64, requires_grad=True)
        told = Told(mixture(Cosine()), shift, stretch)
        hybrid.loss(told, batch, rng).sum().backward()
        simple = torch.full_like(shift, by, requires_grad=True)
        hybrid.simple.loss(Told(mixture(Cosine()), simple, stretch), batch, rng).sum().backward()
        assert torch.allclose(shift.grad, simple.grad, rtol=1e-10)
        z_shift, z_stretch = (
            g.sum(1).mean() / (g.sum(1).std() / math.sqrt(n)) for g in (shift.grad, stretch.grad)
        )
        assert z_shift > 8 if by else abs(z_shift) < 4
        assert z_stretch > 8 if factor > 1 else by or abs(z_stretch) < 4


def test_a_network_that_says_nothing_guesses_a_gaussian() -> None:
    """Zero weights: E[x_0|x_t] and Var[x_0|x_t] of N(0, d^2)."""
    d, t = 0.7, double(0.2, 0.5, 0.9)
    network = MLPConfig(width=16, depth=1, embedding=16).build(2, (), out=4).double()
    denoiser = Preconditioned(network, Gaussian(Cosine()), EDM(d), d, variance=True)
    gaussian = GaussianMixture(Gaussian(Cosine()), double(1.0)[None], double(0.0, 0.0)[None], double(d)[None])
    x = Rng.of(0, 3).normal((3, 2), torch.float64)
    found, expected = denoiser.moments(x, t), gaussian.moments(x, t)
    assert torch.allclose(found.mean, expected.mean, rtol=1e-10)
    assert torch.allclose(found.variance, expected.variance.expand(3, 2), rtol=1e-10)
    assert torch.equal(found.mean, denoiser(x, t))


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(widths=(16,), blocks=1, embedding=16),
        DiTConfig(width=16, depth=1, heads=2, embedding=16),
        AutoencoderConfig(widths=(8,), bottleneck=8, embedding=16),
    ],
    ids=lambda config: type(config).__name__,
)
def test_every_network_can_have_twice_the_channels(config: UNetConfig) -> None:
    network = config.build(3, (8, 8), out=6)
    denoiser = Preconditioned(network, Gaussian(Cosine()), V(), variance=True)
    x = torch.randn(2, 3, 8, 8)
    mean, variance = denoiser.moments(x, torch.tensor(0.4))
    assert mean.shape == variance.shape == x.shape
    assert (variance > 0).all()


# -- in training, in files, in sampling ----------------------------------------------------------------------------


def model(schedule: Schedule, *, variance: bool = False) -> ModelConfig:
    return ModelConfig(
        network=MLPConfig(width=16, depth=1, embedding=16),
        schedule=schedule,
        parameterization=V(),
        sigma_data=0.7,
        codec=IdentityConfig(),
        shape=(2,),
        variance=variance,
        kind="points",
    )


def trained(config: ModelConfig, objective: Bound | Hybrid) -> Trainer:
    def batches(first: int, n: int) -> Batch:
        index = torch.arange(first, first + n)
        return Batch(mixture(Linear()).draw(Rng.of(first, n)).float(), index=index)

    trainer = Trainer(config.build(), objective, batches, AdamW(lr=1e-2), Training(steps=5, batch=16))
    for _ in trainer.steps():
        pass
    return trainer


@pytest.mark.parametrize(
    ("schedule", "objective"),
    [
        (MonotoneConfig(), CONTINUOUS),
        (BetaVectorConfig(steps=6), Bound(steps=6, variable="time", levels=None)),
    ],
    ids=["monotone", "beta vector"],
)
def test_a_learned_schedule_is_part_of_the_model(
    schedule: MonotoneConfig | BetaVectorConfig, objective: Bound, tmp_path: Path
) -> None:
    """Trained, averaged, saved, loaded and sampled with."""
    trainer = trained(model(schedule), objective)
    denoiser = trainer.denoiser
    names = {f"schedule.{name}" for name, _ in schedule.build().named_parameters()}
    assert names <= {name for name, _ in denoiser.named_parameters()}
    assert names <= trainer.ema.averages[0].keys()
    assert not torch.equal(denoiser.process.schedule.log_snr(INNER), schedule.log_snr(INNER))
    with trainer.ema.average():
        averaged = denoiser.process.schedule.log_snr(INNER).detach()
        path = Pipeline(model(schedule), denoiser).save(tmp_path / "model.safetensors")
    pipe = Pipeline.load(path)
    assert torch.equal(pipe.denoiser.process.schedule.log_snr(INNER).detach(), averaged)
    for grid in ("uniform", "log_snr"):
        assert torch.from_numpy(pipe.sample(n=2, steps=3, grid=grid).images).isfinite().all()
    twin = copy.deepcopy(denoiser)
    assert twin.process.schedule is twin.schedule is not denoiser.schedule


def test_a_model_with_variance_is_sampled_with_it(tmp_path: Path) -> None:
    trainer = trained(model(Cosine(), variance=True), Hybrid())
    pipe = Pipeline.load(
        Pipeline(model(Cosine(), variance=True), trainer.denoiser).save(tmp_path / "m.safetensors")
    )
    learned = pipe.sample(n=2, steps=4, solver=DDPM("learned"))
    assert learned.evaluations == 4
    assert (learned.images != pipe.sample(n=2, steps=4, solver=DDPM("lower")).images).any()


# -- refused -------------------------------------------------------------------------------------------------------


def test_a_model_without_variance_is_not_sampled_with_it() -> None:
    counted = Counting(preconditioned(mixture(Cosine()), V()))
    with pytest.raises(IncompatibleError) as error:
        sample(counted.denoiser, DDPM("learned"), double(1.0, 0.5, 0.0), torch.zeros(2, 2), rng=Rng.of(0, 2))
    assert error.value.field == "solver.variance"
    assert "lower" in error.value.hint


@pytest.mark.parametrize("objective", [Denoising(Unit()), Hybrid(Denoising(Unit()))], ids=label)
def test_a_weighted_loss_does_not_teach_a_schedule(objective: Denoising) -> None:
    denoiser, (batch, rng) = on(MonotoneConfig().build()), draw(4)
    with pytest.raises(IncompatibleError) as error:
        objective.loss(denoiser, batch, rng)
    assert error.value.field == "objective"
    denoiser.process.schedule.requires_grad_(False)
    assert objective.loss(denoiser, batch, rng).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (MonotoneConfig, {"log_snr_0": -5.0}, "schedule.log_snr_0"),
        (MonotoneConfig, {"log_snr_1": math.nan}, "schedule.log_snr_0"),
        (MonotoneConfig, {"bends": 0}, "schedule.bends"),
        (BetaVectorConfig, {"steps": 1}, "schedule.steps"),
        (Hybrid, {"scale": 0.0}, "objective.scale"),
        (Hybrid, {"scale": math.nan}, "objective.scale"),
        (Hybrid, {"steps": 0}, "objective.steps"),
        (DDPM, {"variance": "middle"}, "solver.variance"),
    ],
)
def test_wrong_settings_are_named(kind: type, fields: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        kind(**fields)
    assert error.value.field == field
    assert error.value.hint
