"""What training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..condition import Batch
from ..denoiser import Denoiser
from ..rng import Rng

__all__ = ["Objective", "taught"]


class Objective(ABC):
    """A loss per sample. A teacher, where a method has one, is a field."""

    @property
    def learns_variance(self) -> bool:
        """Whether the denoiser must know Var[x_0|x_t] too."""
        return False

    @abstractmethod
    def loss(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        """(B,) losses; sample i depends on batch item i and generator i alone."""


def taught(loss: Tensor, denoiser: Denoiser, batch: Batch, weight: float = 1.0) -> Tensor:
    """The loss (B,) with the gradients of the error of a draft besides, where the network makes one (`networks.draft`).

    Its value stays that of the denoiser: what is logged compares with losses that are held out, or without a draft.
    """
    error = denoiser.draft_error(batch.x_0, batch.cond) if weight else None
    return loss if error is None else loss + weight * (error - error.detach())
