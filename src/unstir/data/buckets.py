"""Pictures of several aspect ratios: each in the bucket whose shape is nearest to its own, not cropped to a square.

Every batch is of one bucket. The scheme is that of NovelAI 2022, "NovelAI Improvements on Stable Diffusion", and of
Podell et al. 2023, "SDXL", section 2.3; which batch is of which bucket is told by `turns`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from math import log
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from unstir.data import cache as kept
from unstir.data.decode import fit
from unstir.data.folder import Rows, fault, workers_for
from unstir.data.items import Bucket, Fault, Items, content_keys
from unstir.data.pool import Pool, Reply
from unstir.data.scan import scan

__all__ = ["LEAST", "Turns", "assign", "bucket_shapes", "read_buckets", "turns"]

LEAST = 16
"""Pictures that a bucket must have; those of smaller ones go to the next nearest. A batch of few pictures, each shown
many times over, teaches little."""


# -- shapes ------------------------------------------------------------------------------------------------
def bucket_shapes(size: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of all buckets, from the tallest to the widest: size x size pixels at most, 1:4 to 4:1.

    For every short side from size / 2 to size, in steps of a power of two, the longest long side, in such steps, whose
    area is size^2 at most. A step is 1/8 of the side or less, 1/16 of large ones: 8 pixels at 64, 16 at 256.
    """
    step = max(1, min(_power(size // 8), max(8, _power(size // 16))))
    short = range(-(-size // (2 * step)) * step, size, step)
    sides = [(side, size**2 // side // step * step) for side in short]
    return (*((long, side) for side, long in sides), (size, size), *reversed(sides))


def _power(n: int) -> int:
    """The largest power of two up to n; 0 for 0."""
    return 1 << n.bit_length() >> 1


def assign(shapes: np.ndarray, size: int, least: int = LEAST) -> dict[tuple[int, int], np.ndarray]:
    """{(height, width) of a bucket: the pictures that belong to it, ascending}, without empty buckets.

    A picture's bucket is the one whose log(width / height) is nearest to its own, the taller of equals. While a bucket
    has fewer than `least` pictures, the smallest such bucket is closed and its pictures go to the nearest that is left.

    Args:
        shapes: (N, 2) heights and widths of the pictures.
        size: the side of the square that no bucket has a larger area than.
    """
    ratios, left = np.log(shapes[:, 1] / shapes[:, 0]), list(bucket_shapes(size))
    while True:
        distances = np.abs(ratios[:, None] - np.array([log(width / height) for height, width in left]))
        nearest = distances.argmin(1)
        counts = np.bincount(nearest, minlength=len(left))
        there = counts[counts > 0]
        if len(there) < 2 or there.min() >= least:
            return {shape: np.flatnonzero(nearest == k) for k, shape in enumerate(left) if counts[k]}
        left = [shape for shape, count in zip(left, counts, strict=True) if count]
        del left[int(there.argmin())]


# -- the order of batches ----------------------------------------------------------------------------------
class Turns(NamedTuple):
    """Whose turn it is: a round of N batches for N pictures."""

    bucket: np.ndarray
    """(N,): the bucket of each batch of a round."""
    before: np.ndarray
    """(N,): how many batches of the round were of that bucket before."""


def turns(counts: Sequence[int], phases: Sequence[float]) -> Turns:
    """A round of N = sum(counts) batches, counts[k] of them of bucket k, each bucket's evenly spread over the round.

    The j-th batch of bucket k comes at (j + phases[k]) / counts[k] of the round. A bucket's share of the batches is
    its share of the pictures: after b batches it has had b counts[k] / N of them, within the number of buckets.

    Args:
        counts: pictures of each bucket, 1 or more.
        phases: a number in [0, 1) for each.
    """
    bucket = np.repeat(np.arange(len(counts)), counts)
    before = np.concatenate([np.arange(count) for count in counts])
    places = (before + np.asarray(phases)[bucket]) / np.asarray(counts)[bucket]
    order = np.argsort(places, kind="stable")
    return Turns(bucket[order], before[order])


# -- reading -----------------------------------------------------------------------------------------------
def read_buckets(
    root: Path, items: Items, *, cache: str | os.PathLike[str] | None = None, workers: int | None = None
) -> tuple[tuple[Bucket, ...], tuple[str, ...]]:
    """The pictures of a folder once more, in the shapes of their buckets, and what to say aloud.

    They are resized to cover the shape of their bucket and lose only what then stands out on two sides. Where there is
    nothing to be gained, for pictures that have one shape already or are all about square, there are none.

    Args:
        root: the folder.
        items: what `read_folder` found there.
        cache: folder for decoded images.
        workers: child processes that decode, as in `read_folder`.
    """
    height, size, channels = items.pixels.shape[1:]
    if height != size:
        return (), (f"every image is {size}x{height} already: one shape needs no buckets",)
    stamps = scan(root).images
    about = [os.path.realpath(root), [[name, stamps.get(name)] for name in items.names], size, channels]
    folder = kept.cache_folder(cache)
    if workers is None:
        workers = workers_for(len(items))
    with _Reader(root, items, workers, folder) as reader:
        found, notes = _kept(folder / kept.key_of(["shapes", *about]), reader.shapes)
        plan = assign(found.pixels, size)
        if list(plan) == [(size, size)]:
            return (), (*notes, "every image is about square: buckets change nothing")
        buckets = []
        for shape, rows in plan.items():
            entry = folder / kept.key_of(["bucket", *about, shape, rows.tolist()])
            held, said = _kept(entry, partial(reader.pictures, rows, shape))
            notes += said
            buckets.append(Bucket(rows=rows, pixels=held.pixels, keys=held.keys))
    return tuple(buckets), notes


def _kept(entry: Path, make: Callable[[], Items]) -> tuple[Items, tuple[str, ...]]:
    """The items of a cache entry, made where there are none, and what to say aloud. Faults may be gone next time."""
    items, notes = kept.load(entry)
    if items is None:
        items = make()
        if not items.bad:
            items = kept.store(entry, items)
    return items, (*notes, *items.notes)


class _Reader:
    """Reads the files of items again; its children start with the first of them."""

    def __init__(self, root: Path, items: Items, workers: int, folder: Path) -> None:
        self.root, self.items, self.workers, self.folder = root, items, workers, folder
        self._stack = ExitStack()
        self._pool: Pool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def shapes(self) -> Items:
        """Heights and widths, int32 (N, 2), in the place of pixels; (1, 1) of a file that cannot be read now."""
        shapes = np.ones((len(self.items), 2), np.int32)
        bad = []
        for row, (reply, _) in enumerate(self._ask(range(len(self.items)))):
            if "code" in reply:
                bad.append(fault(self.items.names[row], reply))
            else:
                shapes[row] = reply["shape"]
        return self._items(range(len(self.items)), shapes, bad)

    def pictures(self, rows: np.ndarray, shape: tuple[int, int]) -> Items:
        """Some of them in a shape (height, width); a file that cannot be read now is cut from its square."""
        channels = self.items.pixels.shape[3]
        pixels, bad = Rows(self.folder, (*shape, channels)), []
        replies = self._ask(rows.tolist(), size=shape, channels=channels)
        for row, (reply, data) in zip(rows.tolist(), replies, strict=True):
            if "code" in reply or tuple(reply["shape"]) != pixels.shape:
                reply = {"code": "io", "detail": "the file changed while it was read"} | reply
                bad.append(fault(self.items.names[row], reply))
                square = self.items.pixels[row]
                picture = Image.fromarray(square[..., 0] if channels == 1 else square)
                data = np.asarray(fit(picture, shape)).tobytes()
            pixels.append(data)
        return self._items(rows.tolist(), pixels.array(), bad)

    def _ask(self, rows: Sequence[int], **settings: Any) -> Iterator[Reply]:
        if self._pool is None:
            self._pool = self._stack.enter_context(Pool(self.workers))
        return self._pool.map(
            {"path": os.path.join(self.root, self.items.names[row]), **settings} for row in rows
        )

    def _items(self, rows: Sequence[int], pixels: np.ndarray, bad: list[Fault]) -> Items:
        notes = [f"{len(bad):,} images could not be read again: their squares are used"] if bad else []
        names = [self.items.names[row] for row in rows]
        return Items(
            pixels=pixels, keys=content_keys(pixels), names=names, bad=tuple(bad), notes=tuple(notes)
        )
