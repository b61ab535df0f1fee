"""What `unstir explain` is asked, and the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError, did_you_mean
from ..pipeline import Pipeline
from ..spec import choices, load
from .base import Explanation, Subject
from .forward import Forward

__all__ = ["Question", "explain", "subjects"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One call of `unstir explain`."""

    what: Subject = Forward()
    """What is explained; what=all: everything that is possible."""
    picture: str | None = None
    """A file, for what=forward."""
    out: str = "explain"
    """The folder to write to."""


def subjects() -> dict[str, type[Subject]]:
    """Everything there is to explain, by the word it is chosen by, in the order of a course."""
    kinds: Iterable[type[Subject]] = choices(Subject).values()
    return {kind.what(): kind for kind in sorted(kinds, key=lambda kind: kind.place)}


def explain(
    what: str,
    settings: Mapping[str, Any] | None = None,
    pipe: Pipeline | None = None,
    picture: np.ndarray | None = None,
) -> Explanation:
    """The subject's explanation, with these settings in place of its defaults.

    Args:
        what: a word of `subjects()`.
        settings: as plain data; components by name or as mappings, {"schedule": {"name": "Cosine", "offset": 0.008}}.
        pipe: a model, see `Subject.explain`.
        picture: uint8 (H, W, C), for what = forward.

    Raises:
        ConfigError: there is no such subject, or a setting is out of range; it names the field.
        IncompatibleError: the model has nothing of the kind to show.
    """
    known = subjects()
    if what not in known:
        raise ConfigError(f"cannot explain {what!r}", field="what", hint=did_you_mean(what, known, "subject"))
    subject: Subject = load(settings or {}, known[what])
    return subject.explain(pipe, picture)
