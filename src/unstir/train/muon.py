"""Momentum with orthogonalized updates, many matrices at a time.

torch.optim.Muon takes matrices only, one after the other and in bf16: no kernels, and slow on a CPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Orthogonalized", "orthogonalize"]

# of p(s) = a s + b s^3 + c s^5, steep at 0: five rounds bring singular values of 1e-3 to about 1
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Orthogonalized(torch.optim.Optimizer):
    """The orthogonal part of `unstir.train.optim.Muon`. The state of a parameter is its `momentum`."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape[0], p[0].numel()].append(p)
            for parameters in shapes.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One step of parameters that are matrices of one shape (m, n)."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonalize(torch.stack([u.flatten(1) for u in nesterov]))
        rate = group["lr"] * 0.2 * max(updates.shape[1:]) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(
            parameters, [u.view(p.shape) for u, p in zip(updates, parameters, strict=True)], alpha=-rate
        )


def orthogonalize(matrices: Tensor, rounds: int = 5) -> Tensor:
    """About U V^T of each M = U S V^T, with singular values in 0.7..1.2, by Newton-Schulz iteration.

    matrices: (K, m, n). X <- Q X with Q = a I + b A + c A^2 and A = X X^T (Jordan et al. 2024). Every Q is a
    polynomial of the first A, so the product of all Q is formed from min(m, n)-sided squares, A <- Q A Q, and
    X is touched twice instead of ten times: kernels are much wider than they are high.
    """
    X = matrices.float()
    wide = X.shape[1] <= X.shape[2]
    X = X if wide else X.mT  # the smaller of the two products with its transpose
    X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    A = X @ X.mT
    P = identity = torch.eye(A.shape[-1], device=A.device)
    for i in range(rounds):
        Q = a * identity + torch.baddbmm(A, A, A, beta=b, alpha=c)
        P = Q @ P
        if i + 1 < rounds:
            A = Q @ A @ Q
    X = P @ X
    return (X if wide else X.mT).to(matrices.dtype)
