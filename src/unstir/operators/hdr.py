"""Overexposed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .base import Operator, check

__all__ = ["HDR"]


@dataclass(frozen=True)
class HDR(Operator):
    """y = min(max(gain x, -1), 1): the picture of high dynamic range behind one whose ends are cut off.

    Its derivative is 0 where y is -1 or 1.
    Mardani et al. 2023, "A Variational Perspective on Solving Inverse Problems with Diffusion Models", with
    gain = 2.

    Args:
        gain: above 1.
    """

    gain: float = 2.0
    linear = False

    def __post_init__(self) -> None:
        check("gain", self.gain, 1 < self.gain < math.inf, "above 1, as 2")

    def forward(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(-1, 1)
