"""loss(denoiser, batch, rng) -> (B,); one file per objective, weight and law of times."""

from .base import Objective
from .bound import Bound
from .classification import Classification
from .consistency import Consistency
from .denoising import Denoising
from .draws import Draws, LogitNormal, LogNormal, Uniform
from .hybrid import Hybrid
from .reconstruction import Reconstruction
from .weights import EDMWeight, MinSNR, SigmoidWeight, Target, Unit, Weight

__all__ = [
    "Bound",
    "Classification",
    "Consistency",
    "Denoising",
    "Draws",
    "EDMWeight",
    "Hybrid",
    "LogNormal",
    "LogitNormal",
    "MinSNR",
    "Objective",
    "Reconstruction",
    "SigmoidWeight",
    "Target",
    "Uniform",
    "Unit",
    "Weight",
]
