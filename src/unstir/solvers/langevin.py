"""Langevin dynamics: moving within the law of one noise level, and annealed through falling ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step

__all__ = ["Langevin", "check_corrections", "correct"]


def correct(denoiser: Bound, x_t: Tensor, t: Tensor, snr: float, corrections: int, noise: Noise) -> Step:
    """x <- x + e score(x) + sqrt(2 e) z with e = 2 (snr sigma)^2, as often as asked: x moves within q(x_t).

    Where x_t is normal with variance V, that widens it by 1 / (1 - (snr sigma)^2 / V), at most 1 / (1 - snr^2). The
    published e = 2 (snr |z| / |score|)^2 is this one where |eps| = sigma |score| is |z|, as in pictures it nearly
    is; as written it lets neighbours in a batch change a sample, and has no bound in few dimensions.
    Song et al. 2021, "Score-Based Generative Modeling through SDEs", algorithms 4 and 5.
    """
    process = denoiser.process
    sigma = process.scales(t, x_t)[1]
    for i in range(corrections):
        x_0 = denoiser(x_t, t)
        drift = 2 * snr**2 * sigma * process.eps(x_t, x_0, t)
        x_t = x_t - drift + 2 * snr * sigma * noise.fresh("langevin", t, i)
    return Step(x_t, x_0)


def check_corrections(corrections: int, snr: float) -> None:
    """Raises ConfigError unless they are in range."""
    if corrections < 1:
        raise ConfigError(
            f"corrections is {corrections}", field="solver.corrections", hint="accepted: 1 or more"
        )
    if not 0 < snr < 1:
        raise ConfigError(f"snr is {snr}", field="solver.snr", hint="accepted: 0 < snr < 1, e.g. 0.16")


@dataclass(frozen=True)
class Langevin(Solver):
    """x is carried from t to s as it is and corrected there: x <- x + e score(x) + sqrt(2 e) z, e = 2 (snr sigma_s)^2.

    Annealed Langevin dynamics, the sampler of noise-conditional score networks. It follows no differential equation
    and has no order. Their e_i = epsilon sigma_i^2 / (2 sigma_L^2) is snr = sqrt(epsilon) / (2 sigma_L), which is 0.22
    for the published values. The step to sigma = 0 returns alpha x_0. Best for: score-based models as they were first
    sampled, with many levels on `Geometric`.
    Song & Ermon 2019, "Generative Modeling by Estimating Gradients of the Data Distribution", algorithm 1.

    Args:
        corrections: at each level, 1 or more.
        snr: size of a correction, 0 < snr < 1; the law is too wide by about snr^2.
    """

    corrections: int = 10
    snr: float = 0.2
    process = Gaussian
    order = None
    stochastic = True

    def __post_init__(self) -> None:
        check_corrections(self.corrections, self.snr)

    @property
    def evaluations(self) -> int:
        return self.corrections

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        alpha_s, sigma_s = denoiser.process.scales(s, x_t)
        if bool((sigma_s == 0).any()):
            x_0 = denoiser(x_t, t)
            return Step(alpha_s * x_0, x_0)
        return correct(denoiser, x_t, s, self.snr, self.corrections, noise)
