"""`unstir studio`: everything on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import take
from .common import Arguments, Quiet, split
from .serve import launch

__all__ = ["studio"]


def studio(
    arguments: Arguments = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: Quiet = False,
) -> None:
    """Open the studio: a page to train, watch, generate, edit, compare and understand.

    Further MODELs are shown beside the runs in runs=runs and the models that come with unstir. What is made stays in
    folder=studio, jobs that wait included. port=8000, or port=0 for any that is free; host= and the rest as in unstir
    serve. Nothing leaves the machine.

    \b
    Examples:
      unstir studio
      unstir studio --open
      unstir studio runs=experiments/runs folder=experiments/studio port=0
    """
    models, pairs = split(arguments)
    runs = Path(take(pairs, "runs") or "runs").expanduser().absolute()
    folder = Path(take(pairs, "folder") or "studio").expanduser().absolute()
    launch(pairs, quiet, folder=folder, runs=runs, models=tuple(models), studio=True, show=show)
