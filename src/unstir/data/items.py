"""What every reader returns: the items of a source as arrays, and what was found on the way."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from unstir.data.decode import fit

__all__ = [
    "FILE",
    "TEXT",
    "WEIGHT",
    "Bucket",
    "Caption",
    "Fault",
    "Items",
    "content_keys",
    "count_of",
    "fit_arrays",
    "label_indices",
    "printable",
]

FILE = ("file_name", "file", "image")
"""What a table may call the column of the files."""
TEXT = ("text", "caption", "prompt")
"""What it may call that of the captions."""
WEIGHT = ("weight", "weights")
"""And that of their weights."""


class Caption(NamedTuple):
    """A text that tells what an item shows."""

    text: str
    weight: float = 1.0
    """Of the texts of one item, each is drawn in proportion to its weight."""


class Fault(NamedTuple):
    """A file that was skipped."""

    path: str
    """Relative to the source; bytes that are not UTF-8 are kept as surrogates (PEP 383)."""
    code: str
    """empty, truncated, corrupt, not_media, unsupported, too_large, permission, missing, outside (a link that
    leaves the folder), io, timeout or decoder_crash."""
    detail: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Bucket:
    """Some items in a shape of their own, near to that of their files."""

    rows: np.ndarray
    """int64 (n,), ascending: which of the items."""
    pixels: np.ndarray
    """uint8 (n, H, W, C); their latents: float32."""
    keys: np.ndarray
    """uint64 (n,): a hash of the content of each."""
    mirrored: np.ndarray | None = None
    """As in `Items`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Items:
    """N items, in a fixed order."""

    pixels: np.ndarray
    """Images: uint8 (N, H, W, C), C = 1 or 3; their latents: float32. Points: float32 (N, 2)."""
    keys: np.ndarray
    """uint64 (N,): a hash of each item's content; equal content has equal keys."""
    names: Sequence[str]
    """The file of each item, relative to the source, or its number."""
    mirrored: np.ndarray | None = None
    """Like `pixels`, of the items mirrored, where that is not a matter of turning an axis around: latents."""
    buckets: tuple[Bucket, ...] = ()
    """Every item once more, in the shape that training sees it in; () = as `pixels` has them."""
    labels: np.ndarray | None = None
    """int64 (N,), indices into `classes`."""
    classes: tuple[str, ...] = ()
    captions: Sequence[tuple[Caption, ...]] | None = None
    """The texts of each item, () for an item that has none; None where no item has one."""
    bad: tuple[Fault, ...] = ()
    bad_captions: tuple[Fault, ...] = ()
    """Lines of captions that cannot be read."""
    notes: tuple[str, ...] = ()
    """What was detected and converted, to be said aloud."""

    def __len__(self) -> int:
        return len(self.pixels)


def content_keys(pixels: np.ndarray) -> np.ndarray:
    """uint64 (N,): the first 8 bytes of BLAKE2b of each item."""
    digests = b"".join(hashlib.blake2b(np.ascontiguousarray(x).data, digest_size=8).digest() for x in pixels)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def label_indices(values: Sequence[str] | np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as indices (int64) into their sorted distinct values, and these values as names."""
    names, indices = np.unique(np.asarray(values), return_inverse=True)
    return indices.astype(np.int64).reshape(-1), tuple(str(name) for name in names)


def fit_arrays(
    pixels: np.ndarray, size: int | None, channels: int | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 (N, H, W, C) as `size` and `channels` ask, and what was done. None: as it is; grey if all is."""
    notes = []
    if size is not None and pixels.shape[1:3] != (size, size):
        notes.append(f"{pixels.shape[2]}x{pixels.shape[1]} resized to {size}x{size}")
        pixels = _each(pixels, lambda image: fit(image, size))
    colour = pixels.shape[-1] == 3
    if colour and channels != 3 and all((x == x[..., :1]).all() for x in pixels):
        notes.append("every pixel is grey: kept as one channel")
        pixels = np.ascontiguousarray(pixels[..., :1])
    elif colour and channels == 1:
        notes.append("colour converted to grey")
        pixels = _each(pixels, lambda image: image.convert("L"))
    elif not colour and channels == 3:
        pixels = np.repeat(pixels, 3, axis=-1)
    return pixels, tuple(notes)


def _each(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    images = [np.asarray(change(Image.fromarray(x.squeeze(-1) if x.shape[-1] == 1 else x))) for x in pixels]
    return np.stack(images).reshape(len(images), *images[0].shape[:2], -1)


def printable(name: str) -> str:
    """A file name that can be shown on one line of any terminal: bytes that are no text are escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name
    )


def count_of(values: Iterable[str], *, most: int = 5) -> str:
    """The most common values with their counts: '.heic 398, .txt 12'."""
    counts = Counter(values).most_common(most)
    return ", ".join(f"{printable(value)} {count:,}" for value, count in counts)
