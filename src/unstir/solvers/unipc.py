"""UniPC: predictor and corrector from one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from .base import Bound, Solver, Step, check_choice
from .dpmpp2m import midpoint
from .multistep import Data, corrected

__all__ = ["UniPC"]


@dataclass(frozen=True)
class UniPC(Solver):
    """x_s = (sigma_s/sigma_t) x_t + sigma_s int e^l p(l) dl over l = log(alpha/sigma), from t to s,

    with p the polynomial through the last `predictor` x_0. When the denoiser has been asked at s the step is taken
    again, p now through the same values and the answer: an order of predictor + 1 from the same number of calls.
    A line is not integrated: its slope adds alpha_s h B(h)/2 times itself, h the step in l. Best for: few steps.
    Zhao et al. 2023, "UniPC", algorithms 1 and 2; the "order" of its code is `predictor`.

    Args:
        predictor: values in use by the predictor, 1, 2 or 3. With 3 the first step makes two further calls.
        variant: B(h), "bh1" is h, "bh2" 1 - e^-h. It matters to lines alone, with predictor = 3 to the start.
    """

    predictor: Literal[1, 2, 3] = 2
    variant: Literal["bh1", "bh2"] = "bh2"
    process = Gaussian
    evaluations = 1

    def __post_init__(self) -> None:
        check_choice("predictor", self.predictor, 1, 2, 3)
        check_choice("variant", self.variant, "bh1", "bh2")

    @property
    def order(self) -> int:
        return self.predictor + 1

    @property
    def startup(self) -> int:
        return 2 if self.predictor == 3 else 0

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        form = Data(denoiser.process, noise, line=midpoint if self.variant == "bh2" else _later)
        return corrected(form, self.predictor, self.predictor, self.startup, denoiser, x_t, t, s, state)


def _later(h: Tensor) -> Tensor:
    return -h / torch.expm1(-h) / 2
