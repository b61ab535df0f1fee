"""A window of a larger picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from ..errors import IncompatibleError
from .base import SVD, Operator, check
from .mask import Selection

__all__ = ["Crop"]


@dataclass(frozen=True)
class Crop(Operator):
    """y is x less a border: what is restored is the picture around y.

    Args:
        left: pixels of x beyond y's left side, 0 or more.
        right: beyond its right side.
        top: above it.
        bottom: below it.
    """

    left: int = 4
    right: int = 4
    top: int = 4
    bottom: int = 4

    def __post_init__(self) -> None:
        for field in ("left", "right", "top", "bottom"):
            value = getattr(self, field)
            check(field, value, isinstance(value, int) and value >= 0, "a whole number of pixels, 0 or more")

    def source(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        *front, height, width = shape
        return (*front, height + self.top + self.bottom, width + self.left + self.right)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height <= self.top + self.bottom or width <= self.left + self.right:
            raise IncompatibleError(
                f"the borders leave nothing of {height} x {width} pixels",
                field="operator",
                hint="use left + right below the width and top + bottom below the height",
            )
        return x[..., self.top : height - self.bottom, self.left : width - self.right]

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return pad(v, (self.left, self.right, self.top, self.bottom))

    def svd(self, like: Tensor) -> SVD:
        return Selection(self, like)
