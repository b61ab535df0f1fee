"""Learning to encode and decode: what `task=autoencoder` minimises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..condition import Batch
from ..errors import IncompatibleError
from ..rng import Rng
from .base import Objective

if TYPE_CHECKING:
    from ..codecs import Latent

__all__ = ["Reconstruction"]


@dataclass(frozen=True)
class Reconstruction(Objective):
    """|x - D(z)| averaged over the values of x, plus the bottleneck's penalty, z ~ q(z | E(x)).

    Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.1.
    """

    def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
        codec = _codec(denoiser)
        x = batch.x_0
        z, penalty = codec.sampled(codec.encoded(x), rng)
        x_hat = _cropped(codec.decoded(z), x)
        return (x - x_hat).abs().flatten(1).mean(1) + penalty


def _codec(module: nn.Module) -> Latent:
    if not (hasattr(module, "sampled") and hasattr(module, "decoded")):
        raise IncompatibleError(
            f"{type(module).__name__} has no encoder and decoder",
            field="objective",
            hint="train an autoencoder with it: task=autoencoder",
        )
    return module  # type: ignore[return-value]


def _cropped(x: Tensor, like: Tensor) -> Tensor:
    """x without what padding to whole blocks added."""
    for axis, n in enumerate(like.shape[2:], start=2):
        x = x.narrow(axis, 0, n)
    return x
