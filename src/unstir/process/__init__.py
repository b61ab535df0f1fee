"""q(x_t | x_0), q(x_t | x_s) and q(x_s | x_t, x_0): how data becomes noise."""

from .base import Process, Schedule
from .gaussian import Gaussian, Normal
from .learned import BetaVector, BetaVectorConfig, Learned, Monotone, MonotoneConfig
from .schedule import (
    EDM,
    VP,
    BetaLinear,
    Cosine,
    Geometric,
    Linear,
    Shifted,
    Sigmoid,
    SubVP,
    ZeroTerminal,
)

__all__ = [
    "EDM",
    "VP",
    "BetaLinear",
    "BetaVector",
    "BetaVectorConfig",
    "Cosine",
    "Gaussian",
    "Geometric",
    "Learned",
    "Linear",
    "Monotone",
    "MonotoneConfig",
    "Normal",
    "Process",
    "Schedule",
    "Shifted",
    "Sigmoid",
    "SubVP",
    "ZeroTerminal",
]
