"""Codecs that are learned: an encoder to a smaller space and a decoder back, in 1, 2 or 3 dimensions.

Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.1. Diffusion then runs
on a fraction of the values; what the eye does not miss is left to the decoder.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, IncompatibleError, NumericError
from ..layers import SILU_GAIN, conv, halve, patchify, resize_like, unit, unpatchify
from ..rng import Rng
from ..spec import Count, Positive, Range, validate
from .base import Codec
from .scale import Identity, Scale

__all__ = ["Latent", "LatentConfig", "Sampled"]


class Sampled(NamedTuple):
    """A latent as training sees it."""

    z: Tensor
    """(B, C, *S), before it is shifted and scaled."""
    penalty: Tensor
    """(B,): what the bottleneck costs, in units of the reconstruction's error per value."""


@dataclass(frozen=True)
class LatentConfig(ABC):
    """The settings that all learned codecs have in common."""

    widths: tuple[Count, ...] = (64, 128)
    """Channels of the levels, from the finest to the coarsest, each half the size of the one before."""
    blocks: Count = 2
    """Residual blocks of a level, in the encoder and again in the decoder."""
    unshuffle: Count = 2
    """The side of the pixel blocks that become channels first; 1 = none."""
    latent_channels: Count = 4
    """Channels of the latent."""
    stored: Literal["bytes", "numbers"] = "bytes"
    """What the data is: bytes, as of pictures, or numbers around zero."""
    data_channels: Annotated[int, Range(ge=1)] = 3
    """Channels of the data."""
    axes: Annotated[int, Range(ge=1, le=3)] = 2
    """Spatial axes of the data: 1 for sound, 2 for pictures, 3 for video."""
    shift: tuple[float, ...] = ()
    """Mean of each channel of the latent over the training data; () = not measured yet, 0."""
    scale: tuple[Positive, ...] = ()
    """Standard deviation of each channel of the latent over the training data; () = not measured yet, 1."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)
        if not self.widths:
            raise ConfigError("widths is empty", field="widths", hint="give one width per level, e.g. 64,128")
        for field in ("shift", "scale"):
            if len(getattr(self, field)) not in (0, self.latent_channels):
                raise ConfigError(
                    f"{field} has {len(getattr(self, field))} numbers for {self.latent_channels} channels",
                    field=field,
                    hint="leave it out: it is measured when training ends",
                )

    @abstractmethod
    def build(self) -> Latent:
        """The codec with fresh weights, drawn from torch's global generator."""

    @property
    def factor(self) -> int:
        """How many times fewer positions the latent has on each axis."""
        return self.unshuffle * 2 ** (len(self.widths) - 1)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (C, *S) of the latent of data of this shape.

        Raises IncompatibleError where the data has other axes or channels than this codec.
        """
        if len(shape) != 1 + self.axes or shape[0] != self.data_channels:
            raise IncompatibleError(
                f"this autoencoder takes data of {self.data_channels} channels on {self.axes} axes, got {shape}",
                field="codec",
                hint="train one on data of this kind: unstir train DATA task=autoencoder",
            )
        return (self.latent_channels, *(math.ceil(n / self.factor) for n in shape[1:]))

    def ratio(self, shape: tuple[int, ...]) -> float:
        """How many times fewer values the latent of data of this shape has; raises as `shape` does."""
        return math.prod(shape) / math.prod(self.shape(shape))


class Block(nn.Module):
    """x + W_2 silu(W_1 silu(unit(x))), (B, C, *S)."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.first = conv(dims, width, width, gain=SILU_GAIN)
        self.second = conv(dims, width, width, gain=0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(unit(x)))))


class Encoder(nn.Module):
    """(B, C, *S) -> (B, out, *ceil(S / factor)): unshuffle -> levels of blocks, each half the size."""

    def __init__(self, config: LatentConfig, out: int) -> None:
        super().__init__()
        dims, widths = config.axes, config.widths
        self.unshuffle, self.out = config.unshuffle, out
        self.enter = conv(dims, config.data_channels * config.unshuffle**dims, widths[0])
        self.levels = nn.ModuleList(
            nn.Sequential(*(Block(dims, w) for _ in range(config.blocks))) for w in widths
        )
        self.shrink = nn.ModuleList(conv(dims, a, b, kernel=1) for a, b in pairwise(widths))
        self.leave = conv(dims, widths[-1], out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(patchify(x, self.unshuffle).movedim(-1, 1))
        for k, level in enumerate(self.levels):
            h = level(self.shrink[k - 1](halve(h)) if k else h)
        return self.leave(unit(h))


class Decoder(nn.Module):
    """(B, C, *S) -> (B, data channels, *(factor S)): the encoder the other way round."""

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        dims, widths = config.axes, config.widths[::-1]
        self.unshuffle = config.unshuffle
        self.enter = conv(dims, config.latent_channels, widths[0])
        self.levels = nn.ModuleList(
            nn.Sequential(*(Block(dims, w) for _ in range(config.blocks))) for w in widths
        )
        self.grow = nn.ModuleList(conv(dims, a, b, kernel=1) for a, b in pairwise(widths))
        self.leave = conv(dims, widths[-1], config.data_channels * config.unshuffle**dims, gain=0.1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.enter(z)
        for k, level in enumerate(self.levels):
            if k:
                h = self.grow[k - 1](h)
                h = resize_like(h, h.new_empty(1, 1, *(2 * n for n in h.shape[2:])))
            h = level(h)
        h = self.leave(F.silu(unit(h)))
        size = torch.Size(n * self.unshuffle for n in h.shape[2:])
        return unpatchify(h.movedim(1, -1), self.unshuffle, size)


class Latent(Codec):
    """x_0 = (E(data) - shift) / scale, about N(0, 1) in every channel; data = D(scale x_0 + shift).

    Sizes are padded to multiples of the factor by the last entries; `decode` gives the padded size back unless
    it is told the size. Encoding and decoding compute in float32, or in bfloat16 where they are asked to, never in
    float16, whose range decoders are known to leave.

    Args:
        config: its settings.
        out: channels that the encoder gives to the bottleneck.
        decoder: z (B, C, *S) -> values around zero, `factor` times the size on each axis; None: a `Decoder`.
    """

    def __init__(self, config: LatentConfig, out: int, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.data: Codec = Scale() if config.stored == "bytes" else Identity()
        self.encoder = Encoder(config, out)
        self.decoder = Decoder(config) if decoder is None else decoder
        self.shift: Tensor
        self.scale: Tensor
        self._dtype: torch.dtype | None = None
        self.critic: nn.Module | None = None
        """What its training plays against, where the objective asks for one; no part of the model file."""
        self.maps: Callable[[Tensor], Sequence[Tensor]] | None = None
        """Features of values around zero that its training compares, where the objective asks for them; not trained,
        and no part of any state."""
        ones = [1] * config.axes
        shift = torch.tensor(config.shift or (0.0,) * config.latent_channels).view(1, -1, *ones)
        scale = torch.tensor(config.scale or (1.0,) * config.latent_channels).view(1, -1, *ones)
        self.register_buffer("shift", shift, persistent=False)  # the config holds them
        self.register_buffer("scale", scale, persistent=False)

    @property
    def dtype(self) -> torch.dtype | None:
        """Precision of the arithmetic of its networks; None: float32. Raises ConfigError for float16."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype: torch.dtype | None) -> None:
        self._dtype = _wide(dtype)

    # -- the bottleneck -----------------------------------------------------------------------------------
    @abstractmethod
    def sampled(self, h: Tensor, rng: Rng) -> Sampled:
        """The encoder's output (B, out, *S) -> a latent as it is trained with."""

    @abstractmethod
    def centre(self, h: Tensor) -> Tensor:
        """The encoder's output -> the latent that stands for the data."""

    # -- the networks -------------------------------------------------------------------------------------
    def encoded(self, x: Tensor) -> Tensor:
        """What the encoder says of x (B, C, *S), values around zero."""
        with self.precision(x):
            h = self.encoder(x)
        return h.float()

    def decoded(self, z: Tensor) -> Tensor:
        """Values around zero of a latent z (B, C, *S) that is not shifted and scaled."""
        with self.precision(z):
            x = self.decoder(z)
        return x.float()

    def precision(self, x: Tensor) -> torch.autocast:
        """The context of the arithmetic of its networks on x, whatever the context around it asks for.

        Raises ConfigError where the weights themselves have become float16.
        """
        _wide(next(self.parameters()).dtype)
        enabled = self.dtype is not None
        return torch.autocast(x.device.type, self.dtype or torch.bfloat16, enabled=enabled)

    @torch.no_grad()
    def statistics(self, data: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, standard deviation) of each channel of the latent, before it is shifted and scaled.

        Args:
            data: batches as they are stored, (B, C, *S) each.
        """
        device = next(self.parameters()).device
        n, first, second = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for x in data:
            z = self.centre(self.encoded(self.data.encode(x.to(device)))).double().cpu()
            axes = [axis for axis in range(z.ndim) if axis != 1]
            n += z.numel() // z.shape[1]
            first, second = first + z.sum(axes), second + (z**2).sum(axes)
        mean = first / n
        std = (second / n - mean**2).clamp(min=1e-12).sqrt()
        return tuple(mean.tolist()), tuple(std.tolist())

    # -- as a codec ---------------------------------------------------------------------------------------
    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.config.shape(shape)

    def encode(self, data: Tensor) -> Tensor:
        return (self.centre(self.encoded(self.data.encode(data))) - self.shift) / self.scale

    def values(self, x_0: Tensor) -> Tensor:
        """The data of x_0 as values around zero, differentiable.

        Raises NumericError where they are not finite: a black picture would hide it.
        """
        x = self.decoded(self.scale * x_0.float() + self.shift)
        if not torch.isfinite(x).all():
            given = "" if torch.isfinite(x_0).all() else ": the latents it was given are not"
            raise NumericError(
                f"the decoder's output is not finite{given}",
                field="codec",
                hint="draw with precision=fp32, or fewer steps of guidance; or train the autoencoder longer",
            )
        return x

    def decode(self, x_0: Tensor) -> Tensor:
        return self.data.decode(self.values(x_0))

    def shares_latents(self, other: Latent) -> bool:
        """Whether the other encodes data to the same latents, so that each can decode those of the other."""
        same = ("unshuffle", "latent_channels", "stored", "data_channels", "axes", "shift", "scale")
        own, their = self.encoder.state_dict(), other.encoder.state_dict()
        return (
            all(getattr(self.config, word) == getattr(other.config, word) for word in same)
            and own.keys() == their.keys()
            and all(torch.equal(x.cpu(), their[name].cpu()) for name, x in own.items())
        )


def _wide(dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype == torch.float16:
        raise ConfigError(
            "an autoencoder does not compute in float16: what a decoder computes leaves its range",
            field="precision",
            hint="use bf16, which has the range of fp32, or fp32",
        )
    return dtype
