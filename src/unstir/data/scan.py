"""What lies in a folder: image files, captions, labels, and what is left aside."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from unstir.data.identify import EXTENSIONS
from unstir.data.items import Fault, label_indices, printable
from unstir.errors import DataError

__all__ = ["Listing", "Stamp", "labels_of", "scan"]


class Stamp(NamedTuple):
    """What tells that a file has changed, without reading it."""

    size: int
    modified_ns: int
    changed_ns: int


@dataclass
class Listing:
    """The files of a folder by relative name ('/' between parts), in the order of their bytes."""

    images: dict[str, Stamp] = field(default_factory=dict)
    texts: dict[str, Stamp] = field(default_factory=dict)
    """`.txt` files: captions where an image of the same name lies beside."""
    tables: dict[str, Stamp] = field(default_factory=dict)
    """Files of captions of many images: captions or metadata .jsonl, .csv, .parquet."""
    faults: list[Fault] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Extensions of the files of other kinds."""
    links: list[str] = field(default_factory=list)
    """Linked folders, which are not followed: they may form loops."""


TABLE_NAMES = ("captions", "metadata")
TABLE_ENDINGS = (".jsonl", ".csv", ".parquet")

_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "heldout"}


def scan(root: Path) -> Listing:
    """List the folder `root` and all folders in it. Names that begin with a dot are passed over."""
    listing = Listing()
    real_root = os.path.realpath(root)
    folders = [""]
    while folders:
        inside = folders.pop()
        try:
            entries = sorted(
                os.scandir(os.path.join(root, inside)), key=lambda entry: os.fsencode(entry.name)
            )
        except OSError as error:
            if not inside:
                what = printable(str(root))
                raise DataError(f"cannot read {what}: {error.strerror}", field="data.source") from error
            code = "permission" if isinstance(error, PermissionError) else "io"
            listing.faults.append(Fault(inside, code, "the folder may not be read"))
            continue
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif os.path.isdir(entry.path):
                listing.links.append(name)
            else:
                _add_file(listing, name, entry, real_root)
    listing.images = dict(sorted(listing.images.items(), key=lambda item: os.fsencode(item[0])))
    return listing


def _add_file(listing: Listing, name: str, entry: os.DirEntry[str], real_root: str) -> None:
    stem, extension = os.path.splitext(entry.name.lower())
    if extension in EXTENSIONS:
        files = listing.images
    elif extension == ".txt":
        files = listing.texts
    elif stem in TABLE_NAMES and extension in TABLE_ENDINGS:
        files = listing.tables
    else:
        listing.others.append(extension or "(no extension)")
        return
    try:
        if entry.is_symlink():
            target = os.path.realpath(entry.path, strict=True)
            if os.path.commonpath((target, real_root)) != real_root:
                raise _Skip("outside", "a link to a file outside the folder; copy the file into it")
        status = os.stat(entry.path)
        if not stat.S_ISREG(status.st_mode):
            raise _Skip("not_media", "not a regular file")
    except _Skip as skip:
        fault = Fault(name, *skip.args)
    except OSError as error:  # a broken link, a loop of links, a file that has just gone
        fault = Fault(name, "missing", error.strerror or str(error))
    else:
        files[name] = Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return
    if files is not listing.texts:
        listing.faults.append(fault)


class _Skip(Exception):
    """(code, detail)"""


def labels_of(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...], tuple[str, ...]]:
    """(labels, classes, notes) from the sub-folders of the files `names`.

    The class is the first folder in which the paths differ; there are no labels unless every file lies in
    such a folder and there are at least two files for each class on average.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    differs = (i for i, parts in enumerate(zip(*folders, strict=False)) if len(set(parts)) > 1)
    depth = next(differs, min(map(len, folders), default=0))
    tops = [parts[depth] if len(parts) > depth else None for parts in folders]
    loose = tops.count(None)
    if loose == len(tops):
        alone = (
            f"a single sub-folder, {printable(folders[0][0])}" if folders and folders[0] else "no sub-folders"
        )
        return None, (), (f"{alone}, so no labels",)
    if loose:
        return None, (), (f"no labels: {loose:,} of {len(tops):,} images lie outside the sub-folders",)
    labels, classes = label_indices([str(top) for top in tops])
    if {name.lower() for name in classes} <= _PARTS:
        names_of_parts = " and ".join(classes)
        return (
            None,
            (),
            (f"no labels: {names_of_parts} look like parts of one set; open one to leave out the others",),
        )
    if 2 * len(classes) > len(names):
        return None, (), (f"no labels: {len(classes):,} sub-folders are too many for {len(names):,} images",)
    shown = ", ".join(printable(name) for name in classes[:5]) + (", ..." if len(classes) > 5 else "")
    return labels, classes, (f"{len(classes):,} classes from sub-folders: {shown}",)
