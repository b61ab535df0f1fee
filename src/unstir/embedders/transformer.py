"""The text encoder that is trained along with the model: a small transformer on its own tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers import attend, directions, linear
from ..spec import Count, Fraction, Range
from .base import Encoded, TextEncoder, TextEncoderConfig, mean, padded
from .tokenizer import Piece, Tokenizer

__all__ = ["Transformer", "TransformerConfig"]

START = 0.2
"""Deviation of fresh embeddings: with AdamW at 1e-3 a word that is seen 200 times has moved as far."""


@dataclass(frozen=True)
class TransformerConfig(TextEncoderConfig):
    """The settings of `Transformer`."""

    width: Count = 256
    """Channels of a token."""
    depth: Count = 3
    """Transformer blocks."""
    heads: Count = 4
    """Attention heads; they divide the width."""
    length: Annotated[int, Range(ge=2)] = 48
    """Tokens of a text, one for its start included; what is longer is cut."""
    vocabulary: Annotated[int, Range(ge=256)] = 2048
    """The most tokens that are learned from captions, the 256 bytes included."""
    drop: Fraction = 0.0
    """Share of the texts hidden from it alone in training, besides those hidden from all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(
                f"heads {self.heads} does not divide width {self.width}",
                field="heads",
                hint="choose a number of heads that divides the width",
            )

    def build(self, merges: tuple[str, ...] = ()) -> Transformer:
        return Transformer(self, Tokenizer(merges))


class Transformer(TextEncoder):
    """z = unit(blocks(table[id] + place)), pooled = mean(z); every token sees all of its text.

    h -> h + attention(unit(h)), h -> h + W_2 gelu(W_1 unit(h)), unit = layer normalisation without weights.
    Branches end with gain 0: at the start the states are words in their places, and the pooled vector a bag of
    words. The empty text is its one start token.

    The weights are drawn from torch's global generator.
    """

    name = "transformer"

    def __init__(self, config: TransformerConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.width, self.length = config.width, config.length
        self.tokenizer = tokenizer
        self.before = (len(tokenizer),)
        self.table = nn.Embedding(len(tokenizer) + 1, self.width)
        self.place_table = nn.Parameter(torch.empty(self.length, self.width))
        nn.init.normal_(self.table.weight, std=START)
        nn.init.normal_(self.place_table, std=START / 4)  # where a word stands matters less than which it is
        self.blocks = nn.ModuleList(Block(self.width, config.heads) for _ in range(config.depth))

    def split(self, text: str) -> Iterable[Piece]:
        return self.tokenizer.pieces(text)

    def encode(self, rows: Sequence[tuple[int, ...]]) -> Encoded:
        length = max(map(len, rows), default=1) if self.training else self.length
        ids, mask = padded(rows, length, self.table.weight.device)
        h = self.table(ids) + self.place_table[:length]
        for block in self.blocks:
            h = block(h, mask)
        z = _unit(h).masked_fill(~mask[:, :, None], 0)
        return Encoded(z, mask, mean(z, mask))


class Block(nn.Module):
    """See `Transformer`; queries and keys have unit mean square per head, as in `layers.Attention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width)
        self.out = linear(width, width, gain=0)
        self.first = linear(width, 4 * width)
        self.second = linear(4 * width, width, gain=0)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(_unit(h)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        h = h + self.out(attend(directions(q), directions(k), v, mask[:, None, None]))
        return h + self.second(F.gelu(self.first(_unit(h))))


def _unit(h: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:])
