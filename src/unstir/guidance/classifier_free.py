"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from .base import Contrast, Rule, Scale

__all__ = ["ClassifierFree"]


class ClassifierFree(Contrast):
    """The weak opinion is that of the same denoiser told something else: nothing, or what should not appear.

    scale = 1 is the conditional denoiser, scale = 0 the unconditional one; above 1 trades variety for agreement
    with the condition. With the linear rule it is right for token log-probabilities too.
    Ho & Salimans 2022, "Classifier-Free Diffusion Guidance", eq. 6, with w = scale - 1.

    Args:
        denoiser: a denoiser trained with dropped conditions.
        scale: a number >= 0 or a function of t.
        negative: the condition to move away from; None = no condition.
        rule, interval: see `Contrast`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: Scale,
        negative: Condition | None = None,
        *,
        rule: Rule | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser, denoiser, scale, rule=rule, interval=interval)
        self.negative = negative

    def weak(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        return self.weaker(x_t, t, self.negative)
