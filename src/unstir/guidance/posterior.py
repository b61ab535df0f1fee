"""Measurements as guidance: the denoiser of x_0 given y = A x_0 + n, by any method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser, Move
from ..errors import IncompatibleError
from ..modules import twin
from ..noise import Noise
from ..operators import Measurement
from ..process import Gaussian
from ..process.base import unsqueeze_like
from ..solvers.base import Bound, Solver
from .base import Guided, score_scale

__all__ = ["Method", "Posterior", "jacobian_product", "spread"]


class Method(ABC):
    """How a model of x_0 is told of y = A x_0 + n; a frozen dataclass whose every field has a default.

    All of them are answers to one question, what E[x_0 | x_t, y] is. With E[x_0 | x_t] = D and Var[x_0 | x_t] = C, if
    x_0 were normal given x_t, and A linear,

        D' = D + C A^T (A C A^T + Var[n])^-1 (y - A D),

    and methods differ in the C they take. Some also act on x_s after a solver's step, in `settle`.

    Attributes:
        solver: what it is best stepped with; None = what the model is sampled with.
        steps: how many it needs at least to be at its best; None = as many as the model.
        particles: rows of the batch that make one sample.
        exact: the laws for which samples are from p(x_0 | y), in words; "" = none.
    """

    solver: ClassVar[Solver | None] = None
    steps: ClassVar[int | None] = None
    exact: ClassVar[str] = ""

    @property
    def particles(self) -> int:
        return 1

    @abstractmethod
    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        """E[x_0 | x_t, y], (B, C, *S), as the method has it."""

    def recall(
        self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement, memory: dict[Any, Any]
    ) -> Tensor:
        """`denoise`, which need not evaluate again what `settle` left in the memory."""
        return self.denoise(denoiser, x_t, t, measurement)

    def settle(
        self, denoiser: Bound, move: Move, measurement: Measurement, noise: Noise, memory: dict[Any, Any]
    ) -> Tensor:
        """x_s after the solver's step; `memory` lives as long as the trajectory."""
        return move.x_s

    def times(self, grid: Tensor) -> Tensor:
        """The grid that it is stepped on, given that of the solver: it may rise in places."""
        return grid

    def check_measurement(self, measurement: Measurement) -> None:  # noqa: B027  most take all of them
        """Raises IncompatibleError where it is not made for the operator or the noise."""

    def check_solver(self, solver: Solver) -> None:  # noqa: B027  most take all of them
        """Raises IncompatibleError where it cannot be stepped by the solver."""


class Posterior(Guided):
    """E[x_0 | x_t, y] by a method: a denoiser whose samples are consistent with the measurement.

    Args:
        denoiser: a model, guided or not.
        measurement: y = A x_0 + n; its y has one row, or one per sample.
        method: how.

    Raises:
        IncompatibleError: the method is not made for this operator or noise.
    """

    def __init__(self, denoiser: Denoiser, measurement: Measurement, method: Method) -> None:
        super().__init__(denoiser)
        method.check_measurement(measurement)
        self.measurement, self.method = measurement, method
        self.memory: dict[Any, Any] = {}

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.method.recall(Bound(self.denoiser, cond), x_t, t, self.measurement, self.memory)

    def during(self, t: Tensor, s: Tensor, memory: dict[Any, Any]) -> Denoiser:
        notes = memory.setdefault(id(self), {})
        return twin(self, denoiser=self.denoiser.during(t, s, memory), memory=notes)

    def settle(self, move: Move, cond: Condition | None, noise: Noise) -> Tensor:
        move = move._replace(x_s=self.denoiser.settle(move, cond, noise))
        return self.method.settle(Bound(self.denoiser, cond), move, self.measurement, noise, self.memory)

    def check(self, solver: Any) -> None:
        super().check(solver)
        self.method.check_solver(solver)


def spread(process: Gaussian, t: Tensor, std: float = 1.0) -> Tensor:
    """r^2 = sigma^2 d^2/(alpha^2 d^2 + sigma^2), shaped like t: Var[x_0 | x_t] if x_0 ~ N(m, d^2 I)."""
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    return (sigma * std) ** 2 / ((alpha * std) ** 2 + sigma**2)


def jacobian_product(denoiser: Bound, x_t: Tensor, t: Tensor) -> tuple[Tensor, Any]:
    """D(x_t) and the function v -> Var[x_0 | x_t] v = (sigma^2/alpha) (dD/dx_t)^T v.

    The Jacobian of the true denoiser is symmetric and gives the covariance: Cov[x_0|x_t] = sigma^2/alpha dD/dx_t
    (Boys et al. 2023, "Tweedie Moment Projected Diffusions", eq. 5). Where x_t says nothing about x_0 the function
    gives 0: see `score_scale`.
    """
    factor = score_scale(denoiser.process, t)
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        x_0 = denoiser(x, t)

    def product(v: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(x_0, x, v, retain_graph=True)
        return unsqueeze_like(factor, x_t) * slope

    return x_0.detach(), product


def require_linear(method: Method, measurement: Measurement) -> None:
    """Raises IncompatibleError unless the operator is linear."""
    if not measurement.operator.linear:
        name = measurement.operator.title
        raise IncompatibleError(
            f"{type(method).__name__} inverts linear operators; {name} is not linear",
            field="method",
            hint="use method=dps, which takes every operator, or method=auto",
        )
