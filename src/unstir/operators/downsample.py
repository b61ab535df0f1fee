"""Fewer pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import IncompatibleError
from .base import check
from .separable import Separable

__all__ = ["Downsample"]


@dataclass(frozen=True)
class Downsample(Separable):
    """One pixel of every `scale` along every axis: a weighted mean of those around it.

    Args:
        scale: 2 or more; divides every side of x.
        kernel: bicubic = antialiased, a = -1/2, windows cut at the border and normalised there, the weights of
            Pillow's resize; box = the mean of scale x scale pixels.
    """

    scale: int = 4
    kernel: Literal["bicubic", "box"] = "bicubic"

    def __post_init__(self) -> None:
        whole = isinstance(self.scale, int) and self.scale >= 2
        check("scale", self.scale, whole, "a whole number, 2 or more")
        check("kernel", self.kernel, self.kernel in ("bicubic", "box"), "bicubic, box")

    def source(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], *(n * self.scale for n in shape[1:]))

    def matrices(self, shape: tuple[int, ...]) -> dict[int, Tensor]:
        if any(n % self.scale for n in shape[1:]):
            raise IncompatibleError(
                f"scale {self.scale} does not divide {' x '.join(map(str, shape[1:]))}",
                field="operator.scale",
                hint=f"crop to multiples of {self.scale}, or use a scale that divides every side",
            )
        return {axis: self._along(n) for axis, n in enumerate(shape[1:], start=2)}

    def _along(self, n: int) -> Tensor:
        one = torch.eye(n, dtype=torch.float64)
        if self.kernel == "box":
            return one.unflatten(0, (-1, self.scale)).mean(1)
        rows = (n // self.scale, n)
        return interpolate(one[None, None], rows, mode="bicubic", align_corners=False, antialias=True)[0, 0]
