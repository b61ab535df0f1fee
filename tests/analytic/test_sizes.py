"""Sizes in closed form: the shift of the noise, the shapes of buckets, and whose turn it is."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from unstir import times
from unstir.data.buckets import assign, bucket_shapes, turns
from unstir.data.decode import fit
from unstir.errors import ConfigError
from unstir.objectives import LogitNormal
from unstir.process import (
    EDM,
    VP,
    BetaLinear,
    Cosine,
    Geometric,
    Linear,
    Schedule,
    Shifted,
    Sigmoid,
    SubVP,
    ZeroTerminal,
)
from unstir.sizes import read_size, resolution_shift, written

PURE = [Linear(), Cosine(), Cosine(0.008), Sigmoid(), ZeroTerminal(), Shifted(Linear(), 3.0)]
CUT = [VP(), SubVP(), BetaLinear(), EDM(), Geometric()]


# -- the shift of the noise --------------------------------------------------------------------------------
@pytest.mark.parametrize("shift", [0.3, 1.0, 1.5, 3.0, 20.0])
def test_a_moved_uniform_grid_of_the_straight_path_is_the_shifted_grid(shift: float) -> None:
    t = times.uniform(40)
    expected = shift * t / (1 + (shift - 1) * t)
    torch.testing.assert_close(times.moved(t, Linear(), shift), expected, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(times.shifted(40, shift=shift), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("schedule", PURE, ids=repr)
@pytest.mark.parametrize("grid", times.__all__)
def test_moving_divides_the_signal_to_noise_ratio_by_the_square_of_the_shift(
    schedule: Schedule, grid: str
) -> None:
    t = getattr(times, grid)(30, schedule)
    moved = times.moved(t, schedule, 2.5)
    fallen = schedule.log_snr(t[1:-1]) - 2 * math.log(2.5)
    torch.testing.assert_close(schedule.log_snr(moved[1:-1]), fallen, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [*PURE, *CUT], ids=repr)
@pytest.mark.parametrize("shift", [0.2, 2.0, 8.0])
def test_every_moved_grid_falls_from_one_to_zero(schedule: Schedule, shift: float) -> None:
    for grid in times.__all__:
        moved = times.moved(getattr(times, grid)(25, schedule), schedule, shift)
        assert moved[0] == 1
        assert moved[-1] == 0
        assert bool((moved.diff() < 0).all())


@pytest.mark.parametrize("schedule", CUT, ids=repr)
def test_where_a_schedule_ends_early_the_map_is_that_of_the_part_that_it_runs_through(
    schedule: Schedule,
) -> None:
    t = times.uniform(30)
    u, ends = (torch.sigmoid(-schedule.log_snr(x) / 2) for x in (t, t[[-1, 0]]))
    v = (u - ends[0]) / (ends[1] - ends[0])
    moved = torch.sigmoid(-schedule.log_snr(times.moved(t, schedule, 3.0)) / 2)
    expected = 3 * v / (1 + 2 * v)
    torch.testing.assert_close((moved - ends[0]) / (ends[1] - ends[0]), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("schedule", [*PURE, *CUT], ids=repr)
def test_moves_compose_and_one_moves_nothing(schedule: Schedule) -> None:
    t = times.uniform(20)
    assert times.moved(t, schedule, 1.0) is t
    twice = times.moved(times.moved(t, schedule, 1.5), schedule, 2.0)
    torch.testing.assert_close(twice, times.moved(t, schedule, 3.0), rtol=1e-7, atol=1e-9)
    back = times.moved(times.moved(t, schedule, 4.0), schedule, 0.25)
    torch.testing.assert_close(back, t, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, -1.0, math.nan, math.inf])
def test_a_shift_is_a_positive_number(shift: float) -> None:
    with pytest.raises(ConfigError, match="shift is"):
        times.moved(times.uniform(3), Linear(), shift)


def certainty(positions: int, schedule: Schedule, t: float) -> float:
    """Var[c | x_t] for x_t = alpha c + sigma eps at every position, c ~ N(0, 1), by the whole covariance matrix."""
    at = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule.alpha(at), schedule.sigma(at)
    ones = torch.ones(positions, dtype=torch.float64)
    covariance = alpha**2 * torch.outer(ones, ones) + sigma**2 * torch.diag(ones)
    told = alpha * torch.linalg.solve(covariance, ones)
    return float(1 - (told * alpha).sum())


@pytest.mark.parametrize("schedule", PURE, ids=repr)
def test_a_picture_of_one_colour_is_as_uncertain_at_every_size(schedule: Schedule) -> None:
    n, m = 6 * 6, 12 * 9
    t = times.uniform(8)
    moved = times.moved(t, schedule, resolution_shift(m, n))
    for old, new in zip(t[1:-1].tolist(), moved[1:-1].tolist(), strict=True):
        assert certainty(m, schedule, new) == pytest.approx(certainty(n, schedule, old), rel=1e-6)


def test_a_shifted_schedule_moves_the_draws_of_training_by_the_logarithm_of_the_shift() -> None:
    u = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    shifted = Shifted(Linear(), 2.0)
    plain = Linear().log_snr(LogitNormal(mean=math.log(2)).quantile(u, Linear()))
    torch.testing.assert_close(shifted.log_snr(LogitNormal().quantile(u, shifted)), plain)


# -- sizes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "size"),
    [(96, (96, 96)), ("96", (96, 96)), ("96x64", (64, 96)), (" 30 X 40", (40, 30)), ("2×3", (3, 2))],
)
def test_sizes_are_written_width_first(given: int | str, size: tuple[int, int]) -> None:
    assert read_size(given) == size
    assert read_size(written(*size)) == size


@pytest.mark.parametrize(
    "given",
    [
        0,
        1,
        -4,
        4097,
        True,
        3.5,
        None,
        "",
        "x",
        "64x",
        "x64",
        "axb",
        "8x8x8",
        "1x9",
        "9x9999",
        "-8x8",
        "9" * 99,
    ],
)
def test_other_sizes_are_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="size is") as caught:
        read_size(given)
    assert caught.value.field == "size"


# -- buckets -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [2, 5, 8, 20, 32, 64, 96, 100, 256, 512, 1024])
def test_buckets_have_about_one_area_and_the_square_in_the_middle(size: int) -> None:
    shapes = bucket_shapes(size)
    assert len(shapes) % 2
    assert shapes[len(shapes) // 2] == (size, size)
    assert [(width, height) for height, width in reversed(shapes)] == list(shapes)
    ratios = [width / height for height, width in shapes]
    assert all(a < b for a, b in pairwise(ratios))
    assert ratios[0] > 1 / 4.6
    for height, width in shapes:
        assert height * width <= size**2
        if size >= 32 and height != width:
            assert height * width > 0.87 * size**2
            assert height % 4 == width % 4 == 0


def test_every_picture_goes_where_its_ratio_is_nearest() -> None:
    rng = np.random.default_rng(0)
    shapes = rng.integers(20, 400, (500, 2))
    plan = assign(shapes, 64, least=1)
    rows = np.concatenate(list(plan.values()))
    assert sorted(rows.tolist()) == list(range(500))
    for (height, width), members in plan.items():
        for row in members:
            own = math.log(shapes[row, 1] / shapes[row, 0])
            distances = {s: abs(own - math.log(s[1] / s[0])) for s in bucket_shapes(64)}
            assert distances[height, width] == pytest.approx(min(distances.values()))


def test_a_bucket_of_few_pictures_is_closed_and_its_pictures_move_next_door() -> None:
    shapes = np.array([(64, 64)] * 20 + [(56, 72)] * 5 + [(32, 128)] * 30)
    plan = assign(shapes, 64, least=16)
    assert {shape: len(rows) for shape, rows in plan.items()} == {(64, 64): 25, (32, 128): 30}
    assert list(assign(shapes[:3], 64, least=16)) == [(64, 64)]
    few = np.array([(30, 40), (40, 30), (30, 41)])
    assert [len(rows) for rows in assign(few, 64, least=16).values()] == [3]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 1000))
def test_turns_are_in_proportion_at_every_time_and_exact_after_a_round(counts: list[int], seed: int) -> None:
    phases = np.random.default_rng(seed).random(len(counts))
    bucket, before = turns(counts, phases.tolist())
    total = sum(counts)
    assert len(bucket) == total
    for k, count in enumerate(counts):
        mine = bucket == k
        assert before[mine].tolist() == list(range(count))
        due = np.arange(1, total + 1) * count / total
        assert np.abs(mine.cumsum() - due).max() <= len(counts)


def test_what_is_cut_off_is_as_little_as_can_be() -> None:
    """A ramp over the columns, 60 x 40, in a shape of 40 x 40: a sixth is lost left and right, nothing above."""
    ramp = np.repeat(np.linspace(0, 240, 60, dtype=np.float32)[None], 40, 0).round().astype(np.uint8)
    cut = np.asarray(fit(Image.fromarray(ramp), (40, 40)))
    np.testing.assert_array_equal(cut, ramp[:, 10:50])
    np.testing.assert_array_equal(np.asarray(fit(Image.fromarray(ramp.T), (30, 40))), ramp.T[15:45])
    half = np.asarray(fit(Image.fromarray(ramp), (20, 30)), int)
    assert np.abs(half[:, 1:-1] - (ramp[::2, 2:-2:2].astype(int) + ramp[::2, 3:-2:2]) / 2).max() <= 2
    for side in (7, 40):
        square = fit(Image.fromarray(ramp), side)
        assert square.tobytes() == fit(Image.fromarray(ramp), (side, side)).tobytes()
