"""What a model is worth, in numbers."""

from .calibration import Interval, coverage, interval
from .heldout import HeldOut, heldout_loss
from .neighbours import Neighbours, nearest
from .roc import Curve, roc
from .scores import Scores, score
from .similarity import psnr, seam_ratio, ssim

__all__ = [
    "Curve",
    "HeldOut",
    "Interval",
    "Neighbours",
    "Scores",
    "coverage",
    "heldout_loss",
    "interval",
    "nearest",
    "psnr",
    "roc",
    "score",
    "seam_ratio",
    "ssim",
]
