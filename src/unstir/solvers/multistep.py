"""Multistep methods: what a step needs is the average over it of the polynomial through the last values.

A `Form` says how the equation is written: what is interpolated, over which variable, and how a step follows from the
average. The history and the start are common to all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..noise import Noise
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Bound, Frame, Step, Variable, hold
from .exponential import Node, average, carry, half_log_snr, interpolate, recent

__all__ = ["Data", "Eps", "Form", "Framed", "corrected", "multistep"]


class Form(ABC):
    """The equation as x_s = advance(x_t, the average of `value` from t to s)."""

    def __init__(self, process: Gaussian) -> None:
        self.process, self.schedule = process, process.schedule

    @abstractmethod
    def place(self, t: Tensor) -> Tensor:
        """The variable of the polynomial."""

    @abstractmethod
    def time(self, place: Tensor) -> Tensor:
        """The inverse of `place`."""

    @abstractmethod
    def value(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """What is interpolated."""

    @abstractmethod
    def average(self, nodes: tuple[Node, ...], t: Tensor, s: Tensor) -> Tensor:
        """The average of the polynomial through the nodes."""

    @abstractmethod
    def advance(self, x_t: Tensor, mean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s, exact if the average is."""

    def touches_end(self, t: Tensor, s: Tensor) -> bool:
        """Whether the form does not exist on this step; here, because log-SNR is infinite at t or s."""
        ends = self.schedule.log_snr(t).isfinite() & self.schedule.log_snr(s).isfinite()
        return not bool(ends.all())

    def hold(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The first-order step, which touches an end."""
        return hold(self.process, x_t, x_0, t, s)


class Data(Form):
    """x_0 over l = log(alpha/sigma): x_s = carry(x_t, average of x_0 with weight e^((1 + eta^2) l)).

    Args:
        process: the process.
        noise: drawn from where eta > 0.
        eta: 0 is the ODE, 1 the reverse SDE.
        line: takes the line through two nodes at this share of the step, a function of the step's length in l, for
            its average; None computes the average.
    """

    def __init__(
        self,
        process: Gaussian,
        noise: Noise,
        eta: float = 0.0,
        line: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(process)
        self.noise, self.eta, self.line = noise, eta, line

    def place(self, t: Tensor) -> Tensor:
        return half_log_snr(self.schedule, t)

    def time(self, place: Tensor) -> Tensor:
        return self.schedule.time(2 * place)

    def value(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        return x_0

    def average(self, nodes: tuple[Node, ...], t: Tensor, s: Tensor) -> Tensor:
        a, b = self.place(t), self.place(s)
        if len(nodes) == 2 and self.line is not None:
            at = torch.lerp(a, b, self.line(b - a))[..., None]
            return interpolate(nodes, at, torch.ones_like(at))
        return average(nodes, a, b, rate=1 + self.eta**2)

    def advance(self, x_t: Tensor, mean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        z = self.noise.between(t, s) if self.eta > 0 else None
        return carry(self.schedule, t, s, self.eta)(x_t, mean, z)

    def hold(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return self.advance(x_t, x_0, t, s)


class Eps(Form):
    """eps over l = log(alpha/sigma) or t: x_s/alpha_s = x_t/alpha_t + (sigma_s/alpha_s - sigma_t/alpha_t) average.

    Args:
        process: the process.
        variable: of the polynomial.
        weight: "exact" is that of the integral of eps over sigma/alpha, "even" a constant over t.
    """

    def __init__(
        self,
        process: Gaussian,
        variable: Literal["log_snr", "time"],
        weight: Literal["exact", "even"] = "exact",
    ) -> None:
        super().__init__(process)
        self.variable, self.weight = variable, weight

    def place(self, t: Tensor) -> Tensor:
        return t if self.variable == "time" else half_log_snr(self.schedule, t)

    def time(self, place: Tensor) -> Tensor:
        return place if self.variable == "time" else self.schedule.time(2 * place)

    def value(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        return self.process.eps(x_t, x_0, t)

    def average(self, nodes: tuple[Node, ...], t: Tensor, s: Tensor) -> Tensor:
        if self.weight == "even":
            return average(nodes, t, s)
        a, b = half_log_snr(self.schedule, t), half_log_snr(self.schedule, s)
        if self.variable == "log_snr":
            return average(nodes, a, b, rate=-1)
        return average(nodes, a, b, rate=-1, place=lambda u: self.schedule.time(2 * u))

    def advance(self, x_t: Tensor, mean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        ratio = self.schedule.alpha(s) / self.schedule.alpha(t)
        push = self.schedule.sigma(s) - self.schedule.sigma(t) * ratio
        return unsqueeze_like(ratio, x_t) * x_t + unsqueeze_like(push, x_t) * mean


class Framed(Form):
    """The slope of a `Frame` over its coordinate."""

    def __init__(self, process: Gaussian, variable: Variable) -> None:
        super().__init__(process)
        self.frame = Frame(variable, process)

    def place(self, t: Tensor) -> Tensor:
        return self.frame.coordinate(t)

    def time(self, place: Tensor) -> Tensor:
        return self.frame.time(place)

    def value(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        return self.frame.slope(x_t, x_0, t)

    def average(self, nodes: tuple[Node, ...], t: Tensor, s: Tensor) -> Tensor:
        return average(nodes, self.place(t), self.place(s))

    def advance(self, x_t: Tensor, mean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return self.frame.advance(x_t, mean, t, s)

    def touches_end(self, t: Tensor, s: Tensor) -> bool:
        return self.frame.touches_end(t, s)


def multistep(
    form: Form, count: int, startup: int, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any
) -> Step:
    """x_s = advance(x_t, average over the last `count` values), which are the state.

    A step that touches an end is of first order and leaves no history. The first that does not is `started` by
    `startup` further calls.
    """
    x_0 = denoiser(x_t, t)
    if form.touches_end(t, s):
        return Step(form.hold(x_t, x_0, t, s), x_0)
    nodes = recent(Node(t, form.place(t), form.value(x_t, x_0, t)), state or (), count)
    if len(nodes) == 1:
        nodes = started(form, startup, denoiser, x_t, nodes[0], s)
    return Step(form.advance(x_t, form.average(nodes, t, s), t, s), x_0, nodes)


class Predicted(NamedTuple):
    """The last step, from t, as its corrector needs it: x_s = ... + pull mean, the mean over these nodes."""

    t: Tensor
    nodes: tuple[Node, ...]
    mean: Tensor
    pull: Tensor


def corrected(
    form: Data,
    predictor: int,
    corrector: int,
    startup: int,
    denoiser: Bound,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    state: Predicted | None,
) -> Step:
    """`multistep` with `predictor` values, before which the last step is mended with what it led to.

    Its average is taken anew, over `corrector` values and the one at its end, and x_t moves by pull times the change.
    The denoiser is not asked again: the value at the x_t that was predicted serves both steps.
    """
    x_0 = denoiser(x_t, t)
    if form.touches_end(t, s):
        return Step(form.hold(x_t, x_0, t, s), x_0)
    node, past = Node(t, form.place(t), x_0), state.nodes if state else ()
    nodes = recent(node, past, max(predictor, corrector + 1))
    if state and len(nodes) > 1:
        change = form.average(nodes[: corrector + 1], state.t, t) - state.mean
        x_t = x_t + unsqueeze_like(state.pull, x_t) * change
    if len(nodes) == 1:
        nodes = started(form, startup, denoiser, x_t, node, s)
    mean = form.average(nodes[:predictor], t, s)
    pull = carry(form.schedule, t, s, form.eta).pull
    return Step(form.advance(x_t, mean, t, s), x_0, Predicted(t, nodes, mean, pull))


def started(form: Form, calls: int, denoiser: Bound, x_t: Tensor, first: Node, s: Tensor) -> tuple[Node, ...]:
    """The first node and, after one or two calls, one at two thirds of the step, from where parabolas average exactly.

    The step through both is Ralston's of second order for one call, Heun's of third for two: enough for a method of
    one order more, which starts only once.
    """
    nodes: tuple[Node, ...] = (first,)
    for thirds in range(3 - calls, 3):
        place = torch.lerp(first.place, form.place(s), thirds / 3)
        t = form.time(place)
        x = form.advance(x_t, form.average(nodes, first.t, t), first.t, t)
        nodes = Node(t, place, form.value(x, denoiser(x, t), t)), first
    return nodes
