"""q(x_t | x_0), q(x_t | x_s) and q(x_s | x_t, x_0): how data becomes noise."""

from .base import Process, Schedule
from .gaussian import Gaussian, Normal
from .schedule import EDM, BetaLinear, Cosine, Geometric, Linear, Shifted, Sigmoid, ZeroTerminal

__all__ = [
    "EDM",
    "BetaLinear",
    "Cosine",
    "Gaussian",
    "Geometric",
    "Linear",
    "Normal",
    "Process",
    "Schedule",
    "Shifted",
    "Sigmoid",
    "ZeroTerminal",
]
