"""What every grid of times promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from truth import SCHEDULES, label
from unstir import times
from unstir.errors import ConfigError
from unstir.process import Cosine, Geometric, Linear, Schedule, Shifted

GRIDS = [getattr(times, n) for n in times.__all__]
Grid = Callable[..., Tensor]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize("grid", GRIDS, ids=times.__all__)
def test_grids_fall_from_one_to_zero(grid: Grid, schedule: Schedule) -> None:
    for steps in (1, 2, 3, 20, 999):
        made = grid(steps, schedule)
        assert made.shape == (steps + 1,)
        assert made.dtype == torch.float64
        assert made[0] == 1
        assert made[-1] == 0
        assert (made.diff() < 0).all()


def test_no_two_grids_are_the_same() -> None:
    made = [grid(12, Cosine()) for grid in GRIDS if grid is not times.trailing]  # uniform but for rounding
    nearest = min(float((a - b).abs().max()) for k, a in enumerate(made) for b in made[:k])
    assert nearest > 0.01


def test_grids_are_even_in_what_they_are_named_after() -> None:
    schedule = Cosine()
    inner = schedule.log_snr(times.log_snr(12, schedule)[1:-1]).diff()
    assert torch.allclose(inner, inner.mean().expand_as(inner), rtol=1e-9)
    roots = torch.exp(-schedule.log_snr(times.karras(12, schedule)[1:-1]) / 14).diff()
    assert torch.allclose(roots, roots.mean().expand_as(roots), rtol=1e-9)
    assert (times.trailing(7) * 1000).tolist() == [1000, 857, 714, 571, 429, 286, 143, 0]
    assert torch.allclose(times.shifted(10), Shifted(Linear(), 3.0).sigma(times.uniform(10)))


def test_the_exponential_grid_is_even_in_a_power() -> None:
    schedule = Geometric()
    low, high = schedule.log_snr(torch.tensor([1 - times.CLIP, times.CLIP], dtype=torch.float64))
    inner = schedule.log_snr(times.exponential(12, schedule, rho=2.0)[1:-1])
    roots = ((high - inner) / (high - low)).sqrt()
    assert torch.allclose(roots, torch.arange(11, 0, -1, dtype=torch.float64) / 12, rtol=1e-9)
    assert torch.equal(times.exponential(9, schedule, rho=1.0), times.log_snr(9, schedule))


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (1.0, 1.0), (0.3, 4.0), (3.0, 0.7), (10.0, 10.0)])
def test_the_beta_grid_has_the_quantiles(a: float, b: float) -> None:
    exact = torch.from_numpy(stats.beta.ppf(times.uniform(50).numpy(), a, b))
    assert (times.beta(50, a=a, b=b) - exact).abs().max() < 1e-12


NODES = (1.0, 0.97, 0.9, 0.4, 0.39, 0.0)


def test_optimised_times_are_met_and_fall_between() -> None:
    assert times.optimised(5, NODES).tolist() == list(NODES)
    assert torch.equal(times.optimised(10, NODES)[::2], times.optimised(5, NODES))
    for steps in (1, 2, 3, 7, 1000):
        made = times.optimised(steps, NODES)
        assert made.shape == (steps + 1,)
        assert (made[0], made[-1]) == (1, 0)
        assert (made.diff() < 0).all()


def test_optimised_times_that_are_even_stay_so() -> None:
    assert torch.allclose(times.optimised(12, times.uniform(5).tolist()), times.uniform(12), atol=1e-15)


@pytest.mark.parametrize(
    "nodes", [(), (1.0,), (1.0, 0.5), (0.9, 0.0), (1.0, 0.5, 0.5, 0.0), (1.0, math.nan, 0.0)]
)
def test_times_that_do_not_fall_from_one_to_zero_are_refused(nodes: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        times.optimised(4, nodes)
    assert error.value.field == "times"
    assert "unstir tune" in str(error.value.hint)


@pytest.mark.parametrize("steps", [0, -1, 2.5, "20", True])
@pytest.mark.parametrize("grid", GRIDS, ids=times.__all__)
def test_wrong_step_counts_are_refused(grid: Grid, steps: object) -> None:
    with pytest.raises(ConfigError) as error:
        grid(steps, Linear())
    assert error.value.field == "steps"


def test_wrong_grids_are_refused() -> None:
    with pytest.raises(ConfigError, match="1001 steps on a chain of 1000"):
        times.trailing(1001)
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="shift"):
            times.shifted(4, shift=value)
        with pytest.raises(ConfigError, match="rho"):
            times.exponential(4, Linear(), rho=value)
        with pytest.raises(ConfigError, match="a, b"):
            times.beta(4, a=value)
