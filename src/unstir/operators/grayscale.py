"""Colours lost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import IncompatibleError
from .colour import check_channels
from .separable import Separable

__all__ = ["Grayscale"]


@dataclass(frozen=True)
class Grayscale(Separable):
    """y = 0.299 R + 0.587 G + 0.114 B, (B, 3, *S) -> (B, 1, *S): the luma of ITU-R BT.601, Pillow's mode L."""

    def source(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[0] != 1:
            raise IncompatibleError(
                f"y has {shape[0]} channels, Grayscale gives 1", field="y", hint="convert y to grey"
            )
        return (3, *shape[1:])

    def matrices(self, shape: tuple[int, ...]) -> dict[int, Tensor]:
        check_channels(self, shape, 3)
        return {1: torch.tensor(((0.299, 0.587, 0.114),), dtype=torch.float64)}
