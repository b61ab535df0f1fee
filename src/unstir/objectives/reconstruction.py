"""Learning to encode and decode: what `task=autoencoder` minimises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from ..condition import Batch
from ..errors import ConfigError, IncompatibleError
from ..layers import cropped
from ..rng import Rng
from ..spec import Count, Range, validate
from .base import Objective
from .critic import Critic, contest, normalised

if TYPE_CHECKING:
    from ..codecs import Latent

__all__ = ["Reconstruction"]


@dataclass(frozen=True)
class Reconstruction(Objective):
    """|x - x_hat| averaged over the values of x, plus the bottleneck's penalty; x_hat = D(z), z ~ q(z | E(x)).

    Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.1. Two terms, which
    make reconstructions sharp rather than near, can join it:

    `features` times the distance of what a network that was trained on the data sees in x and in x_hat, see `distance`.

    `adversarial`: a critic (see `Critic`) learns to tell x from x_hat, and x_hat is pushed where the critic takes it
    for data. The push on a reconstruction has `adversarial` times the strength of |x - x_hat|'s: its gradient by x_hat
    is given that length, whatever the critic's own scale (Esser et al. 2021, "Taming Transformers for High-Resolution
    Image Synthesis", eq. 7, measured at the picture and for each picture on its own). The critic's loss and the push
    are one backward pass and reach disjoint parameters. A game has no loss that falls, so they add their gradients and
    nothing to the value: the training loss and the held-out loss, which leaves them out, can be compared.
    """

    adversarial: Annotated[float, Range(ge=0)] = 0.0
    """Strength of the critic's push against that of |x - x_hat|; 0 = no critic."""
    features: Annotated[float, Range(ge=0)] = 0.0
    """Weight of the distance of features; 0 = none are compared. The network is trained on the data first, once."""
    critic_from: Annotated[int, Range(ge=0)] = 50_000
    """Samples seen until the critic enters; its push rises to its full strength over as many again."""
    critic_width: Count = 32
    """Channels of the critic's first layer."""
    critic_scales: Count = 2
    """How many sizes the critic looks at, each half the one before."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    def critic(self, axes: int, channels: int) -> Critic | None:
        """The critic that training needs beside the autoencoder, with fresh weights; None: none."""
        return Critic(axes, channels, self.critic_width, self.critic_scales) if self.adversarial else None

    def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
        codec = _codec(denoiser)
        x = batch.x_0
        z, penalty = codec.sampled(codec.encoded(x), rng)
        x_hat = cropped(codec.decoded(z), x.shape[2:])
        loss = (x - x_hat).abs().flatten(1).mean(1) + penalty
        if self.features:
            if codec.maps is None:
                raise _lacks("features to compare", "features")
            with torch.no_grad():
                told = codec.maps(x)
            loss = loss + self.features * distance(told, codec.maps(x_hat))
        if self.adversarial and codec.training:
            loss = loss + self._played(codec, x, x_hat, batch.index)
        return loss

    def _played(self, codec: Latent, x: Tensor, x_hat: Tensor, index: Tensor | None) -> Tensor:
        """(B,) zeros with the gradients of the critic's loss and of its push on x_hat."""
        if codec.critic is None:
            raise _lacks("critic", "adversarial")
        seen = torch.full_like(x[:, 0].flatten(1)[:, 0], torch.inf) if index is None else index
        if not bool((seen >= self.critic_from).any()):
            return torch.zeros(len(x), device=x.device)
        with codec.precision(x):
            lost, wish = contest(codec.critic, x, x_hat)
        strength = self.adversarial * ((seen - self.critic_from + 1) / (self.critic_from + 1)).clamp(0, 1)
        push = strength.to(x) * (normalised(wish) * x_hat).flatten(1).sum(1)
        played = (seen >= self.critic_from) * lost + push
        return played - played.detach()


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """The mean over maps and positions of |f/|f| - g/|g||^2, f and g the channels there, (B,): 0 to 4.

    Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", eq. 1 with w = 1.

    Args:
        a, b: as many maps, (B, C, *S) each; of any sizes.
    """
    parts = [(_unit(f) - _unit(g)).square().sum(1).flatten(1).mean(1) for f, g in zip(a, b, strict=True)]
    return torch.stack(parts).mean(0)


def _unit(f: Tensor) -> Tensor:
    f = f.float()
    return f * torch.rsqrt(f.square().sum(1, keepdim=True) + 1e-10)


def _lacks(what: str, field: str) -> ConfigError:
    return ConfigError(
        f"the autoencoder was given no {what}",
        field=f"objective.{field}",
        hint="train it by `unstir train DATA task=autoencoder`, which makes it, or leave the term out",
    )


def _codec(module: nn.Module) -> Latent:
    if not (hasattr(module, "sampled") and hasattr(module, "decoded")):
        raise IncompatibleError(
            f"{type(module).__name__} has no encoder and decoder",
            field="objective",
            hint="train an autoencoder with it: task=autoencoder",
        )
    return module  # type: ignore[return-value]
