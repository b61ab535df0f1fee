"""Batches as a pure function of (seed, sample counter): there is no loader state to save."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unstir.data.dataset import Dataset
from unstir.errors import DataError
from unstir.rng import Rng, permutation_index

__all__ = ["Loader"]


class Loader:
    """Draws items in a new order every epoch; the counter-th draw is the same whatever was drawn before.

    Args:
        dataset: at least one item. Fewer than a batch are repeated, a new order each time.
        seed: of the order and the flips.
        batch: items per batch.
        flip: show each image mirrored, left to right, with probability 1/2.
    """

    def __init__(self, dataset: Dataset, seed: int, batch: int, flip: bool = False) -> None:
        if not len(dataset):
            raise DataError(f"{dataset.info.source} has no items to draw from", field="data.source")
        self.dataset = dataset
        self.seed = seed
        self.size = batch
        self.flip = flip and dataset.info.kind == "image"

    def indices(self, first: int, n: int) -> np.ndarray:
        """int64 (n,): the items of counters first .. first + n - 1."""
        return permutation_index(self.seed, np.arange(first, first + n), len(self.dataset))

    def batch(self, first: int, n: int | None = None) -> tuple[Tensor, Tensor | None]:
        """The draws of counters first .. first + n - 1 (n: `batch`) in the shapes of `Dataset.take`."""
        n = self.size if n is None else n
        mirrored = None
        if self.flip:
            counters = torch.arange(first, first + n)
            coins = Rng(torch.full((n,), self.seed)).fork("flip", counters).uniform((n, 1))[:, 0]
            mirrored = (coins < 0.5).numpy()
        return self.dataset.take(self.indices(first, n), mirrored)
