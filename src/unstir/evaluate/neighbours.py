"""The nearest training items of samples: has the model learned, or copied?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Neighbours", "nearest"]


class Neighbours(NamedTuple):
    """For each query the row of the nearest item and the distance to it."""

    rows: np.ndarray
    distance: np.ndarray


def nearest(queries: np.ndarray, items: np.ndarray, chunk: int = 4096) -> Neighbours:
    """Nearest neighbours in root-mean-square pixel distance, (Q, ...) among (N, ...), values 0..255.

    min_i sqrt(mean (q - x_i)^2); exact, in float32, over chunks of items.
    """
    q = queries.reshape(len(queries), -1).astype(np.float32)
    best = np.full(len(q), np.inf, np.float32)
    index = np.zeros(len(q), np.int64)
    for first in range(0, len(items), chunk):
        x = items[first : first + chunk].reshape(len(items[first : first + chunk]), -1).astype(np.float32)
        squared = (q**2).sum(1)[:, None] - 2 * q @ x.T + (x**2).sum(1)[None]
        found = squared.argmin(1)
        value = squared[np.arange(len(q)), found]
        closer = value < best
        best, index = np.where(closer, value, best), np.where(closer, first + found, index)
    return Neighbours(index, np.sqrt(best.clip(min=0) / q.shape[1]))
