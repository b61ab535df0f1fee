"""Laws in the plane, as mixtures of Gaussians: their scores are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..analytic import GaussianMixture
from ..process import Gaussian

__all__ = ["LAWS", "Law", "LawName", "law_of"]

LawName = Literal["moons", "rings", "spiral", "grid", "clusters", "letters"]
WORD = "unstir"


class Law(NamedTuple):
    """sum_k w_k N(m_k, s_k^2 I), component k of group g_k: weights (K,), means (K, 2), stds (K,), groups (K,)."""

    weights: Tensor
    means: Tensor
    stds: Tensor
    groups: Tensor

    def denoiser(self, process: Gaussian) -> GaussianMixture:
        """E[x_0 | x_t] in closed form."""
        return GaussianMixture(process, self.weights, self.means, self.stds)

    def mean(self) -> Tensor:
        return self.weights @ self.means

    def variance(self) -> Tensor:
        """Of each coordinate, (2,)."""
        return self.weights @ (self.means**2 + self.stds[:, None] ** 2) - self.mean() ** 2

    def group_of(self, x: Tensor) -> Tensor:
        """The group that most likely made each point (N, 2)."""
        weights, means, stds, groups = self.to(x.dtype)
        likely = torch.log(weights / stds**2) - torch.cdist(x, means) ** 2 / (2 * stds**2)
        return groups[likely.argmax(1)]

    def to(self, dtype: torch.dtype) -> Law:
        return self._replace(
            weights=self.weights.to(dtype), means=self.means.to(dtype), stds=self.stds.to(dtype)
        )


def law_of(name: LawName) -> Law:
    """The law of that name in float64: mean 0, standard deviation 1 over both coordinates together."""
    places, std, groups = LAWS[name]()
    weights = torch.full((len(places),), 1 / len(places), dtype=torch.float64)
    raw = Law(weights, places.double(), torch.as_tensor(std, dtype=torch.float64).expand(len(places)), groups)
    scale = raw.variance().mean().sqrt()
    return raw._replace(means=(raw.means - raw.mean()) / scale, stds=raw.stds / scale)


Places = tuple[Tensor, float | list[float], Tensor]
"""Means (K, 2), their standard deviation or deviations, and groups (K,)."""


def _moons() -> Places:
    """Two interleaved half circles."""
    angle = torch.linspace(0, math.pi, 40)
    upper = torch.stack((angle.cos(), angle.sin()), 1)
    return torch.cat((upper, torch.tensor([1.0, 0.5]) - upper)), 0.06, torch.arange(2).repeat_interleave(40)


def _rings() -> Places:
    """Two circles, one inside the other."""
    counts = 24, 60
    rings = [_circle(count) * radius for count, radius in zip(counts, (0.8, 2.0), strict=True)]
    return torch.cat(rings), 0.08, torch.arange(2).repeat_interleave(torch.tensor(counts))


def _circle(count: int) -> Tensor:
    angle = torch.arange(count) * (2 * math.pi / count)
    return torch.stack((angle.cos(), angle.sin()), 1)


def _spiral() -> Places:
    """Two arms of a spiral."""
    angle = torch.linspace(0.15, 1, 48).sqrt() * 3 * math.pi
    arm = angle[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
    return torch.cat((arm, -arm)), 0.35, torch.arange(2).repeat_interleave(48)


def _grid() -> Places:
    """25 narrow Gaussians on a 5 x 5 grid, coloured by column."""
    side = torch.arange(5.0) - 2
    return torch.cartesian_prod(side, side), 0.08, torch.arange(5).repeat_interleave(5)


def _clusters() -> Places:
    """Three clusters of different size."""
    return torch.tensor([[-1.2, -0.8], [1.3, -0.4], [0.1, 1.2]]), [0.25, 0.15, 0.4], torch.arange(3)


def _letters() -> Places:
    """A word."""
    font, places, groups = ImageFont.load_default_imagefont(), [], []
    for k, letter in enumerate(WORD):
        canvas = Image.new("L", (8, 12))
        ImageDraw.Draw(canvas).text((0, 0), letter, fill=255, font=font)
        down, right = np.nonzero(np.asarray(canvas))
        places.append(torch.tensor(np.stack((right + 6.5 * k, -down), 1), dtype=torch.float32))
        groups += [k] * len(down)
    return torch.cat(places), 0.28, torch.tensor(groups)


LAWS: dict[LawName, Callable[[], Places]] = {
    "moons": _moons,
    "rings": _rings,
    "spiral": _spiral,
    "grid": _grid,
    "clusters": _clusters,
    "letters": _letters,
}
