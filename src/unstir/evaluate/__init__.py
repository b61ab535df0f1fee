"""What a model is worth, in numbers."""

from .accuracy import Accuracy
from .agreement import Agreement
from .balance import Balance
from .base import Drawn, Evidence, Finding, Metric, Number
from .bits_per_dim import BitsPerDim
from .calibration import Interval, coverage, interval
from .cmmd import CMMD
from .consistency import Consistency
from .encoder import Encoder, Raw
from .encoders import embedded, encoder_for
from .fid import FID
from .fidelity import fidelity, similarities
from .held_out_loss import HeldOutLoss
from .heldout import HeldOut, heldout_loss
from .inception_score import InceptionScore
from .kid import KID
from .latent_law import latent_law
from .maps import feature_maps
from .memorisation import Memorisation
from .neighbours import Neighbours, nearest
from .onnx import OnnxEncoder
from .prdc import PRDC
from .repetition import Repetition
from .retrieval import Retrieval
from .roc import Curve, roc
from .scores import Scores, score
from .similarity import psnr, seam_ratio, ssim
from .sliced_wasserstein import SlicedWasserstein
from .trained import Trained
from .two_towers import TwoTowers, two_towers

__all__ = [
    "CMMD",
    "FID",
    "KID",
    "PRDC",
    "Accuracy",
    "Agreement",
    "Balance",
    "BitsPerDim",
    "Consistency",
    "Curve",
    "Drawn",
    "Encoder",
    "Evidence",
    "Finding",
    "HeldOut",
    "HeldOutLoss",
    "InceptionScore",
    "Interval",
    "Memorisation",
    "Metric",
    "Neighbours",
    "Number",
    "OnnxEncoder",
    "Raw",
    "Repetition",
    "Retrieval",
    "Scores",
    "SlicedWasserstein",
    "Trained",
    "TwoTowers",
    "coverage",
    "embedded",
    "encoder_for",
    "feature_maps",
    "fidelity",
    "heldout_loss",
    "interval",
    "latent_law",
    "nearest",
    "psnr",
    "roc",
    "score",
    "seam_ratio",
    "similarities",
    "ssim",
    "two_towers",
]
