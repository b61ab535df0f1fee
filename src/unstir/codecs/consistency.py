"""A decoder that draws what the latent does not say: a consistency model of the data, given its latent.

Song et al. 2023, "Consistency Models"; as a decoder Betker et al. 2023, "Improving Image Generation with Better
Captions" (DALL-E 3), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from ..condition import Condition
from ..errors import ConfigError, IncompatibleError
from ..layers import pad_to_multiple
from ..networks import UNetConfig
from ..networks.base import NetworkConfig
from ..rng import Rng
from ..spec import Count, Range
from .latent import Latent, LatentConfig, Sampled

__all__ = ["Consistency", "ConsistencyConfig"]

SIGMA_DATA = 0.5


@dataclass(frozen=True)
class ConsistencyConfig(LatentConfig):
    """The settings of `Consistency`: those of the autoencoder whose encoder it keeps, and of its own network."""

    encoded: Count = 8
    """Channels that the encoder gives, of which the first are the latent."""
    denoiser: NetworkConfig = UNetConfig(widths=(64, 128, 192), blocks=1, unshuffle=2)
    """The network that decodes."""
    levels: tuple[Annotated[float, Range(gt=0.002, le=80)], ...] = (80.0, 0.8)
    """The noise levels from which it decodes, falling: one step, or a second one that adds detail."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.levels or any(a <= b for a, b in pairwise(self.levels)):
            raise ConfigError(
                f"levels are {self.levels or 'none'}", field="levels", hint="give falling numbers, as 80,0.8"
            )
        if self.encoded < self.latent_channels:
            raise ConfigError(
                f"encoded={self.encoded} for a latent of {self.latent_channels} channels",
                field="encoded",
                hint="leave it out: it is taken from the autoencoder",
            )

    def build(self) -> Consistency:
        return Consistency(self)

    def after(self, codec: Latent) -> ConsistencyConfig:
        """These settings with the encoder, and the shift and scale, of this codec."""
        own = {f.name: getattr(codec.config, f.name) for f in fields(LatentConfig)}
        return replace(self, **own, encoded=codec.encoder.out)


class Consistency(Latent):
    """D(z): f(sigma_1 n, sigma_1; z), then from each further level f(x + (sigma_k^2 - eps^2)^(1/2) n, sigma_k; z).

    f takes a noisy picture x + sigma n of any level to the start of its trajectory, the picture at level eps = 0.002:

        f(x, sigma; z) = c_skip x + c_out F(c_in x, -ln(sigma)/2, z),
        c_skip = d^2/((sigma - eps)^2 + d^2), c_out = d (sigma - eps)/(sigma^2 + d^2)^(1/2), d = 0.5,

    so that f(x, eps; z) = x exactly: eq. 5 and appendix C there, algorithm 1 the steps. F sees the latent, shifted,
    scaled and enlarged to the size of the picture, as `Condition.spatial`. Noise is the same for each picture, so a
    latent always decodes to the same one. The encoder is that of another autoencoder and does not learn.
    """

    smallest, largest = 0.002, 80.0
    """The noise levels between which f is defined."""

    def __init__(self, config: ConsistencyConfig) -> None:
        denoiser = replace(config.denoiser, spatial_channels=config.latent_channels)  # type: ignore[type-var]
        side = config.factor
        network = denoiser.build(config.data_channels, (side,) * config.axes)
        network.to(memory_format=network.memory_format)  # type: ignore[call-overload]
        super().__init__(config, config.encoded, decoder=network)
        self.channels, self.noise_levels, self.factor = config.latent_channels, config.levels, config.factor
        self.encoder.requires_grad_(False)

    def adopt(self, codec: Latent) -> None:
        """Take the encoder's weights from another codec."""
        self.encoder.load_state_dict(codec.encoder.state_dict())

    def sampled(self, h: Tensor, rng: Rng) -> Sampled:
        raise IncompatibleError(
            "a consistency decoder is not trained by reconstruction", field="objective", hint="leave it out"
        )

    def centre(self, h: Tensor) -> Tensor:
        return h[:, : self.channels]

    def told(self, z: Tensor) -> Tensor:
        """What F is told of latents z that are not shifted and scaled: (B, C, *S), `factor` times their size."""
        size = [n * self.factor for n in z.shape[2:]]
        return F.interpolate((z.float() - self.shift) / self.scale, size=size, mode="nearest")

    def pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), padded to whole blocks, and what F is told of it."""
        with torch.no_grad():
            return pad_to_multiple(x, self.factor), self.told(self.centre(self.encoded(x)))

    def consistent(self, x: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
        """f(x, sigma; z), x (B, C, *S) and sigma (B,)."""
        level = sigma.to(x).view(-1, *[1] * (x.ndim - 1))
        over, total = level - self.smallest, torch.rsqrt(level**2 + SIGMA_DATA**2)
        with self.precision(x):
            out = self.decoder(total * x, -sigma.to(x).log() / 2, Condition(spatial=told)).float()
        return SIGMA_DATA**2 / (over**2 + SIGMA_DATA**2) * x + SIGMA_DATA * over * total * out

    def decoded(self, z: Tensor) -> Tensor:
        told = self.told(z)
        shape = (1, self.config.data_channels, *told.shape[2:])
        x = torch.zeros((), device=z.device)
        for k, level in enumerate(self.noise_levels):
            noise = Rng.of(0, 1).fork("decode", k).to(z.device).normal(shape, torch.float32, z.device)
            added = level if k == 0 else (level**2 - self.smallest**2) ** 0.5
            x = (x + added * noise).expand(len(z), *shape[1:])
            x = self.consistent(x, torch.full((len(z),), level, device=z.device), told)
        return x
