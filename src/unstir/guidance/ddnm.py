"""DDNM: what the measurement determines is taken from it, the rest from the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Measurement
from ..solvers.base import Bound
from .posterior import Method, require_linear

__all__ = ["DDNM"]


@dataclass(frozen=True)
class DDNM(Method):
    """D' = D + A^+ (y - A D) for y without noise: A D' = y exactly, and D' - D lies in the range of A^T.

    Wang et al. 2022, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", eq. 13.
    """

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        x_0 = denoiser(x_t, t)
        one = torch.ones((), dtype=x_0.dtype, device=x_0.device)
        gap = measurement.resolvent(measurement.residual(x_0), one, x_0)
        return x_0 + measurement.operator.adjoint(gap, x_0)

    def check_measurement(self, measurement: Measurement) -> None:
        require_linear(self, measurement)
