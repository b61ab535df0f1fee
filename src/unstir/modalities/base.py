"""What every medium is given to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

__all__ = ["Sampled"]


class Sampled(Protocol):
    """What a pipeline's samples look like from here."""

    @property
    def images(self) -> np.ndarray:
        """Pictures uint8 (N, H, W, C), or points float32 (N, D)."""

    @property
    def seeds(self) -> Sequence[int]: ...

    @property
    def labels(self) -> Sequence[int] | None: ...

    @property
    def prompts(self) -> Sequence[str] | None: ...

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON-able: all that makes the same samples again."""

    @property
    def frames(self) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        """(x_t, x_0) after each step, each like `images`; empty where not recorded."""
