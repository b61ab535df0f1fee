"""What a model is worth, in numbers."""

from .base import Drawn, Evidence, Finding, Metric, Number
from .calibration import Interval, coverage, interval
from .encoder import Encoder, Raw
from .fid import FID
from .heldout import HeldOut, heldout_loss
from .neighbours import Neighbours, nearest
from .roc import Curve, roc
from .scores import Scores, score
from .similarity import psnr, seam_ratio, ssim

__all__ = [
    "FID",
    "Curve",
    "Drawn",
    "Encoder",
    "Evidence",
    "Finding",
    "HeldOut",
    "Interval",
    "Metric",
    "Neighbours",
    "Number",
    "Raw",
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
