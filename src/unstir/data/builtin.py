"""Data sets by name: embedded ones, and one a package manager installs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from unstir.data.arrays import find_idx, items_of, read_idx, read_npz
from unstir.data.items import Caption, Items, label_indices
from unstir.errors import DataError

__all__ = ["BUILTIN", "Split"]

EMBEDDED = Path(__file__).parent / "embedded"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

Split: TypeAlias = tuple[Items, Items | None]
"""(items, the set's own held-out items or None)"""


def _digits(size: int | None, channels: int | None, labels: bool) -> Split:
    """1,797 handwritten digits, 8x8 grey, 10 classes."""
    return read_npz(EMBEDDED / "digits.npz", size=size, channels=channels, labels=labels), None


def _emoji(size: int | None, channels: int | None, labels: bool) -> Split:
    """1,898 Noto emoji, RGB on white, with captions; 9 classes; 32x32 unless `size` says otherwise."""
    size = size or 32
    side = 32 if size <= 32 else 64
    entries = json.loads((EMBEDDED / "emoji.json").read_text())
    with Image.open(EMBEDDED / f"emoji-{side}.webp", formats=["WEBP"]) as image:
        sheet = np.asarray(image.convert("RGB"))
    rows, columns = sheet.shape[0] // side, sheet.shape[1] // side
    tiles = sheet.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    items = items_of(tiles[: len(entries)], size=size, channels=channels or 3)
    indices, classes = label_indices([entry["category"] for entry in entries])
    return replace(
        items,
        names=[entry["char"] for entry in entries],
        captions=[tuple(Caption(*pair) for pair in entry["captions"].items()) for entry in entries],
        labels=indices if labels else None,
        classes=classes if labels else (),
    ), None


def _fashion_mnist(size: int | None, channels: int | None, labels: bool) -> Split:
    """60,000 + 10,000 pictures of clothes, 28x28 grey, 10 classes."""
    files = find_idx(FASHION_MNIST)
    if not files or "heldout" not in files:
        raise DataError(
            f"fashion-mnist is not installed: its files are not in {FASHION_MNIST}",
            field="data.source",
            hint="run 'apt install dataset-fashion-mnist', or give a folder with the four .gz files of "
            "https://github.com/zalandoresearch/fashion-mnist",
        )
    train, heldout = (
        read_idx(files[part], classes=FASHION_CLASSES, size=size, channels=channels, labels=labels)
        for part in ("train", "heldout")
    )
    return train, heldout


BUILTIN: dict[str, Callable[[int | None, int | None, bool], Split]] = {
    "digits": _digits,
    "emoji": _emoji,
    "fashion-mnist": _fashion_mnist,
}
"""name -> reader(size, channels, labels)"""
