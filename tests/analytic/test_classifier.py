"""The classifier of noisy data: its loss is least at the true posterior, and it guides."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from truth import SCHEDULES, approx, double, exported, label, mixture
from unstir import objectives, times
from unstir.analytic import GaussianMixture
from unstir.classifier import NoisyClassifier
from unstir.condition import Batch, Condition
from unstir.errors import ConfigError, DataError, IncompatibleError
from unstir.guidance import ClassifierGuided
from unstir.networks import Classifier, ClassifierConfig
from unstir.objectives import Classification, Draws
from unstir.process import Cosine, Gaussian, Linear
from unstir.process.base import unsqueeze_like
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import Heun

SIZES: dict[int, tuple[int, ...]] = {0: (), 1: (9,), 2: (8, 6), 3: (3, 4, 5)}
SMALL = ClassifierConfig(widths=(16, 24), embedding=32, dropout=0.0)


class Exact(nn.Module):
    """The network that a perfect training would give: the logits of the true posterior of a mixture."""

    def __init__(self, denoiser: GaussianMixture, sigma_data: float, bend: Tensor | None = None) -> None:
        super().__init__()
        self.denoiser, self.sigma_data, self.bend = denoiser, sigma_data, bend

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        schedule = self.denoiser.process.schedule
        t = schedule.time(4 * noise)
        x_t = x * unsqueeze_like(torch.hypot(schedule.alpha(t) * self.sigma_data, schedule.sigma(t)), x)
        joint = [
            self.denoiser.log_prob(x_t, t, Condition(vector=one.log().expand(len(x), 2)))
            for one in torch.eye(2)
        ]
        logits = self.denoiser.log_weights + torch.stack(joint, 1)
        return logits if self.bend is None else logits + self.bend


def drawn(n: int, classes: GaussianMixture) -> Batch:
    """x_0 of the mixture with the component that each came from."""
    y = (Rng.of(0, n).fork("y").uniform((n, 1), torch.float64)[:, 0] > classes.log_weights[0].exp()).long()
    z = Rng.of(0, n).fork("z").normal((n, 2), torch.float64)
    x_0 = classes.means[y] + torch.einsum("bde,be->bd", classes.axes[y], classes.variances[y].sqrt() * z)
    return Batch(x_0, index=torch.arange(n), label=y)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_the_true_posterior_has_the_least_loss(schedule: object) -> None:
    """At the exact classifier the gradient of the expected loss in any change of its logits is zero.

    Here the change is a constant for one class; the gradient is the mean of p(0|x_t) - [y = 0].
    """
    exact, n = mixture(schedule), 4000
    batch, bend = drawn(n, exact), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    classifier = NoisyClassifier(Exact(exact, 0.7, bend), exact.process, 0.7)
    loss = Classification().loss(classifier, batch, Rng.of(9, n))
    assert loss.shape == (n,)
    (gradient,) = torch.autograd.grad(loss.mean(), bend)
    assert gradient.abs().max() < 4 * 0.5 / math.sqrt(n)
    # a step in any direction costs, by the curvature that the variance of the posterior gives
    for step in (0.5, -0.5):
        bent = NoisyClassifier(Exact(exact, 0.7, double(step, 0.0)), exact.process, 0.7)
        assert Classification().loss(bent, batch, Rng.of(9, n)).mean() > loss.mean() + 0.005


def test_its_least_loss_is_the_conditional_entropy() -> None:
    """For N(+-m, v) it is E[softplus(-2 alpha m x_t / (alpha^2 v + sigma^2))], x_t from the first; by quadrature."""
    m, v, t, n = 0.8, 0.2, double(0.6), 20_000
    process = Gaussian(Linear())
    pair = GaussianMixture(process, double(0.5, 0.5), double(m, 0, -m, 0).reshape(2, 2), double(v, v).sqrt())
    alpha, total = 1 - t, (1 - t) ** 2 * v + t**2
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    loss = nn.functional.softplus(-2 * alpha * m * (alpha * m + total.sqrt() * z) / total)
    expected = torch.trapezoid(loss * density, z)
    classifier = NoisyClassifier(Exact(pair, 0.5), process, 0.5)
    found = Classification().loss_at(classifier, drawn(n, pair), t.expand(n), Rng.of(2, n))
    assert found.mean() == approx(expected, abs=4 * float(found.std()) / math.sqrt(n))


@pytest.mark.parametrize("draws", tuple(exported(objectives, Draws)), ids=label)
def test_a_sample_does_not_see_the_batch(draws: Draws) -> None:
    exact, n = mixture(Cosine()), 6
    batch, classifier = drawn(n, exact), NoisyClassifier(Exact(exact, 0.7), exact.process, 0.7)
    whole = Classification(draws).loss(classifier, batch, Rng.of(1, n))
    for i in range(n):
        rows = slice(i, i + 1)
        assert batch.index is not None
        assert batch.label is not None
        one = Batch(batch.x_0[rows], index=batch.index[rows], label=batch.label[rows])
        assert torch.allclose(Classification(draws).loss(classifier, one, Rng.of(1, n)[rows]), whole[rows])


def test_what_cannot_be_trained_is_refused() -> None:
    exact = mixture(Cosine())
    batch = drawn(4, exact)
    with pytest.raises(IncompatibleError) as error:
        Classification().loss(exact, batch, Rng.of(0, 4))
    assert error.value.hint
    with pytest.raises(DataError) as missing:
        Classification().loss(
            NoisyClassifier(Exact(exact, 0.7), exact.process), Batch(batch.x_0), Rng.of(0, 4)
        )
    assert missing.value.hint


def test_it_learns_the_posterior_and_guides() -> None:
    """A small network, trained for a second: near the least loss, and its guidance samples the class asked for."""
    exact, n, steps = mixture(Cosine()), 128, 80
    torch.manual_seed(0)
    network = ClassifierConfig(widths=(32,), blocks=1, embedding=32, dropout=0.0).build(2, (), 2)
    classifier = NoisyClassifier(network, exact.process, 0.7)
    data, optimizer = drawn(n * steps, exact), torch.optim.Adam(network.parameters(), 5e-3)
    assert data.label is not None
    for k in range(steps):
        rows = slice(n * k, n * (k + 1))
        batch = Batch(data.x_0[rows].float(), index=torch.arange(n * k, n * (k + 1)), label=data.label[rows])
        optimizer.zero_grad()
        Classification().loss(classifier, batch, Rng.of(n * k, n)).mean().backward()
        optimizer.step()
    held, best = drawn(4000, exact), NoisyClassifier(Exact(exact, 0.7), exact.process, 0.7)
    held = Batch(held.x_0.float(), index=held.index, label=held.label)
    with torch.no_grad():
        learned, least = (
            Classification().loss(c, held, Rng.of(10**6, 4000)).mean() for c in (classifier, best)
        )
    blind = -(exact.log_weights.exp() * exact.log_weights).sum()
    assert learned - least < 0.05 * (blind - least)
    x = exact.process.prior((n, 2), Rng.of(0, n))
    guided = ClassifierGuided(mixture(Cosine()).float(), classifier, torch.tensor(0))
    found = sample(guided, Heun(), times.uniform(12), x, rng=Rng.of(0, n))
    wanted, start = exact.means[0], exact.log_weights.exp() @ exact.means
    assert (found.double().mean(0) - wanted).norm() < 0.15 * (start - wanted).norm()


# -- the network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", SIZES)
def test_the_network_takes_data_of_any_kind(dims: int) -> None:
    """At the start it knows nothing; a row does not see its neighbours; every weight is used."""
    torch.manual_seed(0)
    network = SMALL.build(2, SIZES[dims], 3)
    x, noise = torch.randn(4, 2, *SIZES[dims]), torch.linspace(-3, 3, 4)
    assert torch.equal(network(x, noise), torch.zeros(4, 3))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    whole = network(x, noise)
    assert whole.shape == (4, 3)
    assert torch.allclose(whole[1:2], network(x[1:2], noise[1]), atol=1e-5)
    whole.square().sum().backward()
    assert all((p.grad != 0).any() for p in network.parameters())


def test_log_probabilities_sum_to_one_in_any_precision() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 8, 8)
    for dtype in (None, torch.bfloat16):
        classifier = NoisyClassifier(SMALL.build(1, (8, 8), 3), Gaussian(Linear()), 0.5, dtype)
        nn.init.normal_(classifier.network.leave.weight)
        log_p = classifier(x, double(0.0, 0.3, 0.9, 1.0))
        assert log_p.dtype == torch.float32
        assert torch.allclose(log_p.exp().sum(1), torch.ones(4))


@pytest.mark.parametrize(
    ("channels", "shape", "classes"), [(1, (8, 8), 1), (0, (8,), 2), (1, (2, 2, 2, 2), 2)]
)
def test_impossible_networks_are_refused(channels: int, shape: tuple[int, ...], classes: int) -> None:
    with pytest.raises(ConfigError) as error:
        SMALL.build(channels, shape, classes)
    assert error.value.field == "network"


def test_settings_are_checked() -> None:
    assert isinstance(SMALL.build(1, (8, 8), 2), Classifier)
    for wrong in ({"widths": ()}, {"widths": (0,)}, {"dropout": 1.0}, {"blocks": 0}):
        with pytest.raises(ConfigError) as error:
            ClassifierConfig(**wrong)
        assert error.value.field
