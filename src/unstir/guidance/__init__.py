"""Denoiser in, denoiser out; one file per method. Contrasts take a `Rule` for how two opinions become one."""

from .autoguidance import Autoguidance
from .base import Contrast, Guided, Linear, Rule
from .cfg_plus_plus import CFGPlusPlus
from .cfg_zero import CFGZero
from .classifier_free import ClassifierFree
from .gradient import ClassifierGuided, RewardGuided
from .perturbed import PerturbedAttention, SkipLayers
from .projected import Projected
from .rescaled import Rescaled
from .threshold import Threshold

__all__ = [
    "Autoguidance",
    "CFGPlusPlus",
    "CFGZero",
    "ClassifierFree",
    "ClassifierGuided",
    "Contrast",
    "Guided",
    "Linear",
    "PerturbedAttention",
    "Projected",
    "Rescaled",
    "RewardGuided",
    "Rule",
    "SkipLayers",
    "Threshold",
]
