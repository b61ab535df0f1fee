"""What a model that restores pictures is told of the one it restores."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..errors import IncompatibleError
from ..rng import Rng
from ..spec import validate

__all__ = ["Spatial"]


class Spatial(ABC):
    """A measurement y = A x_0 + s n as channels beside x_t, `Condition.spatial`; the last one holds s everywhere.

    The network learns p(x_0 | y, s) for every s up to `augmentation`: for clean y, for y as noisy as is told, and
    so for y that another A made, once noise has hidden the difference. This is the conditioning augmentation of
    Ho et al. 2021, "Cascaded Diffusion Models", section 4.2. They also shrink y, to alpha y + sigma n; here it
    keeps its size, so that s is the noise of a measurement.

    Each is a frozen dataclass.
    """

    augmentation: float

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    @abstractmethod
    def channels(self, channels: int) -> int:
        """How many channels the condition of pictures with `channels` has."""

    @abstractmethod
    def training(self, x_0: Tensor, rng: Rng) -> Tensor:
        """The condition of x_0 (B, C, H, W) at random levels; sample i depends on x_0[i] and generator i alone."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises where x_0 of this shape (C, *S) has no such condition."""
        if len(shape) != 3:
            raise IncompatibleError(
                f"{type(self).__name__} is of pictures, the data has shape {shape}",
                field="task",
                hint="use task=generate, or data with pictures",
            )

    def levels(self, rng: Rng, like: Tensor) -> Tensor:
        """s = augmentation u^2, (B,): half of them in the lowest quarter, since most pictures are hardly noisy."""
        u = rng.fork("level").uniform((len(rng), 1), like.dtype, like.device)[:, 0]
        return self.augmentation * u**2


def noisy(y: Tensor, std: Tensor, rng: Rng) -> Tensor:
    """y + s n with s of shape (B,)."""
    return y + std[:, None, None, None] * rng.fork("noise").normal(tuple(y.shape), y.dtype, y.device)


def plane(std: float | Tensor, like: Tensor) -> Tensor:
    """(B, 1, H, W), the level s everywhere."""
    level = torch.as_tensor(std, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)
    return level.expand(len(like), 1, *like.shape[2:])
