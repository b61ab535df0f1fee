"""Guidance that keeps the contrast of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..process.base import unsqueeze_like
from ..spec import Fraction, validate
from .base import Linear, Place, Rule

__all__ = ["Rescaled"]


@dataclass(frozen=True)
class Rescaled(Rule):
    """x ((1 - phi) + phi std(strong)/std(x)) with x = weak + scale (strong - weak).

    The standard deviation is that of all components of one sample, here of its x_0. Large scales raise it, which
    burns out light and dark; phi = 1 gives it back. For pictures, not for points of a few components.
    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps Are Flawed", eq. 14-16.

    Args:
        phi: how far, 0 <= phi <= 1; 0 = `Linear`.
    """

    phi: Fraction = 0.7

    def __post_init__(self) -> None:
        validate(self)

    def combine(self, weak: Tensor, strong: Tensor, scale: Tensor, place: Place) -> Tensor:
        x_0 = Linear().combine(weak, strong, scale, place)
        wanted, found = (x.flatten(1).std(1, correction=0) for x in (strong, x_0))
        ratio = torch.where(found > 0, wanted / found, 1)
        return unsqueeze_like(1 - self.phi + self.phi * ratio, x_0) * x_0
