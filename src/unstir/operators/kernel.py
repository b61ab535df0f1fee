"""Any blur."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError, IncompatibleError
from .base import Operator

__all__ = ["Convolution", "Kernel"]

CONVOLVE = functional.conv1d, functional.conv2d, functional.conv3d
TRANSPOSE = functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d


class Convolution(Operator):
    """y_p = sum_q k_q x_{p + c - q}, c = floor(size/2), for every channel: scipy.ndimage.convolve.

    Beyond its border x is its mirror image, c b a | a b c. There is no cheap SVD: inverses are iterated.
    """

    field = "operator.kernel"

    @abstractmethod
    def kernel_for(self, x: Tensor) -> Tensor:
        """k, one axis for each of S, in x's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        kernel = self._checked(x)
        rows = x.flatten(0, 1)[:, None]
        for axis, k in enumerate(kernel.shape, start=2):
            before, after, n = (k - 1) // 2, k // 2, rows.shape[axis]
            first, last = rows.narrow(axis, 0, before), rows.narrow(axis, n - after, after)
            rows = torch.cat((first.flip(axis), rows, last.flip(axis)), axis)
        return CONVOLVE[kernel.ndim - 1](rows, _filter(kernel)).reshape(x.shape)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        kernel = self._checked(x)
        rows = TRANSPOSE[kernel.ndim - 1](v.flatten(0, 1)[:, None], _filter(kernel))
        for axis, k in enumerate(
            kernel.shape, start=2
        ):  # what lies in the mirror goes back to where it came from
            before, after = (k - 1) // 2, k // 2
            first, inner, last = rows.split((before, rows.shape[axis] - before - after, after), axis)
            rows = inner.clone()
            rows.narrow(axis, 0, before).add_(first.flip(axis))
            rows.narrow(axis, rows.shape[axis] - after, after).add_(last.flip(axis))
        return rows.reshape(v.shape)

    def _checked(self, x: Tensor) -> Tensor:
        kernel, sizes = self.kernel_for(x), tuple(x.shape[2:])
        if kernel.ndim != len(sizes) or any(k > n for k, n in zip(kernel.shape, sizes, strict=True)):
            raise IncompatibleError(
                f"a kernel of {_times(kernel.shape)} does not fit data of {_times(sizes)}",
                field=self.field,
                hint="use a kernel with as many axes as the data and no longer than it",
            )
        return kernel


class Kernel(Convolution):
    """Any convolution, with a kernel that is given.

    Args:
        kernel: k, one axis for each spatial axis of x, no longer than that; of sum 1 to keep the brightness.
    """

    def __init__(self, kernel: Tensor) -> None:
        if kernel.ndim not in (1, 2, 3) or not bool(kernel.isfinite().all()) or not bool(kernel.any()):
            raise ConfigError(
                f"the kernel has shape {tuple(kernel.shape)}",
                field=self.field,
                hint="give finite numbers, not all 0, with an axis for each of the data's: (H, W) for pictures",
            )
        self.kernel = kernel

    def kernel_for(self, x: Tensor) -> Tensor:
        return self.kernel.to(x)


def _filter(kernel: Tensor) -> Tensor:
    """As torch, whose convolutions do not turn it, takes it: (1, 1, ...)."""
    return kernel.flip(*range(kernel.ndim))[None, None]


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
