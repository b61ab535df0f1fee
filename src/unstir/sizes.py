"""Sizes of pictures: as people write them, and what another size than in training does to the noise."""

from __future__ import annotations

import math
from typing import Any

from .errors import ConfigError

__all__ = ["LARGEST", "SMALLEST", "read_size", "resolution_shift", "written"]

SMALLEST, LARGEST = 2, 4096


def read_size(given: Any) -> tuple[int, int]:
    """(height, width) in pixels of 96, a square, or of "96x64", width x height.

    Raises ConfigError for anything else, and outside 2 to 4096 pixels a side.
    """
    text = str(given).strip().lower() if isinstance(given, (int, str)) and not isinstance(given, bool) else ""
    words = text.replace("×", "x").split("x")
    if len(words) > 2 or not all(word.strip().isascii() and word.strip().isdecimal() for word in words):
        raise _refused(given)
    width, height = (int(word[:9]) for word in (words[0].strip(), words[-1].strip()))
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise _refused(given)
    return height, width


def written(height: int, width: int) -> int | str:
    """The size as `read_size` reads it: 96, or "96x64"."""
    return width if width == height else f"{width}x{height}"


def resolution_shift(positions: int, trained: int) -> float:
    """sqrt(m/n) for m positions where training had n: by how much the noise has to grow.

    The mean over a picture of equal values is known m/n times as precisely from m noisy positions as from n; a
    ratio sigma/alpha that is sqrt(m/n) times as large hides it as well as before. Esser et al. 2024, "Scaling
    Rectified Flow Transformers", section 5.3.2; Hoogeboom et al. 2023, "Simple diffusion", section 2.1.
    """
    return math.sqrt(positions / trained)


def _refused(given: Any) -> ConfigError:
    return ConfigError(
        f"size is {given!r}",
        field="size",
        hint=f"give a side, size=96, or width x height, size=96x64, of {SMALLEST} to {LARGEST} pixels a side",
    )
