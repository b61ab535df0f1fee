"""Saturation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .base import Operator, check

__all__ = ["Clip"]


@dataclass(frozen=True)
class Clip(Operator):
    """y = min(max(x, low), high): what a sensor or an amplifier has cut off. Its derivative is 0 there.

    Args:
        low: the least value of y.
        high: the largest, above low.
    """

    low: float = -0.5
    high: float = 0.5
    linear = False

    def __post_init__(self) -> None:
        check(
            "high", self.high, -math.inf < self.low < self.high < math.inf, f"above low, which is {self.low}"
        )

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)
