"""What a condition alone tells of the data: a first picture, before there is anything to see."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import IncompatibleError
from ..layers import SILU_GAIN, linear

__all__ = ["Draft", "resized"]

DROPOUT = 0.1
"""Share of the hidden features that training leaves out. A draft of what is learned by heart is nearly right, of all
else it is not: who sees only the former would copy it (as with the low resolutions of a cascade: Ho et al. 2022)."""


class Draft(nn.Module):
    """c (B, D) -> W_2 dropout(silu(W_1 c)), (B, channels, *shape), which learns to be E[x_0 | c].

    Args:
        cond_dim: D.
        hidden: rows of W_1.
        channels: of x_0.
        shape: spatial size of x_0 in training.

    Raises:
        IncompatibleError: there is no vector, or no picture, to make one from or of.
    """

    def __init__(self, cond_dim: int, hidden: int, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        if not cond_dim:
            raise IncompatibleError(
                "a draft follows from a label or a text, and this network is told none",
                field="network.draft",
                hint="leave draft out, or give data with labels or captions",
            )
        self.size = (channels, *shape)
        self.hidden = linear(cond_dim, hidden)
        self.dropout = nn.Dropout(DROPOUT)
        self.leave = linear(hidden, math.prod(self.size), gain=SILU_GAIN / 10)

    def forward(self, vector: Tensor) -> Tensor:
        h = self.dropout(F.silu(self.hidden(vector)))
        return self.leave(h).unflatten(1, self.size)


def resized(draft: Tensor, like: Tensor) -> Tensor:
    """The draft (B, C, *S) at the spatial size of `like`, in its type; stretched linearly where it has another."""
    if draft.shape[2:] != like.shape[2:]:
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[draft.ndim - 2]
        draft = F.interpolate(draft, size=like.shape[2:], mode=mode, antialias=draft.ndim == 4)
    return draft.to(like.dtype)
