"""Learned codecs against closed forms: penalties, the critic's game, the book of codes, consistency functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call
from torch.nn import functional as F

from unstir.codecs import VAE, VQVAE, Consistency, ConsistencyConfig, VAEConfig, VQVAEConfig
from unstir.condition import Batch
from unstir.networks import UNetConfig
from unstir.objectives import Consistency as ConsistencyTraining, Reconstruction
from unstir.objectives.consistency import karras
from unstir.objectives.critic import Critic, contest, normalised
from unstir.objectives.reconstruction import distance
from unstir.rng import Rng

SMALL = {"widths": (8, 16), "blocks": 1, "data_channels": 1, "stored": "numbers"}


def vae(**changes: object) -> VAE:
    torch.manual_seed(0)
    return VAEConfig(**SMALL | changes).build()  # type: ignore[arg-type]


def data(n: int = 3, size: int = 8) -> Tensor:
    return Rng.of(5, n).normal((n, 1, size, size))


# -- the bottleneck ----------------------------------------------------------------------------------------


def test_the_penalty_is_the_divergence_per_value_of_the_data() -> None:
    codec = vae(kl=0.5)
    h = Rng.of(0, 2).normal((2, 8, 2, 2))
    m, v = h.chunk(2, 1)
    expected = kl_divergence(Normal(m, (v / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(codec.divergence(h), expected)
    torch.testing.assert_close(codec.sampled(h, Rng.of(0, 2)).penalty, 0.5 * expected / 64)


def test_what_is_drawn_has_the_law_that_the_encoder_says() -> None:
    codec, n = vae(), 4000
    h = torch.tensor([0.5, -1.0, 2.0, 0.0, -2.0, 0.0, 1.0, -40.0]).view(1, 8, 1, 1).expand(n, 8, 1, 1)
    z = codec.sampled(h, Rng.of(0, n)).z[:, :, 0, 0]
    torch.testing.assert_close(z.mean(0), h[0, :4, 0, 0], atol=0.1, rtol=0)
    deviation = torch.tensor([math.exp(-1), 1.0, math.exp(0.5), math.exp(-15)])
    torch.testing.assert_close(z.std(0), deviation, atol=0.05, rtol=0)


def test_shift_and_scale_are_mean_and_deviation_of_the_latents() -> None:
    codec, x = vae(), data(6)
    shift, scale = codec.statistics([x[:4], x[4:]])
    z = codec.centre(codec.encoded(x)).double()
    torch.testing.assert_close(torch.tensor(shift).double(), z.mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(scale).double(), z.std((0, 2, 3), correction=0))
    again = replace(codec.config, shift=shift, scale=scale).build()
    again.load_state_dict(codec.state_dict())
    told = again.encode(x)
    torch.testing.assert_close(told.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(told.std((0, 2, 3), correction=0), torch.ones(4))
    torch.testing.assert_close(again.values(told), codec.decoded(codec.centre(codec.encoded(x))))


# -- features ----------------------------------------------------------------------------------------------


def test_the_distance_of_features_is_that_of_their_directions() -> None:
    f = Rng.of(0, 2).normal((2, 3, 4, 4))
    assert float(distance([f, f], [f, 7 * f]).abs().max()) < 1e-6
    torch.testing.assert_close(distance([f], [-f]), torch.full((2,), 4.0))
    a, b = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    a[0, 0], b[0, 1] = 3.0, 0.2
    torch.testing.assert_close(distance([a], [b]), torch.tensor([2.0]))
    torch.testing.assert_close(distance([a, a], [b, a]), torch.tensor([1.0]))  # the mean over maps


# -- the critic --------------------------------------------------------------------------------------------


class Given(nn.Module):
    """A critic whose logits are weights times the data, so that its game has a closed form."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.weight * x]


def test_the_hinge_and_the_wish_of_a_critic_that_is_known() -> None:
    x, x_hat = torch.full((1, 1, 2, 2), 0.5), torch.tensor([[[[0.5, -0.5], [-2.0, 0.1]]]])
    critic = Given(1.0)
    lost, wish = contest(critic, x, x_hat)
    assert lost.item() == pytest.approx(0.5 + (1.5 + 0.5 + 0 + 1.1) / 4)
    torch.testing.assert_close(wish, torch.full_like(wish, -1 / 4))  # of -mean D by x_hat
    lost.sum().backward()
    assert float(critic.weight.grad) == pytest.approx(-0.5 + (0.5 - 0.5 + 0.1) / 4)  # type: ignore[arg-type]


def test_the_push_is_as_long_as_that_of_the_absolute_error() -> None:
    x, x_hat = data(4), data(4).roll(1, 0).requires_grad_()
    (pull,) = torch.autograd.grad((x - x_hat).abs().flatten(1).mean(1).sum(), x_hat)
    push = normalised(1e-3 * data(4).roll(2, 0))
    torch.testing.assert_close(push.flatten(1).norm(dim=1), pull.flatten(1).norm(dim=1))
    assert float(normalised(torch.zeros(2, 1, 3)).abs().max()) == 0


def gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names = dict(module.named_parameters())
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(names.items(), found, strict=True)
    }


def test_one_backward_pass_is_both_players_each_by_its_own_loss() -> None:
    """The critic by the hinge alone, the autoencoder by its loss and the push through a critic that stands still."""
    objective = Reconstruction(adversarial=0.7, critic_from=0, critic_width=4)
    codec, x, rng = vae(), data(), Rng.of(0, 3)
    codec.critic = critic = objective.critic(2, 1)
    assert critic is not None
    batch = Batch(x, index=torch.arange(3))
    both = gradients(codec, objective.loss(codec.train(), batch, rng).sum())
    z, penalty = codec.sampled(codec.encoded(x), rng)
    x_hat = codec.decoded(z)
    frozen = {name: p.detach() for name, p in critic.named_parameters()}
    scores = torch.stack([m.flatten(1).mean(1) for m in functional_call(critic, frozen, (x_hat,))]).mean(0)
    (wish,) = torch.autograd.grad(-scores.sum(), x_hat, retain_graph=True)
    weight = 0.7 / 8 / wish.flatten(1).norm(dim=1)
    own = (x - x_hat).abs().flatten(1).mean(1) + penalty - weight.detach() * scores
    hinge = contest(critic, x, x_hat.detach())[0]
    expected = gradients(codec, own.sum() + hinge.sum())
    for name, gradient in expected.items():
        torch.testing.assert_close(both[name], gradient, atol=1e-6, rtol=1e-4)
    assert any(float(g.abs().max()) > 0 for name, g in both.items() if name.startswith("critic"))


def test_the_game_has_gradients_and_no_value_and_is_not_played_on_held_out_items() -> None:
    played, plain = Reconstruction(adversarial=0.7, critic_from=0, critic_width=4), Reconstruction()
    codec, batch, rng = vae(), Batch(data(), index=torch.arange(3)), Rng.of(0, 3)
    codec.critic = played.critic(2, 1)
    loss = plain.loss(codec, batch, rng)
    torch.testing.assert_close(played.loss(codec.train(), batch, rng), loss)
    with torch.no_grad():  # nothing to play with
        assert torch.equal(played.loss(codec.eval(), batch, rng), loss)


def test_the_critic_enters_after_so_many_samples_and_gains_strength() -> None:
    objective = Reconstruction(adversarial=1.0, critic_from=99, critic_width=4)
    codec, x = vae().train(), data(1)
    codec.critic = objective.critic(2, 1)

    def found(seen: int) -> tuple[float, float]:
        loss = objective.loss(codec, Batch(x, index=torch.tensor([seen])), Rng.of(0, 1)).sum()
        plain = Reconstruction().loss(codec, Batch(x), Rng.of(0, 1)).sum()
        with_critic, without = gradients(codec, loss), gradients(codec, plain)
        push = sum(float((with_critic[n] - without[n]).square().sum()) for n in without if "critic" not in n)
        return push**0.5, sum(float(g.square().sum()) for n, g in with_critic.items() if "critic" in n)

    assert found(98) == (0.0, 0.0)
    first, half, full = found(99), found(148), found(198)
    assert first[1] == half[1] == full[1] > 0  # the critic learns from the start on
    assert first[0] / full[0] == pytest.approx(0.01, rel=1e-2)
    assert half[0] / full[0] == pytest.approx(0.5, rel=1e-2)
    assert found(10**6)[0] == pytest.approx(full[0])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_critic_judges_each_row_alone_at_each_scale(axes: int) -> None:
    critic, x = Critic(axes, 2, 4, 2), Rng.of(0, 3).normal((3, 2, *(9, 7, 5)[:axes]))
    maps = critic(x)
    assert [tuple(m.shape) for m in maps] == [
        (3, 1, *(math.ceil(n / k) for n in x.shape[2:])) for k in (4, 8)
    ]
    for part, whole in zip(critic(x[1:2]), maps, strict=True):
        torch.testing.assert_close(part, whole[1:2])


# -- the book ----------------------------------------------------------------------------------------------


def vq(**changes: object) -> VQVAE:
    torch.manual_seed(0)
    return VQVAEConfig(**SMALL | {"codes": 16} | changes).build()  # type: ignore[arg-type]


def test_the_decoder_sees_the_nearest_codes_and_the_encoder_its_gradient() -> None:
    codec = vq()
    z = Rng.of(0, 2).normal((2, 4, 3, 3)).requires_grad_()
    flat = z.detach().movedim(1, -1).reshape(-1, 4)
    nearest = torch.cdist(flat, codec.table.detach()).argmin(1)
    assert torch.equal(codec.nearest(z).flatten(), nearest)
    e = codec.table.detach()[nearest].view(2, 3, 3, 4).movedim(-1, 1).requires_grad_()
    x, expected = codec.decoded(z), codec.decoder(e)
    torch.testing.assert_close(x, expected)
    weight = Rng.of(1, 2).normal(tuple(x.shape))
    torch.testing.assert_close(
        torch.autograd.grad((x * weight).sum(), z)[0], torch.autograd.grad((expected * weight).sum(), e)[0]
    )


def test_the_book_learns_from_the_latents_and_these_are_held_to_it() -> None:
    """Equation 3: each term has one of both as its learner."""
    codec = vq(book=2.0, commitment=0.25)
    z = Rng.of(0, 2).normal((2, 4, 3, 3)).requires_grad_()
    penalty = codec.eval().sampled(z, Rng.of(0, 2)).penalty
    e = codec.codes(z)
    torch.testing.assert_close(penalty, 2.0 * 1.25 * (z - e).square().flatten(1).mean(1))
    to_z, to_book = torch.autograd.grad(penalty.sum(), (z, codec.table))
    torch.testing.assert_close(to_z, 2.0 * 0.25 * 2 * (z - e) / 36)
    alone = torch.autograd.grad(
        2.0 * (z.detach() - codec.codes(z)).square().flatten(1).mean(1).sum(), codec.table
    )
    torch.testing.assert_close(to_book, alone[0])


def test_codes_without_use_move_to_latents_always_the_same() -> None:
    def after(seed: int) -> VQVAE:
        codec = vq(codes=8).train()
        with torch.no_grad():
            codec.table[4:] += 100.0  # far from everything
        for k in range(200):
            codec.sampled(Rng.of(seed + 8 * k, 8).normal((8, 4, 2, 2)), Rng.of(8 * k, 8))
        return codec

    one, two = after(0), after(0)
    assert torch.equal(one.table, two.table)
    assert torch.equal(one.usage, two.usage)
    assert one.table.abs().max().item() < 10
    assert one.perplexity > 4 > vq(codes=8).train().perplexity - 8


def test_a_latent_that_is_not_finite_does_not_reach_the_book() -> None:
    codec = vq().train()
    before = codec.table.detach().clone(), codec.usage.clone()
    codec.sampled(torch.full((2, 4, 3, 3), torch.nan), Rng.of(0, 2))
    assert torch.equal(codec.table, before[0])
    assert torch.equal(codec.usage, before[1])


def test_perplexity_counts_codes_that_are_used_alike() -> None:
    codec = vq(codes=8)
    assert codec.perplexity == pytest.approx(8)
    codec.usage.copy_(torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0]))
    assert codec.perplexity == pytest.approx(2)


# -- consistency -------------------------------------------------------------------------------------------


def consistency(**changes: object) -> Consistency:
    base = vae(shift=(0.0, 1.0, 2.0, 3.0), scale=(1.0, 2.0, 1.0, 1.0))
    config = ConsistencyConfig(denoiser=UNetConfig(widths=(8, 16)), **changes).after(base)  # type: ignore[arg-type]
    codec = config.build()
    codec.adopt(base)
    with torch.no_grad():
        for k, p in enumerate(codec.decoder.parameters()):
            p.copy_(0.3 * Rng.of(k, 1).normal((1, p.numel())).view(p.shape))
    return codec


def test_at_the_lowest_level_a_consistency_function_is_the_identity_exactly() -> None:
    codec = consistency()
    x, told = codec.pair(data())
    assert torch.equal(codec.consistent(x, torch.full((3,), codec.smallest), told), x)
    assert not torch.equal(codec.consistent(x, torch.full((3,), 0.01), told), x)


def test_it_decodes_by_the_steps_of_its_levels() -> None:
    codec = consistency(levels=(80.0, 2.0))
    z = codec.centre(codec.encoded(data()))
    told = codec.told(z)
    n = [Rng.of(0, 1).fork("decode", k).normal((1, 1, 8, 8)) for k in range(2)]
    x = codec.consistent((80.0 * n[0]).expand(3, -1, -1, -1), torch.full((3,), 80.0), told)
    again = x + math.sqrt(2.0**2 - codec.smallest**2) * n[1]
    torch.testing.assert_close(codec.decoded(z), codec.consistent(again, torch.full((3,), 2.0), told))
    torch.testing.assert_close(codec.decoded(z[1:2]), codec.decoded(z)[1:2])  # of its neighbours nothing
    torch.testing.assert_close(told[:, :, ::4, ::4], (z - codec.shift) / codec.scale)


class Linear(nn.Module):
    """f(x, sigma_i) = a_i x on data without a latent: the family that holds the answer for Gaussian data."""

    smallest, largest = 0.002, 80.0

    def __init__(self, sigma: Tensor, a: Tensor) -> None:
        super().__init__()
        self.sigma, self.a = sigma, nn.Parameter(a)

    def pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x

    def consistent(self, x: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
        level = (self.sigma[None] - sigma[:, None]).abs().argmin(1)
        return self.a[level][:, None] * x


def slope(a: Tensor, std: float, pairs: int, n: int) -> Tensor:
    """The gradient of consistency training by each a_i, of data N(0, std^2)."""
    objective = ConsistencyTraining(pairs=pairs, most_pairs=pairs)
    module = Linear(karras(pairs + 1, 0.002, 80.0), a)
    x = std * Rng.of(0, n).normal((n, 1), torch.float64)
    objective.loss(module, Batch(x), Rng.of(1, n)).mean().backward()
    assert module.a.grad is not None
    return module.a.grad[1:]


def test_for_gaussian_data_the_minimum_of_consistency_training_is_where_algebra_has_it() -> None:
    """The best a_i is a_(i-1) cov(x + s n, x + t n)/var(x + t n) = a_(i-1) (v + s t)/(v + t^2), t the level of i."""
    std, pairs, n = 0.7, 6, 60_000
    sigma = karras(pairs + 1, 0.002, 80.0)
    below, above = sigma[:-1], sigma[1:]
    best = torch.cat((torch.ones(1).double(), ((std**2 + below * above) / (std**2 + above**2)).cumprod(0)))
    found = slope(best.clone(), std, pairs, n)
    for k in range(pairs):
        low, high = best.clone(), best.clone()
        low[k + 1] *= 0.9
        high[k + 1] *= 1.1
        left, right = (slope(a, std, pairs, n)[k] for a in (low, high))
        assert left < 0 < right
        assert abs(float(found[k])) < 0.15 * min(-float(left), float(right)), k


def test_many_levels_lead_to_the_map_along_the_flow() -> None:
    """a(t) -> ((v + eps^2)/(v + t^2))^(1/2), which solves the flow's equation for Gaussian data, with error O(1/n)."""
    std, errors = 0.5, []
    for pairs in (160, 320, 640):
        sigma = karras(pairs + 1, 0.002, 80.0)
        a = ((std**2 + sigma[:-1] * sigma[1:]) / (std**2 + sigma[1:] ** 2)).log().sum().exp()
        exact = math.sqrt((std**2 + 0.002**2) / (std**2 + 80.0**2))
        errors.append(abs(float(a) / exact - 1))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)
    assert errors[2] < 0.05


def test_pairs_of_levels_are_drawn_by_their_share_of_the_law_and_double_with_time() -> None:
    objective, n = ConsistencyTraining(pairs=4, most_pairs=16, double_every=100), 20_000
    rng = Rng.of(0, n)

    def drawn(seen: int) -> tuple[Tensor, Tensor]:
        return objective.levels(torch.full((n,), seen), rng, 0.002, 80.0)

    cdf: Callable[[Tensor], Tensor] = Normal(torch.tensor(-1.1).double(), 2.0).cdf
    for seen, pairs in ((0, 4), (99, 4), (100, 8), (250, 16), (10**9, 16)):
        sigma = karras(pairs + 1, 0.002, 80.0)
        share = cdf(sigma.log()).diff()
        a, b = drawn(seen)
        for k in range(pairs):
            mine = b == sigma[k + 1]
            assert bool((a[mine] == sigma[k]).all())
            assert float(mine.double().mean()) == pytest.approx(float(share[k] / share.sum()), abs=0.015)
    mixed = objective.levels(torch.tensor([0, 100] * (n // 2)), rng, 0.002, 80.0)[1]
    assert torch.equal(mixed[::2], drawn(0)[1][::2])
    assert torch.equal(mixed[1::2], drawn(100)[1][1::2])


def test_neighbours_share_noise_and_the_lower_one_learns_nothing() -> None:
    codec = consistency()
    loss = ConsistencyTraining().loss(codec, Batch(data(), index=torch.arange(3)), Rng.of(0, 3))
    assert loss.shape == (3,)
    loss.sum().backward()
    assert all(p.grad is None for p in codec.encoder.parameters())
    assert not any(p.requires_grad for p in codec.encoder.parameters())
    assert any(float(p.grad.abs().max()) > 0 for p in codec.decoder.parameters() if p.grad is not None)


def test_the_latent_is_enlarged_as_its_blocks_lie() -> None:
    codec, x = consistency(), data(1, 6)
    padded, told = codec.pair(x)
    assert padded.shape == (1, 1, 8, 8)
    assert told.shape == (1, 4, 8, 8)
    assert torch.equal(told, F.interpolate(told[:, :, ::4, ::4], scale_factor=4, mode="nearest"))
