"""The maximum mean discrepancy of features by a kernel."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..errors import ConfigError

__all__ = ["ROWS", "discrepancy"]

ROWS = 10_000  # the time goes with their square, the error with the root of their number
CHUNK = 2048


def discrepancy(
    x: np.ndarray, y: np.ndarray, kernel: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """The unbiased estimate of E k(x, x') + E k(y, y') - 2 E k(x, y) over all pairs, and its standard error.

    The error is that of the sum of its projections, 2 (E k(x, x') - E k(x, y)) for an item x. Where both laws are the
    same these vanish but for their own noise, and it errs on the safe side, by a factor of up to 2^(1/2).
    Gretton et al. 2012, "A Kernel Two-Sample Test", eq. 3; Hoeffding 1948.

    Args:
        x, y: features (n, D) and (m, D).
        kernel: x.y, of any shape -> k(x, y); it may change its argument.

    Raises:
        ConfigError: there are fewer than two of either.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ConfigError(
            f"{min(n, m)} items have no pairs", field="n", hint="compare 2 or more with 2 or more"
        )
    xx, yy = _sums(x, kernel) / (n - 1), _sums(y, kernel) / (m - 1)
    xy, yx = _cross(x, y, kernel)
    of_x, of_y = xx - xy / m, yy - yx / n
    error = 2 * math.hypot(of_x.std() / math.sqrt(n), of_y.std() / math.sqrt(m))
    return float(of_x.mean() + of_y.mean()), error


def _sums(x: np.ndarray, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The sum of k(x_i, x_j) over j != i, (n,)."""
    totals = []
    for first in range(0, len(x), CHUNK):
        part = kernel(x[first : first + CHUNK] @ x.T)
        rows = np.arange(len(part))
        part[rows, first + rows] = 0
        totals.append(part.sum(1, dtype=np.float64))
    return np.concatenate(totals)


def _cross(
    x: np.ndarray, y: np.ndarray, kernel: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The sums of k(x_i, y_j) over j (n,), and over i (m,)."""
    totals, columns = [], np.zeros(len(y))
    for first in range(0, len(x), CHUNK):
        part = kernel(x[first : first + CHUNK] @ y.T)
        totals.append(part.sum(1, dtype=np.float64))
        columns += part.sum(0, dtype=np.float64)
    return np.concatenate(totals), columns
