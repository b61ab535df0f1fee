"""`unstir explain`: how it works, to be seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Layer, build, settings, subjects
from ..errors import ConfigError, IncompatibleError
from .common import Arguments, Json, Quiet, require_writable, say, show, split

if TYPE_CHECKING:
    from ..explain import Question

__all__ = ["explain"]

OF_THE_CALL = ("picture", "out")
"""Settings that belong to no subject."""


def explain(arguments: Arguments = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """See how it works: schedules, the forward process, solvers, attention.

    Writes out=explain/index.html, one page that opens without a network, and its pictures and movies as .png and
    .gif. what= is forward, schedule, distribution, trajectory, solvers, attention, or all. picture=FILE is noised by
    what=forward; trajectory and attention are of a model, emoji unless one is given. All keys: unstir config explain

    \b
    Examples:
      unstir explain what=forward picture=cat.jpg
      unstir explain what=schedule schedule=cosine:offset=0.008 steps=50
      unstir explain what=distribution law=spiral solver=ddim steps=10
      unstir explain emoji what=attention prompt="yellow castle"
      unstir explain what=all out=course/
    """
    names, pairs = split(arguments)
    if len(names) > 1:
        raise ConfigError(f"one model is taken, got: {' '.join(names)}", field="SUBJECT")
    what = pairs.pop("what", "forward")
    asked = _everything(pairs) if what == "all" else [_question(what, pairs)]
    out = Path(asked[0].out).expanduser()
    require_writable(out / "index.html")

    from ..data.picture import read_picture
    from ..pipeline import load
    from ..report import write_explanations

    tell = partial(say, quiet=quiet)
    pipe = load(names[0]) if names else None
    found = None if asked[0].picture is None else read_picture(asked[0].picture, "picture")
    pixels = None if found is None else found.of(1 if found.grey else 3)
    explanations = []
    for question in asked:
        tell(f"{question.what.what():<13}{question.what.title}")
        try:
            explanations.append(question.what.explain(pipe, pixels))
        except IncompatibleError as error:
            if what != "all":
                raise
            tell(f"{'':<13}left out: {error}")
    files = write_explanations(explanations, out)
    told = {
        one.what: {"settings": one.settings, "table": one.table and one.table.to_dict()}
        for one in explanations
    }
    data = {"out": str(out), "files": [str(file) for file in files], "explained": told}
    show(str(files[0]), data, as_json)


def _question(what: str, pairs: dict[str, str]) -> Question:
    return build("explain", settings("explain", [Layer("command line", {"what": what, **pairs})]).values)


def _everything(pairs: dict[str, str]) -> list[Question]:
    """Every subject, each with those of the settings that it has; raises `ConfigError` for one that none has."""
    known = {what: (*schema["properties"], *OF_THE_CALL) for what, schema in subjects().items()}
    if wrong := next((key for key in pairs if all(_head(key) not in each for each in known.values())), None):
        hint = "what=all takes what some subject has: unstir config explain"
        raise ConfigError(f"unknown setting '{wrong}'", field=wrong, hint=hint)
    questions = (
        _question(what, {key: value for key, value in pairs.items() if _head(key) in each})
        for what, each in known.items()
    )
    return sorted(questions, key=lambda question: question.what.place)


def _head(key: str) -> str:
    return key.partition(".")[0]
