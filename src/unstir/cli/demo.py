"""`unstir demo`: the first two minutes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..config import Layer, settings, take
from ..errors import ConfigError
from .common import Arguments, Json, Quiet, say, show, split

__all__ = ["demo"]


def demo(arguments: Arguments = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Train on real digits for 90 s and show it all.

    Writes samples.png, forward.png, denoise.gif and report.html into out=runs/demo; time= is how long it
    trains.

    \b
    Examples:
      unstir demo
      unstir demo time=20s out=runs/quick
    """
    subjects, pairs = split(arguments)
    out, time = take(pairs, "out") or "runs/demo", take(pairs, "time") or "90s"
    if subjects or pairs:
        raise ConfigError(
            f"demo takes no '{' '.join([*subjects, *pairs])}'",
            hint="it takes time= and out=; for your own settings: unstir train digits KEY=VALUE",
        )
    seconds = settings("train", [Layer("command line", {"data.source": "digits", "time": time})])

    from ..demo import demo as run

    path = run(Path(out).expanduser(), seconds.values["training"]["time"], partial(say, quiet=quiet))
    show(str(path), {"run": str(path)}, as_json)
