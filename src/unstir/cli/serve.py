"""`unstir serve`: models over HTTP."""

from __future__ import annotations

import webbrowser
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import typer

from ..config import take
from ..errors import ConfigError, did_you_mean
from .common import Arguments, Quiet, say, split

__all__ = ["launch", "serve"]

WORDS = {
    "port": int,
    "host": str,
    "hosts": str,
    "queue": int,
    "samples": int,
    "pixels": int,
    "memory": float,
    "outputs": float,
    "batch": int,
    "drain": float,
    "token": str,
    "open": bool,
}
"""Settings of a server that are KEY=VALUE, and their types; room in GiB."""
ROOM = ("memory", "outputs")
MOST = {"port": 65535}


def serve(arguments: Arguments = None, quiet: Quiet = False) -> None:
    """Serve models over HTTP: a queue, progress, previews, and pictures.

    Each MODEL is a run, RUN@STEP, a file, or a model that comes with unstir. port=8000, host=127.0.0.1, folder=served
    (jobs and pictures; a restart goes on with them), queue=256 jobs that may wait, memory=4 GiB of models,
    outputs=8 GiB of pictures. Clients show the token that is printed, kept in folder/token. Elsewhere than on
    127.0.0.1 a proxy should add TLS, and hosts=NAME names it. The API is in /openapi.json, in docs/serving.md, and
    that of OpenAI's images under /v1.

    \b
    Examples:
      unstir serve emoji
      unstir serve runs/photos runs/digits@best port=9000 folder=served
    """
    models, pairs = split(arguments)
    if not models:
        raise ConfigError("a model is needed", field="MODEL", hint="for example: unstir serve emoji")
    folder = Path(take(pairs, "folder") or "served").expanduser().absolute()
    launch(pairs, quiet, folder=folder, models=tuple(models))


def launch(pairs: dict[str, str], quiet: bool, *, show: bool = False, **given: Any) -> None:
    """Serve with these settings until a signal comes."""
    from ..data import source_names
    from ..serve.run import run
    from ..serve.settings import GIB, Settings

    own: dict[str, Any] = {}
    for key, text in pairs.items():
        if key not in WORDS:
            raise ConfigError(f"unknown setting {key!r}", field=key, hint=did_you_mean(key, WORDS, "setting"))
        own[key] = _read(key, text)
        if key in ROOM:
            own[key] = int(own[key] * GIB)
    if "hosts" in own:
        own["hosts"] = tuple(name.strip().lower() for name in own["hosts"].split(","))
    settings = Settings(**given, **own)
    assert {f.name for f in fields(settings)} >= WORDS.keys()
    tell = partial(say, quiet=quiet)

    def started(address: str) -> None:
        typer.echo(address)
        if show:
            webbrowser.open(address)

    run(settings, source_names(), tell, started)


def _read(key: str, text: str) -> Any:
    kind = WORDS[key]
    if kind is bool:
        return text.lower() in ("1", "true", "yes", "on")
    try:
        value = kind(text)
    except ValueError:
        raise ConfigError(f"{key} is {text!r}", field=key, hint="give a number") from None
    most = MOST.get(key, 2**40)
    if kind is not str and not 0 <= value <= most:
        raise ConfigError(f"{key} is {text}", field=key, hint=f"accepted: 0 to {most:,}")
    if kind is str and not value.strip():
        raise ConfigError(f"{key}= is empty", field=key, hint="leave it out, or give a value")
    return value
