"""The known part of a picture as a condition, for models that fill in the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..rng import Rng
from ..spec import Fraction
from .base import Spatial, noisy, plane

__all__ = ["Masked", "random_masks"]


@dataclass(frozen=True)
class Masked(Spatial):
    """y = m (x_0 + s n), 0 where nothing is known; the mask m, 1 where x_0 is known; and the level s.

    Saharia et al. 2022, "Palette: Image-to-Image Diffusion Models", section 4.2, with the mask told.

    Args:
        augmentation: the largest s in training, in the units of x_0.
    """

    augmentation: Fraction = 0.2

    def channels(self, channels: int) -> int:
        return channels + 2

    def training(self, x_0: Tensor, rng: Rng) -> Tensor:
        std = self.levels(rng, x_0)
        mask = random_masks(rng.fork("mask"), (x_0.shape[2], x_0.shape[3]), x_0.device)
        return self.condition(noisy(x_0, std, rng), mask, std)

    def condition(self, known: Tensor, mask: Tensor, std: float | Tensor = 0.0) -> Tensor:
        """known (B, C, H, W) with noise of this standard deviation, mask (B or 1, 1, H, W) -> (B, C + 2, H, W)."""
        mask = mask.to(known).expand(len(known), 1, *known.shape[2:])
        return torch.cat((mask * known, mask, plane(std, known)), 1)


def random_masks(rng: Rng, size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """(B, 1, H, W), 1 = known: mask i has a kind and a shape of its own, from generator i alone."""
    y, x = ((torch.arange(side, device=device) + 0.5) / min(size) for side in size)
    bounds = torch.tensor([share for share, _ in KINDS]).cumsum(0)[:-1]
    kinds = (rng.fork("kind").uniform((len(rng), 1), device="cpu") > bounds).sum(1)
    known = torch.zeros(len(rng), *size, dtype=torch.bool, device=device)
    for kind, (_, draw) in enumerate(KINDS):
        rows = (kinds == kind).nonzero()[:, 0]
        known[rows.to(device)] = draw(rng[rows].to(device), y, x)
    return known[:, None].float()


# Each: n generators, pixel centres y (H,) and x (W,) in units of the shorter side -> known, (n, H, W).
def _boxes(rng: Rng, y: Tensor, x: Tensor) -> Tensor:
    """One to three boxes are unknown."""
    drawn = torch.arange(3, device=y.device) <= rng.fork("count").integers(3, (len(rng), 1))
    return ~(_inside(rng, 3, (0.15, 0.6), y, x) & drawn[:, :, None, None]).any(1)


def _window(rng: Rng, y: Tensor, x: Tensor) -> Tensor:
    """All but one box is unknown: the picture is to be continued on every side."""
    return _inside(rng, 1, (0.3, 0.8), y, x)[:, 0]


def _side(rng: Rng, y: Tensor, x: Tensor) -> Tensor:
    """What lies beyond a line is unknown; half of the lines are upright or level."""
    angle, straight, offset = (4 * rng.uniform((len(rng), 3))).unbind(1)
    angle = torch.where(straight < 2, angle.floor(), angle) * (math.pi / 2)
    down, right = angle.sin()[:, None, None], angle.cos()[:, None, None]
    centre_y, centre_x = _span(y, x) / 2
    farthest = down.abs() * centre_y + right.abs() * centre_x
    distance = down * (y[:, None] - centre_y) + right * (x - centre_x)
    return distance < farthest * (0.35 * offset - 0.7)[:, None, None]


def _strokes(rng: Rng, y: Tensor, x: Tensor, segments: int = 5) -> Tensor:
    """One to three strokes of a brush, random walks, are unknown."""
    n, span = len(rng), _span(y, x)
    drawn = torch.arange(3, device=y.device) <= rng.fork("count").integers(3, (n, 1))
    heading, radius = rng.fork("brush").uniform((n, 3, 2)).unbind(2)
    length, turn = rng.fork("walk").uniform((n, 3, segments, 2)).unbind(3)
    heading = 2 * math.pi * heading[..., None] + (2 * turn - 1).cumsum(2)
    walk = (0.1 + 0.25 * length)[..., None] * torch.stack((heading.sin(), heading.cos()), 3)
    start = span * rng.fork("start").uniform((n, 3, 1, 2))
    points = torch.cat((start, start + walk.cumsum(2)), 2)
    # at least so wide that it meets the centre of a pixel
    radius = torch.maximum(0.03 + 0.1 * radius, 1.5 * y[0])[:, :, None, None]
    painted = torch.zeros(n, len(y), len(x), dtype=torch.bool, device=y.device)
    for a, b in pairwise(points.unbind(2)):
        near = _square_distance(a[:, :, None, None], b[:, :, None, None], y, x) < radius**2
        painted |= (near & drawn[:, :, None, None]).any(1)
    return ~painted


def _scattered(rng: Rng, y: Tensor, x: Tensor) -> Tensor:
    """Single pixels are known, any share of them."""
    share = rng.fork("share").uniform((len(rng), 1, 1))
    return rng.uniform((len(rng), len(y), len(x))) < share


def _nothing(rng: Rng, y: Tensor, x: Tensor) -> Tensor:
    """So the model also generates."""
    return torch.zeros(len(rng), len(y), len(x), dtype=torch.bool, device=y.device)


KINDS = ((0.25, _boxes), (0.15, _window), (0.15, _side), (0.25, _strokes), (0.1, _scattered), (0.1, _nothing))
"""What masks look like, and how often: every number of them is a choice, none is from a paper."""


def _inside(rng: Rng, count: int, sides: tuple[float, float], y: Tensor, x: Tensor) -> Tensor:
    """(n, count, H, W): boxes with sides of these shares of the picture's, anywhere in it."""
    low, high = sides
    size, place = rng.fork("box").uniform((len(rng), count, 2, 2)).unbind(2)
    size = (low + (high - low) * size) * _span(y, x)
    top, left = (place * (_span(y, x) - size))[..., None, None].unbind(2)
    height, width = size[..., None, None].unbind(2)
    down, right = y[:, None] - top, x - left
    return (down >= 0) & (down < height) & (right >= 0) & (right < width)


def _square_distance(a: Tensor, b: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Of every pixel from the segments from a to b, (..., 1, 1, 2) -> (..., H, W)."""
    (down, right), (v, u) = (b - a).unbind(-1), (y[:, None] - a[..., 0], x - a[..., 1])
    along = ((v * down + u * right) / (down**2 + right**2)).clamp(0, 1)
    return (v - along * down) ** 2 + (u - along * right) ** 2


def _span(y: Tensor, x: Tensor) -> Tensor:
    """The picture's height and width, in the units of the pixel centres."""
    return torch.stack((y[0] + y[-1], x[0] + x[-1]))
