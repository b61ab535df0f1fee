"""DEIS: exponential Adams-Bashforth on the noise, one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step, check_choice
from .multistep import Eps, multistep

__all__ = ["DEIS"]


@dataclass(frozen=True)
class DEIS(Solver):
    """x_s/alpha_s = x_t/alpha_t + int p d(sigma/alpha), p the polynomial through the last `order` eps.

    p is a polynomial in log(sigma/alpha), or in t (the tAB of the paper); one in sigma/alpha (rho-AB) is
    `AdamsBashforth(variable="sigma")`, and with order 1 all of them would be DDIM. Best for: few steps.
    Zhang & Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator", section 3.

    Args:
        order: past values in use; the first step makes order - 2 further calls.
        variable: "log_snr" or "time".
    """

    order: Literal[2, 3] = 3
    variable: Literal["log_snr", "time"] = "log_snr"
    process = Gaussian
    evaluations = 1

    def __post_init__(self) -> None:
        check_choice("order", self.order, 2, 3)
        check_choice("variable", self.variable, "log_snr", "time")

    @property
    def startup(self) -> int:
        return self.order - 2

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        form = Eps(denoiser.process, self.variable)
        return multistep(form, self.order, self.startup, denoiser, x_t, t, s, state)
