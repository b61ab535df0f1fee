"""Which method is taken for a measurement where none is asked for."""

from __future__ import annotations

from ..operators import Measurement
from .ddrm import DDRM
from .diffpir import DiffPIR
from .dps import DPS
from .mmps import MMPS
from .posterior import Method

__all__ = ["choose"]

MANY = 16
"""Windows from which on gradients through the network take minutes on a processor."""


def choose(measurement: Measurement, windows: int = 1) -> tuple[Method, str]:
    """The method for the operator and the noise, and why, in words: what was best in docs/restoration.md.

    Args:
        measurement: y = A x_0 + n.
        windows: in how many the picture is made; many rule out what goes back through the network.
    """
    operator = measurement.operator
    if not operator.linear:
        return DPS(), f"{operator.title} is not linear, and this takes every operator"
    if windows < MANY and measurement.variance.ndim:
        return DPS(), "the noise is not the same everywhere, and this asks least of its size"
    if windows < MANY:
        noise = "without noise" if measurement.noiseless else "with noise"
        return MMPS(), f"linear, {noise}: the model's own uncertainty says what y can still change"
    fast = f"{windows} windows: fast, since it needs no gradient of the network"
    shape = operator.source(tuple(measurement.y.shape[1:]))
    known = shape is not None and operator.svd(measurement.y.new_zeros(1, *shape)) is not None
    return (DDRM() if known and measurement.variance.ndim == 0 else DiffPIR()), fast
