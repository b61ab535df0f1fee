"""How much untrusted input may ask for: one object, passed to whatever reads such input.

The defaults are far above honest files and far below what hurts a small machine.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits"]

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper bounds, inclusive. Sizes in bytes, images in pixels."""

    header: int = 8 * MIB
    """JSON header of a safetensors file (the format itself allows 100 MB)."""
    tensors: int = 20_000
    """Tensors in one file; 300,000 empty ones would cost seconds and hundreds of MiB."""
    json: int = 64 * MIB
    """A JSON or YAML document."""
    pixels: int = 64_000_000
    """Width times height of one decoded image."""


LIMITS = Limits()
