"""The noise of a measurement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..rng import Rng

__all__ = ["GaussianNoise", "PoissonNoise"]


@dataclass(frozen=True)
class GaussianNoise:
    """y = A x_0 + std z, z ~ N(0, I).

    Args:
        std: in the units of x_0, where pictures go from -1 to 1: 0.05 is 6.4 of 256 grey levels; 0 = no noise.
    """

    std: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.std < float("inf"):
            raise ConfigError(
                f"std is {self.std}", field="std", hint="accepted: 0 or more, in units of -1 to 1"
            )

    def variance(self, y: Tensor) -> Tensor:
        return torch.as_tensor(self.std**2, dtype=y.dtype, device=y.device)

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """-|y - A x_0|^2/(2 std^2), std at least 1e-3, as pictures are rounded to bytes."""
        return -((y - clean) ** 2).flatten(1).sum(1) / (2 * max(self.std, 1e-3) ** 2)

    def corrupt(self, clean: Tensor, rng: Rng) -> Tensor:
        """y for A x_0 = clean."""
        return clean + self.std * rng.normal(tuple(clean.shape), clean.dtype, clean.device)


@dataclass(frozen=True)
class PoissonNoise:
    """Counts: peak (y + 1)/2 ~ Poisson(peak (A x_0 + 1)/2), the noise of few photons.

    Args:
        peak: expected count where A x_0 = 1, white; the fewer, the noisier.
    """

    peak: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.peak < float("inf"):
            raise ConfigError(f"peak is {self.peak}", field="peak", hint="accepted: a count above 0, as 30")

    def variance(self, y: Tensor) -> Tensor:
        """2 (y + 1)/peak, of at least one count: the count is its own estimate of its variance."""
        return 2 * (y + 1).clamp(min=2 / self.peak) / self.peak

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        counts, rate = self.peak * (y + 1) / 2, self.peak * (clean + 1).clamp(min=1e-3) / 2
        return (counts * rate.log() - rate).flatten(1).sum(1)

    def corrupt(self, clean: Tensor, rng: Rng) -> Tensor:
        """y for A x_0 = clean; below -1 nothing is counted.

        A count is the quantile of its keyed uniform number: the least k with P(count <= k) = Q(k + 1, rate) >= u,
        found by bisection; Q is the regularised upper incomplete gamma function.
        """
        rate = (self.peak * (clean.double() + 1) / 2).clamp(min=0)
        u = rng.uniform(tuple(clean.shape), torch.float64, clean.device)
        low, high = torch.zeros_like(u), (rate + 10 * rate.sqrt() + 20).ceil()  # P(more) < 2^-33
        for _ in range(int(high.max()).bit_length()):
            middle = ((low + high) / 2).floor()
            reached = torch.special.gammaincc(middle + 1, rate) >= u
            low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
        return (2 * high / self.peak - 1).to(clean)
