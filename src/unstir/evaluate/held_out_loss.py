"""The loss on items the model never saw, and how far it is above that on its training items."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..spec import Count
from .base import Evidence, Finding, Metric, Number

__all__ = ["HeldOutLoss"]

LARGE = 0.1  # a gap that is worth a word


@dataclass(frozen=True)
class HeldOutLoss(Metric):
    """E |denoiser(x_t) - x_0|^2 of held-out items, the mean over ten noise levels t = 0.05, 0.15, ..., 0.95.

    loss_gap = mean_t (held-out loss - training loss) / training loss, at each level: 0 for a model that does as well
    on what it never saw; large for one that knows its training items by heart.
    """

    needs = ("denoiser", "heldout")

    n: Count = 1000
    """Items of either kind, spread evenly."""

    def lacks(self, evidence: Evidence) -> str | None:
        few = "fewer than two items are held out" if min(len(evidence.heldout), self.n) < 2 else None
        return super().lacks(evidence) or few

    def measure(self, evidence: Evidence) -> Finding:
        assert evidence.losses is not None
        held, train = (
            evidence.losses(data, min(self.n, len(data))).double()
            for data in (evidence.heldout, evidence.train)
        )
        h, t = held.mean(0), train.mean(0).clamp_min(torch.finfo(torch.float64).tiny)
        gap = float((h / t - 1).mean())
        # What each item adds to the gap, to first order.
        error = math.hypot(_error((held / t).mean(1)), _error((train * h / t**2).mean(1)))
        counts = {"n": len(held), "against": len(train)}
        loss = Number.within(
            "heldout_loss", float(held.mean()), _error(held.mean(1)), n=len(held), better="low"
        )
        number = Number.within("loss_gap", gap, error, better="low", **counts)
        words: tuple[str, ...] = ()
        if gap > LARGE and gap > 1.96 * error:
            words = (
                f"the loss on held-out items is {gap:.0%} ({number.low:.0%} to {number.high:.0%}) above that on "
                "training items: the model knows these by heart in part; train it for less long, or on more",
            )
        times = [(level + 0.5) / held.shape[1] for level in range(held.shape[1])]
        curves = {"train": (times, t.tolist()), "held out": (times, h.tolist())}
        return Finding(numbers=(loss, number), words=words, curves=curves)


def _error(values: torch.Tensor) -> float:
    """The standard error of their mean."""
    return float(values.std() / math.sqrt(len(values)))
