"""What is measured of x_0: y = A x_0 + n, with the operator A, the noise n and both together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, IncompatibleError
from .solve import conjugate_gradients

__all__ = ["SVD", "Measurement", "NoiseLaw", "Operator", "check"]


class Operator(ABC):
    """A of y = A x_0 + n, x_0 (B, C, *S) -> y (B, *T); every row is measured on its own.

    One whose settings are numbers is a frozen dataclass whose every field has a default. A new operator needs
    `forward`, nothing else: the adjoint follows by differentiation and inverses by conjugate gradients.

    Attributes:
        linear: whether A(a x + b x') = a A x + b A x'.
    """

    linear: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """What errors and reasons call it."""
        return type(self).__name__

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x, differentiable in x."""

    def source(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape (C, *S) of x for y of this shape (*T); None where y does not tell."""
        return shape

    def measured(self, y: Tensor) -> Tensor:
        """y less what A never writes: pixels outside of a mask become 0."""
        return y

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """J(x)^T v with J = dA/dx at x (B, C, *S); for a linear A, whatever x, A^T v."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (product,) = torch.autograd.grad(self.forward(x), x, v)
        return product

    def jvp(self, x: Tensor, u: Tensor) -> Tensor:
        """J(x) u; for a linear A, whatever x, A u."""
        if self.linear:
            return self.forward(u)
        return torch.func.jvp(self.forward, (x,), (u,))[1]

    def adjoint(self, y: Tensor, like: Tensor) -> Tensor:
        """A^T y (B, C, *S), for the shape of like (any, C, *S); linear operators alone."""
        return self.vjp(like.new_zeros(len(y), *like.shape[1:]), y)

    def svd(self, like: Tensor) -> SVD | None:
        """A = U diag(s) V^T where that is cheap; None where it is not."""
        return None


class SVD(ABC):
    """A = U diag(s) V^T in a layout of its own, (B, *L): one singular value for every coordinate of V^T x.

    V is square and orthogonal. s (*L), s >= 0, is 0 on what A does not see.
    """

    s: Tensor

    @abstractmethod
    def right(self, x: Tensor) -> Tensor:
        """V^T x: (B, C, *S) -> (B, *L)."""

    @abstractmethod
    def back(self, coordinates: Tensor) -> Tensor:
        """V c: (B, *L) -> (B, C, *S)."""

    @abstractmethod
    def left(self, y: Tensor) -> Tensor:
        """U^T y: (B, *T) -> (B, *L), 0 where s is."""

    @abstractmethod
    def out(self, coordinates: Tensor) -> Tensor:
        """U c: (B, *L) -> (B, *T)."""


class NoiseLaw(Protocol):
    """The law of y given A x_0: `GaussianNoise` or `PoissonNoise`."""

    def variance(self, y: Tensor) -> Tensor:
        """Var[y | A x_0], () or shaped like y, as far as y itself tells."""

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """log p(y | A x_0 = clean) less what does not depend on `clean`, (B,) in nats."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = A x_0 + n: what is known of the samples.

    Args:
        operator: A.
        y: (B, *T), or (1, *T) where all rows have the same.
        noise: the law of n.
    """

    operator: Operator
    y: Tensor
    noise: NoiseLaw

    @property
    def variance(self) -> Tensor:
        """Var[n], () or shaped like y."""
        return self.noise.variance(self.y)

    @property
    def noiseless(self) -> bool:
        return bool((self.variance == 0).all())

    def __getitem__(self, rows: slice | Tensor) -> Measurement:
        return self if len(self.y) == 1 else replace(self, y=self.y[rows])

    def residual(self, x_0: Tensor) -> Tensor:
        """y - A x_0, (B, *T)."""
        return self.y - self.operator.forward(x_0)

    def log_likelihood(self, x_0: Tensor) -> Tensor:
        """log p(y | x_0) less a constant, (B,) in nats."""
        return self.noise.log_likelihood(self.y, self.operator.forward(x_0))

    def resolvent(self, v: Tensor, spread: Tensor, like: Tensor) -> Tensor:
        """(spread A A^T + Var[n])^-1 v: exact by the SVD where it is known and n is uniform, else by iteration.

        Without noise it is the pseudo-inverse, 0 where spread A A^T vanishes.

        Args:
            v: (B, *T).
            spread: () or (B,), >= 0.
            like: x (B, C, *S).
        """
        if not self.operator.linear:
            raise IncompatibleError(
                f"{self.operator.title} is not linear and has no inverse of this kind",
                field="operator",
                hint="use method=dps, which takes every operator",
            )
        variance, spread = self.variance, spread.to(v)
        svd = self.operator.svd(like)
        if svd is not None and variance.ndim == 0:
            return _inverted(svd, v, spread, variance)

        def total(u: Tensor) -> Tensor:
            back = self.operator.adjoint(u, like)
            return _rows(spread, u.ndim - 1) * self.operator.forward(back) + variance * u

        return conjugate_gradients(total, v, iterations=256)


def _inverted(svd: SVD, v: Tensor, spread: Tensor, variance: Tensor) -> Tensor:
    """(spread A A^T + variance)^-1 v; without noise, singular values that are rounding errors squared count as 0."""
    s = svd.s
    if variance == 0:
        s = torch.where(s > s.max() * torch.finfo(s.dtype).eps ** 0.5, s, 0)
    share = _rows(spread, s.ndim) * s**2 + variance
    inside = svd.out(torch.where(share > 0, svd.left(v) / share, 0))
    if variance > 0:  # outside the range of A only the noise is left
        inside = inside + (v - svd.out(svd.left(v))) / variance
    return inside


def check(field: str, value: object, ok: bool, accepted: str) -> None:
    """ConfigError about this setting of an operator unless it is ok."""
    if not ok:
        raise ConfigError(f"{field} is {value!r}", field=f"operator.{field}", hint=f"accepted: {accepted}")


def _rows(values: Tensor, axes: int) -> Tensor:
    """() or (B,), shaped to multiply (B, *axes)."""
    return values.reshape(-1, *([1] * axes)) if values.ndim else values
