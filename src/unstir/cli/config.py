"""`unstir config`: every setting of a command."""

from __future__ import annotations

from typing import Annotated

import typer

from ..config import document, paths, presets
from ..errors import ConfigError, did_you_mean
from ..schema import Schema, components, describe
from .common import Json, show, table

__all__ = ["config"]

COMMANDS = ("train", "sample", "edit", "upscale", "restore", "likelihood", "explain")


def config(
    command: Annotated[
        str, typer.Argument(metavar="|".join(COMMANDS), help="The command to list.")
    ] = "train",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of its settings.")] = False,
    as_json: Json = False,
) -> None:
    """List every setting of a command.

    A setting that is a component takes its fields along: solver=ddim:eta=1 is solver=ddim solver.eta=1, and
    operator=NAME:FIELD=VALUE,FIELD=VALUE likewise.

    \b
    Examples:
      unstir config train
      unstir config sample
      unstir config train --schema
    """
    if command not in COMMANDS:
        raise ConfigError(
            f"'{command}' has no settings", field="command", hint=did_you_mean(command, COMMANDS, "command")
        )
    root = document(command)
    if schema:
        show("", root, as_json=True)
        return
    data = {path: _entry(path, command) for path in paths(command)}
    rows = ((path, entry["default"], entry["accepts"]) for path, entry in data.items())
    head, *lines = table(("setting", "default", "accepts"), rows).splitlines()
    helps = ("\n    " + entry["help"] if entry["help"] else "" for entry in data.values())
    text = "\n".join([head, *(line + below for line, below in zip(lines, helps, strict=True))])
    if command == "train":
        text += f"\n\npreset=NAME starts from one of: {', '.join(presets())}"
    show(text, data, as_json)


def _entry(path: str, command: str) -> dict[str, str]:
    root, known = document(command), paths(command)
    parent, _, last = path.rpartition(".")
    kinds = components(known[parent], root) if parent in known else {}
    owners = {name: kind["properties"][last] for name, kind in kinds.items() if last in kind["properties"]}
    meanings = list(owners.values()) or [known[path]]
    texts: dict[str, list[str]] = {}  # components share names of fields that mean different things
    for name, meaning in owners.items() or [("", known[path])]:
        texts.setdefault(meaning.get("description", ""), []).append(name)
    return {
        "default": " or ".join(dict.fromkeys(map(_default, meanings))),
        "accepts": "; ".join(dict.fromkeys(describe(meaning, root) for meaning in meanings)),
        "help": "\n    ".join(
            ": ".join(part for part in (", ".join(names), text) if part) for text, names in texts.items()
        ),
    }


def _default(setting: Schema) -> str:
    if "default" not in setting:
        return "required"
    match setting["default"]:
        case None:
            return "auto"
        case bool(value):
            return str(value).lower()
        case {"name": name}:
            return str(name)
        case [*items]:
            return ",".join(_default({"default": item}) for item in items)
        case value:
            return str(value)
