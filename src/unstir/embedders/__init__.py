"""The embedders: what a prompt or a measurement is -> `Condition`."""

from __future__ import annotations

from .base import Spatial
from .label import Label, LabelConfig
from .low_resolution import LowResolution
from .masked import Masked

__all__ = ["Label", "LabelConfig", "LowResolution", "Masked", "Spatial"]
