"""Phase retrieval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import IncompatibleError
from .base import Operator, check

__all__ = ["Phase"]


@dataclass(frozen=True)
class Phase(Operator):
    """y = |F z|, z = (x + 1)/2 with zeros behind it: the moduli of the orthonormal Fourier transform, without phases.

    Where F z = 0 the derivative is taken as 0. The picture turned by 180 degrees has the same y.
    Chung et al. 2023, "Diffusion Posterior Sampling for General Noisy Inverse Problems".

    Args:
        oversample: sides of y per side of x, 1 to 8; below 2, y does not determine x.
    """

    oversample: int = 2
    linear = False

    def __post_init__(self) -> None:
        whole = isinstance(self.oversample, int) and 1 <= self.oversample <= 8
        check("oversample", self.oversample, whole, "a whole number from 1 to 8")

    def source(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if any(n % self.oversample for n in shape[1:]):
            raise IncompatibleError(
                f"y of shape {shape} is no spectrum oversampled {self.oversample} times",
                field="operator.oversample",
                hint="use a number that divides every side of y",
            )
        return (shape[0], *(n // self.oversample for n in shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        sizes = tuple(self.oversample * x.shape[axis] for axis in axes)
        return torch.fft.fftn((x + 1) / 2, sizes, axes, norm="ortho").abs()
