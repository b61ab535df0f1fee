"""`unstir report`: a run on one page."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError, ConfigError
from .common import Arguments, Json, one_subject, show, split

__all__ = ["report"]


def report(arguments: Arguments = None, as_json: Json = False) -> None:
    """Write a run's report.html.

    One page that opens without a network: data, losses, numbers of samples over the steps, what unstir evaluate
    found, pictures, the nearest training pictures. Longer runs and evaluations write it themselves.

    \b
    Examples:
      unstir report runs/digits-1
    """
    subjects, pairs = split(arguments)
    name = one_subject(subjects, "run", "unstir report runs/digits-1")
    if pairs:
        raise ConfigError(f"report takes no '{next(iter(pairs))}='", hint="it takes a run alone")
    given = Path(name).expanduser()
    run = next((path for path in (given, Path("runs") / given) if (path / "config.yaml").is_file()), None)
    if run is None:
        raise CheckpointError(
            f"{name} is not a run: it has no config.yaml",
            field="SUBJECT",
            hint="give the directory of a run; unstir runs lists them",
        )
    from ..report import write_report

    path = write_report(run)
    show(str(path), {"report": str(path)}, as_json)
