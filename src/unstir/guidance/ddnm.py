"""DDNM: what the measurement determines is taken from it, the rest from the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..operators import Measurement
from ..process.base import unsqueeze_like
from ..solvers.base import Bound, Solver
from ..solvers.ddim import DDIM
from .ddrm import Measured, require_svd
from .posterior import Method, require_linear, spread

__all__ = ["DDNM"]


@dataclass(frozen=True)
class DDNM(Method):
    """D' = D + A^+ (y - A D) for y without noise: A D' = y exactly, and D' - D lies in the range of A^T.

    With noise, in coordinates of V of A = U diag(S) V^T, where the noise of y_i = (A^+ y)_i is std_i = std/S_i,

        D'_i = D_i + min(1, r^2/std_i^2) (y_i - D_i),  r^2 = sigma^2/(alpha^2 + sigma^2),

    so that what D' brings of y's noise into x_t, alpha min(std_i, r^2/std_i), is less than the sigma that x_t has, and
    vanishes beside it where y says little. The paper has sigma/(alpha std_i) for r^2/std_i^2, and takes what is brought
    from the noise of the solver's step, which with the SVD makes it `DDRM`. Here the solver keeps its own, and any
    solver will do.

    Takes linear operators, with Gaussian noise those that know their SVD, and every solver.
    Wang et al. 2022, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model", eq. 13; with noise
    section 3.3, eq. 17 and 19, in the basis of appendix I.
    """

    solver: ClassVar[Solver | None] = DDIM(eta=0.85)
    exact: ClassVar[str] = "y without noise, and independent of it what it leaves open, as steps grow"

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        x_0 = denoiser(x_t, t)
        if measurement.noiseless:
            one = torch.ones((), dtype=x_0.dtype, device=x_0.device)
            gap = measurement.resolvent(measurement.residual(x_0), one, x_0)
            return x_0 + measurement.operator.adjoint(gap, x_0)
        at = Measured.by(self, measurement, x_0)
        D = at.svd.right(x_0)
        r2 = unsqueeze_like(spread(denoiser.process, t), D)
        share = (r2 / at.std.where(at.known, 1) ** 2).clamp(max=1)
        return at.svd.back(torch.where(at.known, torch.lerp(D, at.y, share), D))

    def check_measurement(self, measurement: Measurement) -> None:
        require_linear(self, measurement)
        if not measurement.noiseless:
            require_svd(self, measurement)
