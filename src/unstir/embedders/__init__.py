"""The embedders: what a prompt or a measurement is -> `Condition`."""

from __future__ import annotations

from .augmentation import Augmentation
from .base import Spatial
from .label import Label, LabelConfig
from .low_resolution import LowResolution
from .masked import Masked
from .patches import Patches

__all__ = ["Augmentation", "Label", "LabelConfig", "LowResolution", "Masked", "Patches", "Spatial"]
