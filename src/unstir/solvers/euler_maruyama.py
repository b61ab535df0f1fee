"""Euler-Maruyama on the reverse stochastic differential equation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Frame, Solver, Step, Variable, hold

__all__ = ["EulerMaruyama"]


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """y_s = y_t + (h_s - h_t) (dy/dh + noise^2 k eps) + noise sqrt(2 b k |h_s - h_t|) z in a `Frame`,

    with b = sigma/scale and k = b d log(sigma/alpha)/dh. For noise = 1 and variable = "time" that is the reverse SDE
    dx = (f x - g^2 score) dt + g dW, f = d log alpha/dt, g^2 = -sigma^2 d log_snr/dt. Every noise has the same law
    at every t; 0 is the probability-flow ODE and `Euler`. A step out of alpha = 0, where g is infinite, draws
    alpha_s x_0 + sigma_s z. Best for: many steps on variance-exploding and variance-preserving schedules.
    Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 6; Huang et al. 2021, "A Variational
    Perspective on Diffusion-Based Generative Models", section 4, for any noise.

    Args:
        noise: 0 <= noise <= 10.
        variable: "angle", "sigma" or "time".
    """

    noise: float = 1.0
    variable: Variable = "time"
    process = Gaussian
    order = 1
    evaluations = 1

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 10:
            raise ConfigError(
                f"noise is {self.noise}",
                field="solver.noise",
                hint="accepted: 0 <= noise <= 10; 1 is the reverse SDE",
            )

    @property
    def stochastic(self) -> bool:
        return self.noise > 0

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        frame = Frame(self.variable, process)
        x_0 = denoiser(x_t, t)
        z = noise.between(t, s) if self.stochastic else torch.zeros_like(x_t)
        if frame.touches_end(t, s) or (self.stochastic and bool((process.schedule.alpha(t) == 0).any())):
            alpha_s, sigma_s = process.scales(s, x_t)
            x_s = alpha_s * x_0 + sigma_s * z if self.stochastic else hold(process, x_t, x_0, t, s)
            return Step(x_s, x_0)
        slope = frame.slope(x_t, x_0, t)
        if not self.stochastic:
            return Step(frame.advance(x_t, slope, t, s), x_0)
        b, k = self._spread(frame, t)
        slope = slope + self.noise**2 * unsqueeze_like(k, x_t) * process.eps(x_t, x_0, t)
        length = (frame.coordinate(s) - frame.coordinate(t)).abs()
        std = self.noise * math.sqrt(2) * torch.sqrt(b * k * length) * frame.scale(s)
        return Step(frame.advance(x_t, slope, t, s) + unsqueeze_like(std, x_t) * z, x_0)

    def _spread(self, frame: Frame, t: Tensor) -> tuple[Tensor, Tensor]:
        """b and k of the docstring."""
        schedule = frame.process.schedule
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        scale = frame.scale(t)
        match frame.variable:
            case "sigma":
                k = torch.ones_like(t)
            case "angle":
                k = scale / alpha
            case "time":
                k = schedule.dsigma(t) - sigma * schedule.dalpha(t) / alpha
        return sigma / scale, k
