"""MMDiT: a transformer of two streams, patches and text, that attend to each other (Esser et al. 2024).

"Scaling Rectified Flow Transformers", arXiv:2403.03206, section 4: the network of Stable Diffusion 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import IncompatibleError
from ..layers import GELU_GAIN, Context, JointAttention, Rotation, linear
from ..spec import Count
from .patched import Modulation, Patched, PatchedConfig, modulate
from .positions import Kind

__all__ = ["MMDiT", "MMDiTConfig"]


@dataclass(frozen=True)
class MMDiTConfig(PatchedConfig):
    """The settings of `MMDiT`."""

    patch: Count = 2
    """The side of the patches that become tokens."""
    positions: Kind = "rope"
    """How patches are told apart: fixed waves, a learned table, or rotations of queries and keys."""

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


class MMDiT(Patched):
    """Patches and text go through the blocks side by side, each with weights of its own, and attend to both.

    Text has no positions here: its encoder gave it those. The noise level and the pooled text modulate both
    streams. Raises IncompatibleError for points, and where there are no tokens.
    """

    config: MMDiTConfig

    def __init__(
        self,
        config: MMDiTConfig,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int,
        out: int | None = None,
        tokens: int = 0,
    ) -> None:
        super().__init__(config, channels, shape, cond_dim, out, tokens)
        if tokens == 0:
            raise IncompatibleError(
                "an mmdit without text is half a network",
                field="network",
                hint="use network=dit, or data with captions",
            )
        self.enter_text = linear(tokens, config.width)

    def block(self, k: int) -> Block:
        return Block(self.config, last=k == self.config.depth - 1)

    def through(self, h: Tensor, e: Tensor, context: Context | None, rotation: Rotation | None) -> Tensor:
        assert context is not None, "it was built for tokens"
        streams, mask = (h, self.enter_text(context.tokens)), context.mask
        if mask is not None:
            mask = torch.cat((mask.new_ones(len(mask), h.shape[1]), mask), 1)[:, None, None]
        for block in self.blocks:
            streams = block(streams, e, mask, rotation)
        return streams[0]
