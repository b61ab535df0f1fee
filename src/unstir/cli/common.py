"""What the verbs share: their arguments, their options, and how a result is printed."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import parse_pairs
from ..errors import CheckpointError, ConfigError

__all__ = [
    "Arguments",
    "DryRun",
    "Json",
    "Quiet",
    "SettingsFile",
    "model_and_input",
    "one_subject",
    "progress",
    "require_writable",
    "say",
    "show",
    "split",
    "table",
]

PAIR = re.compile(r"[A-Za-z_][\w.]*=.*", re.DOTALL)

Arguments = Annotated[
    list[str] | None, typer.Argument(metavar="SUBJECT KEY=VALUE", show_default=False, hidden=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result and errors.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the settings, parameters, memory and time; do nothing.")
]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings in YAML; KEY=VALUE is stronger."),
]


def split(arguments: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """(subjects, settings): ["photos/", "steps=20"] -> (["photos/"], {"steps": "20"})."""
    pairs = [a for a in arguments or () if PAIR.fullmatch(a)]
    return [a for a in arguments or () if not PAIR.fullmatch(a)], parse_pairs(pairs)


def model_and_input(subjects: Sequence[str], example: str) -> tuple[str, str]:
    """Both subjects; raises `ConfigError` unless there are exactly two."""
    if len(subjects) == 2:
        return subjects[0], subjects[1]
    got = " ".join(subjects) or "nothing"
    raise ConfigError(
        f"a model and a file are needed, got: {got}", field="SUBJECT", hint=f"for example: {example}"
    )


def one_subject(subjects: Sequence[str], what: str, example: str) -> str:
    """The subject; raises `ConfigError` unless there is exactly one."""
    if len(subjects) == 1:
        return subjects[0]
    got = f"one {what} is needed" if not subjects else f"one {what} is taken, got: {' '.join(subjects)}"
    raise ConfigError(got, field="SUBJECT", hint=f"for example: {example}")


def show(text: str, data: Any, as_json: bool) -> None:
    """The result, on standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False) if as_json else text)


def say(text: str, quiet: bool = False) -> None:
    """Everything else, on standard error; where nobody reads it any more, work goes on."""
    if not quiet:
        with suppress(OSError):
            typer.echo(text, err=True)


def progress(n: int, tell: Callable[[str], None], interval: float = 5.0) -> Callable[[int], None]:
    """What says every few seconds how far the work on n items is."""
    start = shown = time.monotonic()

    def on_batch(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= interval and done < n:
            shown = now
            tell(f"{done / n:4.0%}  {done:,} of {n:,}  {(now - start) * (n - done) / done:.0f} s left")

    return on_batch


def require_writable(path: Path, field: str = "out", hint: str = "choose another out=") -> None:
    """Raises `CheckpointError` where the disk would refuse the result, before it has been computed."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:  # what the system says of rights is not all: there are folders that hold no files but their own
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        raise CheckpointError(f"{folder} cannot be written to", field=field, hint=hint) from None


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns of text, as wide as their widest entry."""
    lines = [[f"{x:.4g}" if isinstance(x, float) else str(x) for x in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
