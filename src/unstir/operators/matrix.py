"""Any matrix."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..errors import ConfigError, IncompatibleError
from .base import SVD, Operator

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
        """U (M, K), s (N,) with zeros behind, V^T (N, N), K = min(M, N), in float64."""
        U, s, V = torch.linalg.svd(self.matrix.double(), full_matrices=True)
        s = torch.where(s > s.max() * 1e-10, s, 0)
        return U[:, : len(s)], torch.cat([s, s.new_zeros(V.shape[0] - len(s))]), V


class Dense(SVD):
    """Of a matrix."""

    def __init__(self, U: Tensor, s: Tensor, V: Tensor, shape: tuple[int, ...]) -> None:
        self.U, self.s, self.V, self.shape = U, s, V, shape

    def right(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.V.T

    def back(self, coordinates: Tensor) -> Tensor:
        return (coordinates @ self.V).reshape(-1, *self.shape)

    def left(self, y: Tensor) -> Tensor:
        found = y @ self.U
        padded = torch.cat([found, found.new_zeros(len(y), len(self.s) - found.shape[1])], 1)
        return torch.where(self.s > 0, padded, 0)

    def out(self, coordinates: Tensor) -> Tensor:
        seen = torch.where(self.s > 0, coordinates, 0)
        return seen[:, : self.U.shape[1]] @ self.U.T
