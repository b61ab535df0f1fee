"""What a condition alone tells of the data: a first picture, before there is anything to see."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import IncompatibleError
from ..layers import SILU_GAIN, linear

__all__ = ["Draft", "stretched", "untold"]

DROPOUT = 0.1
"""Share of the hidden features that training leaves out. A draft of what is learned by heart is nearly right, one of
all else is not: who saw the former alone would copy it (Ho et al. 2022, arXiv:2106.15282, section 4, on cascades)."""
VALUES = 4096
"""The most values of a draft; of more positions it shows means."""
MEANS: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Draft(nn.Module):
    """c (B, D) -> W_2 dropout(silu(W_1 c)), (B, channels, *size), which learns to be E[mean of x_0 | c].

    The size is that of x_0, halved until there are at most `VALUES` values; the means are those of x_0 at that size.

    Args:
        cond_dim: D.
        hidden: rows of W_1.
        channels: of x_0.
        shape: spatial size of x_0 in training; x_0 of another size is drafted at the same.

    Raises:
        IncompatibleError: there is no vector to make one from.
    """

    def __init__(self, cond_dim: int, hidden: int, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        if not cond_dim:
            raise untold()
        size = shape
        while channels * math.prod(size) > VALUES and max(size) > 1:
            size = tuple(math.ceil(n / 2) for n in size)
        self.size = (channels, *size)
        self.hidden = linear(cond_dim, hidden)
        self.dropout = nn.Dropout(DROPOUT)
        self.leave = linear(hidden, math.prod(self.size), gain=SILU_GAIN / 10)

    def forward(self, vector: Tensor) -> Tensor:
        h = self.dropout(F.silu(self.hidden(vector)))
        return self.leave(h).unflatten(1, self.size)

    def error(self, vector: Tensor, x_0: Tensor) -> Tensor:
        """(B,) mean squared distances of the drafts to the means of x_0 (B, channels, *S)."""
        means = MEANS[x_0.ndim - 2](x_0, self.size[1:])
        return (self(vector) - means).square().flatten(1).mean(1)


def untold() -> IncompatibleError:
    return IncompatibleError(
        "a draft follows from a label or a text, and this network is told none",
        field="network.draft",
        hint="leave draft out, or give data with labels or captions",
    )


def stretched(draft: Tensor, like: Tensor) -> Tensor:
    """The draft (B, C, *S) at the spatial size of `like`, in its type, linear between its values."""
    size = like.shape[2:]
    if draft.shape[2:] != size:
        draft = F.interpolate(draft, size=size, mode=LINEAR[len(size)], antialias=len(size) == 2)
    return draft.to(like.dtype)
