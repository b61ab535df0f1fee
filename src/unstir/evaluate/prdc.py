"""Precision, recall, density, coverage: how much of what was made looks real, and how much of the real is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import at_most
from ..errors import ConfigError
from ..spec import Count
from .base import Evidence, Finding, Metric, Number

__all__ = ["PRDC", "Balls", "balls", "complete"]

PAIRS, ROWS = 2**22, 512  # distances, and centres, that are looked at together
SPARE = 8  # neighbours beyond the k-th, in case float32 has some in the wrong order
DOUBT = 1e-5  # of |x|^2 + |y|^2: float32 is off by less in |x - y|^2


class Balls(NamedTuple):
    """In which balls items lie: for each item how many hold it, for each ball how many it holds; and for each ball
    how many items it alone holds, for each item how many balls hold it alone."""

    held: np.ndarray
    holds: np.ndarray
    alone: np.ndarray
    only: np.ndarray


def balls(centres: np.ndarray, items: np.ndarray, k: int) -> Balls:
    """Which of the items (M, D) are nearer to which of the centres (N, D) than its k-th nearest other centre is.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y in float32 settles what is far from a tie; what is near one is measured again in
    float64, so that repeated and copied items count as they should.
    """
    middle = centres.mean(0, dtype=np.float64)  # taken off: large numbers would cancel
    x, y = (torch.from_numpy((side - middle).astype(np.float32)) for side in (centres, items))
    held, only = np.zeros(len(y), np.int64), np.zeros(len(y), np.int64)
    holds, last = np.zeros(len(x), np.int64), np.zeros(len(y), np.int64)
    rows = min(max(PAIRS // max(len(x), len(y)), 1), ROWS)
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        radii = _radii(centres, x, part, k)
        bound = torch.from_numpy(radii.astype(np.float32))[:, None]
        least = _squared(x[part], y, 1 - DOUBT)
        row, item = torch.nonzero(least <= bound, as_tuple=True)
        i, j = row.numpy(), item.numpy()
        most = (least[row, item] + 2 * DOUBT * (_norms(x[part])[row] + _norms(y)[item])).numpy()
        inside = most < radii[i]
        for some in np.array_split(np.flatnonzero(~inside), len(inside) // 2**14 + 1):
            inside[some] = _exact(centres[first + i[some]], items[j[some]]) < radii[i[some]]
        i, j = i[inside], j[inside]
        counts = np.bincount(i, minlength=len(radii))
        holds[part] = counts
        held += np.bincount(j, minlength=len(y))
        only += np.bincount(j[counts[i] == 1], minlength=len(y))
        last[j] = first + i
    return Balls(held, holds, np.bincount(last[held == 1], minlength=len(x)), only)


def _radii(centres: np.ndarray, x: Tensor, part: slice, k: int) -> np.ndarray:
    """The squared distance of each of `part` to its k-th nearest other centre, float64."""
    near = _squared(x[part], x).topk(min(k + 1 + SPARE, len(x)), largest=False, sorted=False).indices
    found = _exact(centres[part][:, None], centres[near.numpy()])
    return np.partition(found, k, axis=1)[:, k]  # the nearest is itself


def _squared(x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """scale (|x|^2 + |y|^2) - 2 x.y, (N, M) of (N, D) and (M, D)."""
    return torch.addmm(scale * _norms(y), x, y.T, alpha=-2).add_(scale * _norms(x)[:, None])


def _norms(x: Tensor) -> Tensor:
    return (x * x).sum(1)


def _exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x - y|^2 over the last axis in float64: the same number, whichever is named first."""
    return ((x.astype(np.float64) - y) ** 2).sum(-1)


def complete(n: int, m: int, k: int) -> float:
    """The coverage to expect of m samples and n real items of one law, whatever the law.

    1 - P(of all others, the k nearest to a real item are real) = 1 - prod_{i=1..k} (n - i) / (n + m - i). Naeem et al.
    2020, lemma 2.
    """
    return 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))


@dataclass(frozen=True)
class PRDC(Metric):
    """With a ball around each item that reaches to its k-th nearest neighbour of its own kind:

        precision: share of the samples that lie in the ball of a real item
        recall:    share of the real items that lie in the ball of a sample
        density:   balls of real items that hold a sample, on average, / k: 1 where both are of one law
        coverage:  share of the balls of real items that hold a sample

    Of as many real items as samples. An outlier among the real items makes precision too high, one among the samples
    recall; density and coverage do not suffer from either. The intervals allow for the choice of both sets. What that
    of the balls adds to the variance of a share is bounded from above by the Efron-Stein inequality, from the items
    that a single ball holds.

    Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric", eq. 2; Naeem et al. 2020, "Reliable Fidelity and
    Diversity Metrics for Generative Models", eq. 3 and 4.
    """

    needs = ("drawn",)

    k: Count = 5
    """Which neighbour a ball reaches to."""
    most: Count = 10_000
    """Samples and real items are no more than this; of more, some are drawn at random, always the same."""

    def measure(self, evidence: Evidence) -> Finding:
        """Raises ConfigError where there are no k neighbours."""
        n = min(len(evidence.drawn), len(evidence.real), self.most)
        if self.k >= n:
            raise ConfigError(
                f"k={self.k} neighbours among {n:,} items",
                field="metrics",
                hint=f"draw more samples, or set prdc:k={n - 1}" if n > 1 else "draw more samples",
            )
        drawn, real = (at_most(f, n) for f in (evidence.drawn_features, evidence.real_features))
        of_real, of_drawn = balls(real, drawn, self.k), balls(drawn, real, self.k)
        words = {"against": n, "better": "high", "features": evidence.encoder.digest}
        density = of_real.held / self.k
        error = math.hypot(density.std(), (of_real.holds / self.k).std()) / math.sqrt(n)
        full = f"{complete(n, n, self.k):.3f} where both are of one law"
        return Finding(
            numbers=(
                Number.share("precision", of_real.held > 0, _variance(of_real.alone), **words),
                Number.share("recall", of_drawn.held > 0, _variance(of_drawn.alone), **words),
                Number.within("density", float(density.mean()), error, n=n, **words),
                Number.share("coverage", of_real.holds > 0, _variance(of_real.only), note=full, **words),
            )
        )


def _variance(lost: np.ndarray) -> float:
    """Of a share of n items, as each of n others may be left out and `lost` of them with it."""
    return float(lost.var() / len(lost))
