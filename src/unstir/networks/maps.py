"""What positions look at, tokens or each other: the attention while a network runs, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import UnionType
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import Attention, CrossAttention, JointAttention
from .base import Network

__all__ = ["recording_attention"]


@contextmanager
def recording_attention(
    module: nn.Module, of: type[nn.Module] | UnionType = CrossAttention | JointAttention
) -> Iterator[dict[str, list[Tensor]]]:
    """How much each place takes from each token, by the name of the attention in the module.

    While it lasts every call of a network in it adds to each list one map (B, *G, L), the mean over heads, on the
    grid G at which that attention works. In cross-attention the shares of a place add up to 1 (0 where there is
    no token), in joint attention to what it does not take from other places; of=Attention records what it takes from
    each place of its own picture, L of them in the order of the grid. Results do not change; outside,
    nothing is computed or kept. Maps are big: many positions times many tokens. A network that `torch.compile`
    made is not seen.

        with recording_attention(denoiser) as maps:
            denoiser(x_t, t, cond)
        where = maps["network.blocks.3.cross"][0][..., 2]  # (B, *G) of the third token
    """
    maps: dict[str, list[Tensor]] = {}
    size: list[int] = []

    def enter(network: nn.Module, inputs: tuple[Any, ...]) -> None:
        size[:] = inputs[0].shape[2:]

    def record(
        name: str, attention: Attention | CrossAttention | JointAttention, inputs: tuple[Any, ...]
    ) -> None:
        with torch.no_grad():
            shares = attention.probabilities(*inputs).mean(1)
        maps.setdefault(name, []).append(shares.unflatten(1, grid_of(shares.shape[1], size)))

    handles = []
    for name, part in module.named_modules():
        if isinstance(part, Network):
            handles.append(part.register_forward_pre_hook(enter))
        elif isinstance(part, of):
            handles.append(
                part.register_forward_pre_hook(lambda part, inputs, name=name: record(name, part, inputs))
            )
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def grid_of(positions: int, size: list[int]) -> list[int]:
    """The grid ceil(size / f) with that many positions; no two different ones have the same number."""
    for f in range(1, max(size) + 1):
        grid = [math.ceil(n / f) for n in size]
        if math.prod(grid) == positions:
            return grid
    raise AssertionError(f"{positions} positions are no coarser grid of {size}")
