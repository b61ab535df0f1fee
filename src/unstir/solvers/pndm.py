"""PNDM: the weights of Adams and Bashforth for eps, the step of DDIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step
from .multistep import Eps, multistep

__all__ = ["PNDM"]


@dataclass(frozen=True)
class PNDM(Solver):
    """The step of DDIM with eps = (55 eps_t - 59 eps_{t+h} + 37 eps_{t+2h} - 9 eps_{t+3h}) / 24 on even times.

    On uneven times eps is the same average over t, of the cubic through the last four. The equation does not weight t
    evenly, so the order is two; `DEIS(variable="time")` has the right weight. It starts with fewer values, as iPNDM
    of Zhang & Chen 2023, not with the nine further calls of the paper's pseudo Runge-Kutta steps. Best for: comparison
    with published results.
    Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds", section 3.
    """

    process = Gaussian
    order = 2
    evaluations = 1

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        return multistep(Eps(denoiser.process, "time", "even"), 4, 0, denoiser, x_t, t, s, state)
