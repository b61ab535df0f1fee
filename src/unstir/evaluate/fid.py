"""The Frechet distance of features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..data import at_most
from ..errors import ConfigError, NumericError
from ..rng import permutation_index
from .base import Evidence, Finding, Metric, Number

__all__ = ["FID", "Frechet", "Moments", "frechet", "moments"]

CHUNK = 4096
ROWS = 10_000  # enough of the real items to tell their spread


class Moments(NamedTuple):
    """Of features: n, their mean (D,) and covariance (D, D), float64."""

    n: int
    mean: np.ndarray
    cov: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """n, mean and covariance (n - 1 in the denominator) of features (n, D).

    Raises:
        ConfigError: there are fewer than two.
        NumericError: one is not finite.
    """
    n, width = features.shape
    if n < 2:
        raise ConfigError(f"{n} items have no covariance", field="n", hint="compare 2 or more with 2 or more")
    mean = features.mean(0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise NumericError("features are not finite", field="features", hint="compare others: features=")
    total = np.zeros((width, width))
    for first in range(0, n, CHUNK):  # all of them in float64 may be much
        x = features[first : first + CHUNK] - mean
        total += x.T @ x
    return Moments(n, mean, total / (n - 1))


class Frechet:
    """The distance to one law b, whose covariance is decomposed once."""

    def __init__(self, b: Moments) -> None:
        self.b = b
        self.root, self.inverse = _powers(b.cov, 0.5, -0.5)

    def __call__(self, a: Moments) -> float:
        """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). Heusel et al. 2017, eq. 6."""
        return self._distance(a, np.linalg.eigvalsh(self.root @ a.cov @ self.root))

    def _distance(self, a: Moments, squares: np.ndarray) -> float:
        mean = ((a.mean - self.b.mean) ** 2).sum()
        return float(mean + np.trace(a.cov) + np.trace(self.b.cov) - 2 * np.sqrt(squares.clip(0)).sum())

    def maps(self, a: Moments) -> tuple[np.ndarray, np.ndarray]:
        """The linear maps that carry N(0, C_a) to N(0, C_b), and back. Peyre and Cuturi 2019, eq. 2.40.

        With M = C_b^(1/2) C_a C_b^(1/2): C_b^(1/2) M^(-1/2) C_b^(1/2) and C_b^(-1/2) M^(1/2) C_b^(-1/2).
        """
        half, inverse = _powers(self.root @ a.cov @ self.root, 0.5, -0.5)
        return self.root @ inverse @ self.root, self.inverse @ half @ self.inverse


def frechet(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). Heusel et al. 2017, eq. 6."""
    return Frechet(b)(a)


def _powers(matrix: np.ndarray, *exponents: float) -> list[np.ndarray]:
    """Powers of a symmetric matrix >= 0; where it is 0, its inverse is left 0."""
    values, axes = np.linalg.eigh(matrix)
    keep = values > values.max(initial=0) * len(values) * np.finfo(np.float64).eps
    safe = np.where(keep, values, 1)
    return [(axes * np.where(keep, safe**exponent, 0)) @ axes.T for exponent in exponents]


@dataclass(frozen=True)
class FID(Metric):
    """The Frechet distance between samples and real items, each taken for normal in the features.

    With the Inception network as the encoder it is the published FID. Its 95% interval comes from the influence of
    each item x of law a on the distance to b, with T the linear map that carries N(0, C_a) to N(0, C_b):

        2 (m_a - m_b).(x - m_a) + (x - m_a)^T (I - T) (x - m_a) - const

    Fewer samples give a larger distance, by about c/n. `fid_infinity` is where the line through 1/n and the mean
    distance of the m parts of the samples, n/m each, m = 1, 2, 3, 4, meets 1/n = 0; parts have at least twice as
    many samples as there are features, below which it is no line. The real items stay as they are, as do
    published ones.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6; Chong and Forsyth 2020, "Effectively
    Unbiased FID and Inception Score and where to find them", section 3.
    """

    needs = ("drawn",)

    def measure(self, evidence: Evidence) -> Finding:
        drawn, real = evidence.drawn_features, evidence.real_features
        n, width = drawn.shape
        a = moments(drawn)
        distance = evidence.once("frechet", lambda: Frechet(moments(real)))
        there, back = distance.maps(a)
        influence = _influence(drawn, a, distance.b, there)
        some = _influence(at_most(real, ROWS), distance.b, a, back)
        error = math.hypot(influence.std() / math.sqrt(n), some.std() / math.sqrt(len(real)))
        value = distance(a)
        fewest = min(n, len(real))
        number = Number.within(
            "fid", value, error,
            n=n, against=len(real), better="low", features=evidence.encoder.digest,
            note="" if fewest > width else f"far too high: {fewest:,} items for {width:,} features",
        )  # fmt: skip
        if n < 4 * width:
            why = f"no fid_infinity: it takes {4 * width:,} samples, four per feature, and there are {n:,}."
            return Finding(numbers=(number,), words=(why,))
        limit, more = _extrapolated(drawn, influence, value, distance)
        return Finding(
            numbers=(
                number,
                Number.within(
                    "fid_infinity", limit, math.hypot(error, more),
                    n=n, against=len(real), better="low", features=evidence.encoder.digest,
                ),
            )
        )  # fmt: skip


def _influence(features: np.ndarray, own: Moments, other: Moments, carry: np.ndarray) -> np.ndarray:
    """What each item adds to the distance, less the mean of that, (n,)."""
    x = features - own.mean
    found: np.ndarray = 2 * x @ (own.mean - other.mean) + ((x @ (np.eye(x.shape[1]) - carry)) * x).sum(1)
    return found - found.mean()


def _extrapolated(
    drawn: np.ndarray, influence: np.ndarray, value: float, distance: Frechet
) -> tuple[float, float]:
    """The distance at 1/n = 0, and its standard error beside that of the distance itself.

    Each part's distance is taken less the mean influence of its items: the m parts together have all of them, so
    that their mean stays, and nothing but the bias and its noise is left to the regression.
    """
    n, width = drawn.shape
    order = permutation_index(0, np.arange(n), n)
    m, y = [1], [value]
    for count in range(2, 5):
        if n // count >= 2 * width:
            for rows in np.array_split(order, count):
                m.append(count)
                y.append(distance(moments(drawn[rows])) - influence[rows].mean())
    x = np.stack((np.ones(len(m)), np.array(m, float)), 1)
    (limit, slope), *_ = np.linalg.lstsq(x, np.array(y))
    residual = np.array(y) - x @ (limit, slope)
    variance = (residual**2).sum() / (len(m) - 2) * np.linalg.inv(x.T @ x)[0, 0]
    return float(limit), math.sqrt(variance)
