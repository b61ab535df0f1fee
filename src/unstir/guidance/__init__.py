"""Denoiser in, denoiser out; one file per method.

Contrasts take a `Rule` for how two opinions become one, `Posterior` a `Method` for how a measurement is heeded.
"""

from .autoguidance import Autoguidance
from .base import Contrast, Guided, Linear, Rule
from .cfg_plus_plus import CFGPlusPlus
from .cfg_zero import CFGZero
from .classifier_free import ClassifierFree
from .ddnm import DDNM
from .gradient import ClassifierGuided, RewardGuided
from .perturbed import PerturbedAttention, SkipLayers
from .posterior import Method, Posterior
from .projected import Projected
from .rescaled import Rescaled
from .threshold import Threshold

__all__ = [
    "DDNM",
    "Autoguidance",
    "CFGPlusPlus",
    "CFGZero",
    "ClassifierFree",
    "ClassifierGuided",
    "Contrast",
    "Guided",
    "Linear",
    "Method",
    "PerturbedAttention",
    "Posterior",
    "Projected",
    "Rescaled",
    "RewardGuided",
    "Rule",
    "SkipLayers",
    "Threshold",
]
