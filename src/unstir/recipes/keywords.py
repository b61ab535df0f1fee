"""The settings of a command as keywords of `Pipeline.sample`, and as the wish of `edit`, `upscale` and `restore`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..spec import complete
from .base import Request, Sampling
from .editing import Drawing

if TYPE_CHECKING:
    from ..pipeline import Pipeline
    from ..pipeline.restoration import Wish

__all__ = ["sample_keywords", "wish_of"]


def sample_keywords(request: Request, prompts: Sequence[str], n: int, pipe: Pipeline) -> dict[str, Any]:
    """The keywords of `Pipeline.sample`; the samples take the prompts in turn."""
    named = {f.name: getattr(request, f.name) for f in fields(request)}
    wanted, movie, _ = named.pop("sampling"), named.pop("movie"), named.pop("out")
    named["n"] = n
    if prompts:
        named["prompt"] = prompts[0] if len(prompts) == 1 else [prompts[k % len(prompts)] for k in range(n)]
    return named | _completed(wanted, pipe) | {"record": movie}


def wish_of(request: Drawing, pipe: Pipeline, strength: float | None = None) -> Wish:
    """What `Pipeline.edit`, `upscale` and `restore` have in common."""
    from ..pipeline.restoration import Wish

    # what was left open is the method's to choose, before it is the model's
    asked = {f.name for f in fields(request.sampling) if getattr(request.sampling, f.name) is not None}
    given = {word: value for word, value in _completed(request.sampling, pipe).items() if word in asked}
    method = "auto" if request.method is None else complete(request.method, None)
    shared = {word: getattr(request, word) for word in ("n", "seed", "tile", "overlap", "prompt")}
    for word in ("label", "negative"):
        label = getattr(request, word)
        left_out = str(label).lower() == "none" and label not in pipe.config.classes
        shared[word] = None if left_out else label
    return Wish.of(shared | given | {"method": method}, strength)


def _completed(sampling: Sampling, pipe: Pipeline) -> dict[str, Any]:
    """Each setting; of a component that was given in part, the model's own is the rest."""
    given, defaults = {f.name: getattr(sampling, f.name) for f in fields(sampling)}, pipe.config.defaults
    return given | {word: complete(given[word], getattr(defaults, word)) for word in ("solver", "rule")}
