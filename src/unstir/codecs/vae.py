"""A variational autoencoder as codec: Kingma & Welling 2014, "Auto-Encoding Variational Bayes"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from ..rng import Rng
from ..spec import Range
from .latent import Latent, LatentConfig, Sampled

__all__ = ["VAE", "VAEConfig"]

LOG_VARIANCE = (-30.0, 20.0)


@dataclass(frozen=True)
class VAEConfig(LatentConfig):
    """The settings of `VAE`."""

    kl: Annotated[float, Range(ge=0)] = 1e-3
    """Weight of the Kullback-Leibler divergence, in nats per value of the data."""

    def build(self) -> VAE:
        return VAE(self)


class VAE(Latent):
    """q(z | x) = N(m, exp(v)) with (m, v) = E(x), trained against the prior N(0, 1); m stands for x.

    penalty = kl * KL(q || N(0, 1)) / (number of values of x), KL = sum (m^2 + exp(v) - 1 - v) / 2; eq. 10 there.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config, 2 * config.latent_channels)
        self.kl = config.kl

    def sampled(self, h: Tensor, rng: Rng) -> Sampled:
        m, v = self._law(h)
        eps = rng.fork("latent").normal(tuple(m.shape), m.dtype, m.device)
        values = m[0, 0].numel() * self.config.factor**self.config.axes * self.config.data_channels
        return Sampled(m + (v / 2).exp() * eps, self.kl * self.divergence(h) / values)

    def divergence(self, h: Tensor) -> Tensor:
        """KL(q || N(0, 1)) in nats, (B,), of the encoder's output h."""
        m, v = self._law(h)
        return (m**2 + v.exp() - 1 - v).flatten(1).sum(1) / 2

    def _law(self, h: Tensor) -> tuple[Tensor, Tensor]:
        m, v = h.chunk(2, 1)
        return m, v.clamp(*LOG_VARIANCE)

    def centre(self, h: Tensor) -> Tensor:
        return h.chunk(2, 1)[0]
