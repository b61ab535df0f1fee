"""A residual multilayer perceptron for points (B, D): two-dimensional toys, tables, embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Context, ResidualBlock, linear
from ..spec import Count, Range
from .base import Network, NetworkConfig

__all__ = ["MLP", "MLPConfig"]


@dataclass(frozen=True)
class MLPConfig(NetworkConfig):
    """The settings of `MLP`."""

    width: Count = 128
    """Hidden features."""
    depth: Count = 4
    """Residual blocks of two layers each."""
    embedding: Count = 128
    """Width of the embedding of the noise level and the condition."""
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Fraction of the features dropped in each residual block in training."""
    spatial_channels: Annotated[int, Range(ge=0)] = 0
    """Entries of `Condition.spatial`, (B, spatial_channels)."""

    def build(
        self,
        channels: int,
        shape: tuple[int, ...] = (),
        cond_dim: int = 0,
        out: int | None = None,
        tokens: int = 0,
    ) -> MLP:
        return MLP(self, channels, shape, cond_dim, out, tokens)


class MLP(Network):
    """x (B, D) -> residual blocks -> (B, D); D = channels, and no spatial axes: shape = ().

    Raises IncompatibleError for a shape with spatial axes.
    """

    axes: ClassVar = (0,)
    config: MLPConfig

    def __init__(
        self,
        config: MLPConfig,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int,
        out: int | None = None,
        tokens: int = 0,
    ) -> None:
        super().__init__(config, channels, shape, cond_dim, out, tokens)
        width = config.width
        self.enter = linear(self.inputs, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(0, width, width, config.embedding, dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.leave = linear(width, self.out, gain=0)

    def trunk(self) -> list[nn.Module]:
        return list(self.blocks)

    def body(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(F.silu(h))
