"""Settings as the words of a command line: what makes a file again, from the recipe that it carries."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from .config import document, paths
from .schema import Schema, components

__all__ = ["remake", "settings_of"]

# what a recipe says about its own making; the rest are settings of the verb
ABOUT = ("unstir", "verb", "part", "model", "model_sha256", "input", "input_sha256", "mask_sha256")


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
