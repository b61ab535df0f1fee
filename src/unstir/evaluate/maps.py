"""What an encoder that the tool trained sees on the way to its features: for losses that compare pictures by it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .trained import Trained

__all__ = ["feature_maps"]


def feature_maps(encoder: Trained, device: torch.device | str = "cpu") -> Callable[[Tensor], list[Tensor]]:
    """x (B, C, H, W) in [-1, 1] -> the maps after each of its convolutions, from the finest, differentiable.

    Its weights are copied to the device and do not learn. Rows do not see each other.
    """
    network, size = (
        copy.deepcopy(encoder._network).to(device).requires_grad_(False).eval(),
        encoder.header.size,
    )
    after = [network.enter, *(layer for layer in network.body.children() if isinstance(layer, nn.Sequential))]

    def maps(x: Tensor) -> list[Tensor]:
        if x.shape[2:] != size:
            smaller = x.shape[2] >= size[0] and x.shape[3] >= size[1]
            x = F.interpolate(x, size, mode="area" if smaller else "bilinear")
        found = [h := network.enter(x)]
        for layer in network.body.children():
            if len(found) == len(after):
                break
            h = layer(h)
            if layer in after:
                found.append(h)
        return found

    return maps
