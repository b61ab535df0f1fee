"""Colours mixed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import IncompatibleError
from .base import check
from .separable import Separable

__all__ = ["Colour"]

Weights = tuple[float, float, float]


@dataclass(frozen=True)
class Colour(Separable):
    """A linear map of colours: each channel of y is a weighted sum of x's red, green and blue.

    By default red and green are told apart no more. Rows of sum 1 leave grey as it is.

    Args:
        red: the weights of y's red.
        green: the weights of y's green.
        blue: the weights of y's blue.
    """

    red: Weights = (0.5, 0.5, 0.0)
    green: Weights = (0.5, 0.5, 0.0)
    blue: Weights = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        for field, row in (("red", self.red), ("green", self.green), ("blue", self.blue)):
            accepted = len(row) == 3 and all(map(math.isfinite, row)) and any(row)
            check(field, row, accepted, "three numbers, of red, green and blue, not all 0")

    def matrices(self, shape: tuple[int, ...]) -> dict[int, Tensor]:
        check_channels(self, shape, 3)
        return {1: torch.tensor((self.red, self.green, self.blue), dtype=torch.float64)}


def check_channels(operator: object, shape: tuple[int, ...], *accepted: int) -> None:
    """Raises IncompatibleError unless data (C, *S) has one of these numbers of channels."""
    if shape[0] not in accepted:
        count = " or ".join(map(str, accepted))
        raise IncompatibleError(
            f"{type(operator).__name__} takes {count} channels, the data has {shape[0]}",
            field="operator",
            hint=f"give data of {count} channels, or another operator",
        )
