"""The nearest items of samples, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Neighbours", "nearest"]

CHUNK = 2048  # queries, and items, whose distances are held at a time


class Neighbours(NamedTuple):
    """For each query the row of the nearest item, the distance to it, and that to the second nearest."""

    rows: np.ndarray
    distance: np.ndarray
    second: np.ndarray
    """Infinite where there is one item only."""


def nearest(
    queries: np.ndarray, items: np.ndarray, *, mirrored: bool = False, own: np.ndarray | None = None
) -> Neighbours:
    """The two nearest neighbours in root-mean-square distance, (Q, ...) among (N, ...).

        min_i sqrt(mean (q - x_i)^2),   |q - x|^2 = |q|^2 + |x|^2 - 2 q.x

    around the mean of the items, in float32, over chunks; what is nearest is then measured again in float64.

    Args:
        queries: Q of them.
        items: N of the same shape and units.
        mirrored: of pictures (Q, H, W, C): the least over an item and its mirror image, left for right. With
            s + a the symmetric and antisymmetric parts of a picture, q.x = s.s' + a.a' and of the mirror image
            s.s' - a.a', so that the larger is s.s' + |a.a'|.
        own: (Q,) rows of items that a query may not find: itself, when it is one of them; None: any.
    """
    mean = _mean(items, mirrored)
    rows = np.zeros((2, len(queries)), np.int64)
    for k in range(0, len(queries), CHUNK):
        block = slice(k, k + CHUNK)
        rows[:, block] = _two(queries[block], items, mean, mirrored, None if own is None else own[block])
    distance, second = (_distance(queries, items, row, mirrored) for row in rows)
    if len(items) - (own is not None) < 2:
        second = np.full(len(queries), np.inf)
    swapped = second < distance  # where float32 could not tell
    return Neighbours(
        np.where(swapped, rows[1], rows[0]), np.minimum(distance, second), np.maximum(distance, second)
    )


def _two(
    queries: np.ndarray, items: np.ndarray, mean: np.ndarray, mirrored: bool, own: np.ndarray | None
) -> np.ndarray:
    """int64 (2, Q): the rows of the nearest and the second nearest item."""
    parts = _parts(queries, mean, mirrored)
    each = np.arange(len(queries))
    best = np.full((2, len(queries)), np.inf, np.float32)
    rows = np.zeros((2, len(queries)), np.int64)
    for k in range(0, len(items), CHUNK):
        others = _parts(items[k : k + CHUNK], mean, mirrored)
        apart = parts[0] @ others[0].T
        if mirrored:
            apart += abs(parts[1] @ others[1].T)
        apart *= -2
        apart += sum((x**2).sum(1) for x in others)
        if own is not None:
            inside = (own >= k) & (own < k + len(others[0]))
            apart[each[inside], own[inside] - k] = np.inf
        for _ in range(min(2, apart.shape[1])):
            found = apart.argmin(1)
            value = apart[each, found]
            first, second = value < best[0], (value >= best[0]) & (value < best[1])
            best[1] = np.where(first, best[0], np.where(second, value, best[1]))
            rows[1] = np.where(first, rows[0], np.where(second, k + found, rows[1]))
            best[0], rows[0] = np.where(first, value, best[0]), np.where(first, k + found, rows[0])
            apart[each, found] = np.inf
    return rows


def _parts(x: np.ndarray, mean: np.ndarray, mirrored: bool) -> list[np.ndarray]:
    """Flat float32 vectors around the mean; mirrored: the halves of the symmetric and of the antisymmetric parts."""
    y = x.astype(np.float32) - mean
    if not mirrored:
        return [y.reshape(len(y), -1)]
    half = y.shape[2] // 2
    left, right = y[:, :, :half], y[:, :, ::-1][:, :, :half]
    middle = y[:, :, half : y.shape[2] - half]  # the column that is its own mirror image, if there is one
    symmetric = np.concatenate([(left + right) / np.float32(2**0.5), middle], axis=2)
    return [symmetric.reshape(len(y), -1), ((left - right) / np.float32(2**0.5)).reshape(len(y), -1)]


def _mean(items: np.ndarray, mirrored: bool) -> np.ndarray:
    """Of some items, spread evenly; symmetric where mirror images are compared."""
    mean = items[:: -(-len(items) // CHUNK)].astype(np.float32).mean(0)
    return (mean + mean[:, ::-1]) / 2 if mirrored else mean


def _distance(queries: np.ndarray, items: np.ndarray, rows: np.ndarray, mirrored: bool) -> np.ndarray:
    """float64 (Q,): sqrt(mean (q - x)^2) to the item of each row."""
    parts = [_apart(queries[block], items[rows[block]], mirrored) for block in _blocks(len(queries))]
    return np.concatenate(parts) if parts else np.zeros(0)


def _apart(x: np.ndarray, y: np.ndarray, mirrored: bool) -> np.ndarray:
    a, b = x.astype(np.float64), y.astype(np.float64)
    squares = [((a - c) ** 2).reshape(len(a), -1).mean(1) for c in ([b, b[:, :, ::-1]] if mirrored else [b])]
    return np.sqrt(np.minimum.reduce(squares))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(k, k + CHUNK) for k in range(0, n, CHUNK))
