"""y = A x_0 + n: what can be known of data; one file per operator."""

from .base import SVD, Measurement, Operator
from .blur import Blur
from .clip import Clip
from .colour import Colour
from .crop import Crop
from .decoded import Decoded
from .downsample import Downsample
from .grayscale import Grayscale
from .hdr import HDR
from .jpeg import JPEG
from .kernel import Kernel
from .mask import Mask
from .matrix import Matrix
from .motion_blur import MotionBlur
from .noise import GaussianNoise, PoissonNoise
from .phase import Phase
from .random_pixels import RandomPixels
from .sensing import Sensing

__all__ = [
    "HDR",
    "JPEG",
    "SVD",
    "Blur",
    "Clip",
    "Colour",
    "Crop",
    "Decoded",
    "Downsample",
    "GaussianNoise",
    "Grayscale",
    "Kernel",
    "Mask",
    "Matrix",
    "Measurement",
    "MotionBlur",
    "Operator",
    "Phase",
    "PoissonNoise",
    "RandomPixels",
    "Sensing",
]
