"""How a transformer knows where in the data each of its tokens lies, on grids of any size and number of axes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import IncompatibleError
from ..layers import Rotation

__all__ = ["Kind", "Positions"]

Kind = Literal["sincos", "learned", "rope"]

BASE = 1e4  # of the waves added to tokens (Vaswani et al. 2017)
TURNS = 1e2  # of rotations: a picture has tens of patches a side, a text thousands of words


class Positions(nn.Module):
    """What tells the tokens (B, prod(grid), width) of a grid apart.

    sincos: fixed waves are added. learned: a table is added, which starts as those waves. On another grid both
    are stretched to the one built for. rope: nothing is added; queries and keys are turned by angles in
    proportion to their places, so that attention sees only differences of places (Su et al. 2021,
    arXiv:2104.09864), each axis turning pairs of its own (Heo et al. 2024, arXiv:2403.13298, section 3.1).

    Raises IncompatibleError where a head is too narrow to turn a pair for every axis.
    """

    def __init__(self, kind: Kind, grid: tuple[int, ...], width: int, heads: int) -> None:
        super().__init__()
        self.kind, self.grid, self.width = kind, grid, width
        self.pairs = width // heads // (2 * len(grid))
        self.table = nn.Parameter(waves(grid, grid, width)) if kind == "learned" else None
        if kind == "rope" and self.pairs == 0:
            raise IncompatibleError(
                f"heads of {width // heads} channels are too narrow to turn a pair for each of {len(grid)} axes",
                field="network.heads",
                hint=f"use fewer heads, of {2 * len(grid)} channels or more, or positions=sincos",
            )

    def forward(self, h: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Rotation | None]:
        """The tokens, and the rotation of their queries and keys."""
        if self.kind == "rope":
            return h, rotation(grid, self.grid, self.pairs, h.device)
        if self.table is None:
            return h + waves(grid, self.grid, self.width, h.device).to(h.dtype), None
        return h + resized(self.table, self.grid, grid).to(h.dtype), None


def stretched(n: int, m: int, device: torch.device | None = None) -> Tensor:
    """Where the middles of n equal parts lie among those of m parts of the same whole, which are 0, 1, ... m - 1."""
    return (torch.arange(n, device=device) + 0.5) * (m / n) - 0.5


def waves(
    grid: tuple[int, ...], trained: tuple[int, ...], width: int, device: torch.device | None = None
) -> Tensor:
    """p (prod(grid), width): sin(f u), cos(f u) of each axis' coordinate u.

    u counts patches, and on another grid it is stretched to the trained one. f falls from 1 to 1e-4 in equal
    ratios (Vaswani et al. 2017, arXiv:1706.03762, section 3.5). Entries that do not divide among the axes are
    0.
    """
    axes = [stretched(n, m, device) for n, m in zip(grid, trained, strict=True)]
    angle = angles(axes, max(width // (2 * len(grid)), 1), BASE)
    p = torch.cat([angle.sin(), angle.cos()], 1)[:, :width]
    return F.pad(p, (0, width - p.shape[1]))


def rotation(
    grid: tuple[int, ...], trained: tuple[int, ...], pairs: int, device: torch.device | None = None
) -> Rotation:
    """cos and sin of f u, each (prod(grid), axes * pairs).

    u counts patches from the middle of the picture, where the text is. On another grid it is scaled by the same
    factor on all axes, so that the volume is the trained one and a square remains one.
    """
    scale = (math.prod(trained) / math.prod(grid)) ** (1 / len(grid))
    axes = [(torch.arange(n, device=device) - (n - 1) / 2) * scale for n in grid]
    angle = angles(axes, pairs, TURNS)
    return angle.cos(), angle.sin()


def angles(axes: list[Tensor], pairs: int, base: float) -> Tensor:
    """f u, (prod(grid), axes * pairs), of every place; f falls from 1 to 1 / base in equal ratios."""
    steps = torch.arange(pairs, device=axes[0].device)
    frequencies = torch.exp(steps * (-math.log(base) / pairs))
    coordinates = torch.stack(torch.meshgrid(axes, indexing="ij"), -1).reshape(-1, len(axes), 1)
    return (coordinates * frequencies).flatten(1)


def resized(table: Tensor, trained: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """The table (prod(trained), width) on another grid, linear between its entries and constant beyond them."""
    if grid == trained:
        return table
    # By products with small matrices: the backward pass of F.interpolate is not deterministic on CUDA.
    table = table.unflatten(0, trained)
    for axis, (n, m) in enumerate(zip(grid, trained, strict=True)):
        places = stretched(n, m, table.device).clamp(0, m - 1)
        shares = F.relu(1 - (places[:, None] - torch.arange(m, device=table.device)).abs())
        table = torch.tensordot(shares.to(table.dtype), table, ([1], [axis])).movedim(0, axis)
    return table.flatten(0, -2)
