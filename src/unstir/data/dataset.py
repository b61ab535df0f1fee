"""Items as training sees them: what they are, any of them at once, and a part held out."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from unstir.data.items import Bucket, Caption, Items
from unstir.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from unstir.rng import Rng

__all__ = ["Dataset", "Info", "at_most", "heaviest", "spread"]

_MOMENTS_OF = 10_000  # items that mean and std are measured on, spread evenly


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a data set is, in words and numbers; JSON-able."""

    source: str
    kind: str
    """"image" or "points"."""
    count: int
    shape: tuple[int, ...]
    """(C, H, W); points: (2,)."""
    classes: tuple[str, ...]
    """() = no labels."""
    class_counts: tuple[int, ...]
    captions: int
    """How many items have one."""
    buckets: tuple[tuple[int, int, int], ...] = ()
    """(height, width, how many items) of each bucket; () = training sees every item in `shape`."""
    mean: float
    """Of x_0: pixels as v / 127.5 - 1; points as they are."""
    std: float
    fingerprint: str
    """SHA-256 over the hashes of the items, their labels and their captions, in order."""
    duplicates: int
    """Items whose content equals that of an earlier one."""
    bad: int
    notes: tuple[str, ...]
    """What was detected and converted, said aloud."""

    def to_dict(self) -> dict[str, Any]:
        """The form written by `--json`."""
        return asdict(self)


class Dataset:
    """The rows `rows` of `items`.

    Args:
        source: what the items were read from, as the user named it.
        items: all items of the source.
        rows: (n,) indices of those that belong to this data set, ascending; None: all.
    """

    def __init__(self, source: str, items: Items, rows: np.ndarray | None = None) -> None:
        self.items = items
        self.rows = np.arange(len(items)) if rows is None else rows
        self.info = _describe(source, items, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def x(self) -> np.ndarray:
        """Images: uint8 (N, H, W, C). Points: float32 (N, 2). A copy where this is a part of the source."""
        whole = len(self.rows) == len(self.items)
        return self.items.pixels if whole else self.items.pixels[self.rows]

    @property
    def y(self) -> np.ndarray | None:
        """int64 (N,), indices into `info.classes`."""
        return None if self.items.labels is None else self.items.labels[self.rows]

    @property
    def captions(self) -> list[tuple[Caption, ...]] | None:
        """The texts of each item with their weights, () for an item that has none."""
        captions = self.items.captions
        return None if captions is None else [captions[row] for row in self.rows.tolist()]

    @property
    def texts(self) -> list[str] | None:
        """The caption of the largest weight of each item, the first of equals; "" for an item that has none."""
        captions = self.captions
        return None if captions is None else [heaviest(some) for some in captions]

    def caption(self, indices: np.ndarray, rng: Rng) -> list[str]:
        """One text per item, P(text k) = w_k / sum_j w_j; "" for an item that has none.

        Args:
            indices: (B,) items, as `take` is given them.
            rng: one generator per index, so that an item's text depends on its own generator alone.
        """
        from torch import float64

        captions = self.items.captions
        if captions is None:
            return [""] * len(indices)
        shares = rng.uniform((len(indices), 1), dtype=float64)[:, 0].tolist()
        rows = self.rows[indices].tolist()
        return [_drawn(captions[row], share) for row, share in zip(rows, shares, strict=True)]

    @property
    def names(self) -> list[str]:
        """The file of each item, relative to the source, or its number."""
        return [self.items.names[row] for row in self.rows.tolist()]

    @property
    def members(self) -> list[np.ndarray]:
        """The items of each bucket, as indices of this data set, ascending."""
        return [np.flatnonzero(np.isin(self.rows, bucket.rows)) for bucket in self.items.buckets]

    def take(
        self, indices: np.ndarray, mirrored: np.ndarray | None = None, *, bucket: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Items by index: uint8 (B, C, H, W) in channels-last memory, or float32 (B, 2); and int64 (B,).

        Args:
            indices: (B,) of the items.
            mirrored: (B,) bool, images to be turned left to right.
            bucket: the one that they are members of, for images in its shape; None: in the shape common to all.
        """
        import torch

        rows = self.rows[indices]
        held: Items | Bucket = self.items if bucket is None else self.items.buckets[bucket]
        places = np.searchsorted(held.rows, rows) if isinstance(held, Bucket) else rows
        pixels = held.pixels[places]
        if mirrored is not None and mirrored.any():
            turned = (
                held.mirrored[places[mirrored]] if held.mirrored is not None else pixels[mirrored][:, :, ::-1]
            )
            pixels[mirrored] = turned
        x = torch.from_numpy(np.ascontiguousarray(pixels))
        y = None if self.items.labels is None else torch.from_numpy(self.items.labels[rows])
        return (x.permute(0, 3, 1, 2) if x.ndim == 4 else x), y

    def split(self, heldout: float | None = None) -> tuple[Dataset, Dataset]:
        """(train, held out): chosen by the items' content, so that equal items fall on the same side.

        An item's side depends on its own content and the share alone: adding others moves no item, as long
        as the share stays.

        Args:
            heldout: a share below 1, or a count; 0: none; None: 10% of fewer than 5,000 items, else 5%, at
                most about 2,000. Of two or more different items at least one is held out.

        Raises `ConfigError` when it is negative or nothing would be left to train on.
        """
        keys, n = self.items.keys[self.rows], len(self)
        if heldout is None:
            heldout = 0.1 if n < 5_000 else min(0.05, 2_000 / n)
        if not 0 <= heldout < max(n, 1):
            raise ConfigError(
                f"heldout={heldout} of {n:,} items",
                field="data.heldout",
                hint="give a share from 0 to below 1, or a count below that of the items",
            )
        out = _chosen(keys, heldout)
        source = self.info.source
        return Dataset(source, self.items, self.rows[~out]), Dataset(source, self.items, self.rows[out])


def heaviest(captions: Sequence[Caption]) -> str:
    """The text of the largest weight, the first of equals; "" where there is none."""
    return max(captions, key=lambda caption: caption.weight, default=Caption("")).text


def _drawn(captions: Sequence[Caption], share: float) -> str:
    """The text at which the running sum of the weights passes `share` of their total."""
    if len(captions) < 2:
        return heaviest(captions)
    sums = list(accumulate(caption.weight for caption in captions))
    k = bisect_right(sums, share * sums[-1])
    return (
        captions[k].text if k < len(captions) else heaviest(captions)
    )  # share * sum may round up to the sum


def _chosen(keys: np.ndarray, heldout: float) -> np.ndarray:
    """Which items are held out: bool (N,). A share bounds the key itself, a count takes the smallest keys."""
    distinct = np.unique(keys)
    if not heldout or len(distinct) < 2:
        return np.zeros(len(keys), bool)
    if heldout >= 1:
        bound = np.sort(keys)[int(heldout) - 1]
    else:
        bound = max(np.uint64(int(heldout * 2**64)), distinct[0])
    return keys <= min(bound, distinct[-2])


def _describe(source: str, items: Items, rows: np.ndarray) -> Info:
    keys = items.keys[rows]
    image = items.pixels.ndim == 4
    labels = None if items.labels is None else items.labels[rows]
    mean, std = _moments(items.pixels, rows)
    shape = items.pixels.shape[1:]
    duplicates = len(rows) - len(np.unique(keys))
    hashed = hashlib.sha256(repr((len(rows), shape, items.classes)).encode())
    hashed.update(keys.astype("<u8").tobytes())
    if labels is not None:
        hashed.update(labels.astype("<i8").tobytes())
    captions = [] if items.captions is None else [items.captions[row] for row in rows.tolist()]
    captioned = sum(map(bool, captions))
    if captioned:
        hashed.update(json.dumps(captions).encode())
    return Info(
        source=source,
        kind="image" if image else "points",
        count=len(rows),
        shape=(shape[2], *shape[:2]) if image else tuple(shape),
        classes=items.classes,
        class_counts=()
        if labels is None
        else tuple(np.bincount(labels, minlength=len(items.classes)).tolist()),
        captions=captioned,
        buckets=tuple(
            (*bucket.pixels.shape[1:3], int(np.isin(rows, bucket.rows).sum())) for bucket in items.buckets
        ),
        mean=mean,
        std=std,
        fingerprint=hashed.hexdigest(),
        duplicates=duplicates,
        bad=len(items.bad),
        notes=(*items.notes, *([f"{duplicates:,} duplicates of earlier items"] if duplicates else [])),
    )


def _moments(pixels: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """(mean, standard deviation) of x_0 over all values, exact in integers for images."""
    if not len(rows):
        return 0.0, 0.0
    some = rows[:: -(-len(rows) // _MOMENTS_OF)]
    if pixels.dtype != np.uint8:
        return float(pixels[some].mean()), float(pixels[some].std())
    histogram = sum(np.bincount(pixels[row].reshape(-1), minlength=256) for row in some)
    values = np.arange(256) / 127.5 - 1
    mean = np.average(values, weights=histogram)
    return float(mean), float(np.average((values - mean) ** 2, weights=histogram) ** 0.5)


def spread(count: int, n: int) -> np.ndarray:
    """n of `count` rows, evenly spread: a set may be sorted by class. All of them where there are fewer."""
    return np.unique(np.linspace(0, count - 1, min(n, count)).round().astype(np.int64))


def at_most(x: np.ndarray, count: int) -> np.ndarray:
    """x, or `count` of its rows, drawn at random, always the same: evenly spread ones would miss every second class."""
    if len(x) <= count:
        return x
    return x[np.sort(np.random.default_rng(0).choice(len(x), count, replace=False))]
