"""U-Net: a pyramid of residual blocks with skip connections, in 1, 2 or 3 dimensions.

Ronneberger et al. 2015, arXiv:1505.04597; with residual blocks Ho et al. 2020, arXiv:2006.11239. Built for
speed: pixel unshuffling (Shi et al. 2016, arXiv:1609.05158) moves all the work to 1 / unshuffle^d as many
positions, and the only normalisation is that of single positions, a fused kernel without weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers import (
    Attention,
    Context,
    CrossAttention,
    ResidualBlock,
    conv,
    halve,
    patchify,
    resize_like,
    unit,
    unpatchify,
)
from ..spec import Count, Range
from .base import Network, NetworkConfig, deaf

__all__ = ["UNet", "UNetConfig"]


@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """The settings of `UNet`."""

    widths: tuple[Count, ...] = (64, 128, 192)
    """Channels of the levels, from the finest to the coarsest, each half the size of the one before."""
    blocks: Count | tuple[Count, ...] = 1
    """Residual blocks of a level on the way down, and again on the way up: one number, or one per level."""
    unshuffle: Count = 2
    """The side of the pixel blocks that become channels first; 1 = none."""
    attention: Annotated[int, Range(ge=0)] = 0
    """How many of the coarsest levels have self-attention after each block, and attend to the text."""
    head_width: Count = 32
    """Channels of one attention head."""
    embedding: Count = 256
    """Width of the embedding of the noise level and the condition."""
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Fraction of the features dropped in each residual block in training."""
    spatial_channels: Annotated[int, Range(ge=0)] = 0
    """Channels of `Condition.spatial`."""
    draft: Annotated[int, Range(ge=0, le=4096)] = 0
    """Hidden width of the draft that the condition's vector makes of x_0 and that joins x as channels; 0 = none."""

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

    def build(
        self,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int = 0,
        out: int | None = None,
        tokens: int = 0,
    ) -> UNet:
        return UNet(self, channels, shape, cond_dim, out, tokens)


class Block(nn.Module):
    """A residual block, where heads > 0 followed by residual attention over all positions, then to the tokens."""

    def __init__(self, dims: int, width: int, heads: int, tokens: int, config: UNetConfig) -> None:
        super().__init__()
        self.residual = ResidualBlock(dims, width, width, config.embedding, dropout=config.dropout)
        self.attention = Attention(width, heads) if heads else None
        self.cross = CrossAttention(width, heads, tokens) if heads and tokens else None

    def forward(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        x = self.residual(x, e)
        if self.attention is None:
            return x
        h = x.flatten(2).transpose(1, 2)
        h = h + self.attention(F.rms_norm(h, h.shape[-1:], eps=1e-6))
        if self.cross is not None and context is not None:
            h = h + self.cross(F.rms_norm(h, h.shape[-1:], eps=1e-6), context)
        return h.transpose(1, 2).unflatten(2, x.shape[2:])


class UNet(Network):
    """x -> unshuffle -> levels down, each half as wide -> levels up, each joined by its skip -> shuffle.

    On the way up h <- resize(A h) + B skip, with 1x1 convolutions A at the coarse and B at the fine size: the
    same maps as a 1x1 convolution of both joined, at about a quarter of the cost, and a fraction of that of
    giving every block of the way up a skip connection of its own.

    Works at any spatial size: the unshuffling pads and crops, halving rounds up, and the way up takes the
    size of the skip connection. Tokens are attended to on the levels with attention (Rombach et al. 2022,
    arXiv:2112.10752, section 3.3). Raises IncompatibleError for points, and for tokens without such a level.
    """

    attends: ClassVar = True
    config: UNetConfig

    def __init__(
        self,
        config: UNetConfig,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int,
        out: int | None = None,
        tokens: int = 0,
    ) -> None:
        super().__init__(config, channels, shape, cond_dim, out, tokens)
        if tokens and not config.attention:
            raise deaf("this unet", "has attention on none of its levels")
        dims, patch, widths = len(shape), config.unshuffle ** len(shape), config.widths

        def levels() -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleList(Block(dims, width, self._heads(level), tokens, config) for _ in range(blocks))
                for level, (width, blocks) in enumerate(zip(widths, config.blocks_per_level, strict=True))
            )

        self.enter = conv(dims, self.inputs * patch, widths[0])
        self.down, self.up = levels(), levels()
        self.shrink = nn.ModuleList(conv(dims, a, b, kernel=1) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(conv(dims, b, a, kernel=1, gain=0.5**0.5) for a, b in pairwise(widths))
        self.keep = nn.ModuleList(conv(dims, a, a, kernel=1, gain=0.5**0.5) for a in widths[:-1])
        self.leave = conv(dims, widths[0], self.out * patch, gain=0)

    def _heads(self, level: int) -> int:
        config = self.config
        coarse = level >= len(config.widths) - config.attention
        return config.widths[level] // config.head_width if coarse else 0

    def trunk(self) -> list[nn.Module]:
        return [block for level in (*self.down, *reversed(list(self.up))) for block in level.children()]

    def body(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        h = self.enter(patchify(x, self.config.unshuffle).movedim(-1, 1))
        skips = []
        for level, blocks in enumerate(self.down):
            if level:
                skips.append(h)
                h = self.shrink[level - 1](halve(h))
            for block in blocks.children():
                h = block(h, e, context)
        for level in reversed(range(len(self.up))):
            for block in self.up[level].children():
                h = block(h, e, context)
            if level:
                skip = skips.pop()
                h = resize_like(self.grow[level - 1](h), skip) + self.keep[level - 1](skip)
        h = self.leave(F.silu(unit(h)))
        return unpatchify(h.movedim(1, -1), self.config.unshuffle, x.shape[2:])
