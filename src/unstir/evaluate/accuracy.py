"""Do samples show what was asked for?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..data import at_most
from .base import Evidence, Finding, Metric, Number
from .encoder import Encoder
from .shares import differ, quantile, wilson

__all__ = ["Accuracy"]

ROWS = 10_000  # held-out items that the encoder is asked about, at most


class Recognised(NamedTuple):
    """Whether each item shows its label, bool (n,); and by label, (K,): how many there are, and the share that do."""

    hits: np.ndarray
    n: np.ndarray
    share: np.ndarray


def recognised(encoder: Encoder, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> Recognised:
    hits = encoder.agrees(x, [classes[label] for label in y]) if len(y) else np.zeros(0, bool)
    n = np.bincount(y, minlength=len(classes))
    return Recognised(hits, n, np.bincount(y, hits, len(classes)) / n.clip(1))


@dataclass(frozen=True)
class Accuracy(Metric):
    """The share of the samples that show the label they were asked for, as far as the encoder can tell.

    Of held-out items it recognises the share in the note: samples can hardly do better.
    """

    needs = ("drawn", "labels", "classes")

    def lacks(self, evidence: Evidence) -> str | None:
        known, asked = evidence.encoder.classes, evidence.train.info.classes
        unknown = next((f"the encoder knows no '{name}'" for name in asked if name not in known), None)
        return super().lacks(evidence) or unknown

    def measure(self, evidence: Evidence) -> Finding:
        encoder, classes = evidence.encoder, evidence.train.info.classes
        drawn, heldout = evidence.drawn, evidence.heldout
        assert drawn.y is not None
        made = recognised(encoder, drawn.x, drawn.y, classes)
        y = np.zeros(0, np.int64) if heldout.y is None else at_most(heldout.y, ROWS)
        real = recognised(encoder, at_most(heldout.x, ROWS)[: len(y)], y, classes)
        note = f"{real.hits.mean():.1%} of {len(y):,} held-out items" if len(y) else ""
        number = Number.share("accuracy", made.hits, better="high", features=encoder.digest, note=note)
        low, high = wilson(made.share, made.n)
        rows = tuple(
            {
                "class": classes[c],
                "samples": int(made.n[c]),
                "accuracy": float(made.share[c]),
                "low": float(low[c]),
                "high": float(high[c]),
                "held out": float(real.share[c]) if real.n[c] else None,
            }
            for c in np.flatnonzero(made.n)
        )
        return Finding(numbers=(number,), words=_worst(made, real, classes), rows=rows)


def _worst(made: Recognised, real: Recognised, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The class that is clearly less recognised than the rest, and than held-out items of it are."""
    n, hits = made.n.sum() - made.n, made.hits.sum() - made.share * made.n
    rest = hits / n.clip(1)
    below = differ(made.share, made.n, rest, n)
    if real.n.any():
        below = np.maximum(below, differ(made.share, made.n, real.share, real.n))
    c = int(below.argmin())
    if below[c] > -quantile(len(classes)):
        return ()
    beside = f", {real.share[c]:.1%} of held-out ones" if real.n[c] else ""
    found = f"{classes[c]}: {made.share[c]:.1%} of its samples show it, {rest[c]:.1%} of those of other classes do"
    return (found + beside,)
