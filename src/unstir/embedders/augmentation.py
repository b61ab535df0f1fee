"""Pictures shown moved, turned and stretched, and the model told how: more data, and none of it in the samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import IncompatibleError
from ..rng import Rng
from ..spec import Fraction, Range, validate

__all__ = ["Augmentation"]

Strength = Annotated[float, Range(ge=0, le=1)]


@dataclass(frozen=True)
class Augmentation:
    """x_0 -> T x_0, and the parameters of T as the last entries of `Condition.vector`: 0 where nothing was done.

    A sample is drawn with the parameters 0, for which the model has learned pictures as they are: what is done to
    them in training does not leak into samples. Each kind of T comes with the same probability, in this order:

        mirror left to right, upside down; move by whole pixels        exact
        scale by 2^(s z), turn by 180 r u degrees, stretch by 2^(a z)
        in a random direction and squeeze by as much across it,
        move by m z of the side                                        one bicubic interpolation

    z ~ N(0, 1), u uniform on (-1, 1). What comes from beyond the border is the picture reflected.
    Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", appendix F.2, after
    Karras et al. 2020, "Training GANs with Limited Data", appendix B; theirs has no moves by whole pixels.

    Args:
        probability: of each kind; 0 switches all off, 1 shows no picture as it is.
        mirror: left to right.
        upside_down: top to bottom.
        shift: whole pixels, up to this share of the side.
        scale: s.
        rotation: r.
        stretch: a.
        move: m.
    """

    probability: Fraction = 0.12
    mirror: bool = True
    upside_down: bool = True
    shift: Strength = 0.125
    scale: Strength = 0.2
    rotation: Strength = 1.0
    stretch: Strength = 0.2
    move: Strength = 0.125

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    @property
    def width(self) -> int:
        """How many parameters there are."""
        return 11

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises IncompatibleError where x_0 of this shape (C, *S) is no picture."""
        if len(shape) != 3:
            raise IncompatibleError(
                f"pictures are augmented, the data has shape {shape}",
                field="augment",
                hint="leave augment and small_data out, or give data with pictures",
            )

    def draw(self, rng: Rng) -> Tensor:
        """Parameters (B, width), float64; row i depends on generator i alone."""
        n = len(rng)
        on = rng.fork("kinds").uniform((n, 7), torch.float64) < self.probability
        z = rng.fork("normal").normal((n, 4), torch.float64)
        u = 2 * rng.fork("uniform").uniform((n, 4), torch.float64) - 1
        turn, axis = math.pi * self.rotation * u[:, 2], math.pi * u[:, 3]
        kinds = (
            [torch.ones_like(turn)],
            [torch.ones_like(turn)],
            [u[:, 0], u[:, 1]],
            [z[:, 0]],
            [turn.cos() - 1, turn.sin()],
            [z[:, 1] * axis.cos(), z[:, 1] * axis.sin()],
            [z[:, 2], z[:, 3]],
        )
        strengths = (
            self.mirror,
            self.upside_down,
            self.shift,
            self.scale,
            self.rotation,
            self.stretch,
            self.move,
        )
        columns = [
            torch.where(on[:, k] & (strengths[k] > 0), value, 0)
            for k, values in enumerate(kinds)
            for value in values
        ]
        return torch.stack(columns, 1)

    def apply(self, x_0: Tensor, parameters: Tensor) -> Tensor:
        """T x_0 (B, C, H, W) in x_0's memory format; rows whose parameters are 0 are x_0, bit for bit."""
        mirror, upside_down, right, down, *rest = parameters.to(x_0.device, torch.float64).unbind(1)
        height, width = x_0.shape[2:]
        rows = _source(height, upside_down, (down * self.shift * height).round())
        columns = _source(width, mirror, (right * self.shift * width).round())
        sample = torch.arange(len(x_0), device=x_0.device)[:, None, None]
        x = x_0.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        there = self._origin(rest, height, width).to(x.dtype)
        turned = F.grid_sample(x, there, "bicubic", "reflection", align_corners=False)
        changed = torch.stack(rest, 1).ne(0).any(1)[:, None, None, None]
        return torch.where(changed, turned, x).contiguous(memory_format=torch.channels_last)

    def __call__(self, x_0: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """T x_0, and the parameters of T (B, width) in x_0's type; sample i depends on generator i alone."""
        parameters = self.draw(rng)
        return self.apply(x_0, parameters), parameters.to(x_0)

    def _origin(self, parameters: list[Tensor], height: int, width: int) -> Tensor:
        """Where each pixel of T x_0 comes from, (B, H, W, 2), in the units of `grid_sample`."""
        zoom, cos, sin, along, across, right, down = parameters
        # written out: a product of matrices may round differently in another batch
        squeeze, axis = torch.hypot(along, across) * self.stretch, torch.atan2(across, along)
        scale, c, s = torch.exp2(-zoom * self.scale), cos + 1, -sin
        mean, half = torch.cosh(squeeze * math.log(2)), torch.sinh(squeeze * math.log(2))
        p, q = mean - half * torch.cos(2 * axis), mean + half * torch.cos(2 * axis)
        r = -half * torch.sin(2 * axis)
        matrix = ((c * p - s * r, c * r - s * q), (s * p + c * r, s * r + c * q))

        def centred(size: int) -> Tensor:
            return torch.arange(size, device=zoom.device, dtype=zoom.dtype) - (size - 1) / 2

        x = centred(width)[None, None, :] - (right * self.move * width)[:, None, None]
        y = centred(height)[None, :, None] - (down * self.move * height)[:, None, None]
        (xx, xy), (yx, yy) = (((scale * a)[:, None, None], (scale * b)[:, None, None]) for a, b in matrix)
        return torch.stack(((xx * x + xy * y) * 2 / width, (yx * x + yy * y) * 2 / height), -1)


def _source(size: int, flip: Tensor, shift: Tensor) -> Tensor:
    """From which row each row comes, (B, size): flipped first, then moved; reflected beyond the border."""
    k = (torch.arange(size, device=flip.device) - shift[:, None].long()) % (2 * size)
    k = torch.where(k < size, k, 2 * size - 1 - k)
    return torch.where(flip[:, None] > 0, size - 1 - k, k)
