"""Guidance: a denoiser in, a denoiser out."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from ..errors import ConfigError
from ..process import Process

__all__ = ["Contrast", "Guided", "Place", "Rule", "Scale"]


class Guided(Denoiser):
    """A denoiser that wraps another and shares its process; they nest in any order.

    One that depends on where a step goes, or on earlier steps, overrides `during` and says in `check` which
    solvers it takes; all others are plain functions of x_t, t and the condition, and work with every solver.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    @property
    def process(self) -> Process:  # type: ignore[override]
        return self.denoiser.process

    def during(self, t: Tensor, s: Tensor, memory: dict[Any, Any]) -> Denoiser:
        return self._around(self.denoiser.during(t, s, memory))

    def check(self, solver: Any) -> None:
        self.denoiser.check(solver)

    def _around(self, denoiser: Denoiser, **changes: Any) -> Denoiser:
        """The same guidance around another denoiser, sharing everything else."""
        if denoiser is self.denoiser and not changes:
            return self
        twin = copy.copy(self)
        twin.__dict__["_modules"] = {**self._modules, "denoiser": denoiser}
        twin.__dict__.update(changes)
        return twin


class Place(NamedTuple):
    """Where a rule is applied: x_t at t, on a step to s, with what earlier steps left in `memory`.

    s and memory are None outside a trajectory.
    """

    x_t: Tensor
    t: Tensor
    process: Process
    s: Tensor | None = None
    memory: dict[str, Any] | None = None


class Rule(ABC):
    """How two opinions about x_0 become one; a frozen dataclass whose every field has a default."""

    @abstractmethod
    def combine(self, weak: Tensor, strong: Tensor, scale: float, place: Place) -> Tensor:
        """x_0 from the weak and the strong opinion; scale = 1 gives `strong` to rounding, unless documented."""


@dataclass(frozen=True)
class Linear(Rule):
    """weak + scale (strong - weak). Ho & Salimans 2022, eq. 6, with w = scale - 1."""

    def combine(self, weak: Tensor, strong: Tensor, scale: float, place: Place) -> Tensor:
        return torch.lerp(weak, strong, scale)


Scale = float | Callable[[float], float]
"""A number, or a function of t."""


class Contrast(Guided):
    """D = rule(weak, strong): away from a weak opinion about x_0, toward a strong one.

    Subclasses say what the weak opinion is: without the condition, of a worse model, without attention. The strong
    one is `denoiser` itself. Where scale = 1, or t is outside the interval, only the strong one is asked.

    Args:
        denoiser: the strong opinion.
        scale: how far, a finite number >= 0 or such a function of t; 1 = not at all, 0 = the weak opinion.
        rule: how the two are combined.
        interval: (low, high) times in [0, 1] between which guidance acts.
            Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval".

    Raises:
        ConfigError: a scale that is negative or not finite, an interval that is not 0 <= low < high <= 1.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: Scale,
        *,
        rule: Rule | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser)
        low, high = interval
        if not 0 <= low < high <= 1:
            raise ConfigError(
                f"interval is {low:g},{high:g}",
                field="interval",
                hint="give two times 0 <= low < high <= 1, as interval=0.2,0.8; 1 is pure noise",
            )
        self.scale, self.rule, self.interval = scale, rule or Linear(), (low, high)
        self.s: Tensor | None = None
        self.memory: dict[str, Any] | None = None
        if not callable(scale):
            _checked(scale)

    @abstractmethod
    def weak(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        """The opinion to move away from."""

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        scale = self.scale_at(t)
        if scale == 1:
            return self.denoiser(x_t, t, cond)
        weak = self.weak(x_t, t, cond)
        if scale == 0:
            return weak
        place = Place(x_t, t, self.process, self.s, self.memory)
        return self.rule.combine(weak, self.denoiser(x_t, t, cond), scale, place)

    def scale_at(self, t: Tensor) -> float:
        """The scale at t, one number for the batch: 1 outside the interval."""
        time = float(t.max())  # TODO(H3): per-sample times
        if not self.interval[0] <= time <= self.interval[1]:
            return 1.0
        return _checked(self.scale(time)) if callable(self.scale) else self.scale

    def during(self, t: Tensor, s: Tensor, memory: dict[Any, Any]) -> Denoiser:
        inner = self.denoiser.during(t, s, memory)
        return self._around(inner, s=s, memory=memory.setdefault(id(self), {}))


def _checked(scale: float) -> float:
    if not (math.isfinite(scale) and scale >= 0):
        raise ConfigError(
            f"guidance is {scale}", field="guidance", hint="accepted: a number >= 0; 1 switches it off"
        )
    return scale
