"""What transformers on patches have in common: their settings, their modulation, the way in and out."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers import Context, Rotation, linear, patchify, unpatchify
from ..spec import Count, Range
from .base import Network, NetworkConfig
from .positions import Kind, Positions

__all__ = ["Modulation", "Patched", "PatchedConfig", "modulate"]


@dataclass(frozen=True)
class PatchedConfig(NetworkConfig):
    """The settings of a transformer on patches."""

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
    draft: Annotated[int, Range(ge=0, le=4096)] = 0
    """Hidden width of the draft that the condition's vector makes of x_0 and that joins x as channels; 0 = none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(
                f"heads {self.heads} does not divide width {self.width}",
                field="heads",
                hint="choose a number of heads that divides the width",
            )


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


class Patched(Network):
    """x -> patches -> tokens with positions -> blocks -> patches, on a grid of ceil(S / patch) tokens.

    Works at any spatial size: x is padded to whole patches and the result cropped, positions are stretched to
    the grid it was built for. Raises IncompatibleError for points.
    """

    attends: ClassVar = True
    config: PatchedConfig

    def __init__(
        self,
        config: PatchedConfig,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int,
        out: int | None = None,
        tokens: int = 0,
    ) -> None:
        super().__init__(config, channels, shape, cond_dim, out, tokens)
        self.grid = tuple(math.ceil(n / config.patch) for n in shape)
        volume = config.patch ** len(shape)
        self.enter = linear(self.inputs * volume, config.width)
        self.positions = Positions(config.positions, self.grid, config.width, config.heads)
        self.blocks = nn.ModuleList(self.block(k) for k in range(config.depth))
        self.modulation = Modulation(config.embedding, config.width, 2)
        self.leave = linear(config.width, self.out * volume, gain=0)

    @abstractmethod
    def block(self, k: int) -> nn.Module:
        """The k-th of them."""

    @abstractmethod
    def through(self, h: Tensor, e: Tensor, context: Context | None, rotation: Rotation | None) -> Tensor:
        """The tokens of the picture (B, L, width) after the blocks."""

    def trunk(self) -> list[nn.Module]:
        return list(self.blocks)

    def body(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        patches = patchify(x, self.config.patch)
        grid = tuple(patches.shape[1:-1])
        h, rotation = self.positions(self.enter(patches.flatten(1, -2)), grid)
        h = self.through(h, e, context, rotation)
        h = self.leave(modulate(h, *self.modulation(e)))
        return unpatchify(h.unflatten(1, grid), self.config.patch, x.shape[2:])
