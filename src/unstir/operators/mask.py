"""A mask: some pixels are known, the others are not."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import IncompatibleError
from .base import SVD, Operator

__all__ = ["Mask"]


class Mask(Operator):
    """A x = keep x: y has x's shape, and 0 where nothing is known.

    Args:
        keep: (*S), (1, *S) or (C, *S), true or 1 where x is known.
    """

    def __init__(self, keep: Tensor) -> None:
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        return self._at(x) * x

    def measured(self, y: Tensor) -> Tensor:
        return self._at(y) * y

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self._at(v) * v

    def svd(self, like: Tensor) -> SVD:
        return Selection(self._at(like).expand(like.shape[1:]))

    def _at(self, x: Tensor) -> Tensor:
        if tuple(self.keep.shape[-(x.ndim - 2) :]) != tuple(x.shape[2:]):
            raise IncompatibleError(
                f"the mask has shape {tuple(self.keep.shape)}, the data {tuple(x.shape[1:])}",
                field="mask",
                hint="give a mask of the picture's height and width",
            )
        return self.keep.to(x)


class Selection(SVD):
    """Of a mask: V and U are the identity."""

    def __init__(self, s: Tensor) -> None:
        self.s = s

    def right(self, x: Tensor) -> Tensor:
        return x

    def back(self, coordinates: Tensor) -> Tensor:
        return coordinates

    def left(self, y: Tensor) -> Tensor:
        return torch.where(self.s > 0, y, 0)

    def out(self, coordinates: Tensor) -> Tensor:
        return torch.where(self.s > 0, coordinates, 0)
