"""SA-Solver: stochastic Adams methods, predictor and corrector from one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step, check_range
from .multistep import Data, corrected

__all__ = ["SASolver"]


@dataclass(frozen=True)
class SASolver(Solver):
    """x_s = carry(x_t, D) with eta = tau,  D = int e^((1 + tau^2) l) p(l) dl / int e^((1 + tau^2) l) dl from t to s,

    with l = log(alpha/sigma) and p the polynomial through the last `predictor` x_0. When the denoiser has been asked
    at s the step is taken again with the same noise, p now through `corrector` of them and the answer. tau = 1 is the
    reverse SDE. The weak order is two for polynomials of any degree: what they remember holds noise as well, and only
    where there is little of it higher degrees gain more. Best for: fresh noise at 20 to 100 steps.
    Xue et al. 2023, "SA-Solver", algorithm 1.

    Args:
        predictor: values in use by the predictor, 1 to 4.
        corrector: earlier values in use by the corrector, 1 to 4.
        tau: strength of the noise, 0 < tau <= 2.
    """

    predictor: int = 2
    corrector: int = 2
    tau: float = 1.0
    process = Gaussian
    order = 2
    evaluations = 1
    stochastic = True

    def __post_init__(self) -> None:
        check_range("predictor", self.predictor, 1, 4)
        check_range("corrector", self.corrector, 1, 4)
        if not 0 < self.tau <= 2:
            hint = "accepted: 0 < tau <= 2; UniPC is the same without noise"
            raise ConfigError(f"tau is {self.tau}", field="solver.tau", hint=hint)

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        form = Data(denoiser.process, noise, self.tau)
        return corrected(form, self.predictor, self.corrector, 0, denoiser, x_t, t, s, state)
