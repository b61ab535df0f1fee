"""`unstir data`: what training would see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import Layer, settings, take
from .common import Arguments, Json, one_subject, show, split

__all__ = ["data", "report_on"]


def data(arguments: Arguments = None, as_json: Json = False) -> None:
    """Read data as training would and report on it.

    Count, size, labels, unreadable files, and what is converted. sheet=FILE.png shows some of it,
    report=FILE.jsonl lists the unreadable files.

    \b
    Examples:
      unstir data digits
      unstir data photos/ size=32 channels=1 sheet=photos.png
      unstir data photos/ max_bad=0.5 report=bad.jsonl --json
    """
    subjects, pairs = split(arguments)
    sheet, report = take(pairs, "sheet"), take(pairs, "report")
    source = one_subject(subjects, "folder or data set", "unstir data photos/")
    layer = Layer("command line", {"data.source": source, **{f"data.{k}": v for k, v in pairs.items()}})
    wanted = settings("train", [layer]).values["data"]
    wanted.pop("flip", None)
    report_on(wanted, as_json, sheet=sheet, report=report)


def report_on(
    wanted: dict[str, Any], as_json: bool, sheet: str | None = None, report: str | None = None
) -> None:
    """Opens data with the keywords of `open_data` and prints what it is."""
    from ..data import contact_sheet, describe, describe_lines, open_data

    train, heldout = open_data(**wanted, report=report)
    if sheet is not None:
        from ..files import write_atomic
        from ..modalities.image import encode_png

        write_atomic(Path(sheet).expanduser(), encode_png(contact_sheet(train)[None]))
    description = describe(train, heldout)
    show("\n".join(describe_lines(description)), description, as_json)
