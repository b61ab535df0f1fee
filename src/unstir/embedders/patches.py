"""Parts of pictures to learn from, each with where it lies: more examples from few pictures, and cheaper ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from ..denoiser import positions
from ..errors import IncompatibleError
from ..rng import Rng
from ..spec import Range, validate

__all__ = ["Patches"]


@dataclass(frozen=True)
class Patches:
    """x_0 -> a part of it, of the same size in all of an optimizer step, and its coordinates as `Condition.spatial`.

    Coordinates reach from -1 to 1 over the whole picture; a sample is drawn with those of all of it. Of the steps that
    see parts, 3/5 see half of the side, the others a quarter.
    Wang et al. 2023, "Patch Diffusion: Faster and More Data-Efficient Training of Diffusion Models", section 3.

    Args:
        whole: the share of steps that see whole pictures; below 1/2 the composition suffers (their figure 5).
    """

    whole: Annotated[float, Range(ge=0.5, le=1)] = 0.5

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises IncompatibleError where x_0 of this shape (C, *S) has no parts."""
        if len(shape) != 3 or min(shape[1:]) < 8:
            raise IncompatibleError(
                f"patches are of pictures of 8x8 and more, the data has shape {shape}",
                field="patches",
                hint="leave patches out",
            )

    def divisor(self, step: Rng) -> int:
        """By what the sides are divided in an optimizer step, which has one generator: 1, 2 or 4."""
        u = float(step.fork("size").uniform((1, 1), torch.float64))
        return 1 if u < self.whole else 2 if u < self.whole + 0.6 * (1 - self.whole) else 4

    def __call__(self, x_0: Tensor, step: Rng, rng: Rng) -> tuple[Tensor, Tensor]:
        """A part of x_0 (B, C, H, W), and its coordinates (B, 2, h, w); where it lies, generator i decides."""
        divisor, sides = self.divisor(step), x_0.shape[2:]
        size = [side // divisor for side in sides]
        u = rng.fork("place").uniform((len(rng), 2), torch.float64, x_0.device)
        top, left = ((u[:, k] * (sides[k] - size[k] + 1)).long() for k in (0, 1))
        rows = (top[:, None] + torch.arange(size[0], device=x_0.device))[:, :, None]
        columns = (left[:, None] + torch.arange(size[1], device=x_0.device))[:, None, :]
        sample = torch.arange(len(x_0), device=x_0.device)[:, None, None]
        both = torch.cat((x_0, positions(x_0)), 1).movedim(1, -1)[sample, rows, columns].movedim(-1, 1)
        return both[:, : x_0.shape[1]], both[:, x_0.shape[1] :]
