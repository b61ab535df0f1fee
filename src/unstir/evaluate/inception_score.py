"""How sure a classifier is of each sample, and how unsure of what comes next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .base import Evidence, Finding, Metric, Number

__all__ = ["InceptionScore", "inception_score"]


def inception_score(probabilities: np.ndarray) -> tuple[float, float]:
    """(exp(E KL(p(y|x) | p(y))), the standard error of its logarithm) of p(y|x) (N, K)."""
    p = probabilities.astype(np.float64)
    marginal = p.mean(0)
    ratio = np.where(p > 0, p, 1) / np.where(marginal > 0, marginal, 1)
    gains = (p * np.log(ratio)).sum(1)  # also what each sample adds to the logarithm
    return math.exp(gains.mean()), float(gains.std() / math.sqrt(len(p)))


@dataclass(frozen=True)
class InceptionScore(Metric):
    """exp(E KL(p(y|x) | p(y))) of samples x, by the encoder's own classifier: 1 at worst, its classes' number at best.

    It never looks at real items, so that a model which copies one per class has the best score. All samples at once,
    where published numbers are means over ten parts; with the Inception network these are of 50,000 samples.

    Salimans et al. 2016, "Improved Techniques for Training GANs", section 4.
    """

    needs = ("drawn", "classes")

    def measure(self, evidence: Evidence) -> Finding:
        value, error = inception_score(evidence.drawn_probabilities)
        number = Number(
            name="inception_score",
            value=value,
            low=max(1.0, value * math.exp(-1.96 * error)),
            high=min(float(len(evidence.encoder.classes)), value * math.exp(1.96 * error)),
            n=len(evidence.drawn),
            better="high",
            features=evidence.encoder.digest,
        )
        return Finding(numbers=(number,))
