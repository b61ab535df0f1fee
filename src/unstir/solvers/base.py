"""One step from t to s: what every solver is, and the frames in which differential equations are stepped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser, Moments
from ..errors import ConfigError
from ..noise import Noise
from ..process import Gaussian, Process, Schedule
from ..process.base import unsqueeze_like

__all__ = ["Bound", "Frame", "Solver", "Step", "Variable", "check_choice", "check_range", "hold"]


class Step(NamedTuple):
    """x at s, the denoiser's x_0 on the way, and what a multistep method remembers."""

    x: Tensor
    x_0: Tensor
    state: Any = None


class Solver(ABC):
    """A method that carries x_t to x_s, s < t; a frozen dataclass whose every field has a default.

    All of its history lives in `Step.state`, so one solver object serves any number of trajectories at once.
    What is constant is a class attribute (`order = 2`), what depends on the fields a property.

    Attributes:
        process: the process it solves.
        order: convergence order of the global error (weak order where `stochastic`); None = not fixed.
        evaluations: denoiser calls per step; None = varies. A step to sigma = 0, or out of an end that the
            method's variables do not reach, costs one.
        startup: further calls on the first step, by methods that need a good start to keep their order.
        stochastic: whether fresh noise is drawn.
        pure: whether x_s is a function of x_t, t and s alone, without noise or history: what `invert` takes.
    """

    process: ClassVar[type[Process]]

    @property
    @abstractmethod
    def order(self) -> int | None: ...

    @property
    @abstractmethod
    def evaluations(self) -> int | None: ...

    @property
    def startup(self) -> int:
        return 0

    @property
    def stochastic(self) -> bool:
        return False

    @property
    def pure(self) -> bool:
        return False

    @abstractmethod
    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        """One step from x_t at t to s < t."""


class Bound:
    """A denoiser with its condition given: all that a solver sees of a model.

    Args:
        denoiser: E[x_0 | x_t, cond].
        cond: its condition.
    """

    def __init__(self, denoiser: Denoiser, cond: Condition | None = None) -> None:
        self.denoiser, self.cond = denoiser, cond

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x_t, t, self.cond)

    def moments(self, x_t: Tensor, t: Tensor) -> Moments:
        """E[x_0|x_t] and Var[x_0|x_t], by one call of a denoiser that knows both."""
        return self.denoiser.moments(x_t, t, self.cond)

    @property
    def process(self) -> Gaussian:
        """The process; `trajectory` has checked that it is the one the solver is made for."""
        return self.denoiser.process  # type: ignore[return-value]

    @property
    def schedule(self) -> Schedule:
        """alpha(t) and sigma(t) of a Gaussian process."""
        return self.process.schedule


def check_range(field: str, value: float, low: float, high: float) -> None:
    """ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        hint = f"accepted: {low} <= {field} <= {high}"
        raise ConfigError(f"{field} is {value}", field=f"solver.{field}", hint=hint)


def check_choice(field: str, value: object, *accepted: object) -> None:
    """ConfigError unless the value is one of the accepted."""
    if value not in accepted:
        hint = f"accepted: {', '.join(map(repr, accepted))}"
        raise ConfigError(f"{field} is {value!r}", field=f"solver.{field}", hint=hint)


def hold(process: Gaussian, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x_s = alpha_s x_0 + sigma_s eps = (sigma_s/sigma_t) x_t + (alpha_s - alpha_t sigma_s/sigma_t) x_0.

    The second form divides by sigma_t alone, so it is exact at both ends: it gives alpha_s x_0 at sigma_s = 0.
    """
    schedule = process.schedule
    ratio = schedule.sigma(s) / schedule.sigma(t)
    pull = schedule.alpha(s) - schedule.alpha(t) * ratio
    return unsqueeze_like(ratio, x_t) * x_t + unsqueeze_like(pull, x_t) * x_0


Variable = Literal["angle", "sigma", "time"]


class Frame:
    """The probability-flow ODE as dy/dh = slope with y = x / scale(t) and h = coordinate(t).

    angle: y = x/sqrt(alpha^2+sigma^2), h = atan2(sigma, alpha), slope (alpha eps - sigma x_0)/sqrt(alpha^2+sigma^2);
        finite everywhere, t = 1 of any schedule included.
    sigma: y = x/alpha, h = sigma/alpha, slope eps; the frame of EDM, infinite where alpha = 0.
    time: y = x, h = t, slope alpha' x_0 + sigma' eps; the frame of flow matching.
    """

    def __init__(self, variable: Variable, process: Gaussian) -> None:
        check_choice("variable", variable, "angle", "sigma", "time")
        self.variable = variable
        self.process = process

    def scale(self, t: Tensor) -> Tensor:
        """scale(t) with x = scale y."""
        alpha, sigma = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        if self.variable == "angle":
            return torch.hypot(alpha, sigma)
        return alpha if self.variable == "sigma" else torch.ones_like(t)

    def coordinate(self, t: Tensor) -> Tensor:
        """h(t)."""
        alpha, sigma = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        if self.variable == "angle":
            return torch.atan2(sigma, alpha)
        return sigma / alpha if self.variable == "sigma" else t

    def time(self, h: Tensor) -> Tensor:
        """The t at which the coordinate is h."""
        if self.variable == "time":
            return h
        ratio = torch.tan(h) if self.variable == "angle" else h
        return self.process.schedule.time(-2 * ratio.log())

    def slope(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """dy/dh at x_t, given the denoised x_0."""
        if self.variable == "time":
            return self.process.velocity(x_t, x_0, t)
        eps = self.process.eps(x_t, x_0, t)
        if self.variable == "sigma":
            return eps
        alpha, sigma = self.process.scales(t, x_t)
        return (alpha * eps - sigma * x_0) / unsqueeze_like(self.scale(t), x_t)

    def advance(self, x_t: Tensor, slope: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s = scale(s) (x_t/scale(t) + (h(s) - h(t)) slope)."""
        h = self.coordinate(s) - self.coordinate(t)
        ratio, step = self.scale(s) / self.scale(t), self.scale(s) * h
        return unsqueeze_like(ratio, x_t) * x_t + unsqueeze_like(step, x_t) * slope

    def touches_end(self, t: Tensor, s: Tensor) -> bool:
        """Whether a second evaluation at s, or the frame at t, does not exist on this step."""
        schedule = self.process.schedule
        if self.variable == "angle" or bool((schedule.sigma(s) == 0).any()):
            return bool((schedule.sigma(s) == 0).any())
        rate = schedule.dalpha(t) if self.variable == "time" else 1 / schedule.alpha(t)
        return not bool(rate.isfinite().all())
