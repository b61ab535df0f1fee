"""DiT: a transformer on patches, modulated by the noise level (Peebles & Xie 2023, arXiv:2212.09748).

Told tokens, it attends to them after itself in every block (Chen et al. 2023, PixArt, arXiv:2310.00426).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers import GELU_GAIN, Attention, Context, CrossAttention, Rotation, linear, patchify, unpatchify
from ..spec import Count, Range
from .base import Network, NetworkConfig
from .positions import Kind, Positions

__all__ = ["DiT", "DiTConfig"]


@dataclass(frozen=True)
class DiTConfig(NetworkConfig):
    """The settings of `DiT`."""

    patch: Count = 4
    """The side of the patches that become tokens."""
    width: Count = 192
    """Channels of a token."""
    depth: Count = 6
    """Transformer blocks."""
    heads: Count = 6
    """Attention heads; they divide the width."""
    expansion: Count = 4
    """Hidden channels of a block's feed-forward part, in widths."""
    embedding: Count = 256
    """Width of the embedding of the noise level and the condition."""
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Fraction of the hidden features of each feed-forward part dropped in training."""
    positions: Kind = "sincos"
    """How patches are told apart: fixed waves, a learned table, or rotations of queries and keys."""
    spatial_channels: Annotated[int, Range(ge=0)] = 0
    """Channels of `Condition.spatial`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(
                f"heads {self.heads} does not divide width {self.width}",
                field="heads",
                hint="choose a number of heads that divides the width",
            )

    def build(
        self,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int = 0,
        out: int | None = None,
        tokens: int = 0,
    ) -> DiT:
        return DiT(self, channels, shape, cond_dim, out, tokens)


class Modulation(nn.Module):
    """e (B, E) -> `count` tensors (B, 1, width), all 0 at the start: adaLN-zero."""

    def __init__(self, embedding: int, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = linear(embedding, count * width, gain=0)

    def forward(self, e: Tensor) -> tuple[Tensor, ...]:
        return self.linear(e)[:, None].chunk(self.count, -1)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """layer_norm(x) (1 + scale) + shift over the last axis."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


class Block(nn.Module):
    """x += g_1 attention(modulate(x)); x += cross(rms_norm(x), tokens); x += g_2 W_2 gelu(W_1 modulate(x))."""

    def __init__(self, config: DiTConfig, tokens: int) -> None:
        super().__init__()
        width, hidden = config.width, config.expansion * config.width
        self.modulation = Modulation(config.embedding, width, 6)
        # The gates start at 0, so the branches need not: with both at 0 neither would ever move.
        self.attention = Attention(width, config.heads, gain=1)
        self.cross = CrossAttention(width, config.heads, tokens) if tokens else None
        self.widen = linear(width, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.narrow = linear(hidden, width, gain=GELU_GAIN)

    def forward(self, x: Tensor, e: Tensor, context: Context | None, rotation: Rotation | None) -> Tensor:
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = self.modulation(e)
        x = torch.addcmul(x, gate_1, self.attention(modulate(x, scale_1, shift_1), rotation))
        if self.cross is not None and context is not None:
            x = x + self.cross(F.rms_norm(x, x.shape[-1:], eps=1e-6), context)
        h = F.gelu(self.widen(modulate(x, scale_2, shift_2)), approximate="tanh")
        return torch.addcmul(x, gate_2, self.narrow(self.dropout(h)))


class DiT(Network):
    """x -> patches -> tokens with positions -> blocks -> patches, on a grid of ceil(S / patch) tokens.

    Works at any spatial size: x is padded to whole patches and the result cropped, positions are stretched to
    the grid it was built for. Raises IncompatibleError for points.
    """

    attends: ClassVar = True

    def __init__(
        self,
        config: DiTConfig,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int,
        out: int | None = None,
        tokens: int = 0,
    ) -> None:
        super().__init__(
            channels,
            shape,
            cond_dim,
            out,
            tokens,
            spatial_channels=config.spatial_channels,
            embedding=config.embedding,
        )
        self.config = config
        self.grid = tuple(math.ceil(n / config.patch) for n in shape)
        volume = config.patch ** len(shape)
        self.enter = linear((channels + config.spatial_channels) * volume, config.width)
        self.positions = Positions(config.positions, self.grid, config.width, config.heads)
        self.blocks = nn.ModuleList(Block(config, tokens) for _ in range(config.depth))
        self.modulation = Modulation(config.embedding, config.width, 2)
        self.leave = linear(config.width, self.out * volume, gain=0)

    def trunk(self) -> list[nn.Module]:
        return list(self.blocks)

    def body(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        patches = patchify(x, self.config.patch)
        grid = tuple(patches.shape[1:-1])
        h, rotation = self.positions(self.enter(patches.flatten(1, -2)), grid)
        for block in self.blocks:
            h = block(h, e, context, rotation)
        h = self.leave(modulate(h, *self.modulation(e)))
        return unpatchify(h.unflatten(1, grid), self.config.patch, x.shape[2:])
