"""Guidance against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from truth import SCHEDULES, SOLVERS, Counting, double, exported, label, mixture, one_gaussian, preconditioned
from unstir import guidance, times
from unstir.analytic import GaussianMixture
from unstir.condition import Condition
from unstir.denoiser import Denoiser, Preconditioned
from unstir.errors import ConfigError, IncompatibleError
from unstir.guidance import (
    Autoguidance,
    CFGPlusPlus,
    CFGZero,
    ClassifierFree,
    ClassifierGuided,
    Contrast,
    Guided,
    Linear as LinearRule,
    Method,
    PerturbedAttention,
    Projected,
    Rescaled,
    RewardGuided,
    Rule,
    SkipLayers,
    Threshold,
)
from unstir.networks import AutoencoderConfig, DiTConfig, MLPConfig, UNetConfig
from unstir.networks.base import Network, NetworkConfig
from unstir.parameterization import V
from unstir.process import Cosine, Gaussian, Geometric, Linear, Schedule
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, DDPM, DPMpp2M, Euler, Heun

LOG_A, LOG_B = double(math.log(0.999), math.log(0.001)), double(math.log(0.1), math.log(0.9))
CLASS_A, CLASS_B = Condition(vector=LOG_A.expand(4, 2)), Condition(vector=LOG_B.expand(4, 2))
X = Rng.of(3, 4).normal((4, 2), torch.float64)
T = double(0.2, 0.5, 0.8, 0.97)
RULES = (*exported(guidance, Rule), Rescaled(1.0), Projected(0.5, norm=0.3, momentum=-0.5), CFGZero(zero=0.0))


def only(k: int, n: int = 4) -> Condition:
    """The condition of component k of two."""
    return Condition(vector=double(*(0.0 if i == k else -math.inf for i in range(2))).expand(n, 2))


@pytest.mark.parametrize("name", guidance.__all__)
def test_what_is_exported_is_guidance_a_rule_or_a_method(name: str) -> None:
    assert issubclass(getattr(guidance, name), (Guided, Rule, Method))


# -- contrasts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0, 7.5])
@pytest.mark.parametrize("negative", [None, CLASS_B], ids=["no label", "class B"])
def test_extrapolates_from_the_unconditional(scale: float, negative: Condition | None) -> None:
    """In every component's posterior mean m_k(x_t) the guided denoiser is sum_k (u_k + scale (c_k - u_k)) m_k."""
    denoiser, t = mixture(Cosine()), double(0.2, 0.5, 0.8, 1.0)
    alone = torch.stack([denoiser(X, t, only(k)) for k in range(2)], 1)

    def responsibilities(cond: Condition | None) -> Tensor:
        prior = denoiser.log_weights if cond is None else cond.vector
        return (prior + torch.stack([denoiser.log_prob(X, t, only(k)) for k in range(2)], 1)).softmax(1)

    c, u = responsibilities(CLASS_A), responsibilities(negative)
    expected = ((u + scale * (c - u))[..., None] * alone).sum(1)
    guided = ClassifierFree(denoiser, scale, negative)
    assert torch.allclose(guided(X, t, CLASS_A), expected, rtol=1e-10, atol=1e-12)


def test_two_gaussians_of_one_width() -> None:
    """For N(+-m, v) the posterior means differ by their responsibilities alone: D = shift + m tanh-like mix."""
    m, v, t = 0.8, 0.09, double(0.6)
    alpha, sigma = Linear().alpha(t), Linear().sigma(t)
    pair = GaussianMixture(
        Gaussian(Linear()), double(0.5, 0.5), double(m, -m).reshape(2, 1), double(v**0.5, v**0.5)
    )
    x = double(0.7, -0.2, 0.1, 1.5).reshape(4, 1)
    total = alpha**2 * v + sigma**2
    gain, shift = sigma**2 / total, alpha * v / total * x
    unconditional = shift + gain * m * torch.tanh(alpha * m * x / total)
    assert torch.allclose(pair(x, t), unconditional, rtol=1e-12)
    conditional = shift + gain * m
    for scale in (0.5, 3.0):
        expected = unconditional + scale * (conditional - unconditional)
        assert torch.allclose(ClassifierFree(pair, scale)(x, t, only(0)), expected, rtol=1e-12)


def widths(schedule: Schedule, std: float, worse: float) -> tuple[GaussianMixture, GaussianMixture]:
    """N(0, std^2) as a good model knows it, and as a worse one does: too wide."""

    def law(s: float) -> GaussianMixture:
        return GaussianMixture(
            Gaussian(schedule), double(1.0)[None], double(0.0).reshape(1, 1), double(s)[None]
        )

    return law(std), law(worse)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Geometric()], ids=label)
def test_the_flow_of_guided_gaussians(schedule: Schedule) -> None:
    """Between N(0, v) and N(0, V) the guided flow only scales: with y = x/alpha and r = sigma/alpha

        y(r) is proportional to (v + r^2)^(scale/2) (V + r^2)^((1 - scale)/2),

    from d log y/dr = r (scale/(v + r^2) + (1 - scale)/(V + r^2)). A linear rule leaves a solver its order.
    """
    std, worse, scale = 0.5, 0.9, 3.0
    guided = Autoguidance(*widths(schedule, std, worse), scale)
    start, end = double(0.85), double(0.15)

    def factor(t: Tensor) -> Tensor:
        alpha, r = schedule.alpha(t), schedule.sigma(t) / schedule.alpha(t)
        return alpha * (std**2 + r**2) ** (scale / 2) * (worse**2 + r**2) ** ((1 - scale) / 2)

    x = double(-1.3, 0.2, 0.9).reshape(3, 1)
    exact = x * factor(end) / factor(start)

    def error(steps: int) -> float:
        grid = torch.linspace(0.85, 0.15, steps + 1, dtype=torch.float64)
        return float((sample(guided, Heun(), grid, x, rng=Rng.of(0, 3)) - exact).abs().max())

    assert error(64) < 2e-3 * float(exact.abs().max())
    assert math.log2(error(32) / error(64)) == pytest.approx(2, abs=0.35)


def test_a_worse_model_may_be_told_in_its_own_words() -> None:
    """Two networks have two embedders: the same label is another condition for each."""
    denoiser, worse = mixture(Cosine()), one_gaussian(Cosine())
    guided = Autoguidance(denoiser, widths_like(denoiser), 3.0, CLASS_B)
    weak, strong = widths_like(denoiser)(X, T, CLASS_B), denoiser(X, T, CLASS_A)
    assert torch.allclose(guided(X, T, CLASS_A), weak + 3 * (strong - weak), rtol=1e-12)
    assert torch.equal(Autoguidance(denoiser, worse, 0.0)(X, T), worse(X, T))


def test_a_worse_model_of_another_process_is_refused() -> None:
    with pytest.raises(IncompatibleError) as error:
        Autoguidance(mixture(Cosine()), mixture(Linear()), 2.0)
    assert error.value.field == "weaker"
    assert error.value.hint


def test_the_variance_is_that_of_the_strong_opinion() -> None:
    denoiser = mixture(Cosine())
    guided = ClassifierFree(denoiser, 3.0)
    mean, variance = guided.moments(X, T, CLASS_A)
    assert torch.equal(mean, guided(X, T, CLASS_A))
    assert torch.equal(variance, denoiser.moments(X, T, CLASS_A).variance)


def test_a_model_does_not_guide_itself() -> None:
    denoiser = mixture(Cosine())
    assert torch.equal(Autoguidance(denoiser, denoiser, 4.0)(X, T, CLASS_A), denoiser(X, T, CLASS_A))


@pytest.mark.parametrize(("scale", "calls"), [(0.0, 1), (1.0, 1), (0.5, 2), (4.0, 2)])
@pytest.mark.parametrize("rule", RULES, ids=label)
def test_costs_what_it_must(rule: Rule, scale: float, calls: int) -> None:
    """Scale 1 is the strong opinion and scale 0 the weak one, bit for bit, whatever the rule."""
    denoiser = Counting(mixture(Linear()))
    if scale > rule.largest_scale:
        with pytest.raises(ConfigError, match="guidance is 4"):
            ClassifierFree(denoiser, scale, rule=rule)
        return
    guided = ClassifierFree(denoiser, scale, rule=rule)(X, double(0.5), CLASS_A)
    assert denoiser.calls == calls
    if scale in (0.0, 1.0):
        assert torch.equal(guided, denoiser(X, double(0.5), CLASS_A if scale else None))


@pytest.mark.parametrize("rule", RULES, ids=label)
def test_a_row_is_what_it_would_be_alone(rule: Rule) -> None:
    """Times may differ per sample, inside the interval and outside, where the scale is 1, 0 or something else."""
    scales = {0.2: 2.0, 0.5: 1.0, 0.8: 0.0, 0.97: 3.0, 0.6: 1.7}
    guided = ClassifierFree(mixture(Cosine()), lambda t: scales[t], rule=rule, interval=(0.15, 0.9))
    t, x = double(*scales), Rng.of(8, 5).normal((5, 2), torch.float64)
    together = guided(x, t, Condition(vector=LOG_A.expand(5, 2)))
    for i in range(5):
        alone = guided(x[i : i + 1], t[i], Condition(vector=LOG_A.expand(1, 2)))
        assert torch.allclose(together[i : i + 1], alone, rtol=1e-12, atol=1e-14)


def test_acts_inside_its_interval() -> None:
    denoiser = Counting(mixture(Linear()))
    guided = ClassifierFree(denoiser, 3.0, interval=(0.25, 0.75))
    for t, calls in ((0.24, 1), (0.25, 2), (0.75, 2), (0.76, 1)):
        denoiser.calls = 0
        guided(X, double(t), CLASS_A)
        assert denoiser.calls == calls
    denoiser.calls = 0
    sample(guided, Euler(), times.uniform(8), X, cond=CLASS_A, rng=Rng.of(0, 4))
    assert denoiser.calls == 8 + 5  # of t = 1, 7/8, ..., 1/8 five lie in [1/4, 3/4]


def test_scale_may_depend_on_time() -> None:
    denoiser = mixture(Linear())
    guided = ClassifierFree(denoiser, lambda t: 1 + 4 * t)
    for t in (0.2, 0.7):
        expected = ClassifierFree(denoiser, 1 + 4 * t)(X, double(t), CLASS_A)
        assert torch.equal(guided(X, double(t), CLASS_A), expected)
    with pytest.raises(ConfigError):
        ClassifierFree(denoiser, lambda t: -t)(X, double(0.5), CLASS_A)


@pytest.mark.parametrize("rule", RULES, ids=label)
def test_every_solver_takes_it_or_says_why_not(rule: Rule) -> None:
    """From pure noise to data, in two steps."""
    guided = ClassifierFree(mixture(Cosine()), min(2.0, rule.largest_scale / 2), CLASS_B, rule=rule)
    for solver in SOLVERS:
        first = (solver.order, solver.evaluations, solver.stochastic) == (1, 1, False)
        if isinstance(rule, CFGPlusPlus) and not first:
            with pytest.raises(IncompatibleError) as error:
                sample(guided, solver, times.uniform(3), X, cond=CLASS_A, rng=Rng.of(0, 4))
            assert error.value.field == "solver"
            assert error.value.hint
            continue
        out = sample(guided, solver, times.uniform(2), X, cond=CLASS_A, rng=Rng.of(0, 4))
        assert out.isfinite().all()


def nested(denoiser: GaussianMixture) -> list[Denoiser]:
    """Every guidance that works on a mixture, around each of the others."""
    wrappers: list[Callable[[Denoiser], Denoiser]] = [
        lambda d: ClassifierFree(d, 1.5, CLASS_B, rule=Projected(momentum=0.3)),
        lambda d: Autoguidance(d, widths_like(denoiser), 2.0, rule=Rescaled()),
        lambda d: ClassifierGuided(d, posterior_of(denoiser), torch.tensor(0), 0.5),
        lambda d: RewardGuided(d, lambda x: -(x**2).sum(1), 0.1),
        lambda d: Threshold(d, 0.9, 1.5),
    ]
    return [outer(inner(denoiser)) for outer in wrappers for inner in wrappers]


def widths_like(denoiser: GaussianMixture) -> GaussianMixture:
    covariances = denoiser.axes * (2 * denoiser.variances[:, None]) @ denoiser.axes.mT
    return GaussianMixture(denoiser.process, denoiser.log_weights.exp(), denoiser.means, covariances)


def posterior_of(denoiser: GaussianMixture) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact log p(k | x_t) of its components: the classifier that a perfect training would give."""

    def classifier(x_t: Tensor, t: Tensor) -> Tensor:
        joint = [denoiser.log_prob(x_t, t, only(k, len(x_t))) for k in range(2)]
        return (denoiser.log_weights + torch.stack(joint, 1)).log_softmax(1)

    return classifier


def test_they_nest_in_every_order() -> None:
    for guided in nested(mixture(Cosine())):
        assert guided.process.schedule == Cosine()
        x = sample(guided, Heun(), times.uniform(4), X, cond=CLASS_A, rng=Rng.of(0, 4))
        assert x.isfinite().all()
        assert not x.requires_grad


def test_one_is_the_conditional_law() -> None:
    """Sampling with scale 1 lands on the class asked for."""
    n = 400
    x = Rng.of(0, n).normal((n, 2), torch.float64)
    guided = ClassifierFree(mixture(Cosine()), 1.0)
    out = sample(guided, Heun(), times.uniform(16), x, cond=only(0, n), rng=Rng.of(0, n))
    assert torch.allclose(out.mean(0), double(0.9, -0.3), atol=0.1)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -0.1])
def test_wrong_scales_are_refused(scale: float) -> None:
    denoiser = mixture(Linear())
    for make in (
        lambda: ClassifierFree(denoiser, scale),
        lambda: RewardGuided(denoiser, lambda x: x.sum(1), scale),
    ):
        with pytest.raises(ConfigError) as error:
            make()
        assert error.value.field == "guidance"
        assert error.value.hint


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5)])
def test_wrong_intervals_are_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ConfigError) as error:
        ClassifierFree(mixture(Linear()), 2.0, interval=interval)
    assert error.value.field == "interval"


# -- rules -------------------------------------------------------------------------------------------------


def guide(rule: Rule, scale: float, t: Tensor = T) -> tuple[Tensor, Tensor, Tensor]:
    """What the rule makes of the unconditional and the conditional opinion, and these two."""
    denoiser = mixture(Cosine())
    guided = ClassifierFree(denoiser, scale, rule=rule)(X, t, CLASS_A)
    return guided, denoiser(X, t), denoiser(X, t, CLASS_A)


@pytest.mark.parametrize("rule", [Rescaled(0.0), Projected(1.0)], ids=label)
def test_rules_that_are_linear_at_an_end(rule: Rule) -> None:
    assert torch.allclose(guide(rule, 3.0)[0], guide(LinearRule(), 3.0)[0], rtol=1e-12)


@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescaled_has_the_spread_of_the_strong_opinion(phi: float) -> None:
    found, _, strong = guide(Rescaled(phi), 5.0)
    plain = guide(LinearRule(), 5.0)[0]
    expected = phi * strong.std(1) + (1 - phi) * plain.std(1)
    assert torch.allclose(found.std(1), expected, rtol=1e-12)
    assert torch.allclose(found / found.norm(dim=1, keepdim=True), plain / plain.norm(dim=1, keepdim=True))


def test_rescaling_leaves_one_number_alone() -> None:
    """It has no spread to give back."""
    pair = widths(Linear(), 0.5, 0.9)
    x = double(0.3, -1.0).reshape(2, 1)
    plain, rescaled = (
        Autoguidance(*pair, 2.0, rule=rule)(x, double(0.5)) for rule in (LinearRule(), Rescaled())
    )
    assert torch.equal(plain, rescaled)


def test_projected_moves_across_the_strong_opinion() -> None:
    found, weak, strong = guide(Projected(along=0.0), 4.0)
    moved = found - strong
    assert torch.allclose((moved * strong).sum(1), torch.zeros_like(X[:, 0]), atol=1e-12)
    across = double(0.0, 1.0, -1.0, 0.0).reshape(2, 2)  # the only other direction of the plane
    unit = strong / strong.norm(dim=1, keepdim=True) @ across
    assert torch.allclose(moved, 3 * ((strong - weak) * unit).sum(1, keepdim=True) * unit, rtol=1e-10)


def test_projected_shortens_long_differences_only() -> None:
    norm = 1.1
    found, weak, strong = guide(Projected(along=1.0, norm=norm), 4.0)
    length = (strong - weak).norm(dim=1)
    assert (length > norm).any()
    assert (length < norm).any()
    assert torch.allclose((found - strong).norm(dim=1), 3 * length.clamp(max=norm), rtol=1e-10)


def test_rules_take_equal_opinions() -> None:
    denoiser = mixture(Cosine())
    for rule in RULES:
        found = Autoguidance(denoiser, denoiser, min(3.0, rule.largest_scale / 2), rule=rule)(
            X, double(0.5), CLASS_A
        )
        assert torch.allclose(found, denoiser(X, double(0.5), CLASS_A), rtol=1e-12)


def test_momentum_remembers_the_last_step() -> None:
    """By hand: m_k = d_k + momentum m_(k-1), and DDIM steps with strong + (scale - 1) m_k."""
    momentum, scale, grid = -0.6, 3.0, times.uniform(5)
    denoiser = mixture(Linear())
    guided = ClassifierFree(denoiser, scale, rule=Projected(1.0, momentum=momentum))
    found = sample(guided, DDIM(), grid, X, cond=CLASS_A, rng=Rng.of(0, 4))
    x, m = X, torch.zeros_like(X)
    for t, s in pairwise(grid):
        weak, strong = denoiser(x, t), denoiser(x, t, CLASS_A)
        m = strong - weak + momentum * m
        x_0 = strong + (scale - 1) * m
        x = (1 - s) * x_0 + s * (x - (1 - t) * x_0) / t
    assert torch.allclose(found, x, rtol=1e-12)
    again = sample(guided, DDIM(), grid, X, cond=CLASS_A, rng=Rng.of(0, 4))
    assert torch.equal(found, again)  # nothing is left over from the first trajectory


def test_momentum_is_the_same_within_a_step() -> None:
    """A solver may ask several times a step: all see the average before, and the first call makes the next one."""
    momentum, scale, grid = 0.5, 2.0, times.uniform(3)
    denoiser, memory = mixture(Linear()), {}
    guided = ClassifierFree(denoiser, scale, rule=Projected(1.0, momentum=momentum))
    before = torch.zeros_like(X)
    for t, s in pairwise(grid):
        bound, made = guided.during(t, s, memory), []
        for x in (X, 2 * X, -X):
            weak, strong = denoiser(x, t), denoiser(x, t, CLASS_A)
            made.append(strong - weak + momentum * before)
            assert torch.allclose(bound(x, t, CLASS_A), strong + (scale - 1) * made[-1], rtol=1e-12)
        before = made[0]


def test_memories_of_nested_guidance_do_not_mix() -> None:
    """Guidance around a rule with momentum asks it under two conditions: each has its own past."""
    inner = ClassifierFree(mixture(Linear()), 2.0, rule=Projected(1.0, momentum=0.5))
    outer, memory = ClassifierFree(inner, 1.5, CLASS_B), {}
    grid = times.uniform(4)
    past = {"a": torch.zeros_like(X), "b": torch.zeros_like(X)}
    for t, s in pairwise(grid):
        opinions = {}
        for name, cond in (("a", CLASS_A), ("b", CLASS_B)):
            weak, strong = inner.denoiser(X, t), inner.denoiser(X, t, cond)
            past[name] = strong - weak + 0.5 * past[name]
            opinions[name] = strong + past[name]
        expected = opinions["b"] + 1.5 * (opinions["a"] - opinions["b"])
        assert torch.allclose(outer.during(t, s, memory)(X, t, CLASS_A), expected, rtol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_cfg_plus_plus_renoises_without_guidance(schedule: Schedule) -> None:
    """Algorithm 2 of the paper: x_s = alpha_s (weak + scale (strong - weak)) + sigma_s eps(weak)."""
    denoiser, scale, grid = mixture(schedule), 0.6, times.uniform(6)
    guided = ClassifierFree(denoiser, scale, rule=CFGPlusPlus())
    x = found = denoiser.process.prior((4, 2), Rng.of(5, 4), torch.float64)
    found = sample(guided, DDIM(), grid, found, cond=CLASS_A, rng=Rng.of(0, 4))
    for t, s in pairwise(grid):
        weak, strong = denoiser(x, t), denoiser(x, t, CLASS_A)
        eps = denoiser.process.eps(x, weak, t)
        x = schedule.alpha(s) * (weak + scale * (strong - weak)) + schedule.sigma(s) * eps
    if not denoiser.process.ends_clean:
        x = torch.lerp(denoiser(x, grid[-1]), denoiser(x, grid[-1], CLASS_A), scale)
    assert torch.allclose(found, x, rtol=1e-9, atol=1e-10)


def test_cfg_plus_plus_counts_steps() -> None:
    """What it adds is per step, so it has no limit: small guidance of twice the steps is twice as far."""
    denoiser, scale = mixture(Cosine()), 1e-3

    def moved(steps: int) -> float:
        grid = times.uniform(steps)
        guided, plain = (
            sample(
                ClassifierFree(denoiser, w, rule=CFGPlusPlus()),
                DDIM(),
                grid,
                X,
                cond=CLASS_B,
                rng=Rng.of(0, 4),
            )
            for w in (scale, 0.0)
        )
        return float((guided - plain).norm())

    assert moved(128) / moved(64) == pytest.approx(2, abs=0.1)


def test_cfg_plus_plus_with_other_first_order_solvers() -> None:
    """What they add differs from what DDIM adds by a share that halves with the step."""

    def share(steps: int) -> float:
        moved = []
        for solver in (DDIM(), Euler()):
            guided, plain = (
                sample(
                    ClassifierFree(mixture(Linear()), scale, rule=CFGPlusPlus()),
                    solver,
                    times.uniform(steps),
                    X,
                    cond=CLASS_B,
                    rng=Rng.of(0, 4),
                )
                for scale in (0.01, 0.0)
            )
            moved.append(guided - plain)
        return float((moved[1] - moved[0]).norm() / moved[0].norm())

    assert math.log2(share(64) / share(128)) == pytest.approx(1, abs=0.35)
    assert share(16) < 0.05


@pytest.mark.parametrize("solver", [Heun(), DPMpp2M(), DDPM(), DDIM(eta=0.5)], ids=label)
def test_cfg_plus_plus_refuses_other_solvers(solver: Any) -> None:
    inner = ClassifierFree(mixture(Cosine()), 0.6, rule=CFGPlusPlus())
    for guided in (inner, Threshold(inner), Autoguidance(mixture(Cosine()), inner, 2.0)):
        with pytest.raises(IncompatibleError) as error:
            sample(guided, solver, times.uniform(4), X, cond=CLASS_A, rng=Rng.of(0, 4))
        assert error.value.field == "solver"


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Geometric()], ids=label)
def test_cfg_zero_star_fits_the_weak_velocity(schedule: Schedule) -> None:
    """In velocities: c u_w + scale (u_s - c u_w), where c u_w is the part of u_s along u_w."""
    denoiser, scale = mixture(schedule), 2.5
    process = denoiser.process
    found = ClassifierFree(denoiser, scale, rule=CFGZero(zero=0.0))(X, T, CLASS_A)
    weak, strong = (process.velocity(X, denoiser(X, T, cond), T) for cond in (None, CLASS_A))
    along = (strong * weak).sum(1, keepdim=True) / (weak**2).sum(1, keepdim=True) * weak
    expected = along + scale * (strong - along)
    assert torch.allclose(process.velocity(X, found, T), expected, rtol=1e-9)
    assert torch.allclose(((strong - along) * weak).sum(1), torch.zeros_like(T), atol=1e-9)


@pytest.mark.parametrize("schedule", [Linear(), Geometric()], ids=label)
def test_cfg_zero_star_waits(schedule: Schedule) -> None:
    """Early on nothing moves: an Euler step in time stays where it is; later all is as without the pause."""
    denoiser = mixture(schedule)
    waiting, moving = (ClassifierFree(denoiser, 3.0, rule=CFGZero(zero=zero)) for zero in (0.3, 0.0))
    x = denoiser.process.prior((4, 2), Rng.of(5, 4), torch.float64)

    def stepped(guided: Denoiser) -> Tensor:
        grid = double(1.0, 0.85, 0.72)
        return sample(guided, Euler(variable="time"), grid, x, cond=CLASS_A, rng=Rng.of(0, 4))

    assert torch.allclose(stepped(waiting), x, rtol=1e-10)
    assert not torch.allclose(stepped(moving), x, rtol=1e-2)
    assert torch.equal(waiting(x, double(0.7), CLASS_A), moving(x, double(0.7), CLASS_A))


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (Rescaled, {"phi": 1.5}),
        (Rescaled, {"phi": math.nan}),
        (Projected, {"along": -0.1}),
        (Projected, {"norm": 0.0}),
        (Projected, {"momentum": -1.0}),
        (CFGZero, {"zero": 2.0}),
    ],
    ids=str,
)
def test_wrong_settings_of_rules_are_refused(rule: type[Rule], wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        rule(**wrong)
    assert error.value.field == next(iter(wrong))
    assert "accepted" in error.value.message


# -- the same network with a part switched off -------------------------------------------------------------

SMALL: dict[str, NetworkConfig] = {
    "DiT": DiTConfig(patch=2, width=16, depth=3, heads=2, expansion=2, embedding=16),
    "UNet": UNetConfig(widths=(8, 16), attention=1, head_width=8, embedding=16),
    "MLP": MLPConfig(width=16, depth=3, embedding=16),
}


def model(config: NetworkConfig, size: tuple[int, ...] = (4, 4), shake: float = 0.3) -> Preconditioned:
    """A network away from its start, where some layers are zero."""
    torch.manual_seed(0)
    network = config.build(2, () if isinstance(config, MLPConfig) else size, 3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(shake * torch.randn_like(weight))
    return Preconditioned(network, Gaussian(Linear()), V())


def asked(denoiser: Preconditioned) -> tuple[Tensor, Tensor, Condition]:
    shape = () if not denoiser.network.shape else denoiser.network.shape
    torch.manual_seed(1)
    return torch.randn(3, 2, *shape), double(0.2, 0.5, 0.9), Condition(vector=torch.eye(3))


@torch.no_grad()
def test_without_attention_a_position_sees_itself_alone() -> None:
    """With one token there is nothing else to attend to, so switching attention off changes nothing."""
    one, four = model(SMALL["DiT"], (2, 2)), model(SMALL["DiT"])
    for denoiser, same in ((one, True), (four, False)):
        weaker = denoiser.without("attention", (0, 1, 2))
        assert (
            torch.allclose(weaker(*asked(denoiser)), denoiser(*asked(denoiser)), rtol=1e-4, atol=1e-6) is same
        )
    # in tokens that do not see each other, a change of one patch stays there
    x, t, cond = asked(four)
    moved = x.clone()
    moved[..., :2, :2] += 1
    alone = four.without("attention", (0, 1, 2))
    changed = (alone(moved, t, cond) - alone(x, t, cond)).abs().amax((0, 1)) > 1e-6
    assert changed.tolist() == [[True] * 2 + [False] * 2] * 2 + [[False] * 4] * 2


@torch.no_grad()
@pytest.mark.parametrize("kind", SMALL)
def test_without_a_block_it_is_the_shorter_network(kind: str) -> None:
    denoiser = model(SMALL[kind])
    x, t, cond = asked(denoiser)
    trunk = denoiser.network.trunk()
    for place, block in enumerate(trunk):
        weaker = denoiser.without("blocks", (place,))
        handle = block.register_forward_hook(lambda _, given, out: given[0])
        expected = denoiser(x, t, cond)
        handle.remove()
        assert torch.equal(weaker(x, t, cond), expected)
        assert not torch.allclose(expected, denoiser(x, t, cond))
    middle = denoiser.without("blocks")(x, t, cond)
    assert torch.equal(middle, denoiser.without("blocks", (len(trunk) // 2,))(x, t, cond))


@pytest.mark.parametrize("kind", SMALL)
def test_blocks_are_counted_along_the_network(kind: str) -> None:
    denoiser, seen = model(SMALL[kind]), []
    for place, block in enumerate(denoiser.network.trunk()):
        block.register_forward_hook(lambda *_, place=place: seen.append(place))
    denoiser(*asked(denoiser))
    assert seen == list(range(len(denoiser.network.trunk())))


@torch.no_grad()
@pytest.mark.parametrize("make", [PerturbedAttention, SkipLayers])
@pytest.mark.parametrize("kind", ["DiT", "UNet"])
def test_guides_by_its_weaker_self(make: type[Contrast], kind: str) -> None:
    denoiser = model(SMALL[kind], (8, 8))
    x, t, cond = asked(denoiser)
    before = denoiser(x, t, cond)
    guided = make(denoiser, 2.5)
    weak = guided.weaker(x, t, cond)
    assert not torch.allclose(weak, before)
    assert torch.allclose(guided(x, t, cond), weak + 2.5 * (before - weak), rtol=1e-4, atol=1e-5)
    assert torch.equal(denoiser(x, t, cond), before)  # the model itself is as it was
    assert {id(p) for p in guided.parameters()} == {id(p) for p in denoiser.parameters()}
    handle = denoiser.register_forward_hook(lambda *_: calls.append(1))
    calls: list[int] = []
    guided(x, t, cond)
    handle.remove()
    assert len(calls) == 2  # who counts evaluations of the model sees those of its copy


@torch.no_grad()
def test_the_weaker_self_of_guidance_is_guided() -> None:
    denoiser = model(SMALL["DiT"])
    x, t, cond = asked(denoiser)
    inner = ClassifierFree(denoiser, 2.0, Condition(vector=torch.ones(3, 3)))
    weak = ClassifierFree(denoiser.without("attention"), 2.0, inner.negative)(x, t, cond)
    found = PerturbedAttention(inner, 3.0)(x, t, cond)
    assert torch.allclose(found, weak + 3 * (inner(x, t, cond) - weak), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_switched_off_is_refused() -> None:
    dit, flat = model(SMALL["DiT"]), model(UNetConfig(widths=(8, 16), embedding=16))
    exact = mixture(Linear())
    for make, error, said in (
        (lambda: PerturbedAttention(flat, 2.0), IncompatibleError, "no attention"),
        (lambda: PerturbedAttention(model(SMALL["MLP"]), 2.0), IncompatibleError, "no attention"),
        (lambda: PerturbedAttention(exact, 2.0), IncompatibleError, "attention"),
        (lambda: SkipLayers(preconditioned(exact, V()), 2.0), IncompatibleError, "blocks"),
        (
            lambda: SkipLayers(model(AutoencoderConfig(widths=(8,), embedding=16)), 2.0),
            IncompatibleError,
            "blocks",
        ),
        (lambda: PerturbedAttention(dit, 2.0, (7,)), ConfigError, "no block 7"),
        (
            lambda: PerturbedAttention(model(SMALL["UNet"]), 2.0, (0,)),
            ConfigError,
            "block 0 has no attention",
        ),
        (lambda: SkipLayers(dit, 2.0, (-1,)), ConfigError, "no block -1"),
    ):
        with pytest.raises(error) as caught:
            make()
        assert said in caught.value.message
        assert caught.value.field == "weaker"
        assert caught.value.hint


def test_a_network_without_a_part_is_a_network() -> None:
    network = model(SMALL["UNet"]).network
    assert isinstance(network.without("blocks"), Network)


# -- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_the_exact_classifier_makes_the_conditional_denoiser(schedule: Schedule) -> None:
    """Bayes: grad log q(x_t|y) = grad log q(x_t) + grad log p(y|x_t)."""
    denoiser = mixture(schedule)
    x = denoiser.process.corrupt(denoiser.draw(Rng.of(0, 4)), T, Rng.of(1, 4))
    for y in range(2):
        guided = ClassifierGuided(denoiser, posterior_of(denoiser), torch.tensor(y))
        assert torch.allclose(guided(x, T), denoiser(x, T, only(y)), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
def test_by_a_classifier_or_free_of_one(scale: float) -> None:
    denoiser, y = mixture(Cosine()), torch.tensor([0, 1, 1, 0])
    cond = Condition(vector=torch.stack([only(int(k)).vector[0] for k in y]))
    by = ClassifierGuided(denoiser, posterior_of(denoiser), y, scale)(X, T)
    assert torch.allclose(by, ClassifierFree(denoiser, scale)(X, T, cond), rtol=1e-8)


def test_a_linear_reward_moves_a_gaussian() -> None:
    """N(m, C) tilted by exp(scale a.x_0) is N(m + scale C a, C), at every noise level."""
    scale, a = 0.7, double(1.0, -2.0)
    for schedule in SCHEDULES:
        denoiser = one_gaussian(schedule)
        covariance = double(0.5, 0.3, 0.3, 0.4).reshape(2, 2)
        moved = GaussianMixture(
            denoiser.process, double(1.0)[None], denoiser.means + scale * covariance @ a, covariance[None]
        )
        guided = RewardGuided(denoiser, lambda x: x @ a, scale)
        assert torch.allclose(guided(X, T), moved(X, T), rtol=1e-8, atol=1e-10)


def test_a_linear_reward_is_right_to_first_order() -> None:
    """For a mixture exp(scale a.x_0) shifts components by scale C a and weighs them by exp(scale a.m + ...)."""
    denoiser, a = mixture(Cosine()), double(1.0, -2.0)
    covariances = denoiser.axes * denoiser.variances[:, None] @ denoiser.axes.mT

    @torch.no_grad()
    def error(scale: float) -> float:
        gain = scale * denoiser.means @ a + scale**2 * torch.einsum("i,kij,j->k", a, covariances, a) / 2
        exact = GaussianMixture(
            denoiser.process,
            (denoiser.log_weights + gain).exp(),
            denoiser.means + scale * covariances @ a,
            covariances,
        )
        return float((RewardGuided(denoiser, lambda x: x @ a, scale)(X, T) - exact(X, T)).norm())

    assert math.log2(error(0.02) / error(0.01)) == pytest.approx(2, abs=0.1)


def test_gradients_are_per_row_and_switch_off() -> None:
    denoiser = Counting(mixture(Cosine()))
    guided = RewardGuided(denoiser, lambda x: x.prod(1), 2.0, interval=(0.0, 0.9))
    t = double(0.2, 0.5, 0.95, 1.0)
    together = guided(X, t, CLASS_A)
    alone = torch.cat([guided(X[i : i + 1], t[i], CLASS_A[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, rtol=1e-12)
    assert torch.equal(together[2:], denoiser(X, t, CLASS_A)[2:])  # outside the interval, and where alpha = 0
    assert not torch.allclose(together[:2], denoiser(X, t, CLASS_A)[:2])
    off = RewardGuided(denoiser, lambda x: 1 / (0 * x[:, 0]), 0.0)
    assert torch.equal(off(X, t, CLASS_A), denoiser(X, t, CLASS_A))


@torch.no_grad()
def test_gradients_reach_through_guidance() -> None:
    """Around other guidance the gradient is that of the guided denoiser; finite differences agree."""
    denoiser = mixture(Cosine())
    inner = ClassifierGuided(denoiser, posterior_of(denoiser), torch.tensor(0), 2.0)
    guided = RewardGuided(inner, lambda x: (x**2).sum(1), 0.3)
    t, h = double(0.5), 1e-5
    step = torch.eye(2, dtype=torch.float64) * h

    def reward(x: Tensor) -> Tensor:
        return (inner(x, t) ** 2).sum(1)

    slope = torch.stack([(reward(X + e) - reward(X - e)) / (2 * h) for e in step], 1)
    factor = 0.3 * Cosine().sigma(t) ** 2 / Cosine().alpha(t)
    assert torch.allclose(guided(X, t), inner(X, t) + factor * slope, rtol=1e-6, atol=1e-8)


def test_a_reward_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        RewardGuided(mixture(Linear()), lambda x: x.sum())(X, double(0.5))
    assert error.value.field == "reward"


# -- thresholding ------------------------------------------------------------------------------------------


class Says(Denoiser):
    """A denoiser that always says the same."""

    def __init__(self, x_0: Tensor) -> None:
        super().__init__()
        self.process, self.x_0 = Gaussian(Linear()), x_0

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.x_0


def test_thresholds_by_hand() -> None:
    """|x_0| = 1, ..., 10 fifths; the 80% quantile of the second row is 8/5, the first row stays below the bound."""
    x_0 = torch.stack([double(*range(1, 11)) / 20, double(*range(-1, -11, -1)) / 5])
    t = double(0.5)
    dynamic = Threshold(Says(x_0), 0.8)(x_0, t)
    assert torch.equal(dynamic[0], x_0[0])
    assert torch.allclose(dynamic[1], x_0[1].clamp(-1.6, 1.6) / 1.6)
    assert torch.allclose(Threshold(Says(x_0), 0.8, bound=0.2)(x_0, t)[0], x_0[0].clamp(max=0.4) / 2)
    assert torch.equal(Threshold(Says(x_0), None)(x_0, t), x_0.clamp(-1, 1))
    assert torch.allclose(Threshold(Says(x_0), 1.0)(x_0, t)[1], x_0[1] / 2)


def test_thresholding_is_per_sample() -> None:
    """A neighbour does not change a sample, and pictures are samples of all their components."""
    x_0 = 3 * Rng.of(0, 3).normal((3, 2, 4, 4), torch.float64)
    together = Threshold(Says(x_0), 0.9)(x_0, double(0.5))
    for i in range(3):
        assert torch.equal(together[i : i + 1], Threshold(Says(x_0[i : i + 1]), 0.9)(x_0, double(0.5)))
    assert (together.abs() <= 1).all()
    clipped = (together.abs() == 1).flatten(1).sum(1)
    assert clipped.tolist() == [4, 4, 4]  # of 32 components 29 lie within h, the last of them on it


@pytest.mark.parametrize(
    ("quantile", "bound"), [(0.0, 1.0), (1.1, 1.0), (math.nan, 1.0), (0.9, 0.0), (0.9, -1.0)]
)
def test_wrong_thresholds_are_refused(quantile: float, bound: float) -> None:
    with pytest.raises(ConfigError) as error:
        Threshold(mixture(Linear()), quantile, bound)
    assert error.value.field == "threshold"
