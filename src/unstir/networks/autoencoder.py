"""A denoising autoencoder: the simplest network for images (Vincent et al. 2008, ICML).

Everything passes through the bottleneck: without skip connections it draws blurred pictures, and shows what
the skip connections of a `UNet` are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers import SILU_GAIN, Context, FiLM, conv, resize_like
from ..spec import Count, Range
from .base import Network, NetworkConfig

__all__ = ["Autoencoder", "AutoencoderConfig"]


@dataclass(frozen=True)
class AutoencoderConfig(NetworkConfig):
    """The settings of `Autoencoder`."""

    widths: tuple[Count, ...] = (32, 64, 128)
    """Channels of the encoder's levels, each half the size of the one before; the decoder mirrors them."""
    bottleneck: Count = 32
    """Channels of the code, at the coarsest size."""
    embedding: Count = 128
    """Width of the embedding of the noise level and the condition."""
    spatial_channels: Annotated[int, Range(ge=0)] = 0
    """Channels of `Condition.spatial`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise ConfigError("widths is empty", field="widths", hint="give one width per level, e.g. 32,64")

    def build(
        self,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int = 0,
        out: int | None = None,
        tokens: int = 0,
    ) -> Autoencoder:
        return Autoencoder(self, channels, shape, cond_dim, out, tokens)


class Layer(nn.Module):
    """silu(FiLM(conv(x), e))."""

    def __init__(
        self,
        dims: int,
        width_in: int,
        width: int,
        embedding: int,
        *,
        stride: int = 1,
        gain: float = SILU_GAIN,
    ) -> None:
        super().__init__()
        self.conv = conv(dims, width_in, width, stride=stride, gain=gain)
        self.film = FiLM(width, embedding)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return F.silu(self.film(self.conv(x), e))


class Autoencoder(Network):
    """x -> strided convolutions -> code -> nearest-neighbour growth and convolutions -> x's size.

    Fully convolutional: works at any spatial size. Raises IncompatibleError for points.
    """

    config: AutoencoderConfig

    def __init__(
        self,
        config: AutoencoderConfig,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int,
        out: int | None = None,
        tokens: int = 0,
    ) -> None:
        super().__init__(config, channels, shape, cond_dim, out, tokens)
        dims, e = len(shape), config.embedding
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        width, gain = self.inputs, 1.0
        for wide in config.widths:
            self.encoder.append(Layer(dims, width, wide, e, stride=2, gain=gain))
            width, gain = wide, SILU_GAIN
        self.code = Layer(dims, width, config.bottleneck, e)
        width = config.bottleneck
        for wide in reversed(config.widths):
            self.decoder.append(Layer(dims, width, wide, e))
            width = wide
        self.leave = conv(dims, width, self.out, gain=0)

    def body(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        finer = []
        for layer in self.encoder:
            finer.append(x)  # only its size is used
            x = layer(x, e)
        x = self.code(x, e)
        for layer in self.decoder:
            x = layer(resize_like(x, finer.pop()), e)
        return self.leave(x)
