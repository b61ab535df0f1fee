"""Class labels as a condition: a table of learned vectors, with one more for "no label"."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..condition import Condition
from ..errors import ConfigError
from ..spec import Count

__all__ = ["Label", "LabelConfig"]


@dataclass(frozen=True)
class LabelConfig:
    """The settings of `Label`."""

    width: Count = 64
    """Width of a label's vector."""

    def build(self, classes: int) -> Label:
        return Label(classes, self.width)


class Label(nn.Module):
    """y (B,) int64 -> Condition(vector = table[y]), (B, width); y = classes is the learned "no label".

    "No label" stands for a label dropped in training and for the unconditional branch of guidance (Ho &
    Salimans 2022, arXiv:2207.12598, algorithm 1). Raises ConfigError for a label outside 0..classes.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        if classes < 1 or width < 1:
            raise ConfigError(f"labels need classes and width >= 1, got {classes}, {width}", field="classes")
        self.classes = classes
        self.width = width
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, y: Tensor | None, n: int | None = None) -> Condition:
        """The condition of labels y; of `n` samples without a label for y = None."""
        if y is None:
            y = torch.full((n or 1,), self.classes, device=self.table.weight.device)
        self._check(y)
        return Condition(vector=self.table(y))

    def drop(self, y: Tensor, mask: Tensor) -> Tensor:
        """y with "no label" where mask (B,) is true."""
        return torch.where(mask, self.classes, y)

    def _check(self, y: Tensor) -> None:
        # Only in host memory, where looking is free: on a device it would wait for all queued work.
        if y.device.type == "cpu" and len(y) and not (y.min() >= 0 and y.max() <= self.classes):
            raise ConfigError(
                f"labels must be in 0..{self.classes - 1}, got {int(y.min())} to {int(y.max())}",
                field="label",
                hint=f"{self.classes} stands for no label",
            )
