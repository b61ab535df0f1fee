"""The embedders: what a prompt is -> `Condition`, each beside the configuration that builds it."""

from __future__ import annotations

from .label import Label, LabelConfig

__all__ = ["Label", "LabelConfig"]
