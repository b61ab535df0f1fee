"""The kernel distance of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import at_most
from .base import Evidence, Finding, Metric, Number
from .mmd import ROWS, discrepancy

__all__ = ["KID", "kid"]


def kid(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The unbiased MMD^2 of features (n, D) and (m, D) by k(x, y) = (x.y/D + 1)^3, and its standard error."""
    width = x.shape[1]

    def kernel(products: np.ndarray) -> np.ndarray:
        products /= width
        products += 1
        squares: np.ndarray = products * products
        squares *= products
        return squares

    return discrepancy(x, y, kernel)


@dataclass(frozen=True)
class KID(Metric):
    """E k(x, x') + E k(y, y') - 2 E k(x, y), k(x, y) = (x.y/D + 1)^3, of samples x and real items y in D features.

    Unbiased at any n, so that it may be negative where the laws are the same; over all pairs of at most 10,000 of
    each, where published numbers are the mean over random blocks of 1,000, of the same expectation and larger error.

    Binkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """

    needs = ("drawn",)

    def measure(self, evidence: Evidence) -> Finding:
        x, y = (at_most(f, ROWS) for f in (evidence.drawn_features, evidence.real_features))
        number = Number.within(
            "kid", *kid(x, y),
            n=len(x), against=len(y), better="low", features=evidence.encoder.digest,
        )  # fmt: skip
        return Finding(numbers=(number,))
