"""Data larger than the model was trained for, in overlapping windows of the size that it knows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser, Moments
from ..errors import ConfigError, IncompatibleError
from .base import Guided

__all__ = ["Tiled", "starts"]

Window = tuple[slice, ...]
"""One slice per axis of space."""


class Tiled(Guided):
    """D(x_t) = sum_i w_i D_i/sum_i w_i with D_i the opinion of window i on what it sees, at every call.

    Windows overlap, and their weights w_i fall smoothly to their borders, so that none shows:
    w = prod_axes sin^2(pi (k + 1/2)/size) at place k of the window. Bar-Tal et al. 2023, "MultiDiffusion: Fusing
    Diffusion Paths for Controlled Image Generation", eq. 5. Exact where what lies in different windows is
    independent; things wider than the overlap are known to neighbouring windows by their noise alone.

    A condition's `spatial` is cut like x_t, all else is told to every window. Guidance goes around it.

    Args:
        denoiser: a model, unguided, of one, two or more axes of space.
        size: of a window on every axis, or on each.
        overlap: the least that neighbours share, 0 <= overlap < size.
        rows: of windows, at most, in one call of the model, but for a batch that has more itself.

    Raises:
        ConfigError: an overlap or number of rows out of range.
        IncompatibleError: a guided denoiser; x_t smaller than a window or with another number of axes, or a `spatial`
            of another size.
    """

    def __init__(self, denoiser: Denoiser, size: int | tuple[int, ...], overlap: int, rows: int = 64) -> None:
        super().__init__(denoiser)
        if isinstance(denoiser, Guided):
            raise IncompatibleError(
                f"{type(denoiser).__name__} cannot be seen through windows",
                field="denoiser",
                hint="guidance goes around: ClassifierFree(Tiled(model, ...), ...)",
            )
        least = size if isinstance(size, int) else min(size)
        if not 0 <= overlap < least:
            raise ConfigError(
                f"overlap is {overlap}",
                field="overlap",
                hint=f"accepted: 0 to {least - 1}, below the window's size",
            )
        if rows < 1:
            raise ConfigError(f"rows is {rows}", field="rows", hint="accepted: 1 or more")
        self.size, self.overlap, self.rows = size, overlap, rows

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self._average(self.denoiser, x_t, t, cond)

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        """The means and the variances of the windows, averaged alike."""

        def both(x: Tensor, u: Tensor, c: Condition | None) -> Tensor:
            return torch.cat(self.denoiser.moments(x, u, c), 1)

        return Moments(*self._average(both, x_t, t, cond).chunk(2, 1))

    def windows(self, shape: tuple[int, ...]) -> list[Window]:
        """The windows of x (B, C, *S) with this S."""
        sizes = (self.size,) * len(shape) if isinstance(self.size, int) else self.size
        if len(sizes) != len(shape) or any(map(int.__lt__, shape, sizes)):
            raise IncompatibleError(
                f"the data has shape {tuple(shape)}, the windows {sizes}",
                field="size",
                hint="give data at least as large as a window on every axis, padded where it is smaller",
            )
        cuts = (
            [slice(first, first + size) for first in starts(length, size, self.overlap)]
            for length, size in zip(shape, sizes, strict=True)
        )
        return list(product(*cuts))

    def _average(
        self,
        opinion: Callable[[Tensor, Tensor, Condition | None], Tensor],
        x_t: Tensor,
        t: Tensor,
        cond: Condition | None,
    ) -> Tensor:
        """sum_i w_i D_i/sum_i w_i of any opinion."""
        windows = self.windows(tuple(x_t.shape[2:]))
        if cond is not None and cond.spatial is not None and cond.spatial.shape[2:] != x_t.shape[2:]:
            raise IncompatibleError(
                f"the condition's picture has shape {tuple(cond.spatial.shape[2:])}, the data {tuple(x_t.shape[2:])}",
                field="spatial",
                hint="give both the same size",
            )
        at_once = max(1, self.rows // len(x_t))
        parts = []
        # windows come first in a batch: what stands beside a row is the same whatever the other rows are
        for some in (windows[i : i + at_once] for i in range(0, len(windows), at_once)):
            parts.append(
                opinion(_cut(x_t, some), t.repeat(len(some)) if t.ndim else t, cond and _told(cond, some))
            )
        found = torch.cat(parts).unflatten(0, (len(windows), len(x_t)))
        weight, weights = _weight(windows[0], x_t), torch.zeros_like(x_t[0, 0])
        for window in windows:
            weights[window] += weight
        total = found.new_zeros(*found.shape[1:3], *x_t.shape[2:])
        for window, x_0 in zip(windows, found, strict=True):
            total[_all(window)] += weight / weights[window] * x_0
        return total


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Where windows of this size begin on an axis: evenly from 0 to length - size, `overlap` or more shared."""
    n = math.ceil((length - overlap) / (size - overlap))
    return [i * (length - size) // max(n - 1, 1) for i in range(n)]


def _weight(window: Window, like: Tensor) -> Tensor:
    """prod_axes sin^2(pi (k + 1/2)/size), positive everywhere."""
    sizes = [cut.stop - cut.start for cut in window]
    rises = [torch.sin(math.pi * (torch.arange(n, device=like.device) + 0.5) / n) ** 2 for n in sizes]
    return reduce(lambda a, b: a[..., None] * b, rises).to(like.dtype)


def _cut(x: Tensor, windows: list[Window]) -> Tensor:
    """(B, C, *S) -> (W B, C, *size), the rows of one window after those of another."""
    return torch.cat([x[_all(window)] for window in windows])


def _all(window: Window) -> Window:
    """Of all rows and channels."""
    return (slice(None), slice(None), *window)


def _told(cond: Condition, windows: list[Window]) -> Condition:
    """What the rows of `_cut` are told."""
    told = cond.map(lambda x: x.repeat(len(windows), *([1] * (x.ndim - 1))))
    if cond.spatial is None:
        return told
    return Condition(told.vector, told.tokens, told.mask, _cut(cond.spatial, windows))
