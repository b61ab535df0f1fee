"""What a data set is, for people: lines of text and a contact sheet."""

from __future__ import annotations

from typing import Any

import numpy as np

from unstir.data.dataset import Dataset
from unstir.data.items import printable
from unstir.modalities.image import to_grid
from unstir.modalities.points import to_picture

__all__ = ["contact_sheet", "describe", "describe_lines"]

_CLASSES_SHOWN = 12


def describe(train: Dataset, heldout: Dataset) -> dict[str, Any]:
    """The `Info` of the training part, the number of items held out, the bad files by reason."""
    codes = [fault.code for fault in train.items.bad]
    return {
        **train.info.to_dict(),
        "heldout": len(heldout),
        "bad_codes": {code: codes.count(code) for code in sorted(set(codes))},
    }


def describe_lines(description: dict[str, Any]) -> list[str]:
    """A description in aligned lines: one word, then what there is to say."""
    what = "points in the plane"
    if description["kind"] == "image":
        channels, height, width = description["shape"]
        what = f"images, {width}x{height} {'grey' if channels == 1 else 'RGB'}"
    lines = [("data", f"{printable(description['source'])}  {description['count']:,} {what}")]
    lines.append(("heldout", f"{description['heldout']:,} more, for the held-out loss"))
    if description["classes"]:
        lines.append(("classes", _classes(description["classes"], description["class_counts"])))
    if description["captions"]:
        lines.append(("captions", f"{description['captions']:,}"))
    lines.append(("values", f"mean {description['mean']:.3f}, standard deviation {description['std']:.3f}"))
    if description["bad"]:
        codes = ", ".join(f"{code} {count:,}" for code, count in description["bad_codes"].items())
        lines.append(("bad", f"{description['bad']:,} files skipped: {codes}"))
    lines += [("note", note) for note in description["notes"]]
    return [f"{word:<9}{text}" for word, text in lines]


def _classes(classes: tuple[str, ...], counts: tuple[int, ...]) -> str:
    shown = zip(classes[:_CLASSES_SHOWN], counts, strict=False)
    names = ", ".join(f"{printable(name)} {count:,}" for name, count in shown)
    return f"{len(classes):,}: {names}{', ...' if len(classes) > _CLASSES_SHOWN else ''}"


def contact_sheet(dataset: Dataset, n: int = 64) -> np.ndarray:
    """Up to n items, spread evenly, on one sheet: uint8 (H, W, C). Points: their density."""
    if dataset.info.kind == "points":
        return to_picture(dataset.x)[0]
    rows = dataset.rows[np.linspace(0, len(dataset) - 1, min(n, len(dataset))).astype(int)]
    return to_grid(dataset.items.pixels[rows])
