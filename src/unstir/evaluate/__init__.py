"""What a model is worth, in numbers."""

from .heldout import HeldOut, heldout_loss

__all__ = ["HeldOut", "heldout_loss"]
