"""Adams-Bashforth: the classic multistep method, one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step, Variable, check_choice
from .multistep import Framed, multistep

__all__ = ["AdamsBashforth"]


@dataclass(frozen=True)
class AdamsBashforth(Solver):
    """y_s = y_t + int_{h(t)}^{h(s)} p dh, p the polynomial through the last `order` slopes dy/dh, in a `Frame`.

    The weights are exact for steps of any lengths. variable = "sigma" is the linear multistep method (LMS) of
    k-diffusion, and DEIS with polynomials in sigma/alpha (rho-AB). With order 1 it would be `Euler`. Best for: flow
    models and fine grids, where one call a step has to give a high order.
    Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section III.5.

    Args:
        order: past slopes in use; the first step makes order - 2 further calls.
        variable: "angle", "sigma" or "time".
    """

    order: Literal[2, 3, 4] = 2
    variable: Variable = "angle"
    process = Gaussian
    evaluations = 1

    def __post_init__(self) -> None:
        check_choice("order", self.order, 2, 3, 4)

    @property
    def startup(self) -> int:
        return self.order - 2

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        form = Framed(denoiser.process, self.variable)
        return multistep(form, self.order, self.startup, denoiser, x_t, t, s, state)
