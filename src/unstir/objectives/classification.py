"""Learning to tell the classes apart at every noise level."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ..classifier import NoisyClassifier
from ..condition import Batch
from ..errors import DataError, IncompatibleError
from ..rng import Rng
from .base import Objective
from .draws import Draws, Uniform, spread

__all__ = ["Classification"]


@dataclass(frozen=True)
class Classification(Objective):
    """-log p(y | x_t) with x_t ~ q(x_t | x_0), t ~ draws: the cross entropy of a `NoisyClassifier`.

    Its minimum is the true posterior at every t, whatever the law of t. Dhariwal & Nichol 2021, "Diffusion
    Models Beat GANs", section 4.

    Args:
        draws: the law of t.

    Raises:
        IncompatibleError: what is trained is no `NoisyClassifier`.
        DataError: the batch has no labels.
    """

    draws: Draws = Uniform()

    def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
        if not isinstance(denoiser, NoisyClassifier):
            raise IncompatibleError(
                f"{type(denoiser).__name__} gives no class probabilities",
                field="objective",
                hint="train a classifier with it: task=classifier",
            )
        return self.loss_at(
            denoiser, batch, self.draws.quantile(spread(batch, rng), denoiser.process.schedule), rng
        )

    def loss_at(self, classifier: NoisyClassifier, batch: Batch, t: Tensor, rng: Rng) -> Tensor:
        """The loss at given times (B,): what a held-out loss per noise level averages."""
        if batch.label is None:
            raise DataError(
                "the data has no labels", field="data", hint="train on data with one sub-folder per class"
            )
        x_t = classifier.process.corrupt(batch.x_0, t, rng.fork("noise"))
        return F.nll_loss(classifier(x_t, t), batch.label, reduction="none")
