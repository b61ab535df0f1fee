"""Points in the plane as pictures: what a scatter plot shows, without a plotting library."""

from __future__ import annotations

import numpy as np

__all__ = ["to_picture"]

SIDE = 256
REACH = 2.5  # the picture shows [-REACH, REACH]^2; data of unit variance lies in it


def to_picture(points: np.ndarray) -> np.ndarray:
    """(N, D >= 2) -> one picture (1, 256, 256, 1) of the first two coordinates, dark where they are dense."""
    edges = np.linspace(-REACH, REACH, SIDE + 1)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=(edges, edges))
    ink = np.log1p(counts[::-1]) / np.log1p(max(1.0, counts.max()))  # row 0 is the top: y points up
    return (255 * (1 - ink)).round().astype(np.uint8)[None, :, :, None]
