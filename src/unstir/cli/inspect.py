"""`unstir inspect`: what a path holds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import paths
from ..errors import DataError
from .common import Json, show, table
from .data import report_on

__all__ = ["inspect", "remake"]

# what a recipe says about its own making; the rest are settings of `unstir sample`
ABOUT = ("unstir", "model", "model_sha256")


def inspect(
    path: Annotated[str, typer.Argument(help="A picture of ours, a run, a .safetensors file, or data.")],
    as_json: Json = False,
) -> None:
    """Say what a file or run is and how it was made.

    Of a picture it prints the recipe and the command that makes it again.

    \b
    Examples:
      unstir inspect samples.png
      unstir inspect runs/digits
      unstir inspect runs/digits/checkpoints/last/model.safetensors
      unstir inspect digits
    """
    place = Path(path).expanduser()
    if place.suffix.lower() in (".png", ".gif", ".npz") and place.is_file():
        try:
            _recipe(place, as_json)
        except DataError:
            if place.suffix.lower() != ".npz":
                raise
            report_on({"source": path}, as_json)
    elif place.suffix == ".safetensors" or (place / "config.yaml").is_file() or "@" in path:
        _model(path, place, as_json)
    else:
        report_on({"source": path}, as_json)


def remake(recipe: Mapping[str, Any], ending: str = ".png") -> str:
    """The command that makes a file of this recipe again; what is at its default is left out."""
    words = ["unstir", "sample", str(recipe.get("model", "MODEL"))]
    known = paths("sample")
    for key, value in _flat({k: v for k, v in recipe.items() if k not in ABOUT}):
        path = key if key in known else f"sampling.{key}"
        if value is not None and (path not in known or value != known[path].get("default")):
            words.append(f"{key}={_text(value)}")
    return shlex.join([*words, f"out=again{ending}"])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield prefix + key, str(value["name"]).lower()
            yield from _flat({k: v for k, v in value.items() if k != "name"}, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _recipe(path: Path, as_json: bool) -> None:
    from ..modalities import read_recipe

    recipe = read_recipe(path)
    command = remake(recipe, path.suffix)
    text = f"{json.dumps(recipe, indent=2, ensure_ascii=False)}\n\nmade again by\n  {command}"
    show(text, {"recipe": recipe, "command": command}, as_json)


def _model(name: str, place: Path, as_json: bool) -> None:
    from .. import load
    from ..config import read_file

    words = load(name).describe()
    if (place / "config.yaml").is_file():
        from ..runs import listing

        row = next((row for row in listing(place.parent) if Path(row["run"]) == place), {})
        words |= row | {"recipe": dict(read_file(place / "config.yaml").values)}
    rows = [(k, _short(v)) for k, v in words.items() if k not in ("config", "recipe")]
    show(table(("", ""), rows).strip("\n"), words, as_json)


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 100 else text[:97] + "..."
