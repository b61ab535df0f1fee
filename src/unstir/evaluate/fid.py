"""The Frechet distance of features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .base import Evidence, Finding, Metric, Number

__all__ = ["FID", "Moments", "frechet", "moments"]


class Moments(NamedTuple):
    """Of features: n, their mean (D,) and covariance (D, D), float64."""

    n: int
    mean: np.ndarray
    cov: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """n, mean and covariance (n - 1 in the denominator) of features (n, D)."""
    x = features.astype(np.float64)
    return Moments(len(x), x.mean(0), np.atleast_2d(np.cov(x, rowvar=False)))


def frechet(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). Heusel et al. 2017, eq. 6."""
    mean = ((a.mean - b.mean) ** 2).sum()
    root = _power(a.cov, 0.5)
    cross = np.sqrt(np.linalg.eigvalsh(root @ b.cov @ root).clip(0)).sum()
    return float(mean + np.trace(a.cov) + np.trace(b.cov) - 2 * cross)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A symmetric matrix >= 0 to a power; where it is 0, its inverse is left 0."""
    values, axes = np.linalg.eigh(matrix)
    keep = values > values.max() * 1e-10
    powers = np.where(keep, np.where(keep, values, 1) ** exponent, 0)
    return (axes * powers) @ axes.T


@dataclass(frozen=True)
class FID(Metric):
    """The Frechet distance between samples and real items, each taken for normal in the features.

    With the Inception network as the encoder it is the published FID. Its 95% interval comes from the influence of
    each item x of law a on the distance to b, with T the linear map that carries N(0, C_a) to N(0, C_b):

        2 (m_a - m_b).(x - m_a) + (x - m_a)^T (I - T) (x - m_a) - const

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6.
    """

    needs = ("drawn",)

    def measure(self, evidence: Evidence) -> Finding:
        drawn, real = evidence.drawn_features, evidence.real_features
        a, b = moments(drawn), moments(real)
        error = math.hypot(_spread(drawn, a, b), _spread(real, b, a))
        number = Number.within(
            "fid", frechet(a, b), error,
            n=len(drawn), against=len(real), better="low", features=evidence.encoder.digest,
        )  # fmt: skip
        return Finding(numbers=(number,))


def _spread(features: np.ndarray, own: Moments, other: Moments) -> float:
    """The standard error of the distance that comes of these features being n draws."""
    root = _power(own.cov, -0.5)
    half = _power(own.cov, 0.5)
    carry = root @ _power(half @ other.cov @ half, 0.5) @ root
    x = features - own.mean
    influence = 2 * x @ (own.mean - other.mean) + ((x @ (np.eye(x.shape[1]) - carry)) * x).sum(1)
    return float(influence.std() / math.sqrt(own.n))
