"""Thresholding: x_0 kept within the range of the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from ..errors import ConfigError
from ..process.base import unsqueeze_like
from .base import Guided

__all__ = ["Threshold"]


class Threshold(Guided):
    """clip(x_0, -h, h) bound/h with h = max(bound, the quantile of |x_0| over the components of that sample).

    Few components beyond the bound are clipped; where many are, as at high guidance scales, the sample is shrunk
    instead, so that it does not saturate; wide areas at the bound itself turn grey with it. Wrap it around the
    guidance. Saharia et al. 2022, "Imagen", section 2.3.

    Args:
        denoiser: the denoiser, guided or not.
        quantile: in (0, 1], the share of components that h is to hold; None = static thresholding, h = bound.
        bound: > 0, the largest |x_0| of the data: 1 for pictures.

    Raises:
        ConfigError: a quantile or bound out of range.
    """

    def __init__(self, denoiser: Denoiser, quantile: float | None = 0.995, bound: float = 1.0) -> None:
        super().__init__(denoiser)
        if quantile is not None and not 0 < quantile <= 1:
            raise ConfigError(
                f"threshold is {quantile}", field="threshold", hint="accepted: 0 < threshold <= 1, e.g. 0.995"
            )
        if not 0 < bound < math.inf:
            raise ConfigError(f"bound is {bound}", field="threshold", hint="accepted: bound > 0")
        self.quantile, self.bound = quantile, bound

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        x_0 = self.denoiser(x_t, t, cond)
        if self.quantile is None:
            return x_0.clamp(-self.bound, self.bound)
        size = x_0.detach().abs().flatten(1)
        reached = size.kthvalue(math.ceil(self.quantile * size.shape[1]), dim=1).values
        h = unsqueeze_like(reached.clamp(min=self.bound), x_0)
        return torch.clamp(x_0, -h, h) * (self.bound / h)
