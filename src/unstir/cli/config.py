"""`unstir config`: every setting of a command."""

from __future__ import annotations

from typing import Annotated

import typer

from ..config import document, paths, presets
from ..errors import ConfigError, did_you_mean
from ..schema import Schema, components, describe
from .common import Json, show, table

__all__ = ["config"]

COMMANDS = ("train", "sample")


def config(
    command: Annotated[str, typer.Argument(metavar="train|sample", help="The command to list.")] = "train",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of its settings.")] = False,
    as_json: Json = False,
) -> None:
    """List every setting of a command: what it is, accepts and defaults to.

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
    settings = paths(command)
    data = {
        path: {
            "accepts": describe(setting, root),
            "default": _default(setting, root),
            "help": setting.get("description", ""),
        }
        for path, setting in settings.items()
    }
    rows = [(path, s["default"], s["accepts"], s["help"]) for path, s in data.items()]
    text = table(("setting", "default", "accepts", "meaning"), rows)
    if command == "train":
        text += f"\n\npreset=NAME starts from one of: {', '.join(presets())}"
    show(text, data, as_json)


def _default(setting: Schema, root: Schema) -> str:
    if "default" not in setting:
        return "required" if not components(setting, root) else ""
    match setting["default"]:
        case None:
            return "auto"
        case bool(value):
            return str(value).lower()
        case {"name": name}:
            return str(name)
        case [*items]:
            return ",".join(map(str, items))
        case value:
            return str(value)
