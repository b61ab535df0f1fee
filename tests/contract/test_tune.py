"""`unstir tune`: what it counts is what sampling costs, what it finds is better, and what it stores is used."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import unstir
from unstir import tune as tuning
from unstir.cli import main
from unstir.codecs import IdentityConfig
from unstir.embedders import LabelConfig
from unstir.errors import CheckpointError, ConfigError, IncompatibleError, NumericError
from unstir.files import Lock, verify_folder, write_folder
from unstir.guidance import CFGPlusPlus
from unstir.model import Defaults, ModelConfig
from unstir.networks import MLPConfig
from unstir.parameterization import EDM
from unstir.pipeline import Pipeline
from unstir.process import Linear
from unstir.rng import Rng
from unstir.solvers import DDIM, DPMpp2M, Heun
from unstir.tune import Bench, Layout, Tuning, features, store, tune

GUIDED = Defaults(guidance=2.0)


def make(classes: tuple[str, ...] = ("left", "right"), defaults: Defaults = GUIDED) -> Pipeline:
    """A model of points: a small MLP with random weights."""
    config = ModelConfig(
        network=MLPConfig(width=16),
        schedule=Linear(),
        parameterization=EDM(sigma_data=0.5),
        sigma_data=0.5,
        codec=IdentityConfig(),
        shape=(2,),
        classes=classes,
        class_counts=(1,) * len(classes),
        embedder=LabelConfig(width=8) if classes else None,
        kind="points",
        defaults=defaults if classes else replace(defaults, guidance=1.0),
    )
    denoiser = config.build().eval()
    with torch.no_grad():
        for k, parameter in enumerate(denoiser.parameters()):
            parameter.copy_(0.5 * Rng.of(k, 1).normal((1, parameter.numel())).reshape(parameter.shape))
    return Pipeline(config, denoiser)


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return make()


@pytest.fixture(scope="module")
def found(pipe: Pipeline) -> Tuning:
    return tune(pipe, 6, n=16)


# -- what is measured ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", list(tuning._deterministic()), ids=str)
def test_calls_are_what_sampling_costs(pipe: Pipeline, solver: Any) -> None:
    bench = Bench(pipe, GUIDED, 8, 0)
    knots = (1.0, 0.9, 0.6, 0.3, 0.0)
    for first, last in ((0, None), (1, 3)):
        settings = Layout(solver, 4, knots, first, last).settings(GUIDED)
        words = {"solver": settings.solver, "times": settings.times, "interval": settings.interval}
        assert bench.calls(settings) == pipe.sample(n=1, **words).evaluations


def test_the_interval_guides_the_steps_of_the_window(pipe: Pipeline) -> None:
    layout = Layout(DDIM(), 4, (1.0, 0.8, 0.6, 0.3, 0.0), 1, 3)
    low, high = layout.settings(GUIDED).interval
    assert (low, high) == pytest.approx((0.45, 0.9))
    assert [low <= t <= high for t in (1.0, 0.8, 0.6, 0.3)] == [False, True, True, False]
    narrow = replace(GUIDED, interval=(0.5, 0.7))
    assert layout.settings(narrow).interval == (0.5, 0.7)


def test_error_is_zero_at_the_reference_and_falls_with_steps(pipe: Pipeline) -> None:
    bench, rows = Bench(pipe, GUIDED, 16, 0), slice(0, 16)
    assert bench.error(bench.reference, rows) == 0
    errors = [bench.error(replace(GUIDED, steps=k), rows) for k in (4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 4


def test_a_first_grid_shares_the_error_evenly(pipe: Pipeline) -> None:
    """Where x_0 moves at one speed over the angle the shares are equal angles: t = sin/(sin + cos) on Linear."""
    bench = Bench(pipe, GUIDED, 16, 0)
    angle = torch.atan2(bench.fine, 1 - bench.fine)
    bench.__dict__["course"] = (-angle.diff(), torch.ones(len(bench.fine) - 1))
    even = torch.linspace(math.pi / 2, 0, 6, dtype=torch.float64)
    expected = even.sin() / (even.sin() + even.cos())
    assert torch.allclose(torch.tensor(bench.place(5), dtype=torch.float64), expected, atol=2e-3)


def test_guidance_is_spent_where_it_moves_most(pipe: Pipeline) -> None:
    bench = Bench(pipe, GUIDED, 16, 0)
    push = (bench.fine[:-1] > 0.55) & (bench.fine[:-1] < 0.85)
    bench.__dict__["course"] = (torch.ones(len(push)), push.double())
    assert bench.window((1.0, 0.8, 0.6, 0.3, 0.0), 2) == (1, 3)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 28, 28), (4, 1, 2, 2)])
def test_features_are_those_of_each_picture(shape: tuple[int, ...]) -> None:
    x = Rng.of(0, 4).normal(shape)
    assert torch.allclose(features(x)[1:2], features(x[1:2]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features(x)[0], features(x)[1])


def test_features_of_points_are_the_points() -> None:
    x = Rng.of(0, 4).normal((4, 2))
    assert torch.equal(features(x), x)


# -- what is found -------------------------------------------------------------------------------------------


def test_the_best_keeps_to_the_budget_and_beats_the_untuned(found: Tuning) -> None:
    assert all(trial.calls <= 6 for trial in (*found.trials, found.untuned))
    assert found.reference_calls == 100
    errors = [trial.error for trial in found.trials]
    assert errors == sorted(errors)
    assert found.best.error < 0.7 * found.untuned.error
    assert found.best.settings.grid == "optimised"
    assert found.best.settings.guidance == 2.0


def test_the_error_is_that_of_unseen_samples(pipe: Pipeline, found: Tuning) -> None:
    bench = Bench(pipe, GUIDED, 16, 0)
    assert found.best.error == pytest.approx(bench.error(found.best.settings, slice(8, 16)), rel=1e-5)


def test_every_solver_of_one_call_is_tried(found: Tuning) -> None:
    tried = {type(trial.settings.solver) for trial in found.trials}
    assert {DDIM, DPMpp2M, Heun} <= tried
    assert not any(trial.settings.solver.stochastic for trial in found.trials)


def test_tuning_again_starts_from_the_untuned(pipe: Pipeline, found: Tuning) -> None:
    assert tuning._untuned(found.best.settings) == GUIDED
    karras = replace(GUIDED, grid="karras", interval=(0.1, 0.9))
    assert tuning._untuned(karras) == karras


def test_a_model_without_labels_is_tuned_too() -> None:
    best = tune(make(classes=()), 3, n=8).best
    assert best.calls <= 3
    assert best.settings.interval == (0.0, 1.0)


def test_seconds_are_turned_into_evaluations() -> None:
    assert tuning._budget(None, 2.0, 0.3) == 6
    assert tuning._budget(None, 1e9, 0.3) == tuning.MOST


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("budget", {}),
    ("budget", {"budget": 8, "seconds": 1.0}),
    ("budget", {"budget": 0}),
    ("budget", {"budget": 1}),
    ("budget", {"budget": 2.5}),
    ("budget", {"budget": True}),
    ("budget", {"budget": 10**6}),
    ("seconds", {"seconds": math.nan}),
    ("seconds", {"seconds": math.inf}),
    ("seconds", {"seconds": 1e-9}),
    ("n", {"budget": 8, "n": 1}),
]


@pytest.mark.parametrize(("field", "settings"), WRONG, ids=str)
def test_impossible_budgets_are_refused(pipe: Pipeline, field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        tune(pipe, **settings)
    assert error.value.field == field
    assert error.value.hint


# -- what is stored ------------------------------------------------------------------------------------------


@pytest.fixture
def run(pipe: Pipeline, tmp_path: Path) -> Path:
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    write_folder(folder / "step-5", {"model.safetensors": pipe.write, "state.json": b"{}"})
    (folder / "last").symlink_to("step-5")
    return folder.parent


def test_what_is_stored_is_sampled_with(run: Path, found: Tuning) -> None:
    before = unstir.load(run)
    path = store(run, found)
    assert path == (run / "checkpoints/step-5/model.safetensors").resolve()
    after = unstir.load(run)
    assert after.config.defaults == found.best.settings
    assert after.digest != before.digest
    drawn = after.sample(n=2, seed=3)
    assert drawn.evaluations == found.best.calls
    assert drawn.recipe["times"] == list(found.best.settings.times)
    again = before.sample(
        n=2,
        seed=3,
        solver=found.best.settings.solver,
        times=found.best.settings.times,
        interval=found.best.settings.interval,
    )
    assert drawn.images.tobytes() == again.images.tobytes()
    assert after.sample(n=1, steps=20).recipe["steps"] == 20


def test_the_checkpoint_stays_whole(run: Path, found: Tuning) -> None:
    store(run, found)
    assert verify_folder(run / "checkpoints/step-5") == []


def test_a_run_that_is_being_trained_is_left_alone(run: Path, found: Tuning) -> None:
    model = run / "checkpoints/step-5/model.safetensors"
    before = model.read_bytes()
    with Lock(run / "lock"), pytest.raises(CheckpointError, match="in use"):
        store(run, found)
    assert model.read_bytes() == before


def test_a_bare_file_is_tuned_by_the_command(
    pipe: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pipe.save(tmp_path / "points.safetensors")
    before = file.read_bytes()
    assert main(["tune", str(file), "budget=2", "n=8", "--dry-run", "-q"]) == 0
    out = capsys.readouterr().out
    assert "untuned" in out
    assert file.read_bytes() == before
    assert main(["tune", str(file), "budget=2", "n=8", "--json", "-q"]) == 0
    words = json.loads(capsys.readouterr().out)
    best = words["trials"][0]
    assert best["calls"] <= 2
    assert words["stored"] == str(file)
    assert list(unstir.load(file).config.defaults.times) == best["settings"]["times"]


def test_the_best_is_said_in_settings_of_sample(
    pipe: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(pipe.save(tmp_path / "points.safetensors"))
    assert main(["tune", file, "budget=5", "n=8", "-q"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("best"))
    tuned, again = unstir.load(file).sample(n=2), tmp_path / "again.npz"
    pipe.save(file)
    assert main(["sample", file, "n=2", "-q", f"out={again}", *line.split()[1:]]) == 0
    with np.load(again) as arrays:
        np.testing.assert_array_equal(arrays["x"], tuned.images)


def test_a_folder_that_cannot_be_written_is_refused_before_the_search(
    pipe: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pipe.save(tmp_path / "points.safetensors")
    refusal = mock.Mock(side_effect=PermissionError(errno.EACCES, "no"))
    monkeypatch.setattr("tempfile.TemporaryFile", refusal)
    assert main(["tune", str(file), "budget=2", "n=8"]) == 4
    err = capsys.readouterr().err
    refusal.assert_called_once()
    assert "cannot be written to" in err
    assert "reference" not in err


def test_a_model_that_gives_nothing_finite_is_not_tuned() -> None:
    broken = make()
    with torch.no_grad():
        next(iter(broken.module.parameters())).fill_(math.inf)
    with pytest.raises(NumericError):
        tune(broken, 2, n=8)


def test_a_scale_that_belongs_to_a_number_of_steps_is_refused() -> None:
    plus = make(defaults=Defaults(solver=DDIM(), guidance=0.5, rule=CFGPlusPlus()))
    with pytest.raises(IncompatibleError, match="number of steps"):
        tune(plus, 4, n=8)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("m budget=0", "an integer >= 1"),
        ("m budget=many", "an integer >= 1"),
        ("m budget=1000", "<= 200"),
        ("m seconds=nan", "a time"),
        ("m seconds=-1", "a time"),
        ("m", "give a budget or seconds"),
        ("m budget=8 seconds=2", "give a budget or seconds"),
        ("m budgte=8", "unknown setting 'budgte'"),
        ("budget=8", "one model is needed"),
    ],
)
def test_wrong_usage_is_refused(line: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *line.split()]) == 2
    assert reason in capsys.readouterr().err
