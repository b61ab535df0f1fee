"""What the core is held against: every exported part, laws known in closed form, and an exact solution."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from unstir import parameterization, process, solvers
from unstir.analytic import GaussianMixture
from unstir.condition import Condition
from unstir.denoiser import Denoiser, Moments, Preconditioned
from unstir.parameterization import Parameterization
from unstir.process import (
    EDM,
    BetaLinear,
    BetaVectorConfig,
    Cosine,
    Gaussian,
    Linear,
    Schedule,
    Shifted,
    Sigmoid,
    ZeroTerminal,
)
from unstir.process.base import unsqueeze_like
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import (
    DDIM,
    PNDM,
    Ancestral,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    Euler,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    Restart,
)
from unstir.solvers.base import Solver

Part = TypeVar("Part")

START, END = 0.85, 0.15
"""The interior interval on which orders are measured."""


# -- every exported part -----------------------------------------------------------------------------------


def exported(module: ModuleType, base: type[Part]) -> Iterator[Part]:
    """Every concrete class of the export list, with every combination of its named choices, the default first."""
    for word in module.__all__:
        part = getattr(module, word)
        if not (isinstance(part, type) and issubclass(part, base) and dataclasses.is_dataclass(part)):
            continue
        hints = {n: (kind, *get_args(kind)) for n, kind in get_type_hints(part).items()}
        choices = {
            n: get_args(kind) for n, kinds in hints.items() for kind in kinds if get_origin(kind) is Literal
        }
        for chosen in itertools.product(*choices.values()):
            yield part(**dict(zip(choices, chosen, strict=True)))


def label(part: object) -> str:
    """The class name and the fields that are not at their default: `Heun(variable=sigma)`."""
    assert dataclasses.is_dataclass(part)
    values = {f.name: (f.default, getattr(part, f.name)) for f in dataclasses.fields(part)}
    changed = [
        f"{name}={label(value) if dataclasses.is_dataclass(value) else value}"
        for name, (default, value) in values.items()
        if value != default
    ]
    return type(part).__name__ + (f"({', '.join(changed)})" if changed else "")


DEFAULT_SCHEDULES = tuple(exported(process, Schedule))
SHOWN_SCHEDULES = EDM(), BetaLinear(), Cosine(), Linear(), Sigmoid()
"""Those of the table of orders in docs/solvers.md."""
SCHEDULES = (
    *DEFAULT_SCHEDULES,
    Cosine(0.008),
    BetaLinear.stable_diffusion(),
    Shifted(Cosine(), 0.5),
    ZeroTerminal(Cosine(0.008)),
)
PARAMETERIZATIONS = tuple(exported(parameterization, Parameterization))
DETERMINISTIC = tuple(s for s in exported(solvers, Solver) if not s.stochastic)
STOCHASTIC = (
    *(s for s in exported(solvers, Solver) if s.stochastic),
    DDIM(eta=0.5),
    DDIM(eta=1.0),
    Heun(churn=0.1),
    Ancestral(Euler("angle"), eta=0.7),
    Ancestral(Heun()),
    EulerMaruyama(0.5, "angle"),
    PredictorCorrector(Heun(variable="sigma")),
    Restart(DPMpp2M()),
    DPMpp2S(eta=1.0),
    DPMpp2M(eta=1.0),
    DPMpp3M(eta=1.0),
)
SOLVERS = DETERMINISTIC + STOCHASTIC


def double(*values: float) -> Tensor:
    """A (len(values),) tensor, or () for one value, in float64."""
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64)


def approx(expected: Tensor | float, **tolerance: float) -> Any:
    """pytest.approx that takes a tensor of one element."""
    return pytest.approx(float(expected), **tolerance)


# -- laws known in closed form -----------------------------------------------------------------------------


def mixture(schedule: Schedule) -> GaussianMixture:
    """Two overlapping, tilted, anisotropic Gaussians in the plane."""
    means = double(0.9, -0.3, -0.7, 0.5).reshape(2, 2)
    covariances = double(0.30, 0.12, 0.12, 0.10, 0.15, -0.10, -0.10, 0.40).reshape(2, 2, 2)
    return GaussianMixture(Gaussian(schedule), double(0.35, 0.65), means, covariances)


def one_gaussian(schedule: Schedule) -> GaussianMixture:
    """N(m, C), C full: its probability-flow ODE has a closed-form solution."""
    return GaussianMixture(
        Gaussian(schedule),
        double(1.0)[None],
        double(0.4, -0.8)[None],
        double(0.5, 0.3, 0.3, 0.4).reshape(1, 2, 2),
    )


def gaussian_solution(denoiser: GaussianMixture, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x_s = alpha_s m + Q diag(sqrt((alpha_s^2 v + sigma_s^2)/(alpha_t^2 v + sigma_t^2))) Q^T (x_t - alpha_t m)."""
    schedule, Q = denoiser.process.schedule, denoiser.axes[0]
    total_t, total_s = (
        schedule.alpha(u) ** 2 * denoiser.variances[0] + schedule.sigma(u) ** 2 for u in (t, s)
    )
    moved = (x - schedule.alpha(t) * denoiser.means[0]) @ Q * torch.sqrt(total_s / total_t) @ Q.T
    return schedule.alpha(s) * denoiser.means[0] + moved


@dataclass(frozen=True)
class Plain(Schedule):
    """alpha = 1, sigma = t: no schedule at all. Here t is not confined to [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t + 0.0


def solution(denoiser: GaussianMixture, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The probability-flow ODE from t to s, to about 1e-12.

    With y = x/alpha and r = sigma/alpha it is dy/dlog r = y - E[x_0 | y, r], whatever the schedule: only its ends
    enter. scipy's Dormand-Prince method of order 8 solves it.
    """
    schedule = denoiser.process.schedule
    covariances = denoiser.axes * denoiser.variances[:, None] @ denoiser.axes.mT
    bare = GaussianMixture(Gaussian(Plain()), denoiser.log_weights.exp(), denoiser.means, covariances)
    start, end = (float(torch.log(schedule.sigma(u) / schedule.alpha(u))) for u in (t, s))

    def slope(log_ratio: float, y: object) -> object:
        y = torch.as_tensor(y).reshape(x.shape)
        return (y - bare(y, double(math.exp(log_ratio)))).flatten().numpy()

    y = (x / schedule.alpha(t)).flatten().numpy()
    solved = solve_ivp(slope, (start, end), y, method="DOP853", rtol=1e-13, atol=1e-13)
    return schedule.alpha(s) * torch.as_tensor(solved.y[:, -1]).reshape(x.shape)


class Exact(nn.Module):
    """The network a perfect training would give: F = (E[x_0 | x_t] - c_skip x_t) / c_out."""

    def __init__(
        self, denoiser: GaussianMixture, parameterization: Parameterization, sigma_data: float
    ) -> None:
        super().__init__()
        self.denoiser, self.parameterization, self.sigma_data = denoiser, parameterization, sigma_data

    def forward(self, x: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
        schedule = self.denoiser.process.schedule
        t = schedule.time(4 * noise)
        x_t = x * unsqueeze_like(torch.hypot(schedule.alpha(t) * self.sigma_data, schedule.sigma(t)), x)
        c_skip, c_out = (unsqueeze_like(c, x) for c in self.parameterization.coefficients(schedule, t))
        return (self.denoiser(x_t, t, cond) - c_skip * x_t) / c_out


def preconditioned(denoiser: GaussianMixture, parameterization: Parameterization) -> Preconditioned:
    network = Exact(denoiser, parameterization, sigma_data=0.7)
    return Preconditioned(network, denoiser.process, parameterization, sigma_data=0.7)


# -- measuring ---------------------------------------------------------------------------------------------


@functools.cache
def problem(schedule: Schedule) -> tuple[GaussianMixture, Tensor, Tensor]:
    """The mixture, eight points at START and where the exact flow takes them at END."""
    denoiser, rng = mixture(schedule), Rng.of(0, 8)
    x = denoiser.process.corrupt(denoiser.draw(rng), double(START), rng.fork("noise"))
    return denoiser, x, solution(denoiser, x, double(START), double(END))


def error(solver: Solver, schedule: Schedule, steps: int) -> float:
    """Root mean square distance from the exact flow at END, starting at START, on a uniform grid."""
    denoiser, x, exact = problem(schedule)
    times = torch.linspace(START, END, steps + 1, dtype=torch.float64)
    return float((sample(denoiser, solver, times, x, rng=Rng.of(0, 8)) - exact).square().mean().sqrt())


@dataclass(frozen=True)
class Limit(Schedule):
    """What a chain becomes with ever more, ever smaller betas: log alpha^2 = -T int beta, beta^p linear in t."""

    chain: BetaLinear

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self._total(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self._total(t)))

    def _total(self, t: Tensor) -> Tensor:
        n = 2 if self.chain.spacing == "scaled" else 1
        first, last = self.chain.beta_1 ** (1 / n), self.chain.beta_T ** (1 / n)
        now = first + (last - first) * t
        return self.chain.steps * (now ** (n + 1) - first ** (n + 1)) / ((n + 1) * (last - first))


def fine(schedule: Schedule) -> Schedule:
    """The same curve without the jumps of a chain's betas.

    A method that steps dx/dt itself sees those jumps, and its error stops falling at their size.
    """
    match schedule:
        case BetaLinear():
            return Limit(schedule)
        case ZeroTerminal(inner):
            return ZeroTerminal(fine(inner))
        case BetaVectorConfig():
            return fine(schedule.start)
    return schedule


def sees_jumps(solver: Solver) -> bool:
    """Whether the solver, or one that it wraps, steps dx/dt or derivatives over t."""
    inner = (getattr(solver, f.name) for f in dataclasses.fields(solver))
    return getattr(solver, "variable", None) == "time" or any(
        sees_jumps(part) for part in inner if isinstance(part, Solver)
    )


@functools.cache
def measured_order(solver: Solver, schedule: Schedule) -> float:
    """The slope of log error between 18 and 36 steps; 72 and 144 for methods of order 3 and more, and for PNDM, whose
    error of second order is so small that 18 steps still show the next one.
    """
    if sees_jumps(solver):
        schedule = fine(schedule)
    assert solver.order is not None
    steps = 72 if solver.order >= 3 or isinstance(solver, PNDM) else 18
    return math.log2(error(solver, schedule, steps) / error(solver, schedule, 2 * steps))


class Counting(Denoiser):
    """A denoiser that counts its calls."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.process, self.calls = denoiser, denoiser.process, 0

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        self.calls += 1
        return self.denoiser(x_t, t, cond)

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        self.calls += 1
        return self.denoiser.moments(x_t, t, cond)


class Basis:
    """A generator whose draws are the unit vectors e_1, e_2, ... along the batch, one for each label.

    What is affine in its noise then carries, in row i of a batch, the share of draw i: all of its moments at once.

    Args:
        draws: how many it can serve.
        path: the labels so far.
    """

    def __init__(
        self, draws: int, path: tuple[object, ...] = (), rows: dict[object, int] | None = None
    ) -> None:
        self.draws, self.path, self.rows = draws, path, {} if rows is None else rows

    def fork(self, *labels: object) -> Basis:
        words = (float(label) if isinstance(label, Tensor) else label for label in labels)
        return Basis(self.draws, (*self.path, *words), self.rows)

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype, device: object) -> Tensor:
        row = self.rows.setdefault(self.path, len(self.rows) + 1)
        assert row <= self.draws, "give the basis more draws"
        z = torch.zeros(shape, dtype=dtype)
        z[row] = 1
        return z


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased: about 0 for equal laws, positive for others."""

    def within(z: Tensor) -> Tensor:
        return torch.pdist(z).mean()

    return float(2 * torch.cdist(x, y).mean() - within(x) - within(y))
