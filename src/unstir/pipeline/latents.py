"""What is measured of pictures, told of the x_0 that a model draws: the same pictures with a margin, or latents.

Two ways lead to latents. Where y holds whole parts of the picture as they are, they are encoded: those positions of the
latent are known that stay the same whatever is in the holes. All else is told through the decoder: y = A D(z) + n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from ..codecs import Latent
from ..operators import SVD, Decoded, GaussianNoise, Mask, Measurement, Operator
from ..operators.decoded import inexact
from ..operators.mask import Selection
from ..seam import blend

if TYPE_CHECKING:
    from .base import Pipeline

__all__ = ["Told", "mended", "told"]

SAME = 0.25
"""Standard deviations of a latent that what is in a hole may move a position by, from black to white, which is still
taken to be known."""
ENOUGH = 0.5
"""Share of the known pixels that must have a known position of the latent for it to be told of positions at all."""
LOST = 0.1
"""Standard deviation of what an autoencoder is thought to lose of a picture, at most; 0.1 is 26 dB."""
CLEAN = 0.01
"""Standard deviation of noise, about that of rounding to bytes, up to which y is right where a decoder differs."""


@dataclass(frozen=True)
class Told:
    """A measurement of pictures as one of x_0.

    Args:
        measurement: of x_0, to guide by.
        of_data: the same of pictures.
        way: how the one came from the other, in words; "" where x_0 is a picture.
        lost: standard deviation of what a decoder loses; 0 = there is none, or what it draws is left alone.
    """

    measurement: Measurement
    of_data: Measurement
    way: str = ""
    lost: float = 0.0

    def explain(self, reason: str) -> str:
        return f"{reason}; {self.way}" if self.way else reason


class Inside(Operator):
    """A of the first rows and columns of x."""

    def __init__(self, operator: Operator, shape: tuple[int, ...], canvas: tuple[int, ...]) -> None:
        self.operator, self.shape, self.canvas = operator, shape, canvas
        self.linear = operator.linear  # type: ignore[misc]

    @property
    def title(self) -> str:
        return self.operator.title

    def source(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.canvas

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.forward(x[..., : self.shape[1], : self.shape[2]])

    def svd(self, like: Tensor) -> SVD | None:
        inner = self.operator.svd(like[..., : self.shape[1], : self.shape[2]])
        return Selection(self, like) if isinstance(inner, Selection) else None


def told(
    pipe: Pipeline,
    measurement: Measurement,
    shape: tuple[int, ...],
    canvas: tuple[int, ...],
    old: Tensor | None,
) -> Told:
    """A measurement of pictures (C, H, W) = shape as one of the x_0 of pictures of the canvas, at least as large.

    Args:
        pipe: the model.
        measurement: y = A x + n of pictures as values from -1 to 1.
        shape: of x.
        canvas: of what is drawn; beyond x nothing is known of it.
        old: what was in the holes, (1, *canvas), where that is where the sample starts from.
    """
    if tuple(shape) == tuple(canvas):
        wide = measurement
    else:
        wide = replace(measurement, operator=Inside(measurement.operator, shape, canvas))
    if not isinstance(pipe.codec, Latent):
        return Told(wide, measurement)
    like = torch.zeros(1, *canvas, device=pipe.device)
    svd = wide.operator.svd(like) if wide.operator.linear else None
    if isinstance(svd, Selection):
        keep = svd.s[None] > 0
        # in the holes a membrane
        picture: Tensor | None = blend(svd.left(wide.y), like, keep) if old is None else old
        assert picture is not None
        if measurement.noiseless and (found := _known(pipe, picture, keep)) is not None:
            return Told(found, measurement, _words(found))
    else:
        picture = _guess(wide, like)
    lost = _lost(pipe, wide, picture)
    through = Decoded(wide.operator, pipe.values)
    seen = Measurement(through, wide.y, inexact(wide.noise, lost))
    clean = float(measurement.variance.max()) <= CLEAN**2
    mend = lost if clean and measurement.operator.linear and not isinstance(svd, Selection) else 0.0
    return Told(seen, measurement, "told through the decoder", mend)


def mended(told: Told, x: Tensor) -> Tensor:
    """x (B, C, H, W), in the range of pictures, with what y says of the part e ~ N(0, lost^2 I) that no decoder draws:

    x + E[e | y] = x + lost^2 A^T (lost^2 A A^T + Var[n])^-1 (y - A x).
    """
    if not told.lost:
        return x
    known, x = told.of_data, x.clamp(-1, 1)
    gap = known.resolvent(known.residual(x), x.new_tensor(told.lost**2), x)
    return x + told.lost**2 * known.operator.adjoint(gap, x)


def _known(pipe: Pipeline, picture: Tensor, keep: Tensor) -> Measurement | None:
    """The latent of the known parts of a picture; None where too little of it is known.

    A position is known where all of its own pixels are, and the encoder's opinion of it is the same whether all holes
    are black or white: what reaches it from there, however far the encoder sees, does not matter to it.
    """
    assert isinstance(pipe.codec, Latent)
    z, dark, bright = pipe.space(
        torch.cat((picture, torch.where(keep, picture, -1.0), torch.where(keep, picture, 1.0)))
    )
    factor = pipe.codec.config.factor
    hole = (~keep).any(1, keepdim=True).to(z)
    own = max_pool2d(hole, factor)[0] == 0
    known = own & ((dark - bright).abs().amax(0, keepdim=True) <= SAME)
    if int(known.sum()) * factor**2 < ENOUGH * float((1 - hole).sum()):
        return None
    mask = Mask(known)
    return Measurement(mask, mask.measured(z[None]), GaussianNoise(0.0))


def _words(measurement: Measurement) -> str:
    assert isinstance(measurement.operator, Mask)
    keep = measurement.operator.keep
    return f"told of {int(keep.sum())} of {keep.numel()} positions in the latent space"


def _guess(measurement: Measurement, like: Tensor) -> Tensor | None:
    """The picture nearest at hand to that of y: of least norm, or y itself; None where there is none."""
    if measurement.operator.linear:
        solved = measurement.resolvent(measurement.y, like.new_tensor(1.0), like)
        return measurement.operator.adjoint(solved, like).clamp(-1, 1)
    height, width = (n - m for n, m in zip(like.shape[2:], measurement.y.shape[2:], strict=False))
    if measurement.y.ndim != like.ndim or measurement.y.shape[1] != like.shape[1] or min(height, width) < 0:
        return None
    return pad(measurement.y.clamp(-1, 1), (0, width, 0, height), mode="replicate")


def _lost(pipe: Pipeline, measurement: Measurement, picture: Tensor | None) -> float:
    """Root mean square of A x - A D(E(x)) for a picture x: what y holds that no latent says."""
    if picture is None:
        return LOST
    with torch.no_grad():
        drawn = pipe.values(pipe.space(picture))
        gap = measurement.operator.forward(picture) - measurement.operator.forward(drawn)
    return min(max(float(gap.square().mean()) ** 0.5, CLEAN), LOST)
