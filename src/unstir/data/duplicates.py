"""Items that are in the data more than once: the same, or the same picture saved again in another way."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unstir.data.items import content_keys

__all__ = ["Duplicate", "duplicates", "thumbnails"]

SEARCHED, COMPARED = 8, 12  # sides of the thumbnails that pairs are found and judged by
COLOURS = np.array([[0.299, 0.587, 0.114], [0.35, -0.29, -0.06], [-0.085, -0.165, 0.25]], np.float32)
"""RGB -> luma, and half of what JPEG calls chroma: it is the part that is stored coarsely."""
SEARCH = 0.1  # how far apart the small thumbnails of a pair may be
SAME = 0.04  # pairs nearer than this are one picture,
NEAR, ALONE = 0.16, 0.25  # and those nearer than NEAR and ALONE times the distance of the next neighbours
AROUND = slice(4, 12)  # which neighbours these are: before them there may be further copies
YARDSTICK = 8192  # items among which they are looked for
GAIN, SHIFT = 1.3, 24.0  # what contrast (a factor) and brightness (grey levels) may differ by
FLAT = 4.0  # grey levels of contrast below which a picture counts as empty
LEAF, CHUNK, MANY = 1024, 4096, 100  # items compared all with all; read at a time; that one item is like
DIFFERENCE = np.array([1, -1])


class Duplicate(NamedTuple):
    """An item that repeats an earlier one."""

    item: int
    of: int
    """The earlier item."""
    distance: float
    """Root mean square over the pixels, in grey levels; 0: the same content."""


def duplicates(x: np.ndarray, keys: np.ndarray | None = None) -> list[Duplicate]:
    """Items that repeat an earlier one: of equal content, and pictures that were saved again in another way.

    A picture that was encoded again, or made a little smaller, lighter or flatter, keeps its thumbnail. With
    u(x) = (x - mean x) / |x - mean x| of thumbnails of 12 x 12, pictures a and b of about the same brightness and
    contrast are one where

        |u(a) - u(b)| < 0.04,   or   < 0.16 and < 0.25 times what it is to the next neighbours of either

    so that of many trousers two that are merely alike are not reported. Copies that were cut or shifted by more
    than a fraction of a thumbnail's pixel are not found. Of points only equal ones are.

    Args:
        x: uint8 (N, H, W, C), or float32 (N, 2).
        keys: uint64 (N,), a hash of each item's content; None: computed.
    """
    keys = content_keys(x) if keys is None else keys
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[inverse.reshape(-1)]
    again = np.flatnonzero(earliest != np.arange(len(x)))
    found = [Duplicate(int(item), int(earliest[item]), 0.0) for item in again]
    if x.ndim == 4 and len(first) > 1:
        found += [Duplicate(b, a, _distance(x[a], x[b])) for b, a in _near(x, np.sort(first)).items()]
    return sorted(found)


def thumbnails(x: np.ndarray, side: int) -> np.ndarray:
    """Means over boxes: uint8 (N, H, W, C) -> float32 (N, h, w, C), h = min(H, side), w = min(W, side)."""
    height, width, channels = x.shape[1:]
    down, across = _boxes(height, min(height, side)), _boxes(width, min(width, side))
    across = np.kron(across, np.eye(channels, dtype=np.float32)).T
    parts = [np.zeros((0, len(down), min(width, side), channels), np.float32)]
    for k in range(0, len(x), CHUNK):
        rows = down @ x[k : k + CHUNK].astype(np.float32).reshape(-1, height, width * channels)
        parts.append(
            (rows.reshape(-1, width * channels) @ across).reshape(len(rows), len(down), -1, channels)
        )
    return np.concatenate(parts)


def _boxes(length: int, side: int) -> np.ndarray:
    """float32 (side, length): each row the mean over its share of the pixels, which may be fractions of them."""
    edges, pixel = np.linspace(0, length, side + 1), np.arange(length)
    share = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (share.clip(0) * side / length).astype(np.float32)


def _near(x: np.ndarray, rows: np.ndarray) -> dict[int, int]:
    """{b: a}, a < b: x[b] is x[a] saved in another way, and a the earliest such; of `rows`, which ascend."""
    parts = [thumbnails(x[rows[k : k + CHUNK]], COMPARED) for k in range(0, len(rows), CHUNK)]
    large = np.concatenate(parts)
    if large.shape[-1] == 3:
        large = large @ COLOURS.T
    units = _unit(large)
    pairs = _within(_principal(_unit(thumbnails(large[..., :1], SEARCHED))), SEARCH)
    brightness = large[..., 0].mean((1, 2))
    contrast = np.log(large[..., 0].std((1, 2)) + FLAT)
    a, b = pairs[
        (abs(brightness[pairs] @ DIFFERENCE) < SHIFT) & (abs(contrast[pairs] @ DIFFERENCE) < np.log(GAIN))
    ].T
    apart = np.linalg.norm(units[a] - units[b], axis=1)
    a, b, apart = a[apart < NEAR], b[apart < NEAR], apart[apart < NEAR]
    around = np.minimum(_around(units, a), _around(units, b))
    same = apart < np.maximum(SAME, ALONE * around)
    earliest: dict[int, int] = {}
    for former, later in zip(rows[a[same]].tolist(), rows[b[same]].tolist(), strict=True):
        earliest[later] = min(former, earliest.get(later, former))
    return earliest


def _unit(x: np.ndarray) -> np.ndarray:
    """(x - mean x) / |x - mean x| of each item, float32 (N, D); what is flat is drawn to 0, not to noise."""
    flat = x.reshape(len(x), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.sqrt((flat**2).sum(1, keepdims=True) + FLAT**2 * flat.shape[1])


def _principal(x: np.ndarray) -> np.ndarray:
    """The same points in the frame of their principal axes: distances stay, few coordinates hold most of them."""
    x = x - x.mean(0)
    return x @ np.linalg.eigh(x.T @ x)[1][:, ::-1]


def _within(x: np.ndarray, radius: float) -> np.ndarray:
    """int64 (P, 2): the pairs i < j with |x_i - x_j| <= radius.

    Halves the points again and again along their widest coordinate. The lower half keeps what lies up to `radius`
    above the cut, so that every pair stays together in one of the two.
    """
    pairs, stack = [np.empty((0, 2), np.int64)], [np.arange(len(x))]
    while stack:
        rows = stack.pop()
        along = x[rows, x[rows].var(0).argmax()]
        cut = np.median(along)
        below = along <= cut + radius
        if len(rows) > LEAF and below.mean() < 0.9:
            stack += [rows[below], rows[along > cut]]
        else:
            pairs.append(_all_pairs(x, rows, radius))
    return np.unique(np.concatenate(pairs), axis=0)


def _all_pairs(x: np.ndarray, rows: np.ndarray, radius: float) -> np.ndarray:
    """The same, comparing all with all; `rows` ascend. For each j the first MANY i at most: memory has an end."""
    y, found = x[rows], []
    squares = (y**2).sum(1)
    step = max(1, LEAF**2 // len(rows))
    for k in range(0, len(rows), step):
        block = slice(k, k + step)
        apart = squares[block, None] + squares[: k + step] - 2 * y[block] @ y[: k + step].T
        later, earlier = np.nonzero(apart <= radius**2)
        later += k
        nth = np.arange(len(later)) - np.searchsorted(later, later)
        some = (earlier < later) & (nth < MANY)
        found.append(np.stack([rows[earlier[some]], rows[later[some]]], 1))
    return np.concatenate(found)


def _around(units: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How far the next neighbours of some items are, on average, not counting the very nearest."""
    others = units[np.linspace(0, len(units) - 1, min(len(units), YARDSTICK)).astype(int)]
    asked, inverse = np.unique(items, return_inverse=True)
    mean = np.zeros(len(asked), np.float32)
    for k in range(0, len(asked), LEAF):
        x = units[asked[k : k + LEAF]]
        apart = (x**2).sum(1)[:, None] + (others**2).sum(1) - 2 * x @ others.T
        nearest = np.sort(np.partition(apart, min(AROUND.stop, len(others) - 1), 1)[:, : AROUND.stop], 1)[
            :, AROUND
        ]
        mean[k : k + LEAF] = np.sqrt(nearest.clip(0)).mean(1) if nearest.shape[1] else 0
    return mean[inverse.reshape(-1)]


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a.astype(np.float32) - b) ** 2).mean()))
