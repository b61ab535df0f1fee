"""Linear systems that are known by their products alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["conjugate_gradients"]


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    iterations: int = 64,
    tolerance: float = 1e-6,
) -> Tensor:
    """x with product(x) = b, for a symmetric positive semi-definite product; where singular, of least norm.

    A row is finished when its residual is `tolerance` of |b|; it then stands still, so that no row depends on
    its neighbours. Hestenes & Stiefel 1952.

    Args:
        product: (B, *S) -> (B, *S), linear in each row.
        b: (B, *S), in the range of the product.
        iterations: at most.
        tolerance: of the residual relative to b.
    """

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).reshape(-1, *([1] * (b.ndim - 1)))

    x, r, p = torch.zeros_like(b), b, b
    size = first = dot(r, r)
    for _ in range(iterations):
        going = size > tolerance**2 * first
        if not bool(going.any()):
            break
        moved = product(p)
        bend = dot(p, moved)
        going = going & (bend > 0)
        step = torch.where(going, size / bend.where(going, torch.ones_like(bend)), 0)
        x, r = x + step * p, r - step * moved
        new = dot(r, r)
        p = torch.where(going, r + new / size.clamp(min=torch.finfo(b.dtype).tiny) * p, p)
        size = torch.where(going, new, size)
    return x
