"""`unstir train`: from data to a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..config import Layer, build, parse_pairs, read_file, read_preset, settings, take
from ..errors import ConfigError
from .common import Arguments, DryRun, Json, Quiet, SettingsFile, one_subject, say, show, split

if TYPE_CHECKING:
    from ..recipes import Recipe

__all__ = ["train"]


def train(
    arguments: Arguments = None,
    config: SettingsFile = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run, in its own folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that out= holds.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on a folder of pictures, an .npz, IDX files, or built-in data (digits, emoji, ...).

    Every setting is KEY=VALUE; what is left out is chosen from the data and the machine. `out=DIR` is the
    run's folder, `preset=NAME` a group of settings. Values count in the order: built-in, preset, --config,
    KEY=VALUE. All keys: unstir config train.

    \b
    Examples:
      unstir train digits steps=200 out=runs/digits
      unstir train photos/ time=10m size=32
      unstir train photos/ network=dit network.width=256 lr=3e-4 --dry-run
      unstir train --resume runs/digits steps=400
    """
    from_user = partial(say, quiet=quiet)
    subjects, pairs = split(arguments)
    if resume is not None:
        _refuse_other_sources(subjects, pairs, config)
        changes = settings("train", [_stored(resume), Layer("command line", pairs)]) and pairs
        _finish(partial(_runs().resume, resume, changes, say=from_user), as_json)
        return
    out, preset = take(pairs, "out"), take(pairs, "preset")
    recipe, given = _recipe(subjects, pairs, config, preset)
    if dry_run:
        show_plan(_runs().plan(recipe, from_user), given, as_json)
        return
    where = Path(out).expanduser() if out else None
    _finish(partial(_runs().train, recipe, where, given=given, overwrite=overwrite, say=from_user), as_json)
