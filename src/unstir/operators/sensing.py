"""Compressed sensing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..rng import Rng
from .base import SVD, Operator, check
from .random_pixels import chosen
from .separable import along, cosines

__all__ = ["Sensing"]


@dataclass(frozen=True)
class Sensing(Operator):
    """y = R C D x: M random projections of x's N numbers, (B, C, *S) -> (B, M), each of variance that of x.

    D flips signs at random, C is the DCT along every axis, R takes a random share of the numbers. The rows are
    orthonormal, each spread over all of x, and cost no matrix of M by N; they serve where Gaussian ones do.
    Do et al. 2012, "Fast and Efficient Compressive Sensing Using Structurally Random Matrices", less the factor
    sqrt(N/M).

    Args:
        share: M/N, 0 < share <= 1; at least one projection.
        seed: which signs and rows.
    """

    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        check("share", self.share, 0 < self.share <= 1, "above 0, to 1")
        check("seed", self.seed, 0 <= self.seed < 1 << 63, "a whole number, 0 or more")

    def source(self, shape: tuple[int, ...]) -> None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        svd = self.svd(x)
        return svd.out(svd.right(x))

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        svd = self.svd(x)
        return svd.back(svd.left(v))

    def svd(self, like: Tensor) -> SVD:
        return _projections(self, tuple(like.shape[1:]), like.dtype, like.device)


class Projections(SVD):
    """Of `Sensing`: V^T = C D, s is 1 on the rows and 0 elsewhere, U puts the rows in their order."""

    def __init__(self, signs: Tensor, rows: Tensor) -> None:
        self.signs, self.rows = signs, rows
        self.forth = {axis: cosines(n).to(signs) for axis, n in enumerate(signs.shape, start=1)}
        self.s = signs.new_zeros(signs.numel()).index_fill(0, rows, 1)

    def right(self, x: Tensor) -> Tensor:
        return along(self.signs * x, self.forth).flatten(1)

    def back(self, coordinates: Tensor) -> Tensor:
        mixed = coordinates.unflatten(1, self.signs.shape)
        return self.signs * along(mixed, {axis: C.T for axis, C in self.forth.items()})

    def left(self, y: Tensor) -> Tensor:
        return y.new_zeros(len(y), len(self.s)).index_copy(1, self.rows, y)

    def out(self, coordinates: Tensor) -> Tensor:
        return coordinates[:, self.rows]


@lru_cache(maxsize=8)
def _projections(
    operator: Sensing, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Projections:
    rng = Rng.of(operator.seed, 1)
    signs = 1.0 - 2 * rng.fork("signs").integers(2, (1, *shape))[0]
    rows = chosen(rng.fork("rows"), signs.numel(), operator.share)
    return Projections(signs.to(device, dtype), rows.to(device))
