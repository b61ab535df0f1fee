"""Arrays of images in a file: .npz, and the IDX format of MNIST."""

from __future__ import annotations

import gzip
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np

from unstir.data.items import Items, content_keys, fit_arrays, label_indices, printable
from unstir.errors import DataError

__all__ = ["find_idx", "items_of", "read_idx", "read_npz"]

LARGEST = 2**35
"""Bytes one file may unpack to."""

_IDX = re.compile(r"(?P<prefix>.*?)(?P<what>images|labels)[-.]idx[134]-ubyte(\.gz)?", re.DOTALL)
_HELDOUT = ("t10k", "test", "val")


def items_of(
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    classes: tuple[str, ...] = (),
    size: int | None = None,
    channels: int | None = None,
) -> Items:
    """Items of uint8 (N, H, W[, C]) and labels (N,): indices into `classes`, or names."""
    pixels, notes = fit_arrays(x if x.ndim == 4 else x[..., None], size, channels)
    labels = None
    if y is not None and classes:
        labels = y.astype(np.int64)
    elif y is not None:
        labels, classes = label_indices(y)
    return Items(
        pixels=pixels,
        keys=content_keys(pixels),
        names=[str(i) for i in range(len(pixels))],
        labels=labels,
        classes=classes,
        notes=notes,
    )


# -- npz --------------------------------------------------------------------------------------------------
def read_npz(
    path: Path, *, size: int | None = None, channels: int | None = None, labels: bool = True
) -> Items:
    """`x` uint8 (N, H, W) or (N, H, W, 1 or 3) and, where it is there, `y` (N,) of integers or strings.

    Raises `DataError` when the file is damaged, holds pickled objects or arrays of another kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > LARGEST:
            _refuse(path, f"unpacks to {unpacked:,} bytes, at most {LARGEST:,} are read")
        with np.load(path, allow_pickle=False) as arrays:
            if "x" not in arrays:
                _refuse(path, f"has no array 'x', only {', '.join(map(repr, arrays.files)) or 'none'}")
            x, y = arrays["x"], arrays["y"] if labels and "y" in arrays else None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise DataError(
            f"cannot read {printable(str(path))}: {error}",
            field="data.source",
            hint="write it with numpy.savez(path, x=images, y=labels)",
        ) from error
    _check_images(path, x)
    if y is not None:
        _check_labels(path, y, len(x))
    return items_of(x, y, size=size, channels=channels)


def _check_images(path: Path, x: np.ndarray) -> None:
    if x.dtype != np.uint8:
        _refuse(path, f"x is {x.dtype}, uint8 is accepted", hint="scale to 0..255 and use x.astype('uint8')")
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        _refuse(path, f"x has the shape {x.shape}; (N, H, W), (N, H, W, 1) and (N, H, W, 3) are accepted")
    if 0 in x.shape:
        _refuse(path, f"x has the shape {x.shape}: no images")


def _check_labels(path: Path, y: np.ndarray, count: int) -> None:
    if y.shape != (count,):
        _refuse(path, f"y has the shape {y.shape}; {count:,} images need ({count},)")
    if y.dtype.kind not in "iubU":
        _refuse(path, f"y is {y.dtype}; integers and strings are accepted")


def _refuse(path: Path, reason: str, hint: str | None = None) -> NoReturn:
    raise DataError(f"{printable(str(path))}: {reason}", field="data.source", hint=hint)


# -- IDX --------------------------------------------------------------------------------------------------
def find_idx(path: Path) -> dict[str, dict[str, Path]] | None:
    """IDX files in a folder, with a prefix, or beside a file: {"train": {"images": ..., "labels": ...}, ...}.

    "heldout" holds the files named t10k, test or val. None: there are no images in this format.
    """
    if path.is_dir():
        folder, prefix = path, ""
    else:
        match = _IDX.fullmatch(path.name)
        folder, prefix = path.parent, match["prefix"] if match else path.name
    if not folder.is_dir() or not (path.is_dir() or prefix):
        return None
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.glob("*-ubyte*"), reverse=True):  # x.gz before x, which then replaces it
        match = _IDX.fullmatch(file.name)
        if match and match["prefix"].startswith(prefix):
            split = "heldout" if any(word in match["prefix"] for word in _HELDOUT) else "train"
            other = found.setdefault(split, {}).get(match["what"])
            if other and other.name.removesuffix(".gz") != file.name:
                hint = f"give the beginning of one name, such as {folder / match['prefix']}"
                _refuse(path, f"{file.name} and {other.name}: more than one set", hint=hint)
            found[split][match["what"]] = file
    found = {split: files for split, files in found.items() if "images" in files}
    if list(found) == ["heldout"]:  # asked for by name
        return {"train": found["heldout"]}
    return found or None


def read_idx(
    files: dict[str, Path],
    *,
    classes: tuple[str, ...] = (),
    size: int | None = None,
    channels: int | None = None,
    labels: bool = True,
) -> Items:
    """Images and, where there is a file of them, labels. Raises `DataError` when a file is damaged."""
    x = _read_array(files["images"])
    _check_images(files["images"], x)
    y = _read_array(files["labels"]) if labels and "labels" in files else None
    if y is not None:
        _check_labels(files["labels"], y, len(x))
    return items_of(x, y, classes=classes if y is not None else (), size=size, channels=channels)


def _read_array(path: Path) -> np.ndarray:
    """The array of an IDX file: bytes 0 0 8 n, n big-endian 32-bit lengths, then the unsigned bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
                _refuse(path, "no IDX file of unsigned bytes")
            shape = tuple(np.frombuffer(file.read(4 * magic[3]), ">u4").tolist())
            count = math.prod(shape)
            if len(shape) != magic[3] or count > LARGEST:
                _refuse(path, f"its header says {shape}; at most {LARGEST:,} bytes are read")
            data = file.read(count + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"cannot read {printable(str(path))}: {error}", field="data.source") from error
    if len(data) != count:
        relation = "fewer" if len(data) < count else "more"
        _refuse(path, f"holds {relation} than the {count:,} bytes of its shape {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape)
