"""Whether the spread of posterior samples says how far the truth may be from them."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ..errors import ConfigError

__all__ = ["Interval", "coverage", "interval", "t_quantile"]


class Interval(NamedTuple):
    """Between what another sample, or the truth, lies; both (*S)."""

    low: Tensor
    high: Tensor


def interval(samples: Tensor, level: float = 0.9, grain: float = 0.0) -> Interval:
    """mean +- t s sqrt(1 + 1/K): where one more of the law of K samples lies with probability `level`.

    s is their standard deviation (K - 1 in the denominator), t Student's quantile for K - 1 degrees of
    freedom; exact for a normal law, whatever K.

    Args:
        samples: (K, *S), K >= 2.
        level: in (0, 1).
        grain: the step in which values are stored, 2/255 for bytes of x_0; half of it is added on both sides, as
            samples that are all alike still know no more than that.
    """
    K = len(samples)
    if K < 2:
        raise ConfigError(f"{K} samples have no spread", field="n", hint="draw 2 or more")
    reach = t_quantile(level, K - 1) * math.sqrt(1 + 1 / K) * samples.std(0) + grain / 2
    mean = samples.mean(0)
    return Interval(mean - reach, mean + reach)


def coverage(samples: Tensor, truth: Tensor, level: float = 0.9, grain: float = 0.0) -> float:
    """The share of the true values (*S) that lie in the `interval` of the samples (K, *S)."""
    low, high = interval(samples, level, grain)
    return ((truth >= low) & (truth <= high)).double().mean().item()


def t_quantile(level: float, freedom: int) -> float:
    """t > 0 with P(-t < T < t) = level for Student's T; by bisection of the angle atan(t/sqrt(freedom))."""
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}", field="level", hint="accepted: between 0 and 1, as 0.9")
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) tan(angle)), finite sums. Abramowitz & Stegun 1964, eq. 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(odd, freedom - 1, 2):  # the powers of the cosine
        total += term
        term *= (k + 1) / (k + 2) * cosine**2
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
