"""Training: the loop, its settings, and what listens to it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint as Checkpoint, Checkpointer as Checkpointer, load_latest as load_latest
    from .ema import EMA as EMA
    from .metrics import MetricsLog as MetricsLog
    from .optim import AdamW as AdamW, Muon as Muon
    from .progress import Progress as Progress
    from .settings import Training as Training
    from .signals import StopSignals as StopSignals
    from .snapshots import Averages as Averages, Snapshots as Snapshots
    from .trainer import (
        Trainer as Trainer,
        TrainState as TrainState,
        TrainStep as TrainStep,
        flushing as flushing,
        network_dtype as network_dtype,
    )

# looked up when first used: settings must be readable without importing torch
_HOMES = {
    "EMA": "ema",
    "AdamW": "optim",
    "Averages": "snapshots",
    "Checkpoint": "checkpoint",
    "Checkpointer": "checkpoint",
    "MetricsLog": "metrics",
    "Muon": "optim",
    "Progress": "progress",
    "Snapshots": "snapshots",
    "StopSignals": "signals",
    "TrainState": "trainer",
    "TrainStep": "trainer",
    "Trainer": "trainer",
    "Training": "settings",
    "flushing": "trainer",
    "load_latest": "checkpoint",
    "network_dtype": "trainer",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
