"""Pixels lost at random."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..rng import Rng
from .base import check
from .mask import Masking

__all__ = ["RandomPixels", "chosen"]


@dataclass(frozen=True)
class RandomPixels(Masking):
    """A x = keep x with a random share of the places kept, all channels together; y is 0 elsewhere.

    Args:
        share: of the places, 0 < share <= 1; at least one is kept.
        seed: which.
    """

    share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check("share", self.share, 0 < self.share <= 1, "above 0, to 1")
        check("seed", self.seed, 0 <= self.seed < 1 << 63, "a whole number, 0 or more")

    def known(self, x: Tensor) -> Tensor:
        return _keep(self, tuple(x.shape[2:])).to(x)


@lru_cache(maxsize=8)
def _keep(operator: RandomPixels, sizes: tuple[int, ...]) -> Tensor:
    keep = torch.zeros(sizes, dtype=torch.bool)
    keep.view(-1)[chosen(Rng.of(operator.seed, 1), keep.numel(), operator.share)] = True
    return keep


def chosen(rng: Rng, n: int, share: float) -> Tensor:
    """A random share of the numbers 0 ... n - 1, rising, at least one of them."""
    order = rng.uniform((1, n), torch.float64)[0].argsort(stable=True)
    return order[: max(1, round(share * n))].sort().values
