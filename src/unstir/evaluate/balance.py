"""Does a model make as much of everything as there is in the data?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..data import Dataset, at_most
from ..data.words import common_words
from .base import Evidence, Finding, Metric, Number
from .encoder import Encoder
from .shares import quantile, wilson

__all__ = ["Balance"]

ROWS = 10_000  # real items that the encoder is asked about, at most
NAMED = 10  # classes in words, at most
WORDS = 20


class Expected(NamedTuple):
    """Shares of the encoder's classes, (K,), and their standard errors."""

    share: np.ndarray
    error: np.ndarray


def _told(encoder: Encoder, x: np.ndarray) -> np.ndarray:
    return encoder.probabilities(x).argmax(1)


def _labelled(data: Dataset) -> np.ndarray:
    """The share of each label, (K,)."""
    assert data.y is not None
    return np.bincount(data.y, minlength=len(data.info.classes)) / len(data)


def expected(encoder: Encoder, data: Dataset, heldout: Dataset) -> Expected:
    """The shares that the encoder would find in unseen items with the labels of `data`.

    sum_c share(c) P(told k | label c), with P from held-out items and one more that is told right for each label: on
    what it was trained on the encoder makes fewer mistakes than on samples. Without labels: what it finds in `data`.
    """
    known = len(encoder.classes)
    if data.y is None or heldout.y is None or not len(heldout) or data.info.classes != heldout.info.classes:
        told = _told(encoder, at_most(data.x, ROWS))
        found = np.bincount(told, minlength=known) / len(told)
        return Expected(found, np.sqrt(found * (1 - found) / len(told)))
    confusion = np.array([[float(a == b) for b in encoder.classes] for a in data.info.classes])
    np.add.at(confusion, (at_most(heldout.y, ROWS), _told(encoder, at_most(heldout.x, ROWS))), 1)
    n = confusion.sum(1, keepdims=True).clip(1)
    p, labelled = confusion / n, _labelled(data)[:, None]
    return Expected((labelled * p).sum(0), np.sqrt((labelled**2 * p * (1 - p) / n).sum(0)))


@dataclass(frozen=True)
class Balance(Metric):
    """Half the sum of |share of the samples - share of the data| over the encoder's classes: the share of the samples
    that would have to be of another class.

    Both shares hold the encoder's own mistakes. Captions: the shares of their commonest words in the data.
    """

    needs = ("drawn", "classes")

    def lacks(self, evidence: Evidence) -> str | None:
        return None if evidence.real.info.captions else super().lacks(evidence)

    def measure(self, evidence: Evidence) -> Finding:
        captions = _captions(evidence.real)
        if super().lacks(evidence):
            return Finding(rows=captions)
        encoder, real, n = evidence.encoder, evidence.real, len(evidence.drawn)
        want, error = expected(encoder, real, evidence.heldout)
        made = np.bincount(evidence.drawn_probabilities.argmax(1), minlength=len(want)) / n
        both = (made + want) / 2
        spread = np.sqrt(both * (1 - both) / n + error**2)  # where there is no difference
        # Half a sample less: counts are whole numbers.
        z = np.sign(made - want) * (abs(made - want) - 0.5 / n).clip(0) / np.where(spread > 0, spread, 1)
        low, high = wilson(made, n)
        rows = tuple(
            _row(
                name,
                labelled=_of(real, name),
                data=float(want[k]),
                samples=float(made[k]),
                low=float(low[k]),
                high=float(high[k]),
                ratio=float(made[k] / want[k]) if want[k] else None,
                z=float(z[k]),
            )
            for k, name in enumerate(encoder.classes)
        )
        apart = [k for k in np.argsort(-abs(z)) if abs(z[k]) > quantile(len(z))]
        words = [
            f"{encoder.classes[k]}: {want[k]:.1%} of the data, {made[k]:.1%} of the samples "
            f"({low[k]:.1%} to {high[k]:.1%})"
            for k in apart[:NAMED]
        ]
        if len(apart) > NAMED:
            words.append(
                f"{len(apart) - NAMED:,} more classes have another share of the samples than of the data"
            )
        return Finding(
            numbers=(_distance(made, want, error, n, len(real), encoder.digest),),
            words=(*words, *_rare(real)),
            rows=rows + captions,
        )


def _distance(
    made: np.ndarray, want: np.ndarray, error: np.ndarray, n: int, against: int, features: str
) -> Number:
    """The total variation distance; its interval by the delta method."""
    side = np.sign(made - want) / 2
    variance = ((side**2 * made).sum() - (side * made).sum() ** 2) / n + (side**2 * error**2).sum()
    value, reach = float(abs(made - want).sum() / 2), 1.96 * math.sqrt(variance)
    chance = np.sqrt((want * (1 - want) / n + error**2) / (2 * math.pi)).sum()  # E|normal| = sqrt(2/pi) std
    return Number(
        name="balance",
        value=value,
        low=max(value - reach, 0.0),
        high=min(value + reach, 1.0),
        n=n,
        against=against,
        better="low",
        features=features,
        note=f"{chance:.3f} by chance alone",
    )


def _rare(data: Dataset) -> tuple[str, ...]:
    """Labels that the data has less than a fifth of an even share of."""
    if data.y is None or len(data.info.classes) < 2:
        return ()
    even, share = 1 / len(data.info.classes), _labelled(data)
    rare = [c for c in np.argsort(share) if share[c] < even / 5]
    if not rare:
        return ()
    named = ", ".join(f"{data.info.classes[c]} {share[c]:.1%}" for c in rare[:NAMED])
    more = f" and {len(rare) - NAMED:,} more" if len(rare) > NAMED else ""
    return (f"rare in the data: {named}{more}; an even share is {even:.1%}",)


def _of(data: Dataset, name: str) -> float | None:
    if data.y is None or name not in data.info.classes:
        return None
    return float(_labelled(data)[data.info.classes.index(name)])


def _captions(data: Dataset) -> tuple[Mapping[str, object], ...]:
    """The share of the captions, of each item its heaviest, that each of the commonest words is in."""
    texts = [text for text in data.texts or () if text]
    return tuple(_row(f'"{word}"', labelled=count / len(texts)) for word, count in common_words(texts, WORDS))


def _row(what: str, **shares: float | None) -> dict[str, object]:
    """A class, or a word in quotes: its share of the labels or captions, of the data and of the samples."""
    return {"what": what} | {
        column: shares.get(column) for column in ("labelled", "data", "samples", "low", "high", "ratio", "z")
    }
