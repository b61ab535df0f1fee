"""Moving averages of the weights, several lengths at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["EMA", "exponent"]


class EMA:
    """theta_bar(n) = beta theta_bar(n-1) + (1 - beta) theta(n) with beta = (1 - 1/n)^(gamma + 1).

    This power-function average weighs update i by (i/n)^gamma: its width is the same fraction of the run
    whenever it is looked at, so it needs neither a warm-up nor the number of steps. `lengths` gives that
    width, the relative standard deviation sigma_rel in (0, 0.28] (Karras et al. 2024, "Analyzing and
    Improving the Training Dynamics of Diffusion Models", section 3.1). Averages are float32.
    """

    def __init__(self, module: nn.Module, lengths: Iterable[float]) -> None:
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._powers = [exponent(length) + 1 for length in lengths]
        self.averages = [
            {name: p.detach().to(torch.float32, copy=True) for name, p in self._parameters.items()}
            for _ in self._powers
        ]

    @torch.no_grad()
    def update(self, n: int) -> None:
        """Take in the weights after update n = 1, 2, ...; the first replaces the averages."""
        weights = [p.detach().float() for p in self._parameters.values()]
        for power, average in zip(self._powers, self.averages, strict=True):
            torch._foreach_lerp_(list(average.values()), weights, 1 - (1 - 1 / n) ** power)

    @contextmanager
    def average(self, index: int = 0) -> Iterator[None]:
        """Inside this context the trained module itself has the weights of average number `index`."""
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        try:
            self._set(self.averages[index])
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            self._parameters[name].copy_(weight)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name: <index>.<parameter>."""
        return {f"{i}.{name}": x for i, average in enumerate(self.averages) for name, x in average.items()}


def exponent(length: float) -> float:
    """The gamma whose relative width is `length`: sigma_rel^2 = (gamma+1) / ((gamma+2)^2 (gamma+3)).

    >>> round(exponent(0.1), 2), round(exponent(0.05), 2)
    (6.94, 16.97)
    """
    low, high = 0.0, 1 / length
    for _ in range(64):
        gamma = (low + high) / 2
        wide = math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3)) > length
        low, high = (gamma, high) if wide else (low, gamma)
    return (low + high) / 2
