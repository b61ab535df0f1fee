"""The four ways a condition enters any network, in any medium."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor

__all__ = ["Batch", "Condition"]


@dataclass(frozen=True)
class Condition:
    """What a denoiser is told besides x_t; every field may be absent.

    Args:
        vector: (B, D), enters by modulation: a class, pooled text, a frame rate.
        tokens: (B, L, D), enters by attention: text, reference frames.
        mask: (B, L) bool, True where a token counts.
        spatial: (B, C, *S), joined to the channels: a low-resolution picture, a mask.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    spatial: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        """The condition with the function applied to every field that is present."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Condition(**{k: None if v is None else function(v) for k, v in values.items()})

    def __getitem__(self, index: slice | Tensor) -> Condition:
        return self.map(lambda x: x[index])


@dataclass(frozen=True)
class Batch:
    """What an objective sees: clean data, its condition, and which samples of the run these are.

    Args:
        x_0: (B, *S) data.
        cond: its condition.
        index: (B,) int64, the samples' running numbers, from which objectives draw well-spread times.
        label: (B,) int64, the classes, where they are what is learned.
    """

    x_0: Tensor
    cond: Condition | None = None
    index: Tensor | None = None
    label: Tensor | None = None
