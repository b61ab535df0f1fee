"""How much samples of one label differ from each other, and those of one label from those of another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .base import Evidence, Finding, Metric, Number
from .shares import quantile

__all__ = ["Consistency", "Spread", "spread"]

LEAST = 3  # items of a label, for a spread that has an error
COLLAPSED = 0.5


class Spread(NamedTuple):
    """Of features by label.

    Args:
        n: items of each label, (L,).
        within: tr Cov(f | label), (L,), and their standard errors.
        between: tr Cov of the labels' means.
        ratio: mean within / (mean within + between), and its standard error.
    """

    n: np.ndarray
    within: np.ndarray
    within_error: np.ndarray
    between: float
    ratio: float
    ratio_error: float


def spread(features: np.ndarray, labels: np.ndarray, among: np.ndarray) -> Spread:
    """The spread of features (n, D) within and between two labels `among` or more (L,), of three items or more each.

        W_l = sum_i |f_i - m_l|^2 / (n_l - 1),  W = mean_l W_l
        B   = sum_l |m_l - m|^2 / (L - 1) - mean_l W_l / n_l,  m = mean_l m_l

    both without bias at any n_l. Standard errors by the jackknife: each item is left out once, the labels stay.
    """
    rows = [np.flatnonzero(labels == label) for label in among]
    n, L = np.array([len(row) for row in rows]), len(rows)
    means = np.stack([features[row].mean(0, dtype=np.float64) for row in rows])
    off = means - means.mean(0)
    within, without, moved = np.zeros(L), [], []
    for c, row in enumerate(rows):
        x, count = features[row] - means[c], len(row)
        squared = (x**2).sum(1)
        within[c] = squared.sum() / (count - 1)
        # With item i left out: W_l, and the change of B's first term.
        without.append((squared.sum() - count / (count - 1) * squared) / (count - 2))
        moved.append((squared * (1 - 1 / L) / (count - 1) - 2 * x @ off[c]) / (count - 1) / (L - 1))
    W = within.mean()
    B = (off**2).sum() / (L - 1) - (within / n).mean()
    variance = 0.0
    for c, (alone, first) in enumerate(zip(without, moved, strict=True)):
        second = (alone / (n[c] - 1) - within[c] / n[c]) / L
        variance += _jackknife(_share(W + (alone - within[c]) / L, B + first - second))
    error = np.sqrt([_jackknife(alone) for alone in without])
    return Spread(n, within, error, float(B), float(_share(W, B)), math.sqrt(variance))


def _share(within: Any, between: Any) -> np.ndarray:
    total = np.asarray(within + between)
    return within / np.where(total > 0, total, 1)


def _jackknife(values: np.ndarray) -> float:
    """The variance of a statistic, from its values with each of n items left out."""
    return float(len(values) - 1) * float(values.var())


class Ratio(NamedTuple):
    ratio: float
    low: float
    high: float


def _ratio(a: float, a_error: float, b: float, b_error: float) -> Ratio | None:
    """a / b and its interval, normal in the logarithm; None where b is 0."""
    if b <= 0:
        return None
    reach = math.exp(1.96 * math.hypot(a_error / a, b_error / b)) if a > 0 else 1.0
    return Ratio(a / b, a / b / reach, a / b * reach)


@dataclass(frozen=True)
class Consistency(Metric):
    """W / (W + B): how much of the spread of features is among samples of one label, W, and not between labels, B.

    0: all samples of a label are alike. 1: the label makes no difference. `within_spread` is W of the samples by W of
    real items with the same labels: below 1, seeds make less of a difference than they should.
    """

    needs = ("drawn", "labels")

    def lacks(self, evidence: Evidence) -> str | None:
        return super().lacks(evidence) or (
            None if len(_labels(evidence.drawn.y)) > 1 else f"no two labels have {LEAST} samples each"
        )

    def measure(self, evidence: Evidence) -> Finding:
        drawn, real = evidence.drawn, evidence.real
        classes, digest = evidence.train.info.classes, evidence.encoder.digest
        assert drawn.y is not None
        made = spread(evidence.drawn_features, drawn.y, _labels(drawn.y))
        numbers = [
            Number.within("consistency", made.ratio, made.ratio_error, n=int(made.n.sum()), features=digest)
        ]
        y = None if real.y is None else _renamed(real.y, real.info.classes, classes)
        both = np.intersect1d(_labels(drawn.y), _labels(y))
        if y is None or len(both) < 2:
            return Finding(numbers=tuple(numbers))
        made = spread(evidence.drawn_features, drawn.y, both)
        true = spread(evidence.real_features, y, both)
        n, against = int(made.n.sum()), int(true.n.sum())
        numbers.append(
            Number.within("consistency_real", true.ratio, true.ratio_error, n=against, features=digest)
        )
        if (ratio := _ratio(*_mean(made), *_mean(true))) is not None:
            note = "1 where samples vary as real items do"
            numbers.append(
                Number(
                    name="within_spread",
                    value=ratio.ratio,
                    low=ratio.low,
                    high=ratio.high,
                    n=n,
                    against=against,
                    features=digest,
                    note=note,
                )
            )
        rows, words = [], []
        for c, label in enumerate(both):
            a, b = float(made.within[c]), float(true.within[c])
            ratio = _ratio(a, float(made.within_error[c]), b, float(true.within_error[c]))
            row = {"class": classes[label], "samples": int(made.n[c]), "spread": a, "real spread": b}
            rows.append(row | dict(zip(Ratio._fields, ratio or (None,) * 3, strict=True)))
            # By how much so few samples would vary less or more, were they real.
            luck = true.within_error[c] * math.sqrt(1 + true.n[c] / made.n[c]) * quantile(len(both))
            if ratio is not None and ratio.ratio < COLLAPSED and a < b - luck:
                times = f"{ratio.ratio:.2f} times as much as real ones ({ratio.low:.2f} to {ratio.high:.2f})"
                words.append(f"{classes[label]}: its samples vary {times}")
        return Finding(numbers=tuple(numbers), words=tuple(words), rows=tuple(rows))


def _labels(y: np.ndarray | None) -> np.ndarray:
    """The labels of at least three items."""
    if y is None:
        return np.zeros(0, np.int64)
    labels, n = np.unique(y, return_counts=True)
    return labels[(n >= LEAST) & (labels >= 0)]


def _renamed(y: np.ndarray, names: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
    """Indices into `names` -> into `classes`, -1 where it is none of them."""
    return np.array([classes.index(name) if name in classes else -1 for name in names], np.int64)[y]


def _mean(found: Spread) -> tuple[float, float]:
    """W and its standard error."""
    error = math.sqrt(float((found.within_error**2).sum())) / len(found.n)
    return float(found.within.mean()), error
