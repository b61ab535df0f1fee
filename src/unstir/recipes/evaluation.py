"""The settings of `unstir evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ..evaluate import Metric
from ..spec import Count, Range
from .base import Sampling

__all__ = ["Evaluation"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One call of `unstir evaluate`."""

    data: str | None = None
    """What to compare with; None: what the model was trained on."""
    heldout: Annotated[float, Range(ge=0, le=0.5)] | None = None
    """Share of that data which training held out, where it was not left open."""
    real: Literal["train", "heldout"] = "train"
    """Which part of it samples are compared with; training data is the convention of published numbers."""
    n: Annotated[int, Range(ge=2, le=1_000_000)] | None = None
    """How many samples; distances are the surer, and the less biased, the more there are. None: 1,000, or all that
    were given in place of a model."""
    seed: Annotated[int, Range(ge=0, lt=2**63)] = 0
    """Sample i depends on seed + i."""
    label: int | str | None = None
    """Samples of one class alone; None: classes as often as in training."""
    prompts: Literal["train", "heldout"] = "train"
    """Whose captions a model that reads is given, each as often as in training: of what it was trained on, or of what
    was held out."""
    prompt: str | None = None
    """Samples of one prompt alone, for a model that reads."""
    metrics: tuple[Metric, ...] | None = None
    """Which; None: all that apply, without the dear ones. A metric's own settings follow colons: fid,prdc:k=3"""
    features: str | None = None
    """What is compared: pixels, or an encoder's .onnx file; None: an encoder trained on the data, and kept for it."""
    sweep: Literal["ema", "guidance", "steps"] | None = None
    """Measure once for each of several averages of the weights, guidance scales or numbers of steps, and say which is
    best."""
    values: tuple[Annotated[float, Range(ge=0)], ...] | None = None
    """With sweep=: which ones, as 1,2,4; None: some around the model's own."""
    out: str | None = None
    """A folder for the results; None: eval/ in the run, or in the model file's folder; of the shipped model, here."""
    exact: bool = False
    """Draw as `unstir sample` does, so that neighbours in a batch cannot change a bit; slower."""
    micro_batch: Count = 100
    """Samples that are drawn at once."""
    sampling: Sampling = Sampling()
