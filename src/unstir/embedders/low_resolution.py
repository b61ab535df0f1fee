"""A small picture as a condition, for models that make pictures larger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..rng import Rng
from ..spec import Fraction, Range
from .base import Spatial, noisy, plane

__all__ = ["LowResolution", "scales"]


@dataclass(frozen=True)
class LowResolution(Spatial):
    """y = A x_0 + s n, A = `operators.Downsample`, made as large as x_0 by bicubic interpolation; and the level s.

    Saharia et al. 2021, "Image Super-Resolution via Iterative Refinement", section 2.

    Args:
        scale: how many pixels of x_0, in each direction, are one pixel of y.
        kernel: of A; bicubic: antialiased, as most pictures are made small; box: the mean of scale x scale pixels.
        augmentation: the largest s in training, in the units of x_0.
    """

    scale: Annotated[int, Range(ge=2, le=256)] = 4
    kernel: Literal["bicubic", "box"] = "bicubic"
    augmentation: Fraction = 0.5

    def channels(self, channels: int) -> int:
        return channels + 1

    def training(self, x_0: Tensor, rng: Rng) -> Tensor:
        std = self.levels(rng, x_0)
        return self.condition(noisy(self.shrink(x_0), std, rng), std)

    def condition(self, low: Tensor, std: float | Tensor = 0.0) -> Tensor:
        """low (B, C, h, w) with noise of this standard deviation, () or (B,) -> (B, C + 1, h scale, w scale)."""
        large = _resized(low, [self.scale * side for side in low.shape[2:]])
        return torch.cat((large, plane(std, large)), 1)

    def shrink(self, x_0: Tensor) -> Tensor:
        """A x_0, (B, C, H / scale, W / scale)."""
        if self.kernel == "box":
            return F.avg_pool2d(x_0, self.scale)
        return _resized(x_0, [side // self.scale for side in x_0.shape[2:]])

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises ConfigError where the scale does not divide the picture's sides."""
        super().check(shape)
        if any(side % self.scale for side in shape[1:]):
            near = [f"scale={scale}" for scale in scales(shape, self.scale)[:2]]
            raise ConfigError(
                f"scale={self.scale} does not divide pictures of {shape[2]}x{shape[1]}",
                field="spatial.scale",
                hint="use " + " or ".join([*near, "another size="]),
            )


def _resized(x: Tensor, size: list[int]) -> Tensor:
    """Bicubic with a = -1/2, as Pillow does it: exact for what rises evenly. torch's own, a = -3/4, is not."""
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)


def scales(shape: tuple[int, ...], wanted: int) -> list[int]:
    """The scales that divide pictures of this shape (C, H, W), the nearest to the wanted one first."""
    common = math.gcd(*shape[1:])
    fitting = [scale for scale in range(2, common + 1) if common % scale == 0]
    return sorted(fitting, key=lambda scale: abs(math.log(scale / wanted)))
