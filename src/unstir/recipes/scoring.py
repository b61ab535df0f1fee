"""The settings of `unstir likelihood`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ..spec import Count, Range

__all__ = ["Scoring"]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """One call of `unstir likelihood`."""

    data: str | None = None
    """What to score: of the model's own data, which is the default, the items held out; of any other all."""
    heldout: Annotated[float, Range(ge=0, le=0.5)] | None = None
    """Share of the model's data that its training held out, where that was not left open; 0: score all of it."""
    against: str | None = None
    """Other data, made as large as the model's, that the scores should tell from the first."""
    n: Annotated[int, Range(ge=2, le=1_000_000)] = 100
    """How many items of each, spread evenly over the set."""
    method: Literal["bound", "discrete", "ode", "all"] = "bound"
    """Variational bound in continuous time, that of a chain, the probability-flow ODE, or all three."""
    steps: Annotated[int, Range(ge=2, le=100_000)] | None = None
    """Of the chain (discrete; 1000) or of the Runge-Kutta method (ode; 40, of four calls each)."""
    draws: Annotated[int, Range(ge=2, le=100_000)] | None = None
    """Times and noises per item (bound, discrete; 32, an even number), or runs of the ODE with their probes (2)."""
    end: Annotated[float, Range(ge=-20, le=20)] | None = None
    """Log-SNR at which the decoder takes over; None: what gives the lowest bound on a few items of training."""
    variable: Literal["snr", "time"] = "snr"
    """Times of the bounds: spread evenly in log(1 + SNR), or in t, for a chain the very times of the papers."""
    variance: Literal["lower", "upper", "learned"] = "lower"
    """Of the chain's reverse steps: right if x_0 were known, right if it were standard normal, or the model's own."""
    dequantise: Literal["variational", "uniform"] = "variational"
    """What fills the gaps between byte values for the ODE: the process' own noise, or uniform noise."""
    labels: bool = False
    """Tell the model the items' own labels, or captions; false: it does not know them."""
    seed: Annotated[int, Range(ge=0, lt=2**63)] = 0
    """Item i draws from stream i of the seed."""
    micro_batch: Count = 32
    """Items per call of the network."""
    out: str | None = None
    """Where each item's scores go: .csv or .npz."""
    roc: str | None = None
    """With against=: where the ROC curve goes, .svg."""
