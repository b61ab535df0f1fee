"""Denoiser in, denoiser out; one file per method.

Contrasts take a `Rule` for how two opinions become one, `Posterior` a `Method` for how a measurement is heeded.
"""

from .annealed import AnnealedLikelihood
from .autoguidance import Autoguidance
from .base import Contrast, Guided, Linear, Rule
from .cfg_plus_plus import CFGPlusPlus
from .cfg_zero import CFGZero
from .classifier_free import ClassifierFree
from .ddnm import DDNM
from .ddrm import DDRM
from .diffpir import DiffPIR
from .dps import DPS
from .gradient import ClassifierGuided, RewardGuided
from .mmps import MMPS
from .perturbed import PerturbedAttention, SkipLayers
from .pigdm import PiGDM
from .posterior import Method, Posterior
from .projected import Projected
from .replacement import Replacement
from .rescaled import Rescaled
from .tds import TDS
from .threshold import Threshold
from .tiled import Tiled

__all__ = [
    "DDNM",
    "DDRM",
    "DPS",
    "MMPS",
    "TDS",
    "AnnealedLikelihood",
    "Autoguidance",
    "CFGPlusPlus",
    "CFGZero",
    "ClassifierFree",
    "ClassifierGuided",
    "Contrast",
    "DiffPIR",
    "Guided",
    "Linear",
    "Method",
    "PerturbedAttention",
    "PiGDM",
    "Posterior",
    "Projected",
    "Replacement",
    "Rescaled",
    "RewardGuided",
    "Rule",
    "SkipLayers",
    "Threshold",
    "Tiled",
]
