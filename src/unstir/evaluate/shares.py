"""Shares: how sure they are, and which of many differences are no accident."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

__all__ = ["differ", "quantile", "wilson"]


def wilson(p: Any, n: Any, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a share p of n independent items: inside [0, 1], and of some width at 0 and at 1 too.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n). Wilson 1927, "Probable Inference".

    Args:
        p: of any shape; so is n, which need be no whole number.
        z: 1.96 for 95%.
    """
    p, n = np.asarray(p, np.float64), np.asarray(n, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
        low, high = ((p + z**2 / (2 * n) + side) / (1 + z**2 / n) for side in (-reach, reach))
    return np.where(n > 0, low.clip(0, p), 0), np.where(n > 0, high.clip(p, 1), 1)


def differ(p: Any, n: Any, q: Any, m: Any) -> np.ndarray:
    """z = (p - q) / sqrt(r (1 - r) (1/n + 1/m)) of shares p of n and q of m items, r that of both together.

    0 where there is nothing to compare.
    """
    p, n, q, m = (np.asarray(value, np.float64) for value in (p, n, q, m))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (p * n + q * m) / (n + m)
        z = (p - q) / np.sqrt(r * (1 - r) * (1 / n + 1 / m))
    return np.where(np.isfinite(z), z, 0.0)


def quantile(tests: int = 1) -> float:
    """z that none of so many normal variables exceeds in size, with a probability of 95% at least. Bonferroni."""
    return NormalDist().inv_cdf(1 - 0.025 / max(tests, 1))
