"""U-Net: a pyramid of residual blocks with skip connections, in 1, 2 or 3 dimensions.

Ronneberger et al. 2015, arXiv:1505.04597; with residual blocks Ho et al. 2020, arXiv:2006.11239. Built for
speed: pixel unshuffling (Shi et al. 2016, arXiv:1609.05158) moves all the work to 1 / unshuffle^d as many
positions, and there are no normalisation layers, which cost more time than their arithmetic (see `layers` for
what replaces them).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..spec import Count, Range
from .base import Network, NetworkConfig
from .layers import Attention, ResidualBlock, conv, halve, patchify, resize_like, unpatchify

__all__ = ["UNet", "UNetConfig"]


@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """The settings of `UNet`."""

    widths: tuple[Count, ...] = (64, 128, 192)
    """Channels of the levels, from the finest to the coarsest, each half the size of the one before."""
    blocks: Count | tuple[Count, ...] = 2
    """Residual blocks of a level on the way down (one more on the way up): one number, or one per level."""
    unshuffle: Count = 2
    """The side of the pixel blocks that become channels first; 1 = none."""
    attention: Annotated[int, Range(ge=0)] = 0
    """How many of the coarsest levels have self-attention after each block."""
    head_width: Count = 32
    """Channels of one attention head."""
    embedding: Count = 256
    """Width of the embedding of the noise level and the condition."""
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Fraction of the features dropped in each residual block in training."""
    spatial_channels: Annotated[int, Range(ge=0)] = 0
    """Channels of `Condition.spatial`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = len(self.widths)
        if levels == 0:
            raise ConfigError("widths is empty", field="widths", hint="give one width per level, e.g. 64,128")
        if isinstance(self.blocks, tuple) and len(self.blocks) != levels:
            raise ConfigError(
                f"blocks has {len(self.blocks)} entries for {levels} widths",
                field="blocks",
                hint="give one number, or one per level",
            )
        if self.attention > levels:
            raise ConfigError(
                f"attention on {self.attention} of {levels} levels",
                field="attention",
                hint=f"give a number from 0 to {levels}",
            )
        for width in self.widths[levels - self.attention :]:
            if width % self.head_width:
                raise ConfigError(
                    f"head_width {self.head_width} does not divide width {width} of a level with attention",
                    field="head_width",
                    hint="choose a head_width that divides the widths of those levels",
                )

    @property
    def blocks_per_level(self) -> tuple[int, ...]:
        return self.blocks if isinstance(self.blocks, tuple) else (self.blocks,) * len(self.widths)

    def build(self, channels: int, shape: tuple[int, ...], cond_dim: int = 0) -> UNet:
        return UNet(self, channels, shape, cond_dim)


class Block(nn.Module):
    """A residual block, followed by residual self-attention over all positions where heads > 0."""

    def __init__(self, dims: int, width_in: int, width: int, heads: int, config: UNetConfig) -> None:
        super().__init__()
        self.residual = ResidualBlock(dims, width_in, width, config.embedding, dropout=config.dropout)
        self.attention = Attention(width, heads) if heads else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        x = self.residual(x, e)
        if self.attention is None:
            return x
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(F.rms_norm(tokens, tokens.shape[-1:], eps=1e-6))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class UNet(Network):
    """x -> unshuffle -> levels down, halving -> levels up, each block with one skip connection -> shuffle.

    Works at any spatial size: the unshuffling pads and crops, halving rounds up, and the way up takes the
    size of the skip connection. Raises IncompatibleError for points.
    """

    def __init__(self, config: UNetConfig, channels: int, shape: tuple[int, ...], cond_dim: int) -> None:
        super().__init__(
            channels,
            shape,
            cond_dim,
            spatial_channels=config.spatial_channels,
            embedding=config.embedding,
        )
        self.config = config
        dims, patch = len(shape), config.unshuffle ** len(shape)
        levels = [
            (wide, blocks, wide // config.head_width if level >= len(config.widths) - config.attention else 0)
            for level, (wide, blocks) in enumerate(zip(config.widths, config.blocks_per_level, strict=True))
        ]
        width = config.widths[0]
        skips = [width]
        self.enter = conv(dims, (channels + config.spatial_channels) * patch, width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (wide, blocks, heads) in enumerate(levels):
            if level:
                skips.append(width)  # the halved output of the level above
            for _ in range(blocks):
                self.down.append(Block(dims, width, wide, heads, config))
                skips.append(width := wide)
        for wide, blocks, heads in reversed(levels):
            for _ in range(blocks + 1):
                self.up.append(Block(dims, width + skips.pop(), wide, heads, config))
                width = wide
        self.leave = conv(dims, width, channels * patch, gain=0)

    def body(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.enter(patchify(x, self.config.unshuffle).movedim(-1, 1))
        skips = [h]
        down = iter(self.down)
        for level, blocks in enumerate(self.config.blocks_per_level):
            if level:
                skips.append(h := halve(h))
            for block in islice(down, blocks):
                skips.append(h := block(h, e))
        for block in self.up:
            skip = skips.pop()
            h = block(torch.cat([resize_like(h, skip), skip], 1), e)
        h = self.leave(F.silu(h))
        return unpatchify(h.movedim(1, -1), self.config.unshuffle, x.shape[2:])
