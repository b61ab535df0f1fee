"""The page: static files that talk to the server over HTTP alone."""

from pathlib import Path

__all__ = ["STATIC"]

STATIC = Path(__file__).parent / "static"
