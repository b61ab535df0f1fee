"""The likelihood of a data set's items under a model: each on its own, and their mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..condition import Batch
from ..likelihood import Estimate
from ..rng import Rng

__all__ = ["Scores", "score"]


class Scores(NamedTuple):
    """Bits per dimension of N items, (N,) float64, and their standard errors over draws (NaN: unknown)."""

    bits: Tensor
    error: Tensor
    terms: dict[str, Tensor]

    @property
    def mean(self) -> float:
        return self.bits.mean().item()

    @property
    def mean_error(self) -> float:
        """Of the mean, by how much the items differ: another choice of items, noises and times."""
        return self.bits.std().item() / math.sqrt(len(self.bits))

    @property
    def draw_error(self) -> float:
        """Of the mean of these very items: noises and times alone."""
        return self.error.square().sum().sqrt().item() / len(self.bits)


def score(
    estimate: Callable[[Batch, Rng], Estimate],
    batches: Callable[[int, int], Batch],
    count: int,
    *,
    seed: int = 0,
    micro_batch: int = 50,
    on_batch: Callable[[int], None] | None = None,
) -> Scores:
    """The estimates of items 0..count-1; item i draws from stream i of the seed, whatever the batch.

    Args:
        estimate: a way of `likelihood`.
        batches: (first, n) -> items first..first+n-1.
        on_batch: called with the number of items that are done.
    """
    parts = []
    for first in range(0, count, micro_batch):
        index = torch.arange(first, min(first + micro_batch, count))
        batch = batches(first, len(index))
        rng = Rng(torch.full_like(index, seed)).fork("likelihood", index).to(batch.x_0.device)
        found = estimate(batch, rng)
        parts.append(
            Estimate(found.bits.cpu(), found.error.cpu(), {k: v.cpu() for k, v in found.terms.items()})
        )
        if on_batch is not None:
            on_batch(first + len(index))
    terms = {k: torch.cat([part.terms[k] for part in parts]) for k in parts[0].terms}
    return Scores(torch.cat([part.bits for part in parts]), torch.cat([part.error for part in parts]), terms)
