"""`unstir train`: from data to a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..config import Layer, Settings, build, read_file, read_preset, settings, take, to_yaml
from ..errors import ConfigError
from .common import (
    Arguments,
    DryRun,
    Json,
    Quiet,
    SettingsFile,
    one_subject,
    require_writable,
    say,
    show,
    split,
)

__all__ = ["train"]

WORTH_A_PAGE = 20.0
"""Seconds of training from which on report.html, which takes a few, is written without being asked for."""


def train(
    arguments: Arguments = None,
    config: SettingsFile = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run, in its own folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that out= holds.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on your data.

    The data is a folder of pictures, an .npz, IDX files or built in (digits, emoji, fashion-mnist). Every
    setting is KEY=VALUE; what is left out is chosen from the data and the machine. out=DIR is the run's
    folder, process=NAME a family of models (ddpm, ve, flow, ...), preset=NAME a group of settings. A run of
    20 s or more ends with report.html, which shows all of it (unstir report RUN writes it at any time). The later
    counts: built-in values, family, preset, --config, KEY=VALUE. All keys: unstir config train

    \b
    Examples:
      unstir train digits steps=200 out=runs/digits
      unstir train photos/ time=10m size=32
      unstir train photos/ network=dit network.width=256 lr=3e-4 --dry-run
      unstir train digits process=ve
      unstir train digits task=classifier out=runs/judge
      unstir train photos/ task=inpaint
      unstir train photos/ task=upscale scale=4
      unstir train --resume runs/digits steps=400
    """
    subjects, pairs = split(arguments)
    tell = partial(say, quiet=quiet)
    if resume is not None:
        words = [*subjects, *(["--config"] if config else []), *(["--dry-run"] if dry_run else [])]
        _check_changes(resume, [*words, *(["--overwrite"] if overwrite else [])], pairs)
        from ..runs import resume as go_on

        _finish(partial(go_on, resume.expanduser(), pairs, say=tell, progress=not quiet), tell, as_json)
        return
    out = take(pairs, "out")
    where = Path(out).expanduser() if out else None
    chosen = _settings(subjects, pairs, config)
    if not dry_run:
        require_writable((where or Path("runs")) / "config.yaml")
    from .. import runs

    recipe = build("train", chosen.values)
    if dry_run:
        planned = runs.plan(recipe, tell)
        show(
            to_yaml(planned["recipe"], chosen.sources).rstrip(),
            planned | {"sources": chosen.sources},
            as_json,
        )
        return
    work = partial(runs.train, recipe, where, given=chosen.sources, overwrite=overwrite)
    _finish(partial(work, say=tell, progress=not quiet), tell, as_json)


def _settings(subjects: list[str], pairs: dict[str, str], config: Path | None) -> Settings:
    layers = []
    if (name := take(pairs, "preset")) is not None:
        layers.append(read_preset(name))
    if config is not None:
        layers.append(read_file(config))
    if subjects or not any("data" in layer.values or "data.source" in layer.values for layer in layers):
        source = one_subject(subjects, "folder or data set", "unstir train photos/")
        layers.append(Layer("command line", {"data.source": source}))
    return settings("train", [*layers, Layer("command line", pairs)])


def _check_changes(run: Path, others: list[str], pairs: dict[str, str]) -> None:
    """Refuses what cannot go with --resume, unknown keys and wrong types, before torch is imported."""
    if others:
        hint = "data and settings are those of the run; only KEY=VALUE may be added"
        raise ConfigError(f"--resume takes no '{' '.join(others)}'", field="--resume", hint=hint)
    settings("train", [Layer("command line", {"data.source": str(run), **pairs})])


def _finish(work: Callable[[], Path], tell: Callable[[str], None], as_json: bool) -> None:
    """Does the work, writes the run's page and prints its folder; a polite stop ends with the signal's exit code."""
    from ..runs import Stopped

    try:
        run = work()
    except Stopped as stopped:
        say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None
    _report(run, tell)
    show(str(run), {"run": str(run)}, as_json)


def _report(run: Path, tell: Callable[[str], None]) -> None:
    """Write the page of a run that is worth one; the run is none the worse where that fails."""
    from ..watch import read_metrics

    if max((record.get("seconds") or 0 for record in read_metrics(run)), default=0) < WORTH_A_PAGE:
        return
    from ..report import write_report

    try:
        tell(f"report   {write_report(run)}")
    except Exception as error:
        tell(f"report   could not be written: {error}")
