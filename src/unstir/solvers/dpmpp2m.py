"""DPM-Solver++ (2M): a two-step exponential method in half-log-SNR, one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step, check_range
from .multistep import Data, multistep

__all__ = ["DPMpp2M"]


def midpoint(h: Tensor) -> Tensor:
    return torch.full_like(h, 0.5)


@dataclass(frozen=True)
class DPMpp2M(Solver):
    """x_s = (sigma_s/sigma_t) x_t - alpha_s (e^-h - 1) D,  D = (1 + 1/(2r)) x_0(t) - 1/(2r) x_0(previous),

    with h the step in log(alpha/sigma) and r the previous step over h: D is the line through the last two x_0 at the
    middle of the step. The first step, and any step that touches an infinite end, is first order, which leaves the
    global order at two. With eta > 0, see `carry`, fresh noise is added and the order is a weak one. Best for: few
    steps.
    Lu et al. 2022, "DPM-Solver++", algorithm 2; with eta = 1 its SDE-DPM-Solver++(2M).

    Args:
        eta: share of fresh noise, 0 <= eta <= 1; 0 is the ODE, 1 the reverse SDE.
    """

    eta: float = 0.0
    process = Gaussian
    order = 2
    evaluations = 1

    def __post_init__(self) -> None:
        check_range("eta", self.eta, 0, 1)

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        form = Data(denoiser.process, noise, self.eta, line=midpoint)
        return multistep(form, 2, 0, denoiser, x_t, t, s, state)
