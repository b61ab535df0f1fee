"""How far mass must be carried, seen along random directions, at every scale of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import at_most
from ..rng import Rng
from ..spec import Count
from .base import Evidence, Finding, Metric, Number

__all__ = ["SlicedWasserstein", "pyramid", "sliced_wasserstein", "wasserstein"]

PATCH = 7
PICTURES = 8192  # of Karras et al.
CHUNK = 256


def wasserstein(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The integral of |F - G| over the distribution functions of numbers a (n,) and b (m,), exact for any n and m.

    With it what each number adds, less the mean: the potential f of slope -sign(F - G), for the distance is the
    mean of f over a less that over b (Kantorovich and Rubinstein).
    """
    n, m = len(a), len(b)
    both = np.concatenate((a, b)).astype(np.float64)
    order = np.argsort(both)
    ahead = np.cumsum(np.where(order < n, 1 / n, -1 / m))[:-1]
    gaps = np.diff(both[order])
    potential = np.empty(n + m)
    potential[order] = np.concatenate(([0.0], -np.cumsum(np.sign(ahead) * gaps)))
    at_a, at_b = potential[:n], potential[n:]
    return float((np.abs(ahead) * gaps).sum()), at_a - at_a.mean(), at_b - at_b.mean()


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, directions: int = 128) -> tuple[float, float]:
    """The mean over unit vectors d of the Wasserstein distance of x.d and y.d, and its standard error.

    Args:
        x, y: (n, D) and (m, D); (n, P, D) where an item has P rows, which are not independent of each other.
        directions: how many d, drawn uniformly with a fixed seed.
    """
    d = Rng.of(0, directions).fork("directions").normal((directions, x.shape[-1]))
    total, of_x, of_y = 0.0, np.zeros(x.shape[:-1]), np.zeros(y.shape[:-1])
    for direction in F.normalize(d, dim=1).numpy():
        a, b = x @ direction, y @ direction
        distance, at_a, at_b = wasserstein(a.reshape(-1), b.reshape(-1))
        total += distance
        of_x += at_a.reshape(of_x.shape)
        of_y += at_b.reshape(of_y.shape)
    each = [part.reshape(len(part), -1).mean(1).std() / math.sqrt(len(part)) for part in (of_x, of_y)]
    return total / directions, math.hypot(*each) / directions


def pyramid(x: Tensor) -> list[Tensor]:
    """x (N, C, H, W) as what each halving of its size takes away, and what is left at last.

    Halved as long as a patch of 7 pixels still fits, so that at the end it is about the whole picture. The parts,
    made large again and added up, are x. Burt and Adelson 1983, "The Laplacian Pyramid as a Compact Image Code".
    """
    levels = []
    while min(x.shape[-2:]) >= 2 * PATCH:
        small = _blur(x)[..., ::2, ::2]
        levels.append(x - _enlarge(small, x))
        x = small
    return [*levels, x]


def _blur(x: Tensor, gain: float = 1.0) -> Tensor:
    w = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype) / 16 * gain
    channels = x.shape[1]
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    x = F.conv2d(x, w.reshape(1, 1, 1, 5).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(x, w.reshape(1, 1, 5, 1).expand(channels, -1, -1, -1), groups=channels)


def _enlarge(small: Tensor, like: Tensor) -> Tensor:
    sparse = torch.zeros_like(like)
    sparse[..., ::2, ::2] = small
    return _blur(sparse, 2.0)


def _patches(x: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` patches of every picture at each level, (N, count, C, s, s); all of them where there are fewer."""
    parts: list[list[Tensor]] = []
    for first in range(0, len(x), CHUNK):
        pixels = torch.tensor(x[first : first + CHUNK]).permute(0, 3, 1, 2)
        rng = Rng.of(first, len(pixels)).fork("patches")
        levels = pyramid(pixels.float() / 127.5 - 1)
        parts.append([_cut(level, count, rng.fork(k)) for k, level in enumerate(levels)])
    return [torch.cat(level).numpy() for level in zip(*parts, strict=True)]


def _cut(x: Tensor, count: int, rng: Rng) -> Tensor:
    n, side = len(x), min(PATCH, *x.shape[-2:])
    windows = x.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5)
    rows, columns = windows.shape[1:3]
    if rows * columns <= count:
        return windows.flatten(1, 2)
    places = rng.integers(rows * columns, (n, count))
    return windows[torch.arange(n)[:, None], places // columns, places % columns]


@dataclass(frozen=True)
class SlicedWasserstein(Metric):
    """How far samples must be moved to be real items, along a random direction: the mean over directions.

    Of pictures the patches of 7 by 7 pixels at each level of a Laplacian pyramid are compared, every level and
    channel in units of its real standard deviation, and the mean over levels is the number: no encoder decides what
    counts. Of points, the features are. It is above 0 by about 1/n^(1/2) even where the laws are the same, so
    compare numbers of the same n.

    Karras et al. 2018, "Progressive Growing of GANs", section 5, with these differences: real mean and deviation
    for both, so that a shift of brightness is seen; levels down to one patch; no factor of 1000.
    """

    directions: Count = 128
    """Random directions that are looked along."""
    patches: Count = 16
    """Patches of each picture at each level."""

    needs = ("drawn",)

    def measure(self, evidence: Evidence) -> Finding:
        rows: tuple[dict[str, object], ...] = ()
        digest = ""
        if evidence.lacks("pictures"):
            x, y = (at_most(f, PICTURES) for f in (evidence.drawn_features, evidence.real_features))
            value, error = sliced_wasserstein(x, y, self.directions)
            digest = evidence.encoder.digest
        else:
            x, y = (at_most(data.x, PICTURES) for data in (evidence.drawn, evidence.real))
            value, error, rows = self._of_pictures(x, y)
        number = Number.within(
            "sliced_wasserstein", value, error, n=len(x), against=len(y), better="low", features=digest
        )
        return Finding(numbers=(number,), rows=rows)

    def _of_pictures(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[float, float, tuple[dict[str, object], ...]]:
        values, errors, rows = [], [], []
        side = y.shape[1]
        for a, b in zip(_patches(x, self.patches), _patches(y, self.patches), strict=True):
            axes = (0, 1, 3, 4)  # all but channels
            mean, std = b.mean(axes, keepdims=True), b.std(axes, keepdims=True)
            a, b = ((part - mean) / np.where(std > 0, std, 1) for part in (a, b))
            a, b = (part.reshape(*part.shape[:2], -1) for part in (a, b))
            value, error = sliced_wasserstein(a, b, self.directions)
            values.append(value)
            errors.append(error)
            rows.append({"pixels": side, "sliced_wasserstein": value})
            side = -(-side // 2)
        # errors of levels of the same pictures may all lie on one side: their mean, not its root
        return float(np.mean(values)), float(np.mean(errors)), tuple(rows)
