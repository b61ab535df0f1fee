"""A classifier of noisy data: residual blocks, each level half the size of the one before, and one mean."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers import NoiseEmbedding, ResidualBlock, conv, halve, linear, patchify
from ..spec import Count, Range, validate

__all__ = ["Classifier", "ClassifierConfig"]


@dataclass(frozen=True)
class ClassifierConfig:
    """The settings of `Classifier`."""

    widths: tuple[Count, ...] = (32, 64, 128)
    """Channels of the levels, from the finest to the coarsest, each half the size of the one before."""
    blocks: Count = 1
    """Residual blocks of a level."""
    unshuffle: Count = 2
    """The side of the pixel blocks that become channels first; 1 = none."""
    embedding: Count = 128
    """Width of the embedding of the noise level."""
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.1
    """Fraction of the features dropped in each residual block in training."""

    def __post_init__(self) -> None:
        validate(self)
        if not self.widths:
            raise ConfigError("widths is empty", field="widths", hint="give one width per level, e.g. 32,64")

    def build(self, channels: int, shape: tuple[int, ...], classes: int) -> Classifier:
        """A classifier of x (B, channels, *shape), or of points (B, channels) for shape = ()."""
        return Classifier(self, channels, shape, classes)


class Classifier(nn.Module):
    """x -> unshuffle -> levels of residual blocks -> mean over positions -> logits (B, classes).

    Every block is modulated by the noise level, so one network serves all of them. Works in 0 (points) to 3
    spatial dimensions, at any size. At the start every class is as likely as any other. After the classifier of
    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs", section 4.1, which pools by attention.

    Raises:
        ConfigError: fewer than two classes, or a size below 1.
    """

    def __init__(self, config: ClassifierConfig, channels: int, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if classes < 2 or min(channels, *shape, 1) < 1 or len(shape) > 3:
            raise ConfigError(
                f"got {classes} classes, channels {channels}, shape {tuple(shape)}",
                field="network",
                hint="a classifier takes 2 or more classes, and data with up to 3 spatial axes of sizes >= 1",
            )
        self.config, self.classes = config, classes
        dims, widths = len(shape), config.widths
        self.embed = NoiseEmbedding(config.embedding, 0)
        self.enter = conv(dims, channels * config.unshuffle**dims, widths[0])
        self.levels = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(dims, width, width, config.embedding, dropout=config.dropout)
                for _ in range(config.blocks)
            )
            for width in widths
        )
        self.shrink = nn.ModuleList(conv(dims, a, b, kernel=1) for a, b in pairwise(widths))
        self.leave = linear(widths[-1], classes, gain=0)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """(B, C, *S) and noise () or (B,), log-SNR / 4 -> (B, classes)."""
        e = self.embed(noise.expand(len(x)), None)
        points = x.ndim == 2
        h = self.enter(x if points else patchify(x, self.config.unshuffle).movedim(-1, 1))
        for level, blocks in enumerate(self.levels):
            if level:
                h = self.shrink[level - 1](h if points else halve(h))
            for block in blocks.children():
                h = block(h, e)
        h = F.silu(h)
        return self.leave(h if points else h.flatten(2).mean(2))
