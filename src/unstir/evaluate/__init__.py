"""What a model is worth, in numbers."""

from .heldout import HeldOut, heldout_loss
from .neighbours import Neighbours, nearest
from .roc import Curve, roc
from .scores import Scores, score

__all__ = ["Curve", "HeldOut", "Neighbours", "Scores", "heldout_loss", "nearest", "roc", "score"]
