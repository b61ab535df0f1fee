"""Batches as a pure function of (seed, sample counter): there is no loader state to save."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unstir.data.buckets import Turns, turns
from unstir.data.dataset import Dataset
from unstir.errors import DataError
from unstir.rng import Rng, permutation_index

__all__ = ["Loader"]


class Loader:
    """Draws items in a new order every epoch; the counter-th draw is the same whatever was drawn before.

    With `buckets` every batch is of one bucket, as `buckets.turns` says, and a bucket's items are drawn in a new order
    every time they have all been drawn: in N batches of B, for N items, each item is drawn exactly B times, and at no
    time has an item been drawn more than once more than another of its bucket.

    Args:
        dataset: at least one item. Fewer than a batch are repeated, a new order each time.
        seed: of the order and the flips.
        batch: items per batch.
        flip: show each image mirrored, left to right, with probability 1/2.
        buckets: show images in the shapes of their buckets, where the data set has them.
    """

    def __init__(
        self, dataset: Dataset, seed: int, batch: int, flip: bool = False, buckets: bool = False
    ) -> None:
        if not len(dataset):
            raise DataError(f"{dataset.info.source} has no items to draw from", field="data.source")
        self.dataset = dataset
        self.seed = seed
        self.size = batch
        self.flip = flip and dataset.info.kind == "image"
        self._members = [pair for pair in enumerate(dataset.members) if len(pair[1])] if buckets else []
        self._turns: Turns | None = None
        if self._members:
            phases = Rng([seed] * len(self._members)).fork("bucket", torch.arange(len(self._members)))
            counts = [len(members) for _, members in self._members]
            self._turns = turns(counts, phases.uniform((len(counts), 1), torch.float64)[:, 0].tolist())

    def indices(self, first: int, n: int) -> np.ndarray:
        """int64 (n,): the items of counters first .. first + n - 1; with buckets, of one batch or a part of it."""
        return self._drawn(first, n)[0]

    def _drawn(self, first: int, n: int) -> tuple[np.ndarray, int | None]:
        """The items, and the bucket that all of them are of, where there are buckets."""
        if self._turns is None:
            return permutation_index(self.seed, np.arange(first, first + n), len(self.dataset)), None
        batch, place = divmod(first, self.size)
        if place + n > self.size:
            raise ValueError(f"draws {first} to {first + n - 1} are of two batches of {self.size}")
        rounds, turn = divmod(batch, len(self._turns.bucket))
        bucket, members = self._members[self._turns.bucket[turn]]
        drawn = (rounds * len(members) + int(self._turns.before[turn])) * self.size + place
        return members[permutation_index(self.seed, np.arange(drawn, drawn + n), len(members))], bucket

    def batch(self, first: int, n: int | None = None) -> tuple[Tensor, Tensor | None]:
        """The draws of counters first .. first + n - 1 (n: `batch`) in the shapes of `Dataset.take`."""
        n = self.size if n is None else n
        mirrored = None
        if self.flip:
            counters = torch.arange(first, first + n)
            coins = Rng(torch.full((n,), self.seed)).fork("flip", counters).uniform((n, 1))[:, 0]
            mirrored = (coins < 0.5).numpy()
        indices, bucket = self._drawn(first, n)
        return self.dataset.take(indices, mirrored, bucket=bucket)
