"""Out of focus."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import check
from .separable import Separable, cosines

__all__ = ["Blur"]


@dataclass(frozen=True)
class Blur(Separable):
    """(k * x) along every axis, k_j ~ exp(-j^2/(2 sigma^2)) for |j| <= 4 sigma, of sum 1.

    Beyond its border the picture is its mirror image, c b a | a b c, as in scipy.ndimage.gaussian_filter. The DCT
    diagonalises such a convolution, A = C^T diag(lambda) C with lambda_f = sum_j k_j cos(pi f j/n).

    Args:
        sigma: in pixels, > 0.
    """

    sigma: float = 2.0

    def __post_init__(self) -> None:
        check("sigma", self.sigma, 0 < self.sigma < math.inf, "a number of pixels above 0, as 2")

    def matrices(self, shape: tuple[int, ...]) -> dict[int, Tensor]:
        return {axis: self._along(n) for axis, n in enumerate(shape[1:], start=2)}

    def _along(self, n: int) -> Tensor:
        radius = int(4 * self.sigma + 0.5)
        j = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-(j**2) / (2 * self.sigma**2))
        frequency = math.pi / n * torch.arange(n, dtype=torch.float64)
        eigenvalues = torch.cos(frequency[:, None] * j) @ kernel / kernel.sum()
        C = cosines(n)
        return C.T * eigenvalues @ C
