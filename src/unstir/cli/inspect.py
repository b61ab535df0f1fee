"""`unstir inspect`: what a path holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..command import remake, settings_of
from ..errors import DataError
from .common import Json, show, table
from .data import report_on

if TYPE_CHECKING:
    from ..codecs import LatentConfig

__all__ = ["inspect"]

OF_A_FILE = ("edit", "upscale", "restore")


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


def _recipe(path: Path, as_json: bool) -> None:
    from ..modalities import read_recipe

    recipe = read_recipe(path)
    command, told = None, "made in Python, of a picture without a name: no command makes it again"
    if "input" in recipe or recipe.get("verb", "sample") not in OF_A_FILE:
        command = remake(recipe, ".png" if "part" in recipe else path.suffix)
        name = f", as again-{recipe['part']}.png," if "part" in recipe else ""
        told = f"made again{name} by\n  {command}"
    text = f"{json.dumps(recipe, indent=2, ensure_ascii=False)}\n\n{told}"
    show(text, {"recipe": recipe, "command": command}, as_json)


def _model(name: str, place: Path, as_json: bool) -> None:
    from .. import load
    from ..codecs import LatentConfig
    from ..config import read_file

    pipe = load(name)
    words = pipe.describe()
    defaults = words["config"]["defaults"]
    if isinstance(pipe.config.network, LatentConfig):
        words |= _of_latents(pipe.config.network, pipe.config.size)
    elif words["config"]["network"]["name"] != "Classifier":
        chosen = {key: defaults[key] for key in ("solver", "grid", "steps", "guidance")}
        words |= {"sampling": " ".join(settings_of(chosen))}
    if (place / "config.yaml").is_file():
        from ..runs import listing

        row = next((row for row in listing(place.parent) if Path(row["run"]) == place), {})
        words |= _decoded(place) | row | {"recipe": dict(read_file(place / "config.yaml").values)}
    rows = [(k, _short(v)) for k, v in words.items() if k not in ("config", "recipe")]
    show(table(("", ""), rows).strip("\n"), words, as_json)


def _decoded(run: Path) -> dict[str, float]:
    """The last PSNR and SSIM in an autoencoder's log."""
    from ..watch import read_metrics

    found = [record for record in read_metrics(run) if record.get("psnr") is not None]
    return {word: round(found[-1][word], 4) for word in ("psnr", "ssim")} if found else {}


def _of_latents(codec: LatentConfig, shape: tuple[int, ...]) -> dict[str, Any]:
    """What an autoencoder makes of its data, which has this shape."""
    return {
        "latents": list(codec.shape(shape)),
        "ratio": round(codec.ratio(shape), 2),
        "shift": [round(x, 4) for x in codec.shift],
        "scale": [round(x, 4) for x in codec.scale],
    }


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 100 else text[:97] + "..."
