"""Everything that decides a training run, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ..networks.base import NetworkConfig
from ..objectives import Objective
from ..parameterization import Parameterization
from ..process import Schedule
from ..solvers.base import Solver
from ..spec import Fraction, Range
from ..train.optim import AdamW, Muon
from ..train.settings import Training

__all__ = ["Data", "Recipe", "Request", "Sampling"]


@dataclass(frozen=True, kw_only=True)
class Data:
    """What to learn from, and in which form."""

    source: str
    """A folder, a file (.npz, IDX) or a built-in name: digits, emoji, fashion-mnist, points:NAME."""
    size: Annotated[int, Range(ge=2, le=4096)] | None = None
    """Side of the pictures in pixels; None: that of the data, within reason."""
    channels: Literal[1, 3] | None = None
    """1 = grey, 3 = colour; None: what the data has."""
    labels: bool = True
    """Learn the classes of labelled data; false: treat it as unlabelled."""
    max_bad: Fraction = 0.05
    """Share of files that may be unreadable before training is refused."""
    heldout: Annotated[float, Range(ge=0, le=0.5)] | None = None
    """Share of the items kept aside to measure the held-out loss; None: chosen from their number."""
    flip: bool | None = None
    """Show half of the pictures mirrored; None: only where that does not change what they mean."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn. None: what the model was trained to be sampled with."""

    solver: Solver | None = None
    """The method that steps from noise to data; see `unstir solvers`."""
    steps: Annotated[int, Range(ge=1, le=10_000)] | None = None
    """Steps of the solver; more are slower and nearer to the exact solution."""
    grid: Literal["uniform", "trailing", "log_snr", "karras", "shifted"] | None = None
    """Where on [0, 1] the steps fall."""
    guidance: Annotated[float, Range(ge=0, le=100)] | None = None
    """Classifier-free guidance: 1 = none, above 1 the label counts more and variety less."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `unstir sample`."""

    n: Annotated[int, Range(ge=1, le=1_000_000)] = 16
    """How many samples."""
    seed: Annotated[int, Range(ge=0, lt=2**63)] = 0
    """Sample i depends on seed + i alone."""
    label: int | str | tuple[int | str, ...] | None = None
    """A class, by number or name, or one for each sample; None: drawn as often as in training."""
    size: Annotated[int, Range(ge=2, le=4096)] | None = None
    """Side in pixels; None: that of the training data."""
    out: str | None = None
    """Where to write: .png a sheet (n=1: the bare picture), .npz arrays, .gif a movie, or a folder/."""
    movie: bool = False
    """Write the denoising itself, as a .gif: x_t beside the denoiser's guess of x_0."""
    exact: bool | None = None
    """Neighbours in a batch cannot change a bit of a sample; None: on a CPU only, where it costs little."""
    sampling: Sampling = Sampling()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a training run. None: chosen from measured properties; a resolved recipe holds none.

    While it is being filled in, a component may also be a `spec.Partial`: some of its fields, its kind open.
    """

    data: Data
    schedule: Schedule | None = None
    """How data becomes noise."""
    parameterization: Parameterization | None = None
    """What the network predicts."""
    network: NetworkConfig | None = None
    """The network and its size."""
    objective: Objective | None = None
    """What training minimises."""
    optimizer: AdamW | Muon | None = None
    """The update rule."""
    training: Training = Training()
    sampling: Sampling = Sampling()
