"""What a model is worth: samples are drawn and compared with data, and what is found is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from .. import config
from ..errors import ConfigError
from ..pipeline import Pipeline
from ..recipes import Evaluation
from ..spec import dump
from .autoencoding import Autoencoding, on_bench
from .bench import Bench
from .losses import bits_of, losses_of
from .result import Assessment, Sweep
from .samples import draw, prompts_of

__all__ = [
    "Assessment",
    "Autoencoding",
    "Bench",
    "Sweep",
    "assess",
    "bits_of",
    "draw",
    "losses_of",
    "on_bench",
    "prompts_of",
    "sweep",
]


def assess(model: str | Path | Pipeline, data: str | Path | None = None, **settings: Any) -> Assessment:
    """`unstir evaluate MODEL data=... key=value ...` from Python.

    >>> found = unstir.assess("runs/digits", n=1000, metrics=["fid", "prdc"])  # doctest: +SKIP
    >>> found.numbers["fid"].value, found.numbers["fid"].low  # doctest: +SKIP

    Settings are those of the command line by their last name; metrics may be names or objects, as PRDC(k=3). The
    samples of a model on disk are kept beside it; `Assessment.save` writes the rest.

    Raises:
        ConfigError: a setting is unknown or out of range, or a metric that was named cannot be measured here.
        CheckpointError, DataError: there is no such model, or its data cannot be read.
    """
    request = _request(data, settings)
    if request.sweep is not None:
        raise ConfigError(
            f"sweep={request.sweep}: an assessment is of one model",
            field="sweep",
            hint=f"from unstir.assessment import sweep; sweep({str(model)!r}, {request.sweep!r})",
        )
    return on_bench(model, request).assess()


def sweep(model: str | Path | Pipeline, over: str, data: str | Path | None = None, **settings: Any) -> Sweep:
    """`unstir evaluate MODEL sweep=OVER ...` from Python: over "guidance", "steps" or "ema"."""
    return on_bench(model, _request(data, settings | {"sweep": over})).sweep()


def _request(data: str | Path | None, settings: Mapping[str, Any]) -> Evaluation:
    given = {word.replace("__", "."): _words(value) for word, value in settings.items()}
    given |= {} if data is None else {"data": str(data)}
    chosen = config.settings("evaluate", [config.Layer("call", given)])
    return config.build("evaluate", chosen.values)


def _words(value: Any) -> Any:
    """A component as its words, alone or in a list."""
    if isinstance(value, (list, tuple)):
        return [_words(item) for item in value]
    return dump(value) if is_dataclass(value) and not isinstance(value, type) else value
