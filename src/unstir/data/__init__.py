"""Files -> items -> batches: folders of images, arrays, built-in sets; whatever is bad is named, not fatal.

Reading and describing data does not import torch; `Loader` and `Dataset.take` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unstir.data.dataset import Dataset, Info, at_most, spread
from unstir.data.duplicates import Duplicate, duplicates, thumbnails
from unstir.data.items import Caption, Fault
from unstir.data.report import Repeats, contact_sheet, describe, describe_lines, find_repeats
from unstir.data.source import open_data, source_names

if TYPE_CHECKING:
    from unstir.data.loader import Loader

__all__ = [
    "Caption",
    "Dataset",
    "Duplicate",
    "Fault",
    "Info",
    "Loader",
    "Repeats",
    "at_most",
    "contact_sheet",
    "describe",
    "describe_lines",
    "duplicates",
    "find_repeats",
    "open_data",
    "source_names",
    "spread",
    "thumbnails",
]


def __getattr__(name: str) -> Any:
    if name == "Loader":
        from unstir.data.loader import Loader

        return Loader
    raise AttributeError(f"module 'unstir.data' has no attribute {name!r}")
