"""The noise of one trajectory: a Brownian path over t that is the same whatever the grid.

W(1), W(1/2), W(1/4), W(3/4), ... are drawn by the midpoint rule of Lévy, each keyed by its place in the tree
and by its sample's generator, so the path is a pure function of the key. Only what a grid asks for is drawn.
"""

from __future__ import annotations

import bisect
import math

import torch
from torch import Tensor

from .rng import Rng

__all__ = ["Noise"]


class Noise:
    """Standard normal numbers shaped like x, in x's dtype, on x's device.

    `between(t, s)` is (W(t) - W(s)) / sqrt(t - s) of one Brownian path W: independent for disjoint intervals, and a
    finer grid refines the same path: twice the steps land near the same sample. Where two grids share a time, W is
    the same there unless one of them has other times between the same leaves of the tree, 2^-DEPTH apart: those are
    drawn for the grid at hand, which leaves the law exact and moves W by 2^-(DEPTH/2 + 1) at most (one standard
    deviation). A step of a usual grid draws about five normals per number.

    It remembers the path below the last t, so it serves one trajectory, from noise to data.

    Args:
        rng: one generator per sample.
        like: x (B, *S).
    """

    DEPTH = 8

    def __init__(self, rng: Rng, like: Tensor) -> None:
        self.rng, self._like = rng, like
        self._times: list[float] = []
        self._values: list[Tensor] = []

    def fresh(self, *labels: str | int | float | Tensor) -> Tensor:
        """Standard normal, independent of the path, keyed by the labels."""
        rng = self.rng.fork("fresh", *labels)
        return rng.normal(tuple(self._like.shape), self._like.dtype, self._like.device)

    def fork(self, *labels: str | int | float | Tensor) -> Noise:
        """Independent noise, for times that are visited again."""
        return Noise(self.rng.fork("again", *labels), self._like)

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        """The standardised increment of the path from s up to t, 0 <= s < t <= 1, () tensors."""
        late, early = (float(f"{u:.13g}") for u in (t, s))  # 0.3 and 1 - 0.7 are one time
        increment = self._at(late) - self._at(early)
        keep = bisect.bisect_right(self._times, late)  # nobody asks again for what lies above
        del self._times[keep:], self._values[keep:]
        return increment / math.sqrt(late - early)

    def _at(self, t: float) -> Tensor:
        """W(t): down the tree to the leaf that holds t, then between its two nearest known neighbours."""
        if not self._times:
            self._keep(0.0, torch.zeros_like(self._like))
            self._draw(1.0)
        low, width = 0.0, 1.0
        while self._known(t) is None and width > 2.0**-self.DEPTH:
            width /= 2
            middle = low + width
            # what lies above the last t was drawn, used and dropped: the way there needs nothing new
            if middle < self._times[-1] and self._known(middle) is None:
                self._draw(middle)
            low = middle if t > middle else low
        known = self._known(t)
        return self._draw(t) if known is None else known

    def _known(self, t: float) -> Tensor | None:
        i = bisect.bisect_left(self._times, t)
        return self._values[i] if i < len(self._times) and self._times[i] == t else None

    def _keep(self, t: float, value: Tensor) -> Tensor:
        i = bisect.bisect_left(self._times, t)
        self._times.insert(i, t)
        self._values.insert(i, value)
        return value

    def _draw(self, t: float) -> Tensor:
        """W(t) given the known values on both sides, or on the left alone; kept."""
        i = bisect.bisect_left(self._times, t)
        z = self.rng.fork("path", t).normal(tuple(self._like.shape), self._like.dtype, self._like.device)
        a, left = self._times[i - 1], self._values[i - 1]
        if i == len(self._times):
            return self._keep(t, left + math.sqrt(t - a) * z)
        b, right = self._times[i], self._values[i]
        mean, std = torch.lerp(left, right, (t - a) / (b - a)), math.sqrt((t - a) * (b - t) / (b - a))
        return self._keep(t, mean + std * z)
