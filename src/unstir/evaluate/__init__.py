"""What a model is worth, in numbers."""

from .heldout import HeldOut, heldout_loss
from .neighbours import Neighbours, nearest

__all__ = ["HeldOut", "Neighbours", "heldout_loss", "nearest"]
