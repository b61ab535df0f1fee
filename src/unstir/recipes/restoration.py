"""Models that restore, `task=upscale` and `task=inpaint`: what their tasks change in a recipe for pictures."""

from __future__ import annotations

from dataclasses import replace

from ..data import Dataset
from ..embedders import LowResolution, Masked, Spatial
from ..embedders.low_resolution import scales
from .base import Recipe

__all__ = ["inpaint", "upscale"]


def upscale(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe for making pictures 4 times as large, or as nearly so as their size allows."""
    scale = next(iter(scales(data.info.shape, 4)), 4) if data.info.kind == "image" else 4
    return _told(measured, LowResolution(scale=scale))


def inpaint(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe for filling in what is unknown of a picture."""
    return _told(measured, Masked())


def _told(measured: Recipe, spatial: Spatial) -> Recipe:
    """With a picture as condition. Its class is seldom known in use, and adds little: it is hidden half of the time."""
    return replace(
        measured,
        spatial=spatial,
        training=replace(measured.training, drop=0.5),
        sampling=replace(measured.sampling, guidance=1.0),
    )
