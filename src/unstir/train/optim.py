"""Optimizers as settings; `build` makes the torch optimizers over the parameters it is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from ..spec import Positive, Range, validate

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["AdamW", "Muon"]

Decay = Annotated[float, Range(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """theta -= lr (m_hat / (sqrt(v_hat) + eps) + weight_decay theta), in one fused kernel.

    Weight decay acts on matrices and kernels, not on biases and gains. Loshchilov and Hutter 2019,
    "Decoupled Weight Decay Regularization", algorithm 2. Raises `ConfigError` for a value out of its range.
    """

    lr: Positive = 1e-3
    """Peak learning rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """Decay of the averages of the gradient and of its square."""
    eps: Positive = 1e-8
    """Added to the root of the average square."""
    weight_decay: Annotated[float, Range(ge=0)] = 0.0
    """Pull towards zero per step and unit of rate."""

    def __post_init__(self) -> None:
        validate(self)

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[Optimizer]:
        """The optimizer of these named parameters, in a list."""
        import torch

        every = [parameter for _, parameter in parameters]
        groups = [
            {"params": [p for p in every if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)]


@dataclass(frozen=True, kw_only=True)
class Muon:
    """W -= lr 0.2 sqrt(max(m, n)) UV^T, with U S V^T the Nesterov momentum of the (m, n) matrix W.

    Kernels count as matrices of (output, input times positions). The factor gives the update the size of
    AdamW's, so AdamW's rates fit (Liu et al. 2025, "Muon is Scalable for LLM Training", eq. 4). Biases,
    embeddings and the first and last layers go to AdamW with `rest` times the rate. Jordan et al. 2024,
    "Muon: An optimizer for hidden layers in neural networks". Raises `ConfigError` for a value out of range.
    """

    lr: Positive = 1e-3
    """Peak learning rate of the matrices."""
    rest: Positive = 0.3
    """Rate of AdamW's part, as a multiple of `lr`."""
    momentum: Decay = 0.95
    """Decay of the average of the gradient."""
    weight_decay: Annotated[float, Range(ge=0)] = 0.0
    """Pull towards zero per step and unit of rate, of both parts."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """AdamW's decays."""
    adamw: tuple[str, ...] = ("embed.", "table", "enter", "leave", "modulation")
    """Parameters with one of these in their names go to AdamW though they are matrices."""

    def __post_init__(self) -> None:
        validate(self)

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[Optimizer]:
        """The optimizers of these named parameters: of the hidden matrices, of the others."""
        from .muon import Orthogonalized

        matrices: list[nn.Parameter] = []
        others: list[tuple[str, nn.Parameter]] = []
        for name, parameter in parameters:
            if parameter.ndim > 1 and not any(part in name for part in self.adamw):
                matrices.append(parameter)
            else:
                others.append((name, parameter))
        muon = [Orthogonalized(matrices, self.lr, self.momentum, self.weight_decay)] if matrices else []
        adamw = AdamW(lr=self.lr * self.rest, betas=self.betas, weight_decay=self.weight_decay)
        return [*muon, *(adamw.build(others) if others else [])]
