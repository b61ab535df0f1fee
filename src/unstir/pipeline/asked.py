"""What samples are asked to be: classes by number, or texts."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

__all__ = ["Asked", "Texts"]


class Texts(tuple[str, ...]):
    """Prompts, one per sample; rows are taken by an index tensor or a slice, as of labels."""

    __slots__ = ()

    def rows(self, index: Tensor | slice) -> Texts:
        if isinstance(index, slice):
            return Texts(self[index])
        return Texts(self[k] for k in index.tolist())


Asked: TypeAlias = Tensor | Texts
"""Labels (B,) int64 of a model of classes, or the prompts of one that reads."""


def rows_of(asked: Asked | None, index: Tensor | slice) -> Asked | None:
    """Those of some samples."""
    return asked.rows(index) if isinstance(asked, Texts) else None if asked is None else asked[index]
