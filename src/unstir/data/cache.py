"""Decoded folders, kept packed and memory-mapped: decoding happens once.

An entry is a sealed folder (files.py) named after what it was made from, so a changed source makes another
entry and an entry never changes. Its checksums are compared whenever it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unstir.data.items import Fault, Items
from unstir.errors import CheckpointError
from unstir.files import Content, verify_folder, write_folder

__all__ = ["cache_folder", "key_of", "load", "store"]

FORMAT = 1
"""Part of every key: raise it when decoding changes, and old entries are no longer found."""

_CHUNK = 2**24  # bytes written at a time


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """Where entries lie: `cache`, else $UNSTIR_CACHE, else ~/.cache/unstir (of $XDG_CACHE_HOME where set)."""
    chosen = cache or os.environ.get("UNSTIR_CACHE")
    if not chosen:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        chosen = os.path.join(home, "unstir")
    return Path(chosen) / "data"


def key_of(made_from: Any) -> str:
    """The name of the entry made from this JSON-able description."""
    text = json.dumps([FORMAT, made_from], sort_keys=True)  # ASCII, so names that are not UTF-8 survive
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load(entry: Path) -> tuple[Items | None, tuple[str, ...]]:
    """The items of an entry, None where there is none, and what to say aloud: a damaged entry is removed."""
    if not entry.is_dir():
        return None, ()
    problems = verify_folder(entry)
    if not problems:
        with suppress(OSError, ValueError, KeyError, TypeError):
            header = json.loads((entry / "items.json").read_bytes())
            return Items(
                pixels=np.load(entry / "x.npy", mmap_mode="r", allow_pickle=False),
                keys=np.load(entry / "keys.npy", allow_pickle=False),
                names=header["names"],
                bad=tuple(Fault(*fault) for fault in header["bad"]),
                notes=tuple(header["notes"]),
            ), ()
    shutil.rmtree(entry, ignore_errors=True)
    what = problems[0].removeprefix(f"{entry}/") if problems else "it cannot be read"
    return None, (f"the cache of decoded images was damaged ({what}) and was made again",)


def store(entry: Path, items: Items) -> Items:
    """Write an entry; its items, now memory-mapped, or as they are with a note where the disk refuses."""
    header = {
        "names": list(items.names),
        "bad": items.bad,
        "notes": items.notes,
    }
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        contents: dict[str, Content] = {
            "x.npy": _array(items.pixels),
            "keys.npy": _array(items.keys),
            "items.json": json.dumps(header).encode(),
        }
        write_folder(entry, contents, needed=items.pixels.nbytes)
    except (OSError, CheckpointError) as error:
        if not entry.is_dir():  # else another process was quicker, with the same content
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return replace(items, notes=(*items.notes, f"decoded images are not kept: {reason}"))
    return replace(items, pixels=np.load(entry / "x.npy", mmap_mode="r", allow_pickle=False))


def _array(array: np.ndarray) -> Callable[[Path], None]:
    """Writes an .npy file piece by piece: a full disk is an error here, in a memory map a crash."""

    def write(path: Path) -> None:
        rows = max(1, _CHUNK * len(array) // max(1, array.nbytes))
        with path.open("wb") as file:
            descr = np.lib.format.dtype_to_descr(array.dtype)
            header = {"descr": descr, "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_2_0(file, header)
            for start in range(0, len(array), rows):
                file.write(np.ascontiguousarray(array[start : start + rows]).data)

    return write
