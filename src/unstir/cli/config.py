"""`unstir config`: every setting of a command."""

from __future__ import annotations

from typing import Annotated

import typer

from ..config import document, paths, presets
from ..errors import ConfigError, did_you_mean
from ..schema import Schema, components, describe, resolve
from .common import Json, show, table

__all__ = ["config"]

COMMANDS = ("train", "sample")


def config(
    command: Annotated[str, typer.Argument(metavar="train|sample", help="The command to list.")] = "train",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of its settings.")] = False,
    as_json: Json = False,
) -> None:
    """List every setting of a command.

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
    lines = table(
        ("setting", "default", "accepts"), ((p, s["default"], s["accepts"]) for p, s in data.items())
    )
    head, *settings_lines = lines.splitlines()
    helps = ("\n    " + s["help"] if s["help"] else "" for s in data.values())
    text = "\n".join([head, *(line + text for line, text in zip(settings_lines, helps, strict=True))])
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
