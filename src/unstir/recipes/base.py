"""Everything that decides a training run, in one value."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, TypeVar

import torch

from ..codecs import LatentConfig
from ..embedders import Augmentation, Patches, Spatial, TextEncoderConfig
from ..guidance import Rule
from ..networks import ClassifierConfig
from ..networks.base import NetworkConfig
from ..objectives import Objective
from ..parameterization import Parameterization
from ..process import Schedule
from ..solvers.base import Solver
from ..spec import Fraction, Range, complete
from ..train.optim import AdamW, Muon
from ..train.settings import Training

__all__ = ["Data", "Family", "Recipe", "Request", "Sampling", "System", "Task", "fill", "paced"]

Family = Literal["ddpm", "vp", "subvp", "ve", "edm", "flow", "cosine", "ncsn", "vdm"]
"""The names of `families.FAMILIES`."""
System = Literal["stable-diffusion", "stable-diffusion-3"]
"""The names of `systems.SYSTEMS`."""
Grid = Literal["uniform", "trailing", "log_snr", "karras", "shifted", "exponential", "beta", "optimised"]
Task = Literal["generate", "classifier", "upscale", "inpaint", "autoencoder", "decoder"]
Group = TypeVar("Group", "Data", Training, "Sampling", "Recipe")


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
    captions: bool | None = None
    """Learn to read prompts from the captions; None: where most items have one. Labels are not learned then."""
    max_bad: Fraction = 0.05
    """Share of files that may be unreadable before training is refused."""
    heldout: Annotated[float, Range(ge=0, le=0.5)] | None = None
    """Share of the items kept aside to measure the held-out loss; None: chosen from their number."""
    flip: bool | None = None
    """Show half of the pictures mirrored; None: only where that does not change what they mean."""
    buckets: bool = False
    """Train on the pictures of a folder in shapes near to their own, of about the same area, in place of squares."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn. None: what the model was trained to be sampled with."""

    solver: Solver | None = None
    """The method that steps from noise to data; see `unstir solvers`."""
    steps: Annotated[int, Range(ge=1, le=10_000)] | None = None
    """Steps of the solver; more are slower and nearer to the exact solution."""
    grid: Grid | None = None
    """Where on [0, 1] the steps fall; optimised: through `times`."""
    times: tuple[Fraction, ...] | None = None
    """Falling from 1 to 0, as `unstir tune` finds them; another number of steps is interpolated."""
    shift: Annotated[float, Range(gt=0, le=1000)] | None = None
    """More of the steps at high noise: sigma/alpha this many times larger; 1 = as the grid says, auto: by the size
    asked for, sqrt(positions / those of training)."""
    guidance: Annotated[float, Range(ge=0, le=100)] | None = None
    """How far from a weaker opinion: 1 = none, above 1 the label counts more and variety less."""
    interval: tuple[Fraction, Fraction] | None = None
    """The times between which guidance acts, as 0.2,0.8; 1 is noise."""
    rule: Rule | None = None
    """How guidance combines the two opinions; linear is the classic one."""
    weaker: str | None = None
    """Whose opinion guidance leaves: unconditional, attention or layers (the model without these; layers:3,4
    names blocks), or a worse model: RUN@STEP, another average of the weights, RUN@ema:0.2, or a file."""
    classifier: str | None = None
    """A classifier of noisy data that guidance follows in place of a weaker opinion: RUN, RUN@STEP or a file."""
    decoder: str | None = None
    """What decodes the latents in place of the model's own decoder: a run of task=decoder, RUN@STEP or a file."""
    threshold: Fraction | None = None
    """Dynamic thresholding at this quantile of |x_0|, as 0.995; 0 = off."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `unstir sample`."""

    n: Annotated[int, Range(ge=1, le=1_000_000)] | None = None
    """How many samples; None: one for each prompt, 16 without."""
    seed: Annotated[int, Range(ge=0, lt=2**63)] = 0
    """Sample i depends on seed + i alone."""
    label: int | str | tuple[int | str, ...] | None = None
    """A class, by number or name, or one for each sample; None: drawn as often as in training."""
    prompt: str | None = None
    """What the samples are to show, in words, for a model trained on captions; (word:1.3) counts more. "one | two", or
    @FILE with one prompt a line, are several, which the samples take in turn."""
    negative: int | str | None = None
    """A class, or words, for guidance to move away from, in place of none."""
    size: Annotated[int, Range(ge=2, le=4096)] | str | None = None
    """Side in pixels, or width x height as 96x64; None: that of the training data."""
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
    task: Task = "generate"
    """What is trained: a model that generates, a classifier of noisy data that guides one, a model that makes
    pictures larger or fills in what is unknown of them, an autoencoder, in whose space others generate (codec=), or
    another decoder for one, which draws the detail that latents do not hold."""
    codec: str = ""
    """The run of an autoencoder, RUN or RUN@STEP, in whose latent space the model works; "" = on the data itself.
    With task=decoder: whose latents are decoded."""
    system: System | None = None
    """A published system to train on this data (docs/text-to-image.md): its parts, where left open."""
    process: Family | None = None
    """A family of models (docs/families.md): schedule, parameterization, objective and sampling, where left open."""
    schedule: Schedule | None = None
    """How data becomes noise."""
    parameterization: Parameterization | None = None
    """What the network predicts."""
    network: NetworkConfig | ClassifierConfig | LatentConfig | None = None
    """The network and its size."""
    objective: Objective | None = None
    """What training minimises."""
    text: tuple[TextEncoderConfig, ...] | None = None
    """What reads the captions, one encoder or several: transformer, learned with the network, minilm or pretrained."""
    spatial: Spatial | None = None
    """What a model that restores is told of a picture: its low resolution, or its known part."""
    small_data: bool | None = None
    """Settings against copying, for few pictures (docs/small-data.md): on, off, or auto, by their number."""
    augment: Augmentation | None = None
    """Show pictures moved, turned and stretched, and tell the network how; samples are as the pictures are."""
    patches: Patches | None = None
    """Learn from parts of pictures as well."""
    optimizer: AdamW | Muon | None = None
    """The update rule."""
    training: Training = Training()
    sampling: Sampling = Sampling()


def fill(given: Group, measured: Group) -> Group:
    """`given` with its blanks, those of its groups included, as they are in `measured`.

    Fields alone, given for a component whose kind is open, complete the measured component.
    """

    def one(value: Any, other: Any) -> Any:
        return fill(value, other) if isinstance(value, (Data, Training, Sampling)) else complete(value, other)

    return replace(
        given, **{f.name: one(getattr(given, f.name), getattr(measured, f.name)) for f in fields(given)}
    )


def paced(training: Training, device: torch.device, *, batch: int, samples: int, every: int) -> Training:
    """The settings with their blanks filled: so long that it sees `samples`, unless steps or time are given."""
    batch = training.batch or batch
    endless = training.steps is None and training.time is None
    return replace(
        training,
        steps=math.ceil(samples / batch) if endless else training.steps,
        batch=batch,
        device=str(device),
        best=training.best or ("heldout_loss" if training.copies is None else "fid"),
        drop=0.1 if training.drop is None else training.drop,
        checkpoint_every=training.checkpoint_every or every,
        preview_every=training.preview_every or every,
        heldout_every=training.heldout_every or every,
    )
