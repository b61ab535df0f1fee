"""A trained model as one object and one file, and all that can be done with it."""

from .base import Pipeline, Samples, load

__all__ = ["Pipeline", "Samples", "load"]
