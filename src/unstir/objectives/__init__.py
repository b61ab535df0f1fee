"""loss(denoiser, batch, rng) -> (B,); one file per objective, weight and law of times."""

from .base import Objective
from .denoising import Denoising
from .draws import Draws, LogitNormal, LogNormal, Uniform
from .weights import EDMWeight, MinSNR, SigmoidWeight, Target, Unit, Weight

__all__ = [
    "Denoising",
    "Draws",
    "EDMWeight",
    "LogNormal",
    "LogitNormal",
    "MinSNR",
    "Objective",
    "SigmoidWeight",
    "Target",
    "Uniform",
    "Unit",
    "Weight",
]
