"""How well one number tells two sets apart: the ROC curve, its area with a standard error, and its picture."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Curve", "roc"]


class Curve(NamedTuple):
    """Shares of the usual and of the strange above each threshold, both rising from 0 to 1, and their area.

    Args:
        false_alarms: share of the usual above the threshold.
        found: share of the strange above it.
        area: P(strange > usual), ties counted half; 0.5 = no better than chance.
        error: its standard error.
    """

    false_alarms: np.ndarray
    found: np.ndarray
    area: float
    error: float

    def svg(self, title: str, size: int = 360) -> str:
        """The curve as a picture of `size` x `size` pixels."""
        margin = 44
        inner = size - 2 * margin
        points = " ".join(
            f"{margin + inner * x:.1f},{size - margin - inner * y:.1f}"
            for x, y in zip(self.false_alarms, self.found, strict=True)
        )
        low, high, middle = margin, size - margin, size / 2
        return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" \
font-size="12" text-anchor="middle">
<rect width="{size}" height="{size}" fill="white"/>
<rect x="{low}" y="{low}" width="{inner}" height="{inner}" fill="none" stroke="#999"/>
<path d="M{low},{high}L{high},{low}" stroke="#999" stroke-dasharray="4"/>
<polyline points="{points}" fill="none" stroke="#0b6" stroke-width="2"/>
<text x="{middle}" y="{low - 16}">{title}: area {self.area:.3f} ± {self.error:.3f}</text>
<text x="{middle}" y="{size - 14}">false alarms</text>
<text x="16" y="{middle}" transform="rotate(-90 16 {middle})">found</text>
<text x="{low}" y="{high + 14}">0</text><text x="{high}" y="{high + 14}">1</text>
</svg>
"""


def roc(usual: np.ndarray, strange: np.ndarray) -> Curve:
    """The curve of a score that should be larger for the strange, from scores (M,) and (N,).

    Its error is that of DeLong et al. 1988, "Comparing the Areas under Two or More Correlated ROC Curves", eq.
    5: the variance of each item's own share of won comparisons.
    """
    thresholds = np.unique(np.concatenate((usual, strange)))[::-1]

    def share_above(scores: np.ndarray) -> np.ndarray:
        above = len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")
        return np.concatenate(([0.0], above / len(scores)))

    def won(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
        """For each score the share of the others below it."""
        others = np.sort(others)
        below = np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")
        return below / (2 * len(others))

    by_strange, by_usual = won(strange, usual), 1 - won(usual, strange)
    variance = sum(float(x.var(ddof=1)) / len(x) if len(x) > 1 else math.nan for x in (by_strange, by_usual))
    return Curve(share_above(usual), share_above(strange), float(by_strange.mean()), math.sqrt(variance))
