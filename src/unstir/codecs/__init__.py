"""Data <-> x_0; one file per codec."""

from .base import Codec
from .scale import Identity, IdentityConfig, Scale, ScaleConfig

__all__ = ["Codec", "Identity", "IdentityConfig", "Scale", "ScaleConfig"]
