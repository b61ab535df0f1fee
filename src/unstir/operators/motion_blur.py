"""A camera that moved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .base import check
from .kernel import Convolution

__all__ = ["MotionBlur"]


@dataclass(frozen=True)
class MotionBlur(Convolution):
    """y_p = mean over k = 0 ... length - 1 of x at p + (k - (length - 1)/2) (cos angle, sin angle).

    Between pixels x is interpolated bilinearly; beyond its border x is its mirror image, c b a | a b c.

    Args:
        length: of the movement in pixels, 2 or more, no longer than the picture.
        angle: its direction in degrees, 0 = along rows, 90 = along columns, 45 = up to the right.
    """

    length: int = 9
    angle: float = 0.0
    field = "operator.length"

    def __post_init__(self) -> None:
        whole = isinstance(self.length, int) and self.length >= 2
        check("length", self.length, whole, "a whole number of pixels, 2 or more")
        check("angle", self.angle, math.isfinite(self.angle), "degrees, as 45")

    def kernel_for(self, x: Tensor) -> Tensor:
        return _line(self.length, self.angle).to(x)


@lru_cache(maxsize=32)
def _line(length: int, angle: float) -> Tensor:
    """k (h, w), of odd sizes and sum 1, float64."""
    along = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    rows, columns = (_tents(along * part(math.radians(angle))) for part in (math.sin, math.cos))
    return rows.flip(1).T @ columns / length


def _tents(places: Tensor) -> Tensor:
    """The bilinear weights (K, n) of the pixels -(n-1)/2 ... (n-1)/2 at each of the places, n as small as it may be."""
    radius = math.ceil(float(places.abs().max()) - 1e-9)
    pixels = torch.arange(-radius, radius + 1, dtype=torch.float64)
    return (1 - (pixels - places[:, None]).abs()).clamp(min=0)
