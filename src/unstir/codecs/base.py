"""Data <-> x_0: what the process works on may be scaled pixels, a latent, a spectrogram."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

__all__ = ["Codec"]


class Codec(nn.Module, ABC):
    """A pair of maps between data as it is stored and x_0; `decode(encode(data))` gives the data back."""

    levels: int | None = None
    """How many values a component of x_0 can have, evenly from -1 to 1; None: any."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (C, *S) of x_0 for data of this shape."""
        return shape

    @abstractmethod
    def encode(self, data: Tensor) -> Tensor:
        """Stored data -> x_0, float32."""

    @abstractmethod
    def decode(self, x_0: Tensor) -> Tensor:
        """x_0 -> data, in the range of what is stored."""
