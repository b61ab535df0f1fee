"""Any source, by path or name, -> (train, held-out) data sets."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from unstir.data.arrays import find_idx, read_idx, read_npz
from unstir.data.buckets import read_buckets
from unstir.data.builtin import BUILTIN, Split
from unstir.data.dataset import Dataset
from unstir.data.folder import read_folder
from unstir.data.items import Fault, Items, count_of, printable
from unstir.data.parquet import unpack
from unstir.data.points import POINTS, read_points
from unstir.errors import ConfigError, DataError, did_you_mean
from unstir.files import write_atomic

__all__ = ["open_data", "source_names"]

SIDES = range(2, 4097)
_SHOWN = 20  # bad files named in an error; the report has all


def source_names() -> tuple[str, ...]:
    """Every name `open_data` knows besides paths."""
    return (*BUILTIN, *(f"points:{name}" for name in POINTS))


def open_data(
    source: str | os.PathLike[str],
    *,
    size: int | None = None,
    channels: int | None = None,
    labels: bool = True,
    max_bad: float = 0.05,
    heldout: float | None = None,
    buckets: bool = False,
    cache: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
) -> tuple[Dataset, Dataset]:
    """Open a folder of images, an .npz, IDX files or a built-in name: (train, held out).

    A set with its own held-out part uses that unless `heldout` is given; see `Dataset.split`.

    Args:
        source: a path, or one of `source_names()`. A path that exists wins.
        size: side of square images; None: detected.
        channels: 1 or 3; None: detected.
        labels: use the classes of labelled data.
        max_bad: share of files, and of captions, 0 to 1, that may be unreadable; they are skipped and counted.
        heldout: share or count of the items to hold out; 0: none.
        buckets: keep the images of a folder in shapes near to their own as well, for training; see `buckets`.
        cache: folder for decoded images; None: $UNSTIR_CACHE or ~/.cache/unstir.
        report: file to list the bad files in, one JSON object a line; written before anything is refused.

    Raises:
        ConfigError: a setting is out of range.
        DataError: there is nothing to read, or too much of it is bad.
    """
    _check_settings(size, channels, max_bad)
    if buckets:
        _require_folder(os.fspath(source))
    items, own = _read(os.fspath(source), size, channels, labels, cache)
    if report is not None:
        write_atomic(
            report,
            "".join(
                json.dumps(fault._asdict()) + "\n" for fault in (*items.bad, *items.bad_captions)
            ).encode(),
        )
    _refuse_bad(os.fspath(source), items, max_bad)
    name = os.fspath(source)
    if buckets:
        held, notes = read_buckets(Path(name).expanduser(), items, cache=cache)
        items = replace(items, buckets=held, notes=(*items.notes, *notes))
    if own is not None and heldout is None:
        return Dataset(name, items), Dataset(name, own)
    return Dataset(name, items).split(heldout)


def _read(
    source: str, size: int | None, channels: int | None, labels: bool, cache: str | os.PathLike[str] | None
) -> Split:
    path = Path(source).expanduser()
    idx = find_idx(path)
    if idx:
        parts = {
            name: read_idx(files, size=size, channels=channels, labels=labels) for name, files in idx.items()
        }
        return parts["train"], parts.get("heldout")
    if path.is_dir():
        return read_folder(path, size=size, channels=channels, labels=labels, cache=cache), None
    if path.suffix == ".parquet" and path.is_file():
        folder = unpack([path], cache)
        return read_folder(folder, size=size, channels=channels, labels=labels, cache=cache), None
    if path.suffix == ".npz" and path.is_file():
        return read_npz(path, size=size, channels=channels, labels=labels), None
    if source in BUILTIN:
        return BUILTIN[source](size, channels, labels)
    if source.startswith("points:"):
        return read_points(source.removeprefix("points:")), None
    raise _unknown(source, path)


def _require_folder(source: str) -> None:
    path = Path(source).expanduser()
    if not path.is_dir() or find_idx(path):
        raise ConfigError(
            f"buckets are for folders of images, and {printable(source)} is none",
            field="data.buckets",
            hint="leave buckets out: all its items have one shape",
        )


def _unknown(source: str, path: Path) -> DataError:
    if path.exists():
        return DataError(
            f"{printable(source)} is not a data set",
            field="data.source",
            hint="give a folder of images, an .npz file with x (and y), IDX files, a .parquet file, or a "
            "built-in name: " + ", ".join(source_names()),
        )
    missing = "no such folder or file" if os.sep in source else "no such folder, file or built-in data set"
    return DataError(
        f"{printable(source)}: {missing}",
        field="data.source",
        hint=did_you_mean(source, source_names(), "data set"),
    )


def _check_settings(size: int | None, channels: int | None, max_bad: float) -> None:
    if size is not None and size not in SIDES:
        raise ConfigError(f"size={size}", field="data.size", hint=f"use {SIDES[0]} to {SIDES[-1]} pixels")
    if channels not in (None, 1, 3):
        raise ConfigError(f"channels={channels}", field="data.channels", hint="use 1 (grey) or 3 (colour)")
    if not 0 <= max_bad <= 1:
        raise ConfigError(f"max_bad={max_bad}", field="data.max_bad", hint="give a share from 0 to 1")


def _refuse_bad(source: str, items: Items, max_bad: float) -> None:
    """Refuse too large a share of bad files, and of lines of captions that cannot be read."""
    _refuse(source, "files", items.bad, len(items), max_bad)
    _refuse(source, "captions", items.bad_captions, sum(map(len, items.captions or ())), max_bad)


def _refuse(source: str, what: str, bad: tuple[Fault, ...], good: int, max_bad: float) -> None:
    total = good + len(bad)
    if len(bad) <= max_bad * total and (good or what == "captions"):
        return
    lines = [f"  {printable(fault.path)}: {fault.code} ({printable(fault.detail)})" for fault in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  and {len(bad) - _SHOWN:,} more")
    kinds = count_of((fault.code for fault in bad), most=len(bad))
    raise DataError(
        "\n".join([f"{printable(source)}: {len(bad):,} of {total:,} {what} are bad ({kinds})", *lines]),
        field="data.max_bad",
        hint=f"repair or remove them, or accept them with max_bad={_above(len(bad) / total)}"
        if good or what == "captions"
        else "none is left to train on",
    )


def _above(share: float) -> float:
    """The share rounded up to two digits."""
    return -(-share * 100 // 1) / 100
