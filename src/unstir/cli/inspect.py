"""`unstir inspect`: what a path holds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import document, paths
from ..errors import DataError
from ..schema import Schema, components
from .common import Json, show, table
from .data import report_on

if TYPE_CHECKING:
    from ..codecs import LatentConfig

__all__ = ["inspect", "remake", "settings_of"]

# what a recipe says about its own making; the rest are settings of the verb
ABOUT = ("unstir", "verb", "part", "model", "model_sha256", "input", "input_sha256", "mask_sha256")

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


def remake(recipe: Mapping[str, Any], ending: str = ".png") -> str:
    """The command that makes a file of this recipe again; what is at its default is left out."""
    verb = str(recipe.get("verb", "sample"))
    settings = settings_of({key: value for key, value in recipe.items() if key not in ABOUT}, verb)
    inputs = [str(recipe["input"])] if "input" in recipe else []
    words = ["unstir", verb, str(recipe.get("model", "MODEL")), *inputs, *settings]
    return shlex.join([*words, f"out=again{ending}"])


def settings_of(recipe: Mapping[str, Any], verb: str = "sample") -> list[str]:
    """KEY=VALUE words that say these settings of a verb."""
    root, known = document(verb), paths(verb)
    words: list[str] = []
    for key, value in recipe.items():
        if key == "prompt" and value is not None:
            words.append(f"prompt={_prompts(value, verb)}")
        elif not (key == "n" and verb == "sample" and value == _usual(recipe.get("prompt"))):
            words += _pairs(key, value, known.get(key) or known.get(f"sampling.{key}", {}), root)
    return words


def _pairs(key: str, value: Any, setting: Schema, root: Schema) -> Iterator[str]:
    """key=value, with a component's fields each; a field's default is that of its own component."""
    if isinstance(value, Mapping):
        if "name" in value:  # else its kind is left open
            yield f"{key}={str(value['name']).lower()}"
        fields = components(setting, root).get(value.get("name", ""), {}).get("properties", {})
        for word in (word for word in value if word != "name"):
            yield from _pairs(f"{key}.{word}", value[word], fields.get(word, {}), root)
    elif value is not None and ("default" not in setting or value != setting["default"]):
        yield f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _usual(prompt: Any) -> int:
    """How many samples there are unless told otherwise: one for each prompt."""
    return 16 if prompt is None else len(prompt) if isinstance(prompt, list) else 1


def _prompts(prompt: Any, verb: str) -> str:
    """One text or several, as `prompt=` takes them; only `unstir sample` takes several."""
    texts = prompt if isinstance(prompt, list) else [prompt]
    words = " | ".join(text.replace("|", "\\|") for text in texts) if verb == "sample" else prompt
    # without the space it would be a file, or nothing
    return f" {words}" if words.startswith("@") or words.lower() == "none" else words


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
