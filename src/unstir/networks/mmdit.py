"""MMDiT: a transformer of two streams, patches and text, that attend to each other (Esser et al. 2024).

"Scaling Rectified Flow Transformers", arXiv:2403.03206, section 4: the network of Stable Diffusion 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, IncompatibleError
from ..layers import GELU_GAIN, Context, JointAttention, Rotation, linear, patchify, unpatchify
from ..spec import Count, Range
from .base import Network, NetworkConfig
from .dit import Modulation, modulate
from .positions import Kind, Positions

__all__ = ["MMDiT", "MMDiTConfig"]


@dataclass(frozen=True)
class MMDiTConfig(NetworkConfig):
    """The settings of `MMDiT`."""

    patch: Count = 2
    """The side of the patches that become tokens."""
    width: Count = 192
    """Channels of a token, of the picture and of the text."""
    depth: Count = 6
    """Transformer blocks."""
    heads: Count = 6
    """Attention heads; they divide the width."""
    expansion: Count = 4
    """Hidden channels of a block's feed-forward parts, in widths."""
    embedding: Count = 256
    """Width of the embedding of the noise level and the pooled text."""
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Fraction of the hidden features of each feed-forward part dropped in training."""
    positions: Kind = "rope"
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
    ) -> MMDiT:
        return MMDiT(self, channels, shape, cond_dim, out, tokens)


class FeedForward(nn.Module):
    """W_2 gelu(W_1 h)."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.expansion * config.width
        self.widen = linear(width, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.narrow = linear(hidden, width, gain=GELU_GAIN)

    def forward(self, h: Tensor) -> Tensor:
        return self.narrow(self.dropout(F.gelu(self.widen(h), approximate="tanh")))


class Block(nn.Module):
    """(x, y) += g_1 attention(modulate(x), modulate(y)); each += g_2 feed(modulate(.)), with weights of its own.

    Args:
        last: y is only looked at: what would become of it, nothing sees.
    """

    def __init__(self, config: MMDiTConfig, *, last: bool) -> None:
        super().__init__()
        width = config.width
        self.modulation = Modulation(config.embedding, width, 6)
        self.text_modulation = Modulation(config.embedding, width, 2 if last else 6)
        # The gates start at 0, so the branches need not.
        self.attention = JointAttention(width, config.heads, last=last, gain=1)
        self.feed = FeedForward(config)
        self.text_feed = None if last else FeedForward(config)

    def forward(
        self, streams: tuple[Tensor, Tensor], e: Tensor, mask: Tensor | None, rotation: Rotation | None
    ) -> tuple[Tensor, Tensor]:
        x, y = streams
        scale, shift, *rest = self.modulation(e)
        text_scale, text_shift, *text_rest = self.text_modulation(e)
        for_x, for_y = self.attention(
            modulate(x, scale, shift), modulate(y, text_scale, text_shift), mask, rotation
        )
        x = _joined(x, for_x, self.feed, *rest)
        return x, y if self.text_feed is None else _joined(y, for_y, self.text_feed, *text_rest)


def _joined(
    h: Tensor, attended: Tensor, feed: nn.Module, gate: Tensor, scale: Tensor, shift: Tensor, gate_2: Tensor
) -> Tensor:
    h = torch.addcmul(h, gate, attended)
    return torch.addcmul(h, gate_2, feed(modulate(h, scale, shift)))


class MMDiT(Network):
    """x -> patches, tokens -> text; both through the blocks -> patches, on a grid of ceil(S / patch) tokens.

    Works at any spatial size, as `DiT`. Text has no positions here: its encoder gave it those. The noise level
    and the pooled text modulate both streams. Raises IncompatibleError for points, and where there are no tokens.
    """

    attends: ClassVar = True

    def __init__(
        self,
        config: MMDiTConfig,
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
        if tokens == 0:
            raise IncompatibleError(
                "an mmdit without text is half a network",
                field="network",
                hint="use network=dit, or data with captions",
            )
        self.config = config
        self.grid = tuple(math.ceil(n / config.patch) for n in shape)
        volume = config.patch ** len(shape)
        self.enter = linear((channels + config.spatial_channels) * volume, config.width)
        self.enter_text = linear(tokens, config.width)
        self.positions = Positions(config.positions, self.grid, config.width, config.heads)
        self.blocks = nn.ModuleList(Block(config, last=k == config.depth - 1) for k in range(config.depth))
        self.modulation = Modulation(config.embedding, config.width, 2)
        self.leave = linear(config.width, self.out * volume, gain=0)

    def trunk(self) -> list[nn.Module]:
        return list(self.blocks)

    def body(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        assert context is not None  # built for tokens
        patches = patchify(x, self.config.patch)
        grid = tuple(patches.shape[1:-1])
        h, rotation = self.positions(self.enter(patches.flatten(1, -2)), grid)
        streams = h, self.enter_text(context.tokens)
        mask = context.mask
        if mask is not None:
            mask = torch.cat((mask.new_ones(len(mask), h.shape[1]), mask), 1)[:, None, None]
        for block in self.blocks:
            streams = block(streams, e, mask, rotation)
        h = self.leave(modulate(streams[0], *self.modulation(e)))
        return unpatchify(h.unflatten(1, grid), self.config.patch, x.shape[2:])
