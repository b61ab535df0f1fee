"""What training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..condition import Batch
from ..denoiser import Denoiser
from ..rng import Rng

__all__ = ["Objective"]


class Objective(ABC):
    """A loss per sample. A teacher, where a method has one, is a field."""

    @property
    def learns_variance(self) -> bool:
        """Whether the denoiser must know Var[x_0|x_t] too."""
        return False

    @abstractmethod
    def loss(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        """(B,) losses; sample i depends on batch item i and generator i alone."""
