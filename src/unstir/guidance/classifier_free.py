"""Classifier-free guidance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from ..errors import ConfigError
from .base import Guided

__all__ = ["ClassifierFree"]


class ClassifierFree(Guided):
    """D = D(negative) + scale (D(cond) - D(negative)).

    scale = 1 is the conditional denoiser and costs one evaluation, scale = 0 the unconditional one; above 1
    trades variety for agreement with the condition. It is right for token log-probabilities too.
    Ho & Salimans 2022, eq. 6, with w = scale - 1.

    Args:
        denoiser: a denoiser trained with dropped conditions.
        scale: a finite number >= 0.
        negative: the condition to move away from: "no label", or what should not appear.
    """

    def __init__(self, denoiser: Denoiser, scale: float, negative: Condition | None = None) -> None:
        super().__init__(denoiser)
        if not (math.isfinite(scale) and scale >= 0):
            raise ConfigError(
                f"guidance is {scale}", field="guidance", hint="accepted: a number >= 0; 1 switches it off"
            )
        self.scale = scale
        self.negative = negative

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        if self.scale == 1:
            return self.denoiser(x_t, t, cond)
        if self.scale == 0:
            return self.denoiser(x_t, t, self.negative)
        return torch.lerp(self.denoiser(x_t, t, self.negative), self.denoiser(x_t, t, cond), self.scale)
