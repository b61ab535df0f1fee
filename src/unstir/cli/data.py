"""`unstir data`: what training would see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import Layer, settings, take
from ..errors import ConfigError
from .common import Arguments, Json, one_subject, require_writable, say, show, split

__all__ = ["data", "report_on"]


def data(arguments: Arguments = None, as_json: Json = False) -> None:
    """Read data as training would and report on it.

    Count, size, labels, unreadable files, what is converted; duplicates, near-duplicates and rare classes.
    sheet=FILE.png shows some of it, duplicates=FILE.png the pairs, report=FILE.jsonl lists the unreadable files and
    the duplicates.

    \b
    Examples:
      unstir data digits
      unstir data photos/ size=32 channels=1 sheet=photos.png
      unstir data photos/ max_bad=0.5 report=bad.jsonl duplicates=pairs.png --json
    """
    subjects, pairs = split(arguments)
    files = {key: take(pairs, key) for key in ("sheet", "report", "duplicates")}
    for key in ("sheet", "duplicates"):
        file = files[key]
        if file is not None and Path(file).suffix.lower() != ".png":
            raise ConfigError(
                f"{key}={file}: a sheet is written as .png", field=key, hint=f"as in {key}=sheet.png"
            )
    source = one_subject(subjects, "folder or data set", "unstir data photos/")
    layer = Layer("command line", {"data.source": source, **{f"data.{k}": v for k, v in pairs.items()}})
    report_on(settings("train", [layer]).values["data"], as_json, **files)


def report_on(
    wanted: dict[str, Any],
    as_json: bool,
    sheet: str | None = None,
    report: str | None = None,
    duplicates: str | None = None,
) -> None:
    """Opens data with the settings of training and prints what it is."""
    from ..data import contact_sheet, describe, describe_lines, find_repeats, open_data
    from ..files import write_atomic
    from ..modalities.image import encode_png

    for key, file in (("sheet", sheet), ("report", report), ("duplicates", duplicates)):
        if file is not None:
            folder = Path(file).expanduser().parent
            require_writable(folder / "file", key, f"choose another {key}=")
            folder.mkdir(parents=True, exist_ok=True)
    of_training = ("flip", "captions")  # what is done with the items, not what they are
    train, heldout = open_data(**{k: v for k, v in wanted.items() if k not in of_training}, report=report)
    if sheet is not None:
        write_atomic(Path(sheet).expanduser(), encode_png(contact_sheet(train)[None]))
    repeats = find_repeats(train, heldout)
    if report is not None and repeats.pairs:
        lines = [fault._asdict() for fault in train.items.bad] + repeats.rows()
        write_atomic(report, "".join(json.dumps(line) + "\n" for line in lines).encode())
    if duplicates is not None and train.info.kind == "image" and repeats.pairs:
        write_atomic(Path(duplicates).expanduser(), encode_png(repeats.sheet()[None]))
    elif duplicates is not None:
        say(f"no duplicates: {duplicates} was not written")
    description = describe(train, heldout, repeats)
    show("\n".join(describe_lines(description)), description, as_json)
