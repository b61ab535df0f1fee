"""DiT: a transformer on patches, modulated by the noise level (Peebles & Xie 2023, arXiv:2212.09748).

Told tokens, it attends to them after itself in every block (Chen et al. 2023, PixArt, arXiv:2310.00426).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import GELU_GAIN, Attention, Context, CrossAttention, Rotation, linear
from .patched import Modulation, Patched, PatchedConfig, modulate

__all__ = ["DiT", "DiTConfig"]


@dataclass(frozen=True)
class DiTConfig(PatchedConfig):
    """The settings of `DiT`."""

    def build(
        self,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int = 0,
        out: int | None = None,
        tokens: int = 0,
    ) -> DiT:
        return DiT(self, channels, shape, cond_dim, out, tokens)


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


class DiT(Patched):
    """Patches attend to each other, modulated by the noise level, and to the tokens where it is told some."""

    config: DiTConfig

    def block(self, k: int) -> Block:
        return Block(self.config, self.token_dim)

    def through(self, h: Tensor, e: Tensor, context: Context | None, rotation: Rotation | None) -> Tensor:
        for block in self.blocks:
            h = block(h, e, context, rotation)
        return h
