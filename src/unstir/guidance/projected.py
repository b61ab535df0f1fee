"""Adaptive projected guidance: high scales without saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from ..process.base import unsqueeze_like
from ..spec import Fraction, Positive, Range, validate
from .base import Place, Rule

__all__ = ["Projected"]


@dataclass(frozen=True)
class Projected(Rule):
    """strong + (scale - 1) (d_across + along d_along), d = the difference strong - weak, averaged and shortened:

        m = (strong - weak) + momentum m_before,   d = m min(1, norm/|m|),

    d_along its part along `strong`, which mostly raises contrast, and d_across the rest. Lengths and products are
    those of whole samples. along = 1 without norm and momentum is `Linear`.

    Works with every solver. With momentum the result depends on the steps taken before, so no solver has its
    order of convergence; m_before is the first m of the step before.
    Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance Scales", algorithm 1.

    Args:
        along: the share kept of the part along the strong opinion, 0 <= along <= 1; eta of the paper.
        norm: the greatest length of the difference, > 0; None = no limit. It grows with the square root of the
            number of components.
        momentum: share of the last step's average, between -1 and 1; negative values push away from it.
    """

    along: Fraction = 0.0
    norm: Positive | None = None
    momentum: Annotated[float, Range(gt=-1, lt=1)] = 0.0

    def __post_init__(self) -> None:
        validate(self)

    def combine(self, weak: Tensor, strong: Tensor, scale: Tensor, place: Place) -> Tensor:
        difference = strong - weak
        if self.momentum:
            if place.past is not None:
                difference = difference + self.momentum * place.past
            place.keep(difference)
        if self.norm is not None:
            difference = rows((self.norm / dot(difference, difference).sqrt()).clamp(max=1), difference)
        part = rows(share(difference, strong), strong)
        return strong + (scale - 1) * (difference - (1 - self.along) * part)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B,) inner products."""
    return (a * b).flatten(1).sum(1)


def share(a: Tensor, b: Tensor) -> Tensor:
    """(B,) c with c b the part of a along b; 0 where b = 0."""
    return dot(a, b) / dot(b, b).clamp(min=torch.finfo(b.dtype).tiny)


def rows(c: Tensor, x: Tensor) -> Tensor:
    """c x for numbers c (B,)."""
    return unsqueeze_like(c, x) * x
