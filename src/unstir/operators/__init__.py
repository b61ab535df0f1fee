"""y = A x_0 + n: what can be known of data; one file per operator."""

from .base import SVD, Measurement, Operator
from .mask import Mask
from .matrix import Matrix
from .noise import GaussianNoise, PoissonNoise

__all__ = [
    "SVD",
    "GaussianNoise",
    "Mask",
    "Matrix",
    "Measurement",
    "Operator",
    "PoissonNoise",
]
