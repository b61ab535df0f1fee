"""Guidance by a worse version of the model."""

from __future__ import annotations

from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from ..errors import IncompatibleError
from .base import Contrast, Rule, Scale

__all__ = ["Autoguidance"]


class Autoguidance(Contrast):
    """The weak opinion is that of a worse model: trained for less time, smaller, or another
    average of its own weights; both are told the same.

    It is wrong where the model is wrong, only more so, and moving away from it corrects that without making the
    samples of a class alike. Costs two evaluations, one of them the worse model's.
    Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself", arXiv:2406.02507.

    Args:
        denoiser: the model.
        weaker: the worse one: any denoiser of the same process and data.
        scale: a number >= 0 or a function of t; 1 = the model alone.
        told: the condition as the worse model's own embedder says it; None = what the model is told.
        rule, interval: see `Contrast`.

    Raises:
        IncompatibleError: the two are of different processes, so that x_t at t is not the same to them.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        weaker: Denoiser,
        scale: Scale,
        told: Condition | None = None,
        *,
        rule: Rule | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if weaker.process != denoiser.process:
            raise IncompatibleError(
                f"the weaker model is of {weaker.process}, the model of {denoiser.process}",
                field="weaker",
                hint="use an earlier checkpoint of the model, or a smaller one with the same fixed schedule",
            )
        super().__init__(denoiser, weaker, scale, rule=rule, interval=interval)
        self.told = told

    def weak(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        return self.weaker(x_t, t, cond if self.told is None else self.told)
