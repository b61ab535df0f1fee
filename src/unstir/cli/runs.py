"""`unstir runs`: the runs of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, say, show, table

__all__ = ["runs"]


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.", show_default=True)] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs: how far they are and their loss.

    \b
    Examples:
      unstir runs
      unstir runs elsewhere/runs --json
    """
    from ..runs import listing

    rows = listing(folder)
    if not rows and not as_json:
        say(f"there are no runs in {folder}; start one: unstir train DATA")
        return
    head = list(rows[0]) if rows else []
    show(table(head, (["-" if v is None else v for v in row.values()] for row in rows)), rows, as_json)
