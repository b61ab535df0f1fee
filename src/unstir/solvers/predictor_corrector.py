"""Predictor-corrector: a step of any solver, then Langevin dynamics where it arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step
from .ddpm import DDPM
from .langevin import check_corrections, correct

__all__ = ["PredictorCorrector"]


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """x = predictor(x_t);  then x <- x + e score(x) + sqrt(2 e) z at s, `corrections` times, e = 2 (snr sigma_s)^2.

    The predictor moves to the next noise level, the corrector pulls x back to the law of that level, to within a
    share snr^2 of its variance that does not shrink with the steps: no order is claimed. No correction follows the
    step to sigma = 0. The predictor starts anew on every step. Best for: score-based models with 100 steps and more.
    Song et al. 2021, "Score-Based Generative Modeling through SDEs", algorithms 1 to 5; see `langevin.correct` for e.

    Args:
        predictor: any solver; DDPM is their ancestral sampling, EulerMaruyama their default.
        corrections: after each step, 1 or more.
        snr: size of a correction, 0 < snr < 1.
    """

    predictor: Solver = DDPM()
    corrections: int = 1
    snr: float = 0.16
    process = Gaussian
    order = None
    stochastic = True

    def __post_init__(self) -> None:
        check_corrections(self.corrections, self.snr)

    @property
    def evaluations(self) -> int | None:
        predictor = self.predictor
        if predictor.evaluations is None:
            return None
        return predictor.evaluations + predictor.startup + self.corrections

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        predicted = self.predictor.step(denoiser, x_t, t, s, None, noise)
        if bool((denoiser.schedule.sigma(s) == 0).any()):
            return Step(predicted.x, predicted.x_0)
        return correct(denoiser, predicted.x, s, self.snr, self.corrections, noise)
