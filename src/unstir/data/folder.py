"""A folder of images -> Items: scan, decode in child processes, keep the result."""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from unstir.data import cache as kept
from unstir.data.captions import composed, read_captions, text_beside
from unstir.data.decode import CONVERSIONS
from unstir.data.identify import EXTENSIONS
from unstir.data.items import Fault, Items, content_keys, count_of, printable
from unstir.data.parquet import shards_in, unpack
from unstir.data.pool import Pool
from unstir.data.scan import Listing, labels_of, scan
from unstir.errors import CheckpointError, DataError

__all__ = ["Rows", "fault", "read_folder", "workers_for"]

LARGEST_SHARED_SIDE = 256
"""Images of one common shape keep it up to this side; larger ones are reduced, as mixed shapes are."""

SIZES = (8, 16, 32, 64)
"""Sides to choose from where the images do not share one."""

_SHORT = 64  # folders with fewer images need one child only
_TRANSIENT = {"timeout", "io", "missing"}  # may be gone next time, so such a result is not kept


def read_folder(
    root: Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    labels: bool = True,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> Items:
    """The images of a folder and of all folders in it; bad files are in `Items.bad`, whatever their number.

    Args:
        root: the folder.
        size: side of square images; None: detected.
        channels: 1 or 3; None: detected.
        labels: take the classes from sub-folders.
        cache: folder for decoded images, see `cache.cache_folder`.
        workers: child processes that decode; None: up to 2; 0: this process.

    Raises `DataError` when there is no image at all.
    """
    listing = scan(root)
    if not listing.images and (shards := shards_in(root)):
        pictures = unpack(shards, cache)
        unpacked = read_folder(
            pictures, size=size, channels=channels, labels=labels, cache=cache, workers=workers
        )
        return replace(unpacked, notes=(f"unpacked from {len(shards):,} Parquet files", *unpacked.notes))
    if not listing.images:
        raise _no_images(root, listing)
    stamps = list(listing.images.items())
    entry = kept.cache_folder(cache) / kept.key_of([os.path.realpath(root), stamps, size, channels])
    items, notes = kept.load(entry)
    if items is None:
        if workers is None:
            workers = workers_for(len(listing.images))
        names = list(listing.images)
        items = _decode(root, names, size=size, channels=channels, workers=workers, folder=entry.parent)
        if len(items) and not _TRANSIENT & {fault.code for fault in items.bad}:
            items = kept.store(entry, items)
    classes_of, classes, labels_note = labels_of(items.names) if labels else (None, (), ())
    told = read_captions(root, items.names, listing)
    return replace(
        items,
        labels=classes_of,
        classes=classes,
        captions=told.captions,
        bad=tuple(sorted((*listing.faults, *items.bad))),
        bad_captions=told.bad,
        notes=(*notes, *items.notes, *labels_note, *told.notes, *_asides(listing)),
    )


def workers_for(images: int) -> int:
    """How many children decode so many images."""
    return 1 if images < _SHORT else min(2, os.cpu_count() or 1)


def _no_images(root: Path, listing: Listing) -> DataError:
    files = [
        *listing.others,
        *[".txt"] * len(listing.texts),
        *[os.path.splitext(f.path)[1] for f in listing.faults],
    ]
    looked = f"looked at {len(files):,} files" + (
        f"; most common: {count_of(files, most=1)}" if files else ""
    )
    heic = ".heic" in {name.lower() for name in listing.others}
    return DataError(
        f"{printable(str(root))} has 0 images ({looked})",
        field="data.source",
        hint=("convert .heic to .jpg or .png; " if heic else "")
        + "accepted: "
        + " ".join(sorted(EXTENSIONS)),
    )


def _asides(listing: Listing) -> list[str]:
    """What was seen in the folder and not used."""
    notes = []
    if listing.others:
        notes.append(f"{len(listing.others):,} files of other kinds left aside: {count_of(listing.others)}")
    if listing.links:
        notes.append(f"linked folders not followed: {', '.join(map(printable, listing.links[:5]))}")
    beside = {composed(text_beside(name)) for name in listing.images}
    lone = sum(composed(name) not in beside for name in listing.texts)
    if lone:
        notes.append(f"{lone:,} .txt files have no image beside them")
    return notes


# -- decoding ---------------------------------------------------------------------------------------------
def _decode(
    root: Path,
    names: Sequence[str],
    *,
    size: int | None,
    channels: int | None,
    workers: int,
    folder: Path,
) -> Items:
    """Decode the files `names` under `root`; until they are kept, the pixels lie in a file in `folder`."""
    bad: list[Fault] = []
    notes: list[str] = []
    seen: Counter[str] = Counter()
    with Pool(workers) as pool:
        if size is None:
            shapes, bad = _measure(pool, root, names)
            names = list(shapes)
            shape, size, note = _choose_shape(list(shapes.values()))
            notes.append(note)
        else:
            shape = (size, size)
        rows = Rows(folder, (*shape, channels or 3))
        good = []
        settings = {"size": size, "channels": channels or 3}
        replies = pool.map({"path": os.path.join(root, name), **settings} for name in names)
        for name, (reply, row) in zip(names, replies, strict=True):
            if "code" in reply:
                bad.append(fault(name, reply))
            elif tuple(reply["shape"]) != rows.shape:
                bad.append(Fault(name, "io", "the file changed while it was read"))
            else:
                good.append(name)
                rows.append(row)
                seen.update(reply["notes"])
                seen.update(grey=reply["grey"], named=not _is_named_as(name, reply["format"]))
    pixels = rows.array()
    if channels is None and seen["grey"] == len(good):
        pixels = pixels[..., :1]
        notes.append("every pixel is grey: kept as one channel")
    elif channels is None and seen["grey"]:
        notes.append(f"{seen['grey']:,} grey images among colour ones, kept as RGB")
    notes += [f"{seen[kind]:,} {what}" for kind, what in CONVERSIONS.items() if seen[kind]]
    return Items(
        pixels=pixels, keys=content_keys(pixels), names=good, bad=tuple(sorted(bad)), notes=tuple(notes)
    )


def _measure(pool: Pool, root: Path, names: Sequence[str]) -> tuple[dict[str, tuple[int, int]], list[Fault]]:
    """(height, width) of every image that has one, and the bad files."""
    shapes, bad = {}, []
    replies = pool.map({"path": os.path.join(root, name)} for name in names)
    for name, (reply, _) in zip(names, replies, strict=True):
        if "code" in reply:
            bad.append(fault(name, reply))
        else:
            shapes[name] = tuple(reply["shape"])
    return shapes, bad


def fault(name: str, reply: dict[str, Any]) -> Fault:
    """What a reply says of a file that cannot be used."""
    return Fault(name, reply["code"], reply["detail"])


def _choose_shape(shapes: list[tuple[int, int]]) -> tuple[tuple[int, int], int | None, str]:
    """((height, width), side to scale to, what to say): a common shape is kept, else a square is made."""
    if not shapes:
        return (1, 1), 1, "no image could be read"
    common = set(shapes)
    if len(common) == 1 and max(shapes[0]) <= LARGEST_SHARED_SIDE:
        return shapes[0], None, f"every image is {shapes[0][1]}x{shapes[0][0]}"
    median = int(np.median([min(shape) for shape in shapes]))
    size = max((side for side in SIZES if side <= median), default=SIZES[0])
    (low, low_width), (high, high_width) = min(shapes, key=math.prod), max(shapes, key=math.prod)
    sizes = f"{low_width}x{low}" + (f" to {high_width}x{high}" if len(common) > 1 else "")
    return (size, size), size, f"images of {sizes} scaled to {size}x{size}, centre kept (size= changes it)"


def _is_named_as(name: str, kind: str) -> bool:
    extension = os.path.splitext(name)[1].lower()
    return {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF"}.get(extension, extension[1:].upper()) == kind


class Rows:
    """Grows an (N, H, W, C) array of bytes in an unnamed file, so that memory stays free."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._count = 0
        self._file = _unnamed_file(folder)

    def append(self, row: bytes) -> None:
        try:
            self._file.write(row)
        except OSError as error:
            raise CheckpointError(
                f"cannot keep {self._count + 1:,} decoded images of {len(row):,} bytes: {error.strerror}",
                field="cache",
                hint="free some space, set UNSTIR_CACHE to a larger disk, or choose a smaller size=",
            ) from error
        self._count += 1

    def array(self) -> np.ndarray:
        """All rows; mapped, not read, where they lie in a file."""
        shape = (self._count, *self.shape)
        if isinstance(self._file, io.BytesIO):
            return np.frombuffer(self._file.getbuffer(), np.uint8).reshape(shape)
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=shape) if self._count else np.empty(shape, np.uint8)


def _unnamed_file(folder: Path) -> IO[bytes]:
    """A file in `folder`, else in the system's folder for temporary files, else in memory."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    with suppress(OSError):
        return tempfile.TemporaryFile()
    return io.BytesIO()
