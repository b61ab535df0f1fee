"""What a model says of data itself, without drawing: its errors at each noise level, and likelihood."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..condition import Batch
from ..data import Dataset, spread
from ..embedders import Label, Prompt
from ..embedders.weighting import escape
from ..errors import NumericError
from ..evaluate import score
from ..likelihood import best_end, bound
from ..objectives import Bound, Denoising, Target
from ..pipeline import Pipeline
from ..rng import Rng

__all__ = ["batches", "bits_of", "losses_of"]

LEVELS = 10
"""Noise levels: t = 0.05, 0.15, ..., 0.95."""
SELECTION = 16
"""Training items that choose where the likelihood's decoder takes over."""


def batches(
    pipe: Pipeline, data: Dataset, rows: np.ndarray, labels: bool = True
) -> Callable[[int, int], Batch]:
    """(first, n) -> items of `rows`; with `labels` the model is told their classes or captions, where it has them.

    Of several captions an item has the one that its row draws, always the same.
    """
    embedder, names, known = pipe.denoiser.embedder, data.info.classes, pipe.config.classes
    numbers = torch.tensor([known.index(name) if name in known else len(known) for name in names])

    @torch.no_grad()
    def batch(first: int, n: int) -> Batch:
        some = rows[first : first + n]
        x, y = data.take(some)
        cond = None
        if isinstance(embedder, Label):
            told = labels and y is not None
            cond = embedder(numbers[y].to(pipe.device)) if told else embedder(None, len(x))
        elif isinstance(embedder, Prompt):
            keys = Rng(torch.zeros(len(some), dtype=torch.int64)).fork("caption", torch.from_numpy(some))
            cond = embedder([escape(text) for text in data.caption(some, keys)] if labels else [""] * len(x))
        return Batch(pipe.codec.encode(x.to(pipe.device)), cond)

    return batch


def losses_of(pipe: Pipeline, micro_batch: int = 100) -> Callable[[Dataset, int], Tensor]:
    """(data set, n) -> squared errors of the network's target at t = 0.05, 0.15, ..., 0.95, (n, 10) float64.

    Item i of a set always meets the same noise, so that numbers of two models differ by the models alone.
    """
    objective = Denoising(weight=Target())

    @torch.no_grad()
    def losses(data: Dataset, n: int) -> Tensor:
        rows = spread(len(data), n)
        items, parts = batches(pipe, data, rows), []
        for first in range(0, len(rows), micro_batch):
            index = torch.from_numpy(rows[first : first + micro_batch])
            batch = items(first, len(index))
            rng = Rng(torch.zeros_like(index)).fork("losses", index).to(pipe.device)
            levels = [
                objective.loss_at(
                    pipe.denoiser,
                    batch,
                    torch.full((len(index),), (k + 0.5) / LEVELS, dtype=torch.float64, device=pipe.device),
                    rng.fork("level", k),
                )
                for k in range(LEVELS)
            ]
            parts.append(torch.stack(levels, 1).double().cpu())
        return torch.cat(parts)

    return losses


def bits_of(
    pipe: Pipeline, train: Dataset, heldout: Dataset, micro_batch: int = 32
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """n -> bits per dimension of n held-out items and their standard errors, (n,): the bound of `unstir likelihood`."""

    def bits(n: int) -> tuple[Tensor, Tensor]:
        levels = pipe.codec.levels
        few, rows = spread(len(train), SELECTION), spread(len(heldout), n)
        rng = Rng.of(0, len(few)).fork("end").to(pipe.device)
        end = best_end(pipe.denoiser, batches(pipe, train, few, False)(0, len(few)), rng, levels=levels)
        way = partial(bound, pipe.denoiser, objective=Bound(levels=levels, end=end))
        scores = score(way, batches(pipe, heldout, rows, False), len(rows), micro_batch=micro_batch)
        if not bool(scores.bits.isfinite().all()):
            raise NumericError("the likelihood is not finite", field="model", hint="the model has diverged")
        return scores.bits, scores.error

    return bits
