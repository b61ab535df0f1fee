"""small_data=auto, on and off: what it chooses, what wins over it, what is refused, and that it goes on bit for bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import outcome, resume, train
from unstir import Rng, config, recipes, runs
from unstir.data import Dataset, open_data
from unstir.embedders import Augmentation, Patches
from unstir.errors import ConfigError, IncompatibleError
from unstir.files import read_header
from unstir.model import ModelConfig
from unstir.pipeline import load
from unstir.recipes import Recipe
from unstir.recipes.small import FEW
from unstir.spec import dump, load as read_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 150 and all digits, and as many others as auto leaves alone."""
    folder = tmp_path_factory.mktemp("data")
    digits, _ = open_data("digits", heldout=0)
    x, y = np.asarray(digits.x), np.asarray(digits.y)
    np.savez(folder / "few.npz", x=x[:150], y=y[:150])
    many = Rng.of(0, 1).integers(256, (1, (FEW + 600) * 64)).to(torch.uint8).numpy().reshape(-1, 8, 8, 1)
    np.savez(folder / "many.npz", x=many)
    return folder


def chosen(source: Path | str, **settings: Any) -> Recipe:
    """The recipe, its blanks filled."""
    data, _ = open_data(str(source))
    return resolved(
        data, **{"data.source": str(source)} | {k.replace("__", "."): v for k, v in settings.items()}
    )


def resolved(data: Dataset, **given: Any) -> Recipe:
    recipe = config.build("train", config.settings("train", [config.Layer("call", given)]).values)
    assert isinstance(recipe, Recipe)
    return recipes.resolve(recipe, data, torch.device("cpu"))


# -- what is chosen ------------------------------------------------------------------------------------------


def test_auto_is_on_for_few_pictures_and_off_for_many(folder: Path) -> None:
    few, many = chosen(folder / "few.npz"), chosen(folder / "many.npz")
    assert (few.small_data, many.small_data) == (True, False)
    assert few.augment is not None
    assert many.augment is None
    assert chosen(folder / "few.npz", small_data="off") == replace(
        chosen(folder / "few.npz", small_data=False), small_data=False
    )
    assert chosen(folder / "few.npz", small_data="auto") == few
    assert chosen(folder / "many.npz", small_data="on").augment is not None


def test_off_is_as_if_it_did_not_exist(folder: Path) -> None:
    off = chosen(folder / "few.npz", small_data="off")
    assert (off.augment, off.patches) == (None, None)
    assert off.network == chosen(folder / "many.npz", small_data="off").network
    assert off.training.best == "heldout_loss"


def test_what_is_given_wins(folder: Path) -> None:
    recipe = chosen(
        folder / "few.npz",
        augment__probability=0.5, network__dropout=0.33, training__steps=7, guidance=3,
    )  # fmt: skip
    measured = chosen(folder / "few.npz").augment
    assert measured is not None
    assert recipe.augment == replace(measured, probability=0.5)
    assert recipe.network.dropout == 0.33  # type: ignore[union-attr]
    assert (recipe.training.steps, recipe.sampling.guidance) == (7, 3)


def test_the_fewer_the_pictures_the_more_is_done(folder: Path) -> None:
    few, many = chosen(folder / "few.npz"), chosen(folder / "many.npz", small_data="on")
    assert few.augment is not None
    assert many.augment is not None
    assert few.augment.probability > 2 * many.augment.probability > 0
    assert (few.training.evaluate_every, many.training.evaluate_every) == (500, None)
    assert (few.training.copies, few.training.best) == (0.9, "fid")
    assert sum(few.network.widths) < sum(many.network.widths)  # type: ignore[union-attr]


def test_a_few_pictures_are_not_shown_for_ever(tmp_path: Path, folder: Path) -> None:
    with np.load(folder / "few.npz") as arrays:
        np.savez(tmp_path / "handful.npz", x=arrays["x"][:30])
    length = chosen(tmp_path / "handful.npz").training.steps
    assert length == 1000
    assert length < chosen(tmp_path / "handful.npz", small_data="off").training.steps  # type: ignore[operator]
    assert chosen(tmp_path / "handful.npz", steps=5000).training.steps == 5000
    assert chosen(tmp_path / "handful.npz", time="5m").training.steps is None


def test_short_runs_and_those_that_restore_are_not_watched(folder: Path) -> None:
    for settings in ({"steps": 20}, {"task": "inpaint"}):
        training = chosen(folder / "few.npz", **settings).training
        assert (training.evaluate_every, training.copies) == (None, None)


def test_guidance_is_left_out_for_few_pictures(tmp_path: Path, folder: Path) -> None:
    """Pictures larger than digits are guided otherwise."""
    large, labels = (
        np.random.default_rng(0).integers(0, 256, (60, 20, 20, 1), dtype=np.uint8),
        np.arange(60) % 3,
    )
    np.savez(tmp_path / "few.npz", x=large, y=labels)
    assert chosen(tmp_path / "few.npz", small_data="off").sampling.guidance == 2
    assert chosen(tmp_path / "few.npz").sampling.guidance == 1
    assert chosen(tmp_path / "few.npz", guidance=1.5).sampling.guidance == 1.5


def test_points_and_classifiers_are_left_alone(folder: Path) -> None:
    assert chosen("points:moons").small_data is False
    recipe = chosen(folder / "few.npz", task="classifier")
    assert (recipe.small_data, recipe.augment) == (False, None)


@pytest.mark.parametrize("task", ["upscale", "inpaint"])
def test_what_restores_is_augmented_too(folder: Path, task: str) -> None:
    recipe = chosen(folder / "few.npz", task=task)
    assert recipe.small_data
    assert recipe.augment is not None
    assert recipe.spatial is not None


@pytest.mark.parametrize(
    ("source", "settings", "field"),
    [
        ("points:moons", {"small_data": "on"}, "small_data"),
        ("points:moons", {"augment.probability": 0.1}, "augment"),
        ("points:moons", {"patches": "patches"}, "patches"),
        ("digits", {"task": "classifier", "small_data": "on"}, "small_data"),
        ("digits", {"task": "classifier", "augment.probability": 0.1}, "augment"),
        ("digits", {"task": "upscale", "patches": "patches"}, "patches"),
        ("digits", {"patches": "patches", "network.spatial_channels": 3}, "network.spatial_channels"),
        ("digits", {"small_data": "perhaps"}, "small_data"),
        ("digits", {"augment.probability": 2}, "augment.probability"),
    ],
)
def test_what_cannot_be_is_refused(source: str, settings: dict[str, Any], field: str) -> None:
    with pytest.raises((IncompatibleError, ConfigError)) as caught:
        chosen(source, **settings)
    assert caught.value.field == field
    assert caught.value.hint


# -- a run ---------------------------------------------------------------------------------------------------

WORDS = (
    "small_data=on",
    "patches=patches",
    "network.dropout=0.1",
    "augment.probability=0.5",
    "micro_batch=8",
)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "run"
    assert train(folder / "few.npz", run, *WORDS, "steps=20") == 0
    return run


def test_it_goes_on_bit_for_bit(run: Path, folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "run"
    shutil.copytree(run, half, symlinks=True)
    shutil.rmtree(half / "checkpoints/step-20")
    (half / "checkpoints/last").unlink()
    before = {path.name for path in (half / "checkpoints").iterdir()}
    assert "step-15" in before
    assert "step-20" not in before
    assert resume(half) == 0
    assert outcome(half) == outcome(run)


def test_its_samples_are_whole_pictures_told_nothing(run: Path) -> None:
    model = load(run)
    assert model.config.augment == Augmentation(probability=0.5, **_mild(model.config.augment))
    assert model.config.patches == Patches()
    assert model.sample(n=3, steps=2).images.shape == (3, 8, 8, 1)
    alone = model.sample(n=1, seed=2, steps=2).images[0]
    assert np.array_equal(model.sample(n=3, steps=2).images[2], alone)


def _mild(found: Augmentation | None) -> dict[str, Any]:
    assert found is not None
    return {k: v for k, v in dump(found, Augmentation).items() if k != "probability"}


def test_a_model_without_these_settings_still_loads(folder: Path, tmp_path: Path) -> None:
    """As those written before there were any."""
    assert train(folder / "few.npz", tmp_path / "run", "small_data=off", "steps=1") == 0
    text = read_header(tmp_path / "run/checkpoints/last/model.safetensors").metadata["unstir"]
    settings = json.loads(text)["config"]
    assert settings.pop("augment", "absent") is None
    assert settings.pop("patches", "absent") is None
    old = read_settings(settings, ModelConfig)
    assert (old.augment, old.patches) == (None, None)
    assert old == load(tmp_path / "run").config


def test_a_run_from_before_this_setting_goes_on_without_it(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(folder / "few.npz", run, "small_data=off", "steps=5") == 0
    text = (run / "config.yaml").read_text()
    old = "".join(
        line
        for line in text.splitlines(keepends=True)
        if not line.startswith(("small_data", "augment", "patches"))
    )
    assert old != text
    (run / "config.yaml").write_text(old)
    assert resume(run, "steps=7") == 0
    assert load(run).config.augment is None


def job(folder: Path, *words: str) -> runs.Job:
    given = dict(word.split("=") for word in words) | {
        "data.source": str(folder / "few.npz"),
        "training.batch": "8",
    }
    recipe = config.build("train", config.settings("train", [config.Layer("call", given)]).values)
    return runs.prepare(recipe, None, lambda line: None)


def test_micro_batches_are_parts_of_the_batch_and_heldout_items_are_as_they_are(folder: Path) -> None:
    small = job(folder, "patches=patches", "augment.probability=0.7", "network=unet", "network.widths=8,8")
    batches, sides = small.batches(small.train_set, training=True), set()
    for first in range(0, 64, 8):
        whole, halves = batches(first, 8), [batches(first + k, 4) for k in (0, 4)]
        sides.add(whole.x_0.shape[-1])
        assert torch.equal(whole.x_0, torch.cat([half.x_0 for half in halves]))
        for field in ("vector", "spatial"):
            parts = [getattr(half.cond, field) for half in halves]
            assert torch.equal(getattr(whole.cond, field), torch.cat(parts))
        assert (whole.cond.vector[:, -11:] != 0).any()  # type: ignore[union-attr, index]
    assert sides == {8, 4, 2}
    held = small.batches(small.heldout, training=False)(0, 2)
    x = small.heldout.take(np.arange(2))[0]
    assert torch.equal(held.x_0, x / 127.5 - 1)
    assert held.cond.vector.shape[1] == 64  # type: ignore[union-attr]
    assert held.cond.spatial is None  # type: ignore[union-attr]


@pytest.mark.parametrize("task", ["upscale", "inpaint"])
def test_what_restores_is_told_of_the_augmented_picture(folder: Path, task: str) -> None:
    words = (f"task={task}", "augment.probability=0.7", "network=unet", "network.widths=8,8")
    made = job(folder, *words)
    plain = job(folder, *words, "small_data=off", "augment.probability=0")
    a, b = (made_.batches(made_.train_set, training=True)(0, 8) for made_ in (made, plain))
    changed = (a.x_0 != b.x_0).flatten(1).any(1)
    assert changed.any()
    assert a.cond.spatial.shape == b.cond.spatial.shape  # type: ignore[union-attr]
    told = (a.cond.spatial != b.cond.spatial).flatten(1).any(1)  # type: ignore[union-attr]
    assert (told == changed).all() or task == "inpaint"
    assert told.any()


def test_it_says_aloud_what_it_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unstir.cli import main

    assert main(["train", str(folder / "few.npz"), "--dry-run"]) == 0
    said = "".join(capsys.readouterr())
    assert "small_data=off" in said
    assert "augmented" in said
    assert "copies" in said
    assert main(["train", str(folder / "many.npz"), "--dry-run"]) == 0
    assert "small_data" not in capsys.readouterr().err
