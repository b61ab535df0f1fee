"""What exponential and multistep methods share: the exact linear step, and averages of a polynomial over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..process import Schedule
from ..process.base import unsqueeze_like

__all__ = [
    "Carry",
    "Node",
    "average",
    "carry",
    "half_log_snr",
    "interpolate",
    "recent",
]


def half_log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """l(t) = log(alpha/sigma), the lambda of DPM-Solver."""
    return schedule.log_snr(t) / 2


class Carry(NamedTuple):
    """x_s = keep x_t + pull x_0 + std z; the three are () or (B,)."""

    keep: Tensor
    pull: Tensor
    std: Tensor

    def __call__(self, x_t: Tensor, x_0: Tensor, z: Tensor | None = None) -> Tensor:
        """x_s; without noise where z is None."""
        keep, pull, std = (unsqueeze_like(c, x_t) for c in self)
        x_s = keep * x_t + pull * x_0
        return x_s if z is None else x_s + std * z


def carry(schedule: Schedule, t: Tensor, s: Tensor, eta: float = 0.0) -> Carry:
    """The exact step from t to s while x_0 stands still; with q = alpha_t sigma_s / (alpha_s sigma_t) it is

        keep = q^(eta^2) sigma_s/sigma_t,  pull = alpha_s - alpha_t keep,  std = sigma_s sqrt(1 - q^(2 eta^2)),

    of the equation dx = (f x - (1 + eta^2)/2 g^2 score) dt + eta g dw: for eta = 0 the probability-flow ODE (this
    is `hold`), for eta = 1 the reverse SDE (this is `Gaussian.posterior`). Finite at both ends; out of alpha = 0,
    where log-SNR is infinite, any eta > 0 replaces all of the noise.
    Xue et al. 2023, "SA-Solver", with tau = eta.
    """
    ratio = schedule.sigma(s) / schedule.sigma(t)
    if eta == 0:
        return Carry(ratio, schedule.alpha(s) - schedule.alpha(t) * ratio, torch.zeros_like(ratio))
    log_q = half_log_snr(schedule, t) - half_log_snr(
        schedule, s
    )  # -inf where the step touches an infinite end
    keep = ratio * torch.exp(eta**2 * log_q)
    std = schedule.sigma(s) * torch.sqrt(-torch.expm1(2 * eta**2 * log_q))
    return Carry(keep, schedule.alpha(s) - schedule.alpha(t) * keep, std)


class Node(NamedTuple):
    """One evaluation: its time, its place in the variable of the polynomial, and the value (B, *S) found there."""

    t: Tensor
    place: Tensor
    value: Tensor


def recent(node: Node, past: Sequence[Node], count: int) -> tuple[Node, ...]:
    """The node and the newest of the past, `count` in all; what does not lie above it in time is forgotten."""
    return (node, *(p for p in past if bool((p.t > node.t).all())))[:count]


def interpolate(nodes: Sequence[Node], places: Tensor, weights: Tensor) -> Tensor:
    """sum_q weights_q p(places_q) for the polynomial p through the nodes; places and weights are (Q,) or (B, Q)."""
    total = torch.zeros_like(nodes[0].value)
    for node in nodes:
        others = (other.place[..., None] for other in nodes if other is not node)
        basis = math.prod((places - other) / (node.place[..., None] - other) for other in others)
        total = total + unsqueeze_like((weights * basis).sum(-1), total) * node.value
    return total


# of Gauss and Legendre on [0, 1]: times e^u they integrate cubics to rounding over 20 units of u
POINTS, WEIGHTS = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(20))
POINTS = (POINTS + 1) / 2


def average(
    nodes: Sequence[Node],
    a: Tensor,
    b: Tensor,
    rate: float = 0.0,
    place: Callable[[Tensor], Tensor] = lambda u: u,
) -> Tensor:
    """int_a^b e^(rate u) p(place(u)) du / int_a^b e^(rate u) du for the polynomial p through the nodes.

    In the values it is linear, with the weights of Adams and Bashforth for rate = 0 (Moulton, with a node at b),
    for steps of any lengths, and with quotients of phi-functions otherwise.

    Args:
        nodes: at distinct places; one alone is its own average, even where a or b is infinite.
        a, b: () or (B,).
        rate: of the weight.
        place: from u to the variable of the polynomial.
    """
    if len(nodes) == 1:
        return nodes[0].value
    u = torch.lerp(a[..., None], b[..., None], POINTS.to(a))
    weights = WEIGHTS.to(a) * torch.exp(rate * (u - b[..., None]))
    return interpolate(nodes, place(u), weights / weights.sum(-1, keepdim=True))
