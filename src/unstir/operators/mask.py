"""Some pixels are known, the others are not."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from ..errors import IncompatibleError
from .base import SVD, Operator

__all__ = ["Mask", "Masking", "Selection"]


class Masking(Operator):
    """A x = keep x: y has x's shape, and 0 where nothing is known."""

    @abstractmethod
    def known(self, x: Tensor) -> Tensor:
        """keep, 0 or 1 in x's dtype, shaped to multiply x."""

    def forward(self, x: Tensor) -> Tensor:
        return self.known(x) * x

    def measured(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.forward(v)

    def svd(self, like: Tensor) -> SVD:
        return Selection(self, like)


class Mask(Masking):
    """A x = keep x: y has x's shape, and 0 where nothing is known.

    Args:
        keep: (*S), (1, *S) or (C, *S), true or not 0 where x is known.
    """

    def __init__(self, keep: Tensor) -> None:
        self.keep = keep.bool()

    def known(self, x: Tensor) -> Tensor:
        keep, shape = tuple(self.keep.shape), tuple(x.shape[1:])
        if keep not in (shape[1:], (1, *shape[1:]), shape):
            raise IncompatibleError(
                f"the mask has shape {keep}, the data {shape}",
                field="mask",
                hint="give a mask of the picture's height and width",
            )
        return self.keep.to(x)


class Selection(SVD):
    """Of an operator that takes some of x's numbers as they are: V is the identity, s is 1 or 0, U = A."""

    def __init__(self, operator: Operator, like: Tensor) -> None:
        self.operator, self.like = operator, like[:1]
        ones = torch.ones_like(self.like)
        self.s = operator.adjoint(operator.forward(ones), ones)[0]

    def right(self, x: Tensor) -> Tensor:
        return x

    def back(self, coordinates: Tensor) -> Tensor:
        return coordinates

    def left(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y, self.like)

    def out(self, coordinates: Tensor) -> Tensor:
        return self.operator.forward(coordinates)
