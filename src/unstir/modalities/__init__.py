"""What each medium needs at its files: writing, previews, and the recipe that a file carries."""

from __future__ import annotations

from . import image, points
from .image import check_path, grid_png, read_recipe, write_samples

__all__ = ["check_path", "grid_png", "image", "points", "read_recipe", "write_samples"]
