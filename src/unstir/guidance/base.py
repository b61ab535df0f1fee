"""Guidance: a denoiser in, a denoiser out."""

from __future__ import annotations

from ..denoiser import Denoiser
from ..process import Process

__all__ = ["Guided"]


class Guided(Denoiser):
    """A denoiser that wraps another and shares its process; they nest in any order."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    @property
    def process(self) -> Process:  # type: ignore[override]
        return self.denoiser.process
