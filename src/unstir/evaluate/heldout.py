"""The loss on data the model has not seen, at fixed noise and fixed times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..condition import Batch
from ..objectives import Classification, Denoising, Hybrid, Objective
from ..rng import Rng

__all__ = ["HeldOut", "heldout_loss"]

LEVELS = 10
ITEMS = 500


class HeldOut(NamedTuple):
    """The mean loss, and that of each noise level t = 0.05, 0.15, ..., 0.95 where the objective has one."""

    loss: float
    levels: tuple[float, ...]


@torch.no_grad()
def heldout_loss(
    module: Any,
    objective: Objective,
    batches: Callable[[int, int], Batch],
    count: int,
    micro_batch: int = 50,
) -> HeldOut:
    """The objective's mean over the first `count` held-out items (500 at most), 1/10 of them per noise level.

    Item i always meets the same noise at the same time, so two numbers of one run differ by the model alone. An
    objective that chooses times of its own, as the bound does, is left to spread them over the items.

    Args:
        module: what the objective trains.
        objective: its loss.
        batches: (first, n) -> held-out items first..first+n-1.
    """
    count = min(count, ITEMS)
    device = next(module.parameters()).device
    training = module.training
    module.eval()
    losses, levels = torch.zeros(count, dtype=torch.float64), torch.arange(count) % LEVELS
    chosen = isinstance(objective, (Denoising, Hybrid, Classification))
    for first in range(0, count, micro_batch):
        items = slice(first, min(first + micro_batch, count))
        index = torch.arange(items.start, items.stop)
        rng = Rng(torch.zeros_like(index)).fork("heldout", index).to(device)
        batch = batches(items.start, len(index))
        if chosen:
            t = ((levels[items] + 0.5) / LEVELS).double().to(device)
            found = objective.loss_at(module, batch, t, rng)  # type: ignore[attr-defined]
        else:
            found = objective.loss(module, batch, rng)
        losses[items] = found.double().cpu()
    module.train(training)
    per_level = [losses[levels == level] for level in range(min(LEVELS, count) if chosen else 0)]
    return HeldOut(losses.mean().item(), tuple(x.mean().item() for x in per_level))
