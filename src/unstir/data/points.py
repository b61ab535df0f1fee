"""Toy distributions in the plane, drawn with a fixed seed and normalised: mean 0, standard deviation 1.

The standard deviation is that of both coordinates together, so shapes keep their proportions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unstir.data.items import Items, content_keys
from unstir.errors import DataError, did_you_mean

__all__ = ["POINTS", "read_points"]

COUNT = 20_000


def _moons(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two interleaved half circles."""
    angle, upper = rng.uniform(0, np.pi, n), rng.random(n) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack((x, y), 1) + rng.normal(0, 0.05, (n, 2))


def _spiral(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two arms of an Archimedean spiral, uniform in area, one and a half turns each."""
    angle = np.sqrt(rng.random(n)) * 3 * np.pi
    arm = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    return np.stack((arm * angle * np.cos(angle), arm * angle * np.sin(angle)), 1) + rng.normal(
        0, 0.2, (n, 2)
    )


def _grid(rng: np.random.Generator, n: int) -> np.ndarray:
    """25 narrow Gaussians on a 5 x 5 grid."""
    return rng.integers(-2, 3, (n, 2)) + rng.normal(0, 0.05, (n, 2))


def _checkerboard(rng: np.random.Generator, n: int) -> np.ndarray:
    """Uniform on the 8 black squares of a 4 x 4 board."""
    column, row = rng.integers(0, 4, n), 2 * rng.integers(0, 2, n)
    return np.stack((column, row + column % 2), 1) + rng.random((n, 2))


def _swissroll(rng: np.random.Generator, n: int) -> np.ndarray:
    """One arm of a spiral seen along the axis of the roll."""
    angle = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return np.stack((angle * np.cos(angle), angle * np.sin(angle)), 1) + rng.normal(0, 0.3, (n, 2))


POINTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "moons": _moons,
    "spiral": _spiral,
    "grid": _grid,
    "checkerboard": _checkerboard,
    "swissroll": _swissroll,
}
"""The names of `points:NAME`."""


def read_points(name: str, count: int = COUNT) -> Items:
    """`count` points of the distribution `name`, one of `POINTS`. Raises `DataError` for another name."""
    if name not in POINTS:
        raise DataError(
            f"unknown points '{name}'", field="data.source", hint=did_you_mean(name, POINTS, "point set")
        )
    points = POINTS[name](np.random.default_rng(0), count)
    points -= points.mean(0)
    points = (points / points.std()).astype(np.float32)
    return Items(pixels=points, keys=content_keys(points), names=[str(i) for i in range(count)])
