"""What the condition alone tells of the data: its mean, before there is anything to see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tiny
from unstir.condition import Batch, Condition
from unstir.embedders import Augmentation
from unstir.errors import IncompatibleError
from unstir.networks import DiTConfig, UNetConfig
from unstir.networks.base import Network
from unstir.networks.draft import VALUES, Draft
from unstir.objectives import Bound, Denoising, Hybrid, Objective
from unstir.objectives.draws import spread
from unstir.pipeline import Pipeline
from unstir.rng import Rng

DRAFTED = {
    "UNet": UNetConfig(widths=(8, 16), embedding=16, draft=8),
    "DiT": DiTConfig(patch=2, width=16, depth=1, heads=2, embedding=16, draft=8),
}


def vectors(n: int, width: int = 3) -> Tensor:
    return Rng.of(5, n).normal((n, width))


def pipeline(**changes: object) -> Pipeline:
    return tiny.pipeline(network=UNetConfig(widths=(8, 16), draft=8), **changes)


def batch(pipe: Pipeline, n: int = 6) -> Batch:
    x_0 = Rng.of(3, n).normal((n, 1, 8, 8))
    return Batch(x_0, pipe.denoiser.embedder(torch.arange(n) % 3), torch.arange(n))  # type: ignore[misc]


# -- what it learns ----------------------------------------------------------------------------------------
def test_the_mean_of_the_data_has_no_gradient() -> None:
    """Pairs m + d, m - d have the mean m: there the expected gradient of the error is zero, elsewhere it is not."""
    draft, mean = Draft(3, 8, 2, (4, 4)).eval(), Rng.of(0, 1).normal((1, 2, 4, 4))
    with torch.no_grad():
        draft.leave.weight.zero_()
        draft.leave.bias.copy_(mean.flatten())
    distance = Rng.of(1, 500).normal((500, 2, 4, 4))
    x_0 = torch.cat((mean + distance, mean - distance))
    c = vectors(500).repeat(2, 1)
    draft.error(c, x_0).mean().backward()
    at_mean = [float(p.grad.abs().max()) for p in draft.parameters() if p.grad is not None]
    draft.zero_grad()
    draft.error(c, x_0 + 0.1).mean().backward()
    assert max(at_mean) < 1e-6
    assert draft.leave.bias.grad is not None
    torch.testing.assert_close(draft.leave.bias.grad, torch.full((32,), -2 * 0.1 / 32), rtol=1e-3, atol=1e-7)


def test_it_learns_the_mean_of_each_class() -> None:
    torch.manual_seed(0)
    draft = Draft(3, 32, 1, (2, 2)).eval()  # without dropout, which keeps it from being exact
    means = Rng.of(2, 3).normal((3, 1, 2, 2))
    y = torch.arange(300) % 3
    x_0 = means[y] + 0.1 * Rng.of(4, 300).normal((300, 1, 2, 2))
    truth = torch.stack([x_0[y == k].mean(0) for k in range(3)])
    optimizer = torch.optim.Adam(draft.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        draft.error(torch.eye(3)[y], x_0).mean().backward()
        optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(draft(torch.eye(3)), truth, atol=1e-3, rtol=0)


def test_its_error_is_the_distance_to_means() -> None:
    draft = Draft(3, 8, 3, (64, 64)).eval()
    x_0 = Rng.of(0, 2).normal((2, 3, 64, 64))
    c = vectors(2)
    means = x_0.unflatten(3, (32, 2)).unflatten(2, (32, 2)).mean((3, 5))
    with torch.no_grad():
        expected = (draft(c) - means).square().flatten(1).mean(1)
        torch.testing.assert_close(draft.error(c, x_0), expected)


# -- how it is taught --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("told", "silent"),
    [(Denoising(), Denoising(draft=0)), (Hybrid(), Hybrid(simple=Denoising(draft=0)))],
    ids=["denoising", "hybrid"],
)
def test_the_loss_is_that_of_the_denoiser(told: Objective, silent: Objective) -> None:
    """The draft's error adds gradients, and nothing to the value."""
    pipe = pipeline(variance=told.learns_variance)
    some, rng = batch(pipe), Rng.of(7, 6)
    some = replace(some, cond=Condition(vector=vectors(6, pipe.denoiser.network.cond_dim)))
    torch.testing.assert_close(told.loss(pipe.denoiser, some, rng), silent.loss(pipe.denoiser, some, rng))
    draft = pipe.denoiser.network.draft
    assert isinstance(draft, Draft)
    gradients = []
    for objective in (told, silent):
        pipe.module.zero_grad()
        objective.loss(pipe.denoiser, some, rng).mean().backward()
        assert draft.leave.bias.grad is not None
        gradients.append(draft.leave.bias.grad.clone())
    pipe.module.zero_grad()
    draft.error(some.cond.vector, some.x_0).mean().backward()
    torch.testing.assert_close(gradients[0] - gradients[1], draft.leave.bias.grad)


def test_the_bound_teaches_it_too() -> None:
    pipe = pipeline()
    some = replace(batch(pipe), cond=Condition(vector=vectors(6, pipe.denoiser.network.cond_dim)))
    objective, rng, draft = Bound(levels=None), Rng.of(7, 6), pipe.denoiser.network.draft
    assert isinstance(draft, Draft)
    assert some.cond is not None
    assert some.cond.vector is not None
    gradients = []
    for make in (
        lambda: objective.loss(pipe.denoiser, some, rng),
        lambda: objective.loss_at(pipe.denoiser, some, spread(some, rng), rng),
        lambda: draft.error(some.cond.vector, some.x_0),
    ):
        pipe.module.zero_grad()
        make().mean().backward()
        assert draft.leave.bias.grad is not None
        gradients.append(draft.leave.bias.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1] + gradients[2])


def test_a_model_without_a_draft_has_no_error() -> None:
    pipe = tiny.pipeline()
    assert pipe.denoiser.draft_error(torch.zeros(3, 1, 8, 8), batch(pipe, 3).cond) is None


def test_it_may_be_left_untold_of_augmentation() -> None:
    """The parameters of no change are zeros, whether they are given or left out."""
    pipe = pipeline(augment=Augmentation())
    x_0, told = torch.zeros(3, 1, 8, 8), batch(pipe, 3).cond
    assert told is not None
    assert told.vector is not None
    whole = replace(told, vector=torch.cat((told.vector, torch.zeros(3, Augmentation().width)), 1))
    errors = [pipe.denoiser.draft_error(x_0, cond) for cond in (told, whole)]
    assert errors[0] is not None
    torch.testing.assert_close(errors[0], errors[1], rtol=0, atol=0)


# -- how it is used ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", DRAFTED)
@pytest.mark.parametrize("shape", [(12,), (8, 8), (4, 4, 4)], ids=str)
def test_it_joins_the_input_at_any_size(kind: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = DRAFTED[kind].build(2, shape, 3)
    _randomize(network)
    for size in (shape, tuple(n + 3 for n in shape), tuple(n - 1 for n in shape)):
        x, c = Rng.of(0, 2).normal((2, 2, *size)), vectors(2)
        y = network(x, torch.zeros(2), Condition(vector=c))
        assert y.shape == x.shape
        assert y.isfinite().all()
        assert network.draft is not None
        with torch.no_grad():
            network.draft.leave.bias += 1
        assert not torch.equal(network(x, torch.zeros(2), Condition(vector=c)), y)
        with torch.no_grad():
            network.draft.leave.bias -= 1


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((4, 16, 16), (4, 16, 16)),
        ((3, 64, 64), (3, 32, 32)),
        ((3, 96, 33), (3, 48, 17)),
        ((1, 16_000), (1, 4000)),
        ((3, 8, 64, 64), (3, 2, 16, 16)),
    ],
    ids=str,
)
def test_it_stays_small(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    draft = Draft(3, 8, shape[0], shape[1:])
    assert draft.size == size
    assert draft(vectors(2)).shape == (2, *size)
    assert draft.leave.out_features <= VALUES


def test_it_needs_something_to_follow_from() -> None:
    with pytest.raises(IncompatibleError, match="told none") as caught:
        UNetConfig(draft=8).build(1, (8, 8))
    assert caught.value.field == "network.draft"


def test_samples_do_not_depend_on_their_neighbours() -> None:
    pipe = pipeline()
    many, one = (pipe.sample(n=n, seed=seed, steps=2, label=1).images for n, seed in ((4, 0), (1, 2)))
    assert (many[2] == one[0]).all()


def _randomize(network: Network) -> None:
    with torch.no_grad():
        for k, parameter in enumerate(network.parameters()):
            parameter.copy_(0.3 * Rng.of(k, 1).normal((1, parameter.numel())).reshape(parameter.shape))
