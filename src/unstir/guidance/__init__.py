"""Denoiser in, denoiser out; one file per method."""

from .base import Guided
from .classifier_free import ClassifierFree

__all__ = ["ClassifierFree", "Guided"]
