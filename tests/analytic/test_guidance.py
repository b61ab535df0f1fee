"""Guidance against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from truth import Counting, double, mixture
from unstir import guidance, times
from unstir.analytic import GaussianMixture
from unstir.condition import Condition
from unstir.denoiser import Denoiser
from unstir.errors import ConfigError
from unstir.guidance import ClassifierFree, Guided
from unstir.process import Cosine, Gaussian, Linear
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import Heun

CLASS_A = Condition(vector=double(math.log(0.999), math.log(0.001)).expand(4, 2))
CLASS_B = Condition(vector=double(math.log(0.1), math.log(0.9)).expand(4, 2))
X = Rng.of(3, 4).normal((4, 2), torch.float64)


@pytest.mark.parametrize("name", guidance.__all__)
def test_guided_denoisers_are_denoisers(name: str) -> None:
    kind = getattr(guidance, name)
    assert issubclass(kind, Denoiser)
    assert issubclass(kind, Guided)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0, 7.5])
@pytest.mark.parametrize("negative", [None, CLASS_B], ids=["no label", "class B"])
def test_extrapolates_from_the_unconditional(scale: float, negative: Condition | None) -> None:
    """In every component's posterior mean m_k(x_t) the guided denoiser is sum_k (u_k + scale (c_k - u_k)) m_k."""
    denoiser, t = mixture(Cosine()), double(0.2, 0.5, 0.8, 1.0)
    alone = torch.stack(
        [
            denoiser(X, t, Condition(vector=double(*row).expand(4, 2)))
            for row in ((0.0, -math.inf), (-math.inf, 0.0))
        ],
        1,
    )

    def responsibilities(cond: Condition | None) -> torch.Tensor:
        prior = denoiser.log_weights if cond is None else cond.vector
        each = [
            denoiser.log_prob(X, t, Condition(vector=double(*r).expand(4, 2)))
            for r in ((0.0, -math.inf), (-math.inf, 0.0))
        ]
        return (prior + torch.stack(each, 1)).softmax(1)

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
    only_first = Condition(vector=double(0.0, -math.inf).expand(4, 2))
    conditional = shift + gain * m
    for scale in (0.5, 3.0):
        expected = unconditional + scale * (conditional - unconditional)
        assert torch.allclose(ClassifierFree(pair, scale)(x, t, only_first), expected, rtol=1e-12)


@pytest.mark.parametrize(("scale", "calls"), [(0.0, 1), (1.0, 1), (0.5, 2), (4.0, 2)])
def test_costs_what_it_must(scale: float, calls: int) -> None:
    denoiser = Counting(mixture(Linear()))
    guided = ClassifierFree(denoiser, scale)(X, double(0.5), CLASS_A)
    assert denoiser.calls == calls
    if scale in (0.0, 1.0):
        assert torch.equal(guided, denoiser(X, double(0.5), CLASS_A if scale else None))


def test_nests_and_samples() -> None:
    """A guided denoiser is a denoiser: it shares the process, nests, and solvers step with it."""
    inner = ClassifierFree(mixture(Cosine()), 2.0, CLASS_B)
    outer = ClassifierFree(inner, 1.5)
    assert outer.process is inner.denoiser.process
    x = sample(outer, Heun(), times.uniform(6), X, cond=CLASS_A, rng=Rng.of(0, 4))
    assert x.isfinite().all()


def test_one_is_the_conditional_law() -> None:
    """Sampling with scale 1 lands on the class asked for."""
    n = 400
    x = Rng.of(0, n).normal((n, 2), torch.float64)
    cond = Condition(vector=double(0.0, -math.inf).expand(n, 2))
    out = sample(
        ClassifierFree(mixture(Cosine()), 1.0), Heun(), times.uniform(16), x, cond=cond, rng=Rng.of(0, n)
    )
    assert torch.allclose(out.mean(0), double(0.9, -0.3), atol=0.1)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -0.1])
def test_wrong_scales_are_refused(scale: float) -> None:
    with pytest.raises(ConfigError) as error:
        ClassifierFree(mixture(Linear()), scale)
    assert error.value.field == "guidance"
    assert error.value.hint
