"""Guidance: a denoiser in, a denoiser out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser, Moments, Move
from ..errors import ConfigError
from ..modules import Part, twin
from ..noise import Noise
from ..process import Gaussian, Process
from ..process.base import unsqueeze_like

__all__ = [
    "Contrast",
    "Guided",
    "Linear",
    "Place",
    "Rule",
    "Scale",
    "Scaled",
    "check_interval",
    "score_scale",
]


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
        inner = self.denoiser.during(t, s, memory)
        return self if inner is self.denoiser else twin(self, denoiser=inner)

    def settle(self, move: Move, cond: Condition | None, noise: Noise) -> Tensor:
        return self.denoiser.settle(move, cond, noise)

    def check(self, solver: Any) -> None:
        self.denoiser.check(solver)

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        """The guided mean with the variance of the denoiser inside, which takes one more evaluation."""
        return Moments(self(x_t, t, cond), self.denoiser.moments(x_t, t, cond).variance)

    def without(self, part: Part, blocks: tuple[int, ...] | None = None) -> Denoiser:
        return twin(self, denoiser=self.denoiser.without(part, blocks))


def score_scale(process: Gaussian, t: Tensor) -> Tensor:
    """sigma^2/alpha, shaped like t: what a term of the score of q(x_t) adds to E[x_0|x_t], by Tweedie's formula.

    Where alpha/sigma < 1e-3, x_t says nothing about x_0, the quotient tends to 0/0, and it is 0.
    """
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    return torch.where(alpha < 1e-3 * sigma, 0, sigma**2 / alpha)


Scale = float | Callable[[float], float]
"""A number, or a function of t."""


def check_interval(interval: tuple[float, float]) -> None:
    """ConfigError unless it is 0 <= low < high <= 1."""
    low, high = interval
    if not 0 <= low < high <= 1:
        raise ConfigError(
            f"interval is {low:g},{high:g}",
            field="interval",
            hint="give two times 0 <= low < high <= 1, as interval=0.2,0.8; 1 is pure noise",
        )


class Scaled(Guided):
    """Guidance of a strength that may change with time.

    Args:
        denoiser: the denoiser to guide.
        scale: the strength, a finite number >= 0 or such a function of t.
        interval: (low, high) times in [0, 1] between which guidance acts.
            Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval".

    Raises:
        ConfigError: a scale that is negative or not finite, an interval that is not 0 <= low < high <= 1.
    """

    off: ClassVar[float]
    """The scale at which nothing is done: what it is outside the interval."""

    def __init__(
        self, denoiser: Denoiser, scale: Scale, *, interval: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        super().__init__(denoiser)
        check_interval(interval)
        self.scale, self.interval = scale, interval
        if not callable(scale):
            self._checked(scale)

    def inside(self, t: Tensor) -> Tensor:
        """Whether guidance acts at t, shaped like t."""
        return (t >= self.interval[0]) & (t <= self.interval[1])

    def scale_at(self, t: Tensor) -> Tensor:
        """The scale at each t, shaped like t: `off` outside the interval."""
        if callable(self.scale):
            values = [self._checked(self.scale(u)) for u in t.flatten().tolist()]
            scale = t.new_tensor(values).view_as(t)
        else:
            scale = torch.full_like(t, self.scale)
        return torch.where(self.inside(t), scale, self.off)

    def _checked(self, scale: float) -> float:
        if not (math.isfinite(scale) and scale >= 0):
            raise ConfigError(
                f"guidance is {scale}",
                field="guidance",
                hint=f"accepted: a number >= 0; {self.off:g} switches it off",
            )
        return scale


class Place(NamedTuple):
    """Where a rule is applied: x_t at t, on a step to s.

    Outside a trajectory s is None. `past` is what the rule left with `keep` on the step before, `keep` passes a
    tensor on to the next; of a solver's several calls within one step the first one counts.
    """

    x_t: Tensor
    t: Tensor
    process: Process
    s: Tensor | None = None
    past: Tensor | None = None
    keep: Callable[[Tensor], Any] = lambda _: None


class Rule(ABC):
    """How two opinions about x_0 become one; a frozen dataclass whose every field has a default.

    Attributes:
        largest_scale: beyond which it is not defined.
    """

    largest_scale: ClassVar[float] = math.inf

    def scale(self, scale: Tensor, place: Place) -> Tensor:
        """The scale that `combine` gets for the one that was asked for, elementwise; 1 = strong, 0 = weak."""
        return scale

    @abstractmethod
    def combine(self, weak: Tensor, strong: Tensor, scale: Tensor, place: Place) -> Tensor:
        """x_0 from the weak and the strong opinion, (B, *S); scale broadcasts to them and is not 1 or 0."""

    def check(self, solver: Any) -> None:  # noqa: B027  most rules take every solver
        """Raises IncompatibleError where the rule cannot be used with the solver."""


@dataclass(frozen=True)
class Linear(Rule):
    """weak + scale (strong - weak). Ho & Salimans 2022, eq. 6, with w = scale - 1."""

    def combine(self, weak: Tensor, strong: Tensor, scale: Tensor, place: Place) -> Tensor:
        return torch.lerp(weak, strong, scale)


class Notes(NamedTuple):
    """What a rule left behind, by condition: on the step before this one to s, and on this one."""

    s: Tensor
    before: dict[int, Tensor]
    now: dict[int, Tensor]


class Contrast(Scaled, ABC):
    """D = rule(weak, strong): away from a weak opinion about x_0, toward a strong one.

    Subclasses say what the weak opinion is: without the condition, of a worse model, without attention. At scale
    1 only the strong one is asked, at scale 0 only the weak one; in between and beyond, both, and the rule decides.

    Args:
        denoiser: the strong opinion.
        weaker: the weak opinion.
        scale: how far, a finite number >= 0 or such a function of t.
        rule: how the two are combined.
        interval: see `Scaled`.

    Raises:
        ConfigError: see `Scaled`.
    """

    off = 1.0

    def __init__(
        self,
        denoiser: Denoiser,
        weaker: Denoiser,
        scale: Scale,
        *,
        rule: Rule | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser, scale, interval=interval)
        self.weaker, self.rule = weaker, rule or Linear()
        if not callable(scale) and scale > self.rule.largest_scale:
            raise ConfigError(
                f"guidance is {scale:g} with {type(self.rule).__name__}",
                field="guidance",
                hint=f"accepted with this rule: 0 to {self.rule.largest_scale:g}",
            )
        self.notes: Notes | None = None

    def weak(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        """The opinion to move away from."""
        return self.weaker(x_t, t, cond)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        place = self._place(x_t, t, cond)
        scale = self.scale_at(t)
        scale = torch.where(self.inside(t), self.rule.scale(scale, place), scale)
        if bool((scale == 1).all()):
            return self.denoiser(x_t, t, cond)
        weak = self.weak(x_t, t, cond)
        if bool((scale == 0).all()):
            return weak
        strong = self.denoiser(x_t, t, cond)
        scale = unsqueeze_like(scale, x_t)
        x_0 = self.rule.combine(weak, strong, scale, place)
        if scale.ndim == 0:
            return x_0
        # a row is what it would be alone
        return torch.where(scale == 1, strong, torch.where(scale == 0, weak, x_0))

    def _place(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> Place:
        if self.notes is None:
            return Place(x_t, t, self.process)
        s, before, now = self.notes
        # guidance around this one may ask it under several conditions: each has its own past
        return Place(x_t, t, self.process, s, before.get(id(cond)), lambda x: now.setdefault(id(cond), x))

    def during(self, t: Tensor, s: Tensor, memory: dict[Any, Any]) -> Denoiser:
        notes = memory.get(id(self))
        if notes is None or notes.s is not s:
            notes = memory[id(self)] = Notes(s, notes.now if notes else {}, {})
        strong, weak = (denoiser.during(t, s, memory) for denoiser in (self.denoiser, self.weaker))
        return twin(self, denoiser=strong, weaker=weak, notes=notes)

    def check(self, solver: Any) -> None:
        for part in (self.denoiser, self.weaker, self.rule):
            part.check(solver)

    def without(self, part: Part, blocks: tuple[int, ...] | None = None) -> Denoiser:
        denoiser = self.denoiser.without(part, blocks)
        return twin(self, denoiser=denoiser, weaker=denoiser if self.weaker is self.denoiser else self.weaker)
