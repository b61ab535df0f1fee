"""Operators that act along each axis of x on its own: small matrices, and their exact SVD."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import SVD, Operator

__all__ = ["Separable", "along", "cosines", "factors"]


class Separable(Operator):
    """A = A_1 x A_2 x ..., one matrix for each axis: A x = A_h x A_w^T for the rows and columns of a picture.

    The SVD of the whole is made of those of the matrices: U = U_h x U_w, s = s_h s_w, V = V_h x V_w.
    Kawar et al. 2022, "Denoising Diffusion Restoration Models", appendix D.
    """

    @abstractmethod
    def matrices(self, shape: tuple[int, ...]) -> dict[int, Tensor]:
        """The matrix (m, n) of each axis of x (B, C, *S) = (0, 1, 2, ...) that A changes, for (C, *S)."""

    def forward(self, x: Tensor) -> Tensor:
        return along(x, _matrices(self, tuple(x.shape[1:]), x.dtype, x.device))

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        matrices = _matrices(self, tuple(x.shape[1:]), x.dtype, x.device)
        return along(v, {axis: matrix.T for axis, matrix in matrices.items()})

    def svd(self, like: Tensor) -> SVD:
        return _svd(self, tuple(like.shape[1:]), like.dtype, like.device)


class Product(SVD):
    """Of a separable operator: coordinates lie as x does.

    Args:
        parts: (U, s, V^T) of each axis, as `factors` gives them.
        shape: (C, *S).
    """

    def __init__(self, parts: Mapping[int, tuple[Tensor, Tensor, Tensor]], shape: tuple[int, ...]) -> None:
        self.U = {axis: U for axis, (U, _, _) in parts.items()}
        self.V = {axis: V.T for axis, (_, _, V) in parts.items()}
        first = next(iter(parts.values()))[1]
        self.s = first.new_ones(shape)
        for axis, (_, s, _) in parts.items():
            self.s = self.s * s.reshape(-1, *([1] * (len(shape) - axis)))

    def right(self, x: Tensor) -> Tensor:
        return along(x, {axis: V.T for axis, V in self.V.items()})

    def back(self, coordinates: Tensor) -> Tensor:
        return along(coordinates, self.V)

    def left(self, y: Tensor) -> Tensor:
        return along(y, {axis: U.T for axis, U in self.U.items()})

    def out(self, coordinates: Tensor) -> Tensor:
        return along(coordinates, self.U)


def along(x: Tensor, matrices: Mapping[int, Tensor]) -> Tensor:
    """x with each matrix (m, n) applied along its axis, whose length n becomes m."""
    for axis, matrix in matrices.items():
        x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return x


def factors(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (M, N), s (N,) and V^T (N, N) of A (M, N), in float64; beyond A's rank s and the columns of U are 0."""
    U, s, V = torch.linalg.svd(matrix.double(), full_matrices=True)
    s = torch.where(s > s.max() * max(matrix.shape) * torch.finfo(s.dtype).eps, s, 0)
    missing = len(V) - len(s)
    s, U = pad(s, (0, missing)), pad(U[:, : len(s)], (0, missing))
    return torch.where(s > 0, U, 0), s, V


def cosines(n: int) -> Tensor:
    """The orthonormal DCT-II (n, n): row k is sqrt(2/n) cos(pi k (j + 1/2)/n), row 0 is 1/sqrt(n); float64."""
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    rows = math.sqrt(2 / n) * torch.cos(math.pi * k * (j + 0.5) / n)
    return torch.cat((rows[:1] / math.sqrt(2), rows[1:]))


@lru_cache(maxsize=32)
def _matrices(
    operator: Separable, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> dict[int, Tensor]:
    return {axis: matrix.to(device, dtype) for axis, matrix in operator.matrices(shape).items()}


@lru_cache(maxsize=8)
def _svd(operator: Separable, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Product:
    parts = {axis: factors(matrix) for axis, matrix in operator.matrices(shape).items()}
    return Product(
        {
            axis: (U.to(device, dtype), s.to(device, dtype), V.to(device, dtype))
            for axis, (U, s, V) in parts.items()
        },
        shape,
    )
