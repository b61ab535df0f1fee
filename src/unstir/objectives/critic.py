"""A critic: tells pictures from reconstructions, patch by patch, at several scales."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import SILU_GAIN, conv, halve, patchify

__all__ = ["Critic", "contest"]


class Critic(nn.Module):
    """x (B, C, *S) -> a map of logits for each scale, (B, 1, *S'): above 0 = this patch is of the data.

    A logit sees a patch alone, some 20 values wide, and has no say on the whole: Isola et al. 2017, "Image-to-Image
    Translation with Conditional Adversarial Networks", section 3.2.2. The critic of scale k looks at the data halved k
    times and has weights of its own: Wang et al. 2018, "High-Resolution Image Synthesis and Semantic Manipulation with
    Conditional GANs", section 3.2. There is no normalisation over a batch, so every row is judged on its own.

    Args:
        axes: spatial axes of the data.
        channels: of the data.
        width: channels of the first layer; the second has twice as many.
        scales: how many sizes it looks at.
    """

    def __init__(self, axes: int, channels: int, width: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_Patches(axes, channels, width) for _ in range(scales))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for k, scale in enumerate(self.scales):
            x = halve(x) if k else x
            found.append(scale(x))
        return found


class _Patches(nn.Module):
    """unshuffle -> two convolutions, the size halved between them -> logits."""

    def __init__(self, axes: int, channels: int, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 2 * width)
        self.enter = conv(axes, channels * 2**axes, width)
        self.layers = nn.ModuleList(conv(axes, a, b, gain=SILU_GAIN) for a, b in pairwise(widths))
        self.leave = conv(axes, widths[-1], 1, kernel=1, gain=SILU_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(patchify(x, 2).movedim(-1, 1))
        for k, layer in enumerate(self.layers):
            h = layer(F.silu(h if k else halve(h)))
        return self.leave(F.silu(h))


def contest(critic: nn.Module, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """What the critic loses, and where it wants a reconstruction to go.

    (B,) the hinge loss, mean max(0, 1 - D(x)) + mean max(0, 1 + D(x_hat)), for the critic's parameters alone, and
    (B, C, *S) the gradient of -mean D(x_hat) by x_hat, for everything before it; means over patches and scales.
    Lim and Ye 2017, "Geometric GAN", eq. 12 and 13.
    """
    fake = x_hat.detach().requires_grad_()
    real, made = ([logits.float().flatten(1) for logits in critic(part)] for part in (x, fake))
    hinge = _mean([F.relu(1 - logits) for logits in real]) + _mean([F.relu(1 + logits) for logits in made])
    (wish,) = torch.autograd.grad(-_mean(made).sum(), fake, retain_graph=True)
    return hinge, wish


def _mean(parts: list[Tensor]) -> Tensor:
    """Over the columns of each part, then over the parts, (B,)."""
    return torch.stack([part.mean(1) for part in parts]).mean(0)


def normalised(wish: Tensor) -> Tensor:
    """The gradient with the length that of mean |x - x_hat| has, N^(-1/2) for N values a row; 0 stays 0."""
    flat = wish.flatten(1)
    length = flat.norm(dim=1, keepdim=True).clamp_min(1e-3 / flat.shape[1])
    return (flat / length / math.sqrt(flat.shape[1])).view_as(wish)
