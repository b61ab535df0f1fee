"""Moving averages of the weights: several lengths at once while training, and any length afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["EMA", "Fit", "Profile", "exponent", "fit", "inner"]


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


class Profile(NamedTuple):
    """An average of that length, as it was after update n."""

    n: int
    length: float


class Fit(NamedTuple):
    """How averages add up to another one."""

    weights: np.ndarray
    """One for each, float64; their sum is 1."""
    error: float
    """What the sum misses, as a part of how far the average is from the last weights."""


def fit(target: Profile, stored: Sequence[Profile]) -> Fit:
    """The weights X with which the `stored` averages come nearest to `target`.

    With p = gamma + 1 update i has the weight F(i) - F(i-1) in the average after update n, F(i) = min(1, (i/n)^p).
    Summed by parts, with theta(T) the last weights and T = target.n,

        theta_bar(n) = theta(T) - sum_i F(i) (theta(i+1) - theta(i)),   0 < i < T,

    so for sum(X) = 1 the error is sum_i (F_target - sum_k X_k F_k)(i) times a training step. Steps are nearly
    uncorrelated, and the X that minimises the integral of the square, subject to sum(X) = 1, makes the least of it.
    Karras et al. 2024, section 3.2, appendix C and algorithm 3, who minimise the square of the difference of
    derivatives F' without the constraint, as if the weights themselves were uncorrelated from one update to the next.
    """
    n, length = (np.array(column) for column in zip(*stored, target, strict=True))
    powers = np.array([exponent(x) + 1 for x in length])
    products = inner(n[:, None], powers[:, None], n, powers, target.n)
    gram, own, square = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    one = np.ones((len(stored), 1))
    # stationary where gram X - own + multiplier = 0
    system = np.block([[gram / square, one], [one.T, np.zeros((1, 1))]])
    x = np.linalg.lstsq(system, np.append(own / square, 1.0), rcond=1e-15)[0][:-1]
    missed = 1 + (x @ gram @ x - 2 * x @ own) / square
    return Fit(x, math.sqrt(max(missed, 0.0)))


def inner(n: np.ndarray, p: np.ndarray, m: np.ndarray, q: np.ndarray, end: int) -> np.ndarray:
    """The integral over (0, end) of min(1, (t/n)^p) min(1, (t/m)^q); n, m <= end.

    With r = (n/m)^q and n <= m it is n r/(p+q+1) + (m - n r)/(q+1) + end - m, of the parts to n, to m, to the end.
    """
    first, last, later = np.minimum(n, m), np.maximum(n, m), np.where(n > m, p, q)
    reach = first * (first / last) ** later
    return reach / (p + q + 1) + (last - reach) / (later + 1) + (end - last)
