"""DPM-Solver++ (2M): a two-step exponential method in half-log-SNR, one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Solver, Step, hold

__all__ = ["DPMpp2M"]


@dataclass(frozen=True)
class DPMpp2M(Solver):
    """x_s = (sigma_s/sigma_t) x_t - alpha_s (e^-h - 1) D,  D = (1 + 1/(2r)) x_0(t) - 1/(2r) x_0(previous),

    with h the step in log(alpha/sigma) and r the previous step over h. The first step, and any step that
    touches an infinite end, is first order, which leaves the global order at two. Best for: few steps.
    Lu et al. 2022, "DPM-Solver++", algorithm 2.
    """

    process = Gaussian
    order = 2
    evaluations = 1

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        process = denoiser.process
        x_0 = denoiser(x_t, t)
        l_t, l_s = process.schedule.log_snr(t) / 2, process.schedule.log_snr(s) / 2
        D = x_0
        if state is not None:
            previous, l_previous = state
            weight = (l_s - l_t) / (2 * (l_t - l_previous))
            if bool((weight.isfinite() & (weight > 0)).all()):
                D = x_0 + unsqueeze_like(weight, x_0) * (x_0 - previous)
        return Step(hold(process, x_t, D, t, s), x_0, (x_0, l_t))
