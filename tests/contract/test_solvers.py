"""What every solver promises, on every schedule: finite from pure noise to data, and as many calls as it says."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from torch import Tensor

from truth import SCHEDULES, SOLVERS, STOCHASTIC, Counting, double, label, mixture
from unstir import solvers, times
from unstir.condition import Condition
from unstir.denoiser import Denoiser, Moments
from unstir.errors import ConfigError, IncompatibleError, NumericError
from unstir.noise import Noise
from unstir.process import EDM, BetaLinear, Cosine, Gaussian, Geometric, Linear, Process, Schedule, Sigmoid
from unstir.rng import Rng
from unstir.sampling import sample, trajectory
from unstir.solvers import (
    DDIM,
    DDPM,
    Adaptive,
    Ancestral,
    DPMpp2M,
    Euler,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    Restart,
    RungeKutta,
)
from unstir.solvers.base import Bound, Solver

GRIDS = tuple(getattr(times, name) for name in times.__all__)
B = 3


def start(schedule: Schedule) -> Tensor:
    return Gaussian(schedule).prior((B, 2), Rng.of(0, B), torch.float64)


class Shrink(Denoiser):
    """All that a user's own denoiser needs: a process and `forward`, here also for what may ask for the variance.
    It works on any shape.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.process = Gaussian(schedule)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        alpha, sigma = self.process.scales(t, x_t)
        return alpha / (alpha**2 + sigma**2) * x_t

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        alpha, sigma = self.process.scales(t, x_t)
        return Moments(self(x_t, t, cond), sigma**2 / (alpha**2 + sigma**2) * torch.ones_like(x_t))


@pytest.mark.parametrize("name", solvers.__all__)
def test_can_be_built_and_says_what_it_is(name: str) -> None:
    solver = getattr(solvers, name)()
    assert dataclasses.is_dataclass(solver)
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.order = 3
    assert issubclass(solver.process, Process)
    assert solver.order is None or solver.order >= 1
    assert solver.evaluations is None or solver.evaluations >= 1
    assert isinstance(solver.stochastic, bool)
    assert hash(solver) == hash(type(solver)())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_finite_from_noise_to_data(solver: Solver, schedule: Schedule) -> None:
    """alpha(1) = 0 and sigma(0) = 0 hurt nobody, in one step, two or three, whatever they are between."""
    for steps in (1, 2, 3):
        x = sample(Shrink(schedule), solver, times.uniform(steps), start(schedule), rng=Rng.of(0, B))
        assert x.isfinite().all()


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), BetaLinear(), EDM()], ids=label)
@pytest.mark.parametrize("solver", [s for s in SOLVERS if s.evaluations is not None], ids=label)
def test_takes_the_calls_it_says(solver: Solver, schedule: Schedule) -> None:
    """`evaluations` a step and `startup` once; one into sigma = 0; out of alpha = 0 no more than that.

    `sample` takes one more where sigma(0) > 0, to remove the noise that is left.
    """
    denoiser, grid = Counting(Shrink(schedule)), times.uniform(5)
    steps = trajectory(denoiser, solver, grid, start(schedule), rng=Rng.of(0, B))
    startup = solver.startup
    for (t, s), _ in zip(itertools.pairwise(grid), steps, strict=True):
        found, denoiser.calls = denoiser.calls, 0
        if schedule.sigma(s) == 0:
            assert found == 1
            continue
        if found > solver.evaluations:
            found, startup = found - startup, 0
        assert found == solver.evaluations or (1 <= found < solver.evaluations and schedule.alpha(t) == 0)
    assert startup == 0
    sample(denoiser, solver, grid, start(schedule), rng=Rng.of(0, B))
    whole = denoiser.calls
    list(trajectory(denoiser, solver, grid, start(schedule), rng=Rng.of(0, B)))
    assert 2 * whole - denoiser.calls == int(schedule.sigma(grid[-1]) > 0)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.__name__)
@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_finite_on_every_grid(solver: Solver, grid: object) -> None:
    for schedule in (Cosine(), EDM()):
        for steps in (1, 2, 3):
            x = sample(Shrink(schedule), solver, grid(steps, schedule), start(schedule), rng=Rng.of(0, B))
            assert x.isfinite().all()


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
@pytest.mark.parametrize("schedule", [Linear(), EDM()], ids=label)
def test_the_last_step_returns_what_the_denoiser_says(solver: Solver, schedule: Schedule) -> None:
    """At sigma(0) = 0 a sample is exactly the last alpha x_0; where sigma(0) > 0 one more call denoises."""
    denoiser = Shrink(schedule)
    steps = list(trajectory(denoiser, solver, times.uniform(4), start(schedule), rng=Rng.of(0, B)))
    end = sample(denoiser, solver, times.uniform(4), start(schedule), rng=Rng.of(0, B))
    exact = steps[-1].x_0 if schedule.sigma(double(0.0)) == 0 else denoiser(steps[-1].x, double(0.0))
    assert torch.allclose(end, exact, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (2,), (1, 2, 2), (1, 2, 1, 2)], ids=str)
@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_keeps_any_shape_and_precision(solver: Solver, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = Rng.of(0, B).normal((B, *shape), dtype)
    for step in trajectory(Shrink(Cosine()), solver, times.uniform(3), x, rng=Rng.of(0, B)):
        assert step.x.shape == step.x_0.shape == x.shape
        assert step.x.dtype == step.x_0.dtype == dtype


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_single_precision_follows_double(solver: Solver) -> None:
    """float32 differs from float64 by rounding alone: coefficients are computed in the precision of the times."""
    x = Rng.of(0, B).normal((B, 2), torch.float64)
    exact = sample(Shrink(Cosine()), solver, times.uniform(20), x, rng=Rng.of(0, B))
    single = sample(Shrink(Cosine()), solver, times.uniform(20), x.float(), rng=Rng.of(0, B))
    assert (single - exact).abs().max() < 3e-6


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_sample_12_is_sample_5_of_seed_7(solver: Solver) -> None:
    """A sample depends on its own seed alone, through a whole trajectory."""
    denoiser, grid = mixture(Cosine()), times.uniform(6)

    def run(seed: int, n: int) -> Tensor:
        rng = Rng.of(seed, n)
        x = denoiser.process.prior((n, 2), rng.fork("prior"), torch.float64)
        return sample(denoiser, solver, grid, x, rng=rng.fork("solver"))

    many, one = run(7, 16)[5], run(12, 1)[0]
    # matrix products of another size may round otherwise; a wrong noise would differ in the first digit
    assert torch.allclose(many, one, rtol=0, atol=1e-13)


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_only_stochastic_solvers_draw(solver: Solver) -> None:
    x = start(Linear())
    one, two, again = (
        sample(Shrink(Linear()), solver, times.uniform(5), x, rng=Rng.of(seed, B)) for seed in (1, 2, 1)
    )
    assert torch.equal(one, again)
    assert torch.equal(one, two) is not solver.stochastic


@pytest.mark.parametrize("solver", STOCHASTIC, ids=label)
def test_steps_draw_independent_noise(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draw in two steps would be a bias that no moment of one step shows."""
    drawn: dict[object, Tensor] = {}  # what is asked for twice is one draw

    class Recording(Noise):
        def between(self, t: Tensor, s: Tensor) -> Tensor:
            return drawn.setdefault((int(self.rng.keys[0]), float(t), float(s)), super().between(t, s))

        def fresh(self, *labels: object) -> Tensor:
            return drawn.setdefault((int(self.rng.keys[0]), labels), super().fresh(*labels))

        def fork(self, *labels: object) -> Noise:
            return Recording(super().fork(*labels).rng, self._like)

    monkeypatch.setattr("unstir.sampling.Noise", Recording)
    x = Rng.of(0, 500).normal((500, 2), torch.float64)
    for _ in trajectory(Shrink(Cosine()), solver, times.uniform(8), x, rng=Rng.of(0, 500)):
        pass
    table = torch.stack([x.flatten(), *(z.flatten() for z in drawn.values())])
    correlation = torch.corrcoef(table)[1:, 1:] - torch.eye(len(drawn))
    assert len(drawn) >= 2
    assert correlation.abs().max() < 5 / math.sqrt(x.numel())


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_an_object_serves_two_trajectories_at_once(solver: Solver) -> None:
    """History is in the steps: two interleaved trajectories of one solver do not disturb each other."""
    x, grid = start(Cosine()), times.uniform(5)
    alone = [step.x for step in trajectory(mixture(Cosine()), solver, grid, x, rng=Rng.of(0, B))]
    first = trajectory(mixture(Cosine()), solver, grid, x, rng=Rng.of(0, B))
    second = trajectory(mixture(Cosine()), solver, grid, -x, rng=Rng.of(9, B))
    for expected, step, _ in zip(alone, first, second, strict=True):
        assert torch.equal(step.x, expected)


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_a_pure_solver_is_a_function_of_x_and_its_times(solver: Solver) -> None:
    """No noise and nothing remembered, or else it may not say so."""
    denoiser, x = mixture(Cosine()), start(Cosine())
    steps = list(trajectory(denoiser, solver, double(0.9, 0.6, 0.05), x, rng=Rng.of(0, B)))
    again = list(trajectory(denoiser, solver, double(0.6, 0.05), steps[0].x, rng=Rng.of(1, B)))
    same = torch.equal(steps[1].x, again[0].x)
    assert same is solver.pure or isinstance(solver, Adaptive)


def test_no_two_solvers_are_the_same() -> None:
    """Unless one says so: its docstring names the other."""
    found = []
    for schedule in (BetaLinear(), Sigmoid()):
        denoiser, x = mixture(schedule), start(schedule)
        grid = torch.linspace(1, 0.05, 9, dtype=torch.float64)
        found.append([sample(denoiser, s, grid, x, rng=Rng.of(0, B)) for s in SOLVERS])
    for (i, one), (k, two) in itertools.combinations(enumerate(SOLVERS), 2):
        if any((ends[i] - ends[k]).abs().max() > 1e-9 for ends in found):
            continue
        docs = type(one).__doc__ or "", type(two).__doc__ or ""
        named = type(two).__name__ in docs[0] or type(one).__name__ in docs[1]
        assert named, f"{label(one)} gives the numbers of {label(two)}"


def test_a_grid_may_rise() -> None:
    """Rising times add the process's own noise, fresh at every visit of an interval."""
    times_ = double(0.5, 0.9, 0.5, 0.9, 0.5)
    x = Rng.of(0, 4000).normal((4000, 1), torch.float64)  # N(0, 1) data: Shrink is its exact denoiser
    steps = list(trajectory(Shrink(Cosine()), DDPM(), times_, x, rng=Rng.of(0, 4000)))
    assert torch.equal(steps[0].x_0, steps[0].x)
    ratio, _ = Gaussian(Cosine()).kernel(double(0.5), double(0.9))
    noises = [steps[0].x - ratio * x, steps[2].x - ratio * steps[1].x]
    assert torch.corrcoef(torch.cat(noises, 1).T)[0, 1].abs() < 0.06
    assert steps[0].x.std() == pytest.approx(1, abs=0.05)


def test_what_cannot_be_sampled_is_refused_before_any_work() -> None:
    class Tokens(Process):
        corrupt = transition = posterior = prior = None

    class Blow(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.process = Gaussian(Linear())

        def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
            return x_t * float("nan")

    denoiser, x = Counting(Shrink(Linear())), start(Linear())
    bad_grids = ([1.0], [1.0, 1.0], [1.0, float("nan")], [1.2, 0.0], [1.0, -0.1], [])
    for grid in bad_grids:
        with pytest.raises(ConfigError) as error:
            trajectory(denoiser, DDIM(), torch.tensor(grid), x, rng=Rng.of(0, B))
        assert error.value.field == "times"
        assert error.value.hint
    denoiser.process = Tokens()
    with pytest.raises(IncompatibleError, match="solves Gaussian processes; the denoiser's is Tokens"):
        trajectory(denoiser, DDIM(), times.uniform(2), x, rng=Rng.of(0, B))
    assert denoiser.calls == 0
    with pytest.raises(NumericError):
        sample(Blow(), DDIM(), times.uniform(2), x, rng=Rng.of(0, B))


@pytest.mark.parametrize(
    ("solver", "fields"),
    [
        (DDIM, {"eta": -0.1}),
        (DDIM, {"eta": 1.1}),
        (DDIM, {"eta": float("nan")}),
        (DDPM, {"variance": "middle"}),
        (Ancestral, {"eta": 0}),
        (Ancestral, {"eta": float("nan")}),
        (Ancestral, {"solver": DDPM()}),
        (Ancestral, {"solver": DPMpp2M()}),
        (Adaptive, {"pair": "rk45"}),
        (Adaptive, {"atol": 0}),
        (Adaptive, {"rtol": float("nan")}),
        (Adaptive, {"limit": 0}),
        (EulerMaruyama, {"noise": -1}),
        (EulerMaruyama, {"noise": float("inf")}),
        (EulerMaruyama, {"variable": "log"}),
        (Langevin, {"corrections": 0}),
        (Langevin, {"snr": float("nan")}),
        (PredictorCorrector, {"corrections": 0}),
        (PredictorCorrector, {"snr": 1}),
        (Restart, {"low": 0}),
        (Restart, {"low": 0.5, "high": 0.4}),
        (Restart, {"repeats": 0}),
        (Restart, {"steps": 0}),
        (RungeKutta, {"tableau": "rk5"}),
        (RungeKutta, {"variable": "log"}),
        (Heun, {"churn": -0.1}),
        (Heun, {"churn": 0.5}),
        (Heun, {"churn": float("nan")}),
        (Heun, {"variable": "log"}),
        (Euler, {"variable": "log"}),
    ],
)
def test_wrong_settings_are_named(solver: type[Solver], fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        sample(Shrink(Linear()), solver(**fields), times.uniform(2), start(Linear()), rng=Rng.of(0, B))
    assert error.value.field == f"solver.{next(iter(fields))}"
    assert error.value.hint


def test_multistep_history_is_dropped_where_time_rises() -> None:
    """DPM-Solver++ remembers a time; after a rise it must not extrapolate from the wrong side."""
    denoiser, x = mixture(Linear()), start(Linear())
    steps = list(trajectory(denoiser, DPMpp2M(), double(0.8, 0.6, 0.7, 0.5), x, rng=Rng.of(0, B)))
    single = DPMpp2M().step(
        Bound(denoiser), steps[1].x, double(0.7), double(0.5), None, Noise(Rng.of(0, B), x)
    )
    assert torch.equal(steps[2].x, single.x)


def test_where_noise_is_left_it_is_removed() -> None:
    schedule = Geometric()
    denoiser = Counting(mixture(schedule))
    end = sample(denoiser, DDIM(), times.uniform(4), start(schedule), rng=Rng.of(0, B))
    assert denoiser.calls == 4 + 1
    partial = sample(denoiser, DDIM(), times.uniform(4)[:-1], start(schedule), rng=Rng.of(0, B))
    assert denoiser.calls == 4 + 1 + 3, "a grid that stops early is left as noisy as it was asked to be"
    assert torch.equal(end.isfinite(), partial.isfinite())
