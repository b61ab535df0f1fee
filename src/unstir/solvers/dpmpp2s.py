"""DPM-Solver++ (2S): the exponential midpoint rule in half-log-SNR, two evaluations per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Solver, Step, check_range
from .exponential import carry

__all__ = ["DPMpp2S"]


@dataclass(frozen=True)
class DPMpp2S(Solver):
    """x_s = carry(x_t, x_0 at m),  x_m = carry(x_t, x_0 at t),  log_snr(m) = (log_snr(t) + log_snr(s)) / 2.

    With eta > 0 both halves of the step add their noise, the first before the denoiser is asked at m, which keeps the
    weak order at two; eta = 1 is known as "DPM++ SDE". A step that touches an infinite end is first order and costs one
    call. Best for: second order without a history, and fresh noise.
    Lu et al. 2022, "DPM-Solver++", algorithm 1 with r = 1/2.

    Args:
        eta: share of fresh noise, 0 <= eta <= 1; 0 is the ODE, 1 the reverse SDE.
    """

    eta: float = 0.0
    process = Gaussian
    order = 2
    evaluations = 2

    def __post_init__(self) -> None:
        check_range("eta", self.eta, 0, 1)

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    @property
    def pure(self) -> bool:
        return self.eta == 0

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        schedule = denoiser.schedule
        x_0, whole = denoiser(x_t, t), carry(schedule, t, s, self.eta)
        middle = (schedule.log_snr(t) + schedule.log_snr(s)) / 2
        if not bool(middle.isfinite().all()):
            return Step(whole(x_t, x_0, noise.between(t, s) if self.stochastic else None), x_0)
        m = schedule.time(middle)
        first = carry(schedule, t, m, self.eta)
        if not self.stochastic:
            return Step(whole(x_t, denoiser(first(x_t, x_0), m)), x_0)
        second, z = carry(schedule, m, s, self.eta), noise.between(t, m)
        x_s = whole(x_t, denoiser(first(x_t, x_0, z), m))
        old, new = unsqueeze_like(second.keep * first.std, x_t), unsqueeze_like(second.std, x_t)
        return Step(x_s + old * z + new * noise.between(m, s), x_0)
