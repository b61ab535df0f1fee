"""The parts that the networks share, in any number of spatial dimensions (0 = points, 1, 2, 3).

Every weight starts as N(0, gain^2 / fan_in) and every bias as 0, so that a layer of gain 1 keeps the variance
of its input, one of gain `SILU_GAIN` restores what a SiLU before it took, and one of gain 0 starts as zero.
Residual branches and modulations end with gain 0: at the start a network is its skip connections, at any
depth (Zhang et al. 2019, Fixup, arXiv:1901.09321).
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "GELU_GAIN",
    "SILU_GAIN",
    "Attention",
    "FiLM",
    "NoiseEmbedding",
    "PassThrough",
    "ResidualBlock",
    "Unmixed",
    "conv",
    "halve",
    "linear",
    "pad_to_multiple",
    "patchify",
    "resize_like",
    "unit",
    "unpatchify",
]

SILU_GAIN = 1.6783  # E[silu(z)^2]^(-1/2), z ~ N(0, 1)
GELU_GAIN = 1.5351

Layer = TypeVar("Layer", bound=nn.Module)
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _start(layer: Layer, gain: float) -> Layer:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    nn.init.normal_(weight, std=gain * weight[0].numel() ** -0.5)
    nn.init.zeros_(bias)
    return layer


def linear(width_in: int, width_out: int, *, gain: float = 1.0) -> nn.Linear:
    """y = W x + b over the last axis."""
    return _start(nn.Linear(width_in, width_out), gain)


def conv(
    dims: int, width_in: int, width_out: int, *, kernel: int = 3, stride: int = 1, gain: float = 1.0
) -> nn.Module:
    """A convolution over `dims` axes, zero padded so that stride 1 keeps the size; `dims` = 0 is `linear`."""
    if dims == 0:
        return linear(width_in, width_out, gain=gain)
    layer = CONVOLUTIONS[dims](width_in, width_out, kernel, stride=stride, padding=kernel // 2)
    return _start(layer, gain)


def halve(x: Tensor) -> Tensor:
    """Means of 2^d neighbours, (B, C, *S) -> (B, C, *ceil(S / 2)); at an odd end, of those that exist."""
    # Padding gives the same means as ceil_mode=True, which PyTorch refuses for axes of one entry in 3-D.
    return AVERAGES[x.ndim - 2](pad_to_multiple(x, 2), 2)


def resize_like(x: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour resizing of x (B, C, *S) to the spatial size of `like`."""
    size = like.shape[2:]
    return x if x.shape[2:] == size else F.interpolate(x, size=size, mode="nearest")


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """x (B, C, *S) with its last entries repeated until `multiple` divides each spatial size."""
    # By concatenation: the backward pass of F.pad's replication is not deterministic on CUDA.
    for axis in range(2, x.ndim):
        missing = -x.shape[axis] % multiple
        if missing:
            x = torch.cat([x, *[x.narrow(axis, x.shape[axis] - 1, 1)] * missing], axis)
    return x


def patchify(x: Tensor, patch: int) -> Tensor:
    """(B, C, *S) -> (B, *ceil(S / patch), C patch^d): each patch of patch^d entries becomes one vector.

    The channels come last in memory too: `.movedim(-1, 1)` of the result is pixel unshuffling in the
    channels-last format, without a copy.
    """
    x = pad_to_multiple(x, patch)
    dims = x.ndim - 2
    grid = [size // patch for size in x.shape[2:]]
    x = x.reshape(*x.shape[:2], *(n for size in grid for n in (size, patch)))
    x = x.permute(0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2))
    return x.reshape(len(x), *grid, -1)


def unpatchify(x: Tensor, patch: int, size: torch.Size) -> Tensor:
    """The inverse of `patchify`, (B, *G, C patch^d) -> (B, C, *S), cropped to the spatial size S."""
    dims = x.ndim - 2
    x = x.unflatten(-1, (-1, *[patch] * dims))
    x = x.permute(0, dims + 1, *(axis for i in range(dims) for axis in (1 + i, dims + 2 + i)))
    x = x.reshape(*x.shape[:2], *(x.shape[2 + 2 * i] * patch for i in range(dims)))
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, 0, n)
    return x


def unit(x: Tensor) -> Tensor:
    """(x - m) / s with mean m and deviation s over the channels, (B, C, *S): layer normalisation, no weights.

    It looks at one position of one sample, so neither the batch nor the size of the picture matters; in
    channels-last memory it is one fused kernel.
    """
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


class NoiseEmbedding(nn.Module):
    """e = silu(W_2 silu(W_1 [sin(f z), cos(f z)]) + W_c c): what every block is modulated by.

    z (B,) is log-SNR / 4 (within +-5), f are `features` / 2 frequencies from 0.3 to 30, spaced evenly in
    logarithm: the slowest tells the ends apart, the fastest turns by 0.15 for a 1% change of sigma / alpha. c
    is `Condition.vector` (B, cond_dim), absent for cond_dim = 0. Returns (B, width).
    """

    def __init__(self, width: int, cond_dim: int, *, features: int = 64) -> None:
        super().__init__()
        self.features = features
        self.hidden = linear(features, width, gain=math.sqrt(2))  # sin^2 + cos^2 = 1: a mean square of 1/2
        self.out = linear(width, width, gain=SILU_GAIN)
        self.cond = linear(cond_dim, width) if cond_dim else None

    def forward(self, noise: Tensor, vector: Tensor | None) -> Tensor:
        frequencies = torch.logspace(
            math.log10(0.3), math.log10(30.0), self.features // 2, device=noise.device
        )
        angle = noise[:, None] * frequencies
        features = torch.cat([angle.sin(), angle.cos()], -1).to(self.hidden.weight.dtype)
        e = self.out(F.silu(self.hidden(features)))
        if self.cond is not None:
            e = e + self.cond(vector)
        return F.silu(e)


class FiLM(nn.Module):
    """h -> h (1 + scale(e)) + shift(e), at the start the identity (Perez et al. 2018, arXiv:1709.07871)."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.modulation = linear(embedding, 2 * width, gain=0)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulation(e).unflatten(-1, (2, -1, *[1] * (h.ndim - 2))).unbind(1)
        return torch.addcmul(shift, h, 1 + scale)


class ResidualBlock(nn.Module):
    """skip(x) + W_2 silu(FiLM(W_1 silu(unit(x)), e)), (B, C, *S) -> (B, C', *S); for points W are matrices.

    However large x has grown, a branch adds what its own weights allow: without that, growth multiplies from
    block to block, and at the rates that learn fastest single pictures blow up.
    """

    def __init__(
        self, dims: int, width_in: int, width_out: int, embedding: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.first = conv(dims, width_in, width_out, gain=SILU_GAIN)
        self.film = FiLM(width_out, embedding)
        self.dropout = nn.Dropout(dropout)
        self.second = conv(dims, width_out, width_out, gain=0)
        self.skip = nn.Identity() if width_in == width_out else conv(dims, width_in, width_out, kernel=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.film(self.first(F.silu(unit(x))), e)
        return self.skip(x) + self.second(self.dropout(F.silu(h)))


class Attention(nn.Module):
    """W_o softmax(q k^T / sqrt(d)) v on tokens (B, L, width); q and k have unit mean square per head.

    Bounded queries and keys keep the logits within sqrt(d): nothing to overflow in bf16 (Henry et al. 2020,
    arXiv:2010.04245). PyTorch picks the kernel: flash attention where the device has it.
    """

    def __init__(self, width: int, heads: int, *, gain: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width)
        self.out = linear(width, width, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # each (B, heads, L, d)
        q, k = (F.rms_norm(y, y.shape[-1:], eps=1e-6).to(v.dtype) for y in (q, k))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Unmixed(nn.Module):
    """W_o v: the same weights with every token attending to itself alone. Ahn et al. 2024, arXiv:2403.17377."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention.out(self.attention.qkv(x).chunk(3, -1)[2])


class PassThrough(nn.Module):
    """(x, e) -> x: what is left of a residual block that is left out."""

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return x
