"""The settings of `unstir edit`, `unstir upscale` and `unstir restore`."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Annotated, Literal

from ..guidance import Method
from ..operators import Operator
from ..spec import Range
from .base import Sampling

__all__ = ["Edit", "Restore", "Upscale"]


@dataclass(frozen=True, kw_only=True)
class Drawing(ABC):  # noqa: B024  settings have no methods
    """What the three have in common: samples that agree with a picture."""

    n: Annotated[int, Range(ge=1, le=10_000)] = 1
    """How many samples; several show what the picture leaves open."""
    seed: Annotated[int, Range(ge=0, lt=2**63)] = 0
    """Sample i depends on seed + i alone."""
    label: int | str | None = None
    """A class, by number or name; None: the model is told none."""
    prompt: str | None = None
    """What the picture is to show, in words, for a model trained on captions; (word:1.3) counts more; None: anything
    that fits."""
    negative: int | str | None = None
    """A class, or words, for guidance to move away from, in place of none."""
    method: Method | None = None
    """How the model is told of the picture; auto: chosen by operator and noise, and the choice is explained."""
    tile: Annotated[int, Range(ge=2, le=4096)] | None = None
    """Side in pixels of the windows in which a picture larger than the model is done; None: the model's own."""
    overlap: Annotated[int, Range(ge=0, le=4095)] | None = None
    """Pixels that neighbouring windows share; None: half a window."""
    uncertainty: bool = False
    """With n=2 or more: also write the mean of the samples and their standard deviation at every pixel."""
    out: str | None = None
    """Where to write: .png (n=1 the bare picture, else a sheet), .npz arrays, or a folder/; None: named after the
    input."""
    sampling: Sampling = Sampling()


@dataclass(frozen=True, kw_only=True)
class Edit(Drawing):
    """One call of `unstir edit`."""

    mask: str | None = None
    """A picture of the same size: what is white in it is painted anew, all else stays as it is, byte for byte. On a
    transparent layer what is opaque is painted, where it is of one colour, and what is white where it is black and
    white; of a picture with a transparent hole, the hole."""
    extend: str | None = None
    """Outpainting: pixels to add on each side, as right:16 or left:8,right:8; sides are left, right, top, bottom."""
    strength: Annotated[float, Range(gt=0, le=1)] | None = None
    """How much of what is painted anew may change, from the time at which it starts: 1 is noise, all new."""
    feather: Annotated[int, Range(ge=1, le=4096)] | None = None
    """Pixels over which a difference in colour at the border of the mask fades; None: up to the next border."""


@dataclass(frozen=True, kw_only=True)
class Upscale(Drawing):
    """One call of `unstir upscale`."""

    scale: Annotated[int, Range(ge=2, le=64)] | None = None
    """Times the height and the width; None: what the model was trained for, else 2."""
    kernel: Literal["box", "bicubic"] | None = None
    """How the picture is thought to have been made small; None: as the model was trained for, else bicubic."""
    reference: str | None = None
    """The true large picture, to measure PSNR and SSIM against."""


@dataclass(frozen=True, kw_only=True)
class Restore(Drawing):
    """One call of `unstir restore`."""

    operator: Operator | Literal["mask", "kernel"]
    """What was done to the picture, as blur:sigma=2; mask and kernel are read from the files mask= and kernel=."""
    mask: str | None = None
    """With operator=mask: a picture of the same size, white where nothing is known; transparency as in unstir edit."""
    kernel: str | None = None
    """With operator=kernel: how one bright pixel is seen, a small grey picture or an .npy array, scaled to sum 1."""
    std: Annotated[float, Range(ge=0, le=100)] = 0.0
    """Standard deviation of its Gaussian noise where black is -1 and white 1: 0.05 is 6.4 of 255 grey levels."""
    peak: Annotated[float, Range(gt=0, le=1e9)] | None = None
    """Poisson noise in place of Gaussian: photons expected at white; the fewer, the noisier."""
    simulate: bool = False
    """The input is the true picture: spoil it first, write what was made of it beside, restore, and compare."""
    reference: str | None = None
    """The true picture, to measure PSNR and SSIM against."""
