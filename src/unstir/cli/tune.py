"""`unstir tune`: the best way to spend a budget on a model, stored as its default."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..command import settings_of
from ..config import take
from ..errors import ConfigError
from ..schema import check
from .common import Arguments, Json, Quiet, one_subject, require_writable, say, show, split, table

if TYPE_CHECKING:
    from ..tune import Trial, Tuning

__all__ = ["tune"]

SETTINGS = {
    "budget": {"type": "integer", "minimum": 1, "maximum": 200},
    "seconds": {"type": "number", "exclusiveMinimum": 0, "x-unit": "s"},
    "n": {"type": "integer", "minimum": 8, "maximum": 4096},
    "seed": {"type": "integer", "minimum": 0, "maximum": 2**62},
}


def tune(
    arguments: Arguments = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave the model as it is.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find how a model is best sampled in few evaluations, and make it the default.

    budget=N is in network evaluations per sample (a guided step takes two), seconds=T in the time of 16 samples
    here. Solver, grid and the times of guidance are tried against samples with 100 evaluations; n= is how many.
    Then: unstir sample MODEL

    \b
    Examples:
      unstir tune runs/digits budget=8
      unstir tune runs/digits seconds=2 --dry-run
    """
    subjects, pairs = split(arguments)
    model = one_subject(subjects, "model", "unstir tune runs/digits budget=8")
    settings = _settings(pairs)

    from .. import load
    from ..model import find_model
    from ..tune import store, tune as find

    if not dry_run:
        hint = "--dry-run only looks; a copy of the model can be tuned"
        require_writable(find_model(model).resolve(), "model", hint)
    found = find(load(model), **settings, say=partial(say, quiet=quiet))
    path = None if dry_run else store(model, found)
    text = _table(found) + f"\nstored in   {path}" * bool(path)
    show(text, _words(found) | {"stored": str(path) if path else None}, as_json)


def _settings(pairs: dict[str, str]) -> dict[str, Any]:
    document = {"type": "object", "properties": SETTINGS, "required": []}
    values = {key: take(pairs, key) for key in SETTINGS if key in pairs}
    if pairs:
        unknown = next(iter(pairs))
        raise ConfigError(
            f"unknown setting '{unknown}'", field=unknown, hint="tune takes " + ", ".join(SETTINGS)
        )
    checked, problems = check(values, document, document)
    if problems:
        first = problems[0]
        raise ConfigError(
            first.message, field=first.field, hint=first.hint or "for example budget=8, or seconds=2"
        )
    if len(checked.keys() & {"budget", "seconds"}) != 1:
        raise ConfigError(
            "give a budget or seconds", field="budget", hint="for example budget=8, or seconds=2"
        )
    return checked


def _table(found: Tuning) -> str:
    from ..spec import dump

    head = ("", "solver", "steps", "guided", "calls", "error", "to untuned", "s/sample")
    rows = [(str(k + 1), *_row(trial, found)) for k, trial in enumerate(found.trials)]
    best = dump(found.best.settings, type(found.best.settings))
    idle = {"interval"} if best["guidance"] == 1 else set()
    chosen = {key: best[key] for key in ("solver", "times", "interval") if key not in idle}
    return (
        table(head, [*rows, ("untuned", *_row(found.untuned, found))])
        + f"\n\nbest        {' '.join(settings_of(chosen))}"
        + f"\nerror       distance from {found.reference_calls} evaluations, of the samples' spread"
    )


def _row(trial: Trial, found: Tuning) -> tuple[object, ...]:
    low, high = trial.settings.interval
    guided = "no" if trial.settings.guidance == 1 else f"{low:.2f}-{high:.2f}"
    share = trial.error / found.untuned.error if found.untuned.error > 0 else 1.0
    ratio = 20 * math.log10(share) if share > 0 else -math.inf
    name = type(trial.settings.solver).__name__.lower()
    error, pace = f"{trial.error:.1%}", f"{trial.seconds:.3g}"
    return (name, trial.settings.steps, guided, trial.calls, error, f"{ratio:+.1f} dB", pace)


def _words(found: Tuning) -> dict[str, Any]:
    from ..spec import dump

    def words(trial: Trial) -> dict[str, Any]:
        numbers = {"calls": trial.calls, "error": trial.error, "seconds_per_sample": trial.seconds}
        return numbers | {"settings": dump(trial.settings, type(trial.settings))}

    return {
        "budget": found.budget,
        "reference_calls": found.reference_calls,
        "trials": [words(trial) for trial in found.trials],
        "untuned": words(found.untuned),
    }
