"""Encoders: what pictures are compared by, in place of their pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..errors import IncompatibleError

__all__ = ["Encoder", "Raw"]


class Encoder(ABC):
    """x -> f(x). Numbers in different features cannot be compared, so each carries the encoder's `digest`."""

    digest: str
    """12 hexadecimal digits that change with its weights."""
    about: str
    """What it is and how good, in one line."""
    classes: tuple[str, ...] = ()
    """What it tells apart; () = nothing."""

    @abstractmethod
    def embed(self, x: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, C), or points float32 (N, D) -> features float32 (N, F)."""

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """p(class | x), float64 (N, K); raises IncompatibleError where it tells nothing apart."""
        raise IncompatibleError(
            f"{self.about} knows no classes",
            field="features",
            hint="use features=auto on labelled data, which trains a classifier",
        )

    def agrees(self, x: np.ndarray, asked: Sequence[str]) -> np.ndarray:
        """Whether each x shows what was asked for, bool (N,): the name of one of `classes` for each."""
        return self.probabilities(x).argmax(1) == [self.classes.index(name) for name in asked]


class Raw(Encoder):
    """x itself: points as they are, pictures as their pixels in [-1, 1]."""

    digest, about = "raw", "the values themselves"

    def embed(self, x: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), -1).astype(np.float32)
        return flat / 127.5 - 1 if x.dtype == np.uint8 else flat
