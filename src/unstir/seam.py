"""A repainted part put into its picture: without a jump at its border, and without touching anything else."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import ConfigError
from .operators.solve import conjugate_gradients

__all__ = ["blend"]


def blend(picture: Tensor, sample: Tensor, keep: Tensor, feather: float | None = None) -> Tensor:
    """`picture` where it is kept, sample + c elsewhere: c takes away the jump between the two at the border.

    c is picture - sample on the pixels kept, and inside the others a membrane hung up there,

        laplacian(c) = c/feather^2,

    so that the gradient is the sample's own. Without `feather` a border carries as far as the next one does;
    with it, about so many pixels. Where the sample agrees with the pixels beside the border, c is 0.
    Pérez et al. 2003, "Poisson Image Editing", eq. 4; with a feather Bhat et al. 2008, "Fourier Analysis of the
    2D Screened Poisson Equation for Gradient Domain Problems", eq. 4.

    Args:
        picture: (1 or B, C, *S).
        sample: (B, C, *S), with its own opinion of the pixels that are kept.
        keep: broadcast to them, true or 1 where the picture stays what it is, bit for bit.
        feather: in pixels, > 0.
    """
    if feather is not None and not feather > 0:
        raise ConfigError(f"feather is {feather}", field="feather", hint="give a number of pixels above 0")
    inside = (keep.to(sample) == 0).expand_as(sample)
    if not bool(inside.any()):
        return picture.expand_as(sample).clone()
    near = _box(inside)
    c = torch.zeros_like(sample)
    c[near] = _membrane((picture - sample)[near], inside[near], 0.0 if feather is None else feather**-2)
    return torch.where(inside, sample + c, picture)


def _membrane(jump: Tensor, inside: Tensor, pull: float) -> Tensor:
    """c = jump where known, and inside laplacian(c) = pull c; the border of space is free."""
    degree = _around(torch.ones_like(jump)) + pull

    def bend(c: Tensor) -> Tensor:
        return torch.where(inside, degree * c - _around(c), 0)

    known = torch.where(inside, _around(torch.where(inside, 0, jump)), 0)
    return conjugate_gradients(bend, known, iterations=4 * sum(jump.shape[2:]), tolerance=1e-5)


def _box(inside: Tensor) -> tuple[slice, ...]:
    """Where all holes are, with a pixel around them."""
    cuts = [slice(None), slice(None)]
    for axis in range(2, inside.ndim):
        held = inside.movedim(axis, 0).flatten(1).any(1).nonzero()
        cuts.append(slice(max(int(held[0]) - 1, 0), int(held[-1]) + 2))
    return tuple(cuts)


def _around(x: Tensor) -> Tensor:
    """The sum of the neighbours along every axis of space; outside there are none."""
    total = torch.zeros_like(x)
    for axis in range(2, x.ndim):
        n = x.shape[axis] - 1
        total.narrow(axis, 0, n).add_(x.narrow(axis, 1, n))
        total.narrow(axis, 1, n).add_(x.narrow(axis, 0, n))
    return total
