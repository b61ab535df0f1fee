"""Any matrix."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from ..errors import ConfigError, IncompatibleError
from .base import SVD, Operator
from .separable import factors

__all__ = ["Matrix"]


class Matrix(Operator):
    """y = A x with x (B, C, *S) flattened to (B, N), in the order of memory of a contiguous x.

    Args:
        matrix: A (M, N).
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2:
            raise ConfigError(
                f"the matrix has shape {tuple(matrix.shape)}", field="operator", hint="give shape (M, N)"
            )
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        if x[0].numel() != self.matrix.shape[1]:
            raise IncompatibleError(
                f"the operator takes {self.matrix.shape[1]} numbers, the data has {x[0].numel()}",
                field="operator",
                hint="give a matrix with one column per number of x_0",
            )
        return x.flatten(1) @ self.matrix.to(x).T

    def source(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        return None

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return (v @ self.matrix.to(x)).reshape(x.shape)

    def svd(self, like: Tensor) -> SVD:
        U, s, V = self._factors
        return Dense(U.to(like), s.to(like), V.to(like), tuple(like.shape[1:]))

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        return factors(self.matrix)


class Dense(SVD):
    """Of a matrix."""

    def __init__(self, U: Tensor, s: Tensor, V: Tensor, shape: tuple[int, ...]) -> None:
        self.U, self.s, self.V, self.shape = U, s, V, shape

    def right(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.V.T

    def back(self, coordinates: Tensor) -> Tensor:
        return (coordinates @ self.V).reshape(-1, *self.shape)

    def left(self, y: Tensor) -> Tensor:
        return y @ self.U

    def out(self, coordinates: Tensor) -> Tensor:
        return coordinates @ self.U.T
