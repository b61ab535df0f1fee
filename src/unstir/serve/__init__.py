"""Models over HTTP: a queue that survives, workers that may die, and a door.

The process that answers never imports torch; those that draw know nothing of the network.
"""

from .settings import Settings

__all__ = ["Settings"]
