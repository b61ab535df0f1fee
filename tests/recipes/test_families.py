"""Every family by its name alone: what it decides, that its loss is balanced, that it learns and samples."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny import train
from truth import double, energy_distance
from unstir import config, recipes
from unstir.cli import main
from unstir.condition import Batch
from unstir.data import Dataset, open_data
from unstir.denoiser import Preconditioned
from unstir.errors import IncompatibleError
from unstir.networks import MLPConfig
from unstir.objectives import Denoising
from unstir.pipeline import load
from unstir.process import Cosine, Gaussian, Geometric
from unstir.recipes import Recipe
from unstir.recipes.base import Family
from unstir.recipes.families import FAMILIES, largest_distance
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, DPMpp2M
from unstir.spec import dump, load as read_settings
from unstir.times import uniform
from unstir.train import AdamW, Trainer, Training


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data("digits")[0]


@pytest.fixture(scope="module")
def moons() -> Dataset:
    return open_data("points:moons")[0]


def resolved(data: Dataset, **settings: Any) -> Recipe:
    given = {"data.source": data.info.source} | {k.replace("__", "."): v for k, v in settings.items()}
    values = config.settings("train", [config.Layer("command line", given)]).values
    return recipes.resolve(config.build("train", values), data, torch.device("cpu"))


def built(recipe: Recipe, data: Dataset) -> Preconditioned:
    """The denoiser of a recipe for points, its network small."""
    torch.manual_seed(0)
    network = MLPConfig(width=32, depth=2).build(data.info.shape[0], ())
    process = Gaussian(recipe.schedule.build())
    return Preconditioned(network, process, recipe.parameterization, sigma_data=data.info.std)


# -- what a family decides ---------------------------------------------------------------------------------


def test_the_setting_and_the_table_have_the_same_names() -> None:
    assert set(get_args(Family)) == FAMILIES.keys()


@pytest.mark.parametrize("source", ["digits", "points:moons"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_fills_every_blank(name: str, source: str) -> None:
    data = open_data(source)[0]
    recipe = resolved(data, process=name)
    left = {f.name for f in dataclasses.fields(recipe) if getattr(recipe, f.name) is None}
    assert left == {"system", "spatial", "augment", "patches"}, (
        "which are for models that restore, and for few pictures"
    )
    wanted = FAMILIES[name](data)
    assert recipe.schedule == wanted.schedule
    assert recipe.parameterization == wanted.parameterization
    assert recipe.objective == wanted.objective
    assert (recipe.sampling.solver, recipe.sampling.steps) == (wanted.sampling.solver, wanted.sampling.steps)
    assert recipe.sampling.grid == "uniform"
    assert read_settings(dump(recipe, Recipe), Recipe) == recipe


def test_families_differ(digits: Dataset) -> None:
    assert len({FAMILIES[name](digits) for name in FAMILIES}) == len(FAMILIES)


def test_what_is_given_counts_more_than_the_family(digits: Dataset) -> None:
    recipe = resolved(digits, process="ve", sigma_max="5", solver="ddim", sampling__steps="7", guidance="3")
    assert recipe.schedule == Geometric(sigma_min=0.01, sigma_max=5.0)
    assert recipe.sampling.solver == DDIM()
    assert (recipe.sampling.steps, recipe.sampling.guidance) == (7, 3.0)
    assert resolved(digits, process="ve", schedule="cosine", parameterization="v").schedule == Cosine()
    assert resolved(digits, process="ve", corrections="2").sampling.solver.corrections == 2


def test_without_a_family_a_recipe_is_what_measurements_chose(digits: Dataset) -> None:
    assert resolved(digits).process is None
    assert resolved(digits).sampling.solver == DPMpp2M()


def test_the_largest_noise_hides_the_largest_distance(digits: Dataset, moons: Dataset) -> None:
    x = np.asarray(moons.x[:: len(moons) // 500])[:500]
    exact = max(float(np.linalg.norm(x - y, axis=1).max()) for y in x)
    assert largest_distance(moons) == pytest.approx(exact, rel=0.1)
    assert largest_distance(moons, at_most=2) < exact
    assert FAMILIES["ve"](digits).schedule.sigma_max == round(largest_distance(digits), 1)


# -- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "vdm"])
def test_no_noise_level_drowns_the_others(name: str, moons: Dataset) -> None:
    """The loss of a network that says 0, at each time alone: the mean square of its target, about 1."""
    recipe = resolved(moons, process=name)
    denoiser, n = built(recipe, moons), 2000
    for parameter in denoiser.network.parameters():
        parameter.data.zero_()
    x_0 = torch.from_numpy(np.asarray(moons.x[:n]))
    assert isinstance(recipe.objective, Denoising)
    for t in torch.linspace(0.05, 1, 12, dtype=torch.float64):
        loss = recipe.objective.loss_at(denoiser, Batch(x_0), t.repeat(n), Rng.of(0, n))
        assert 0.4 < loss.mean() < 2.5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_and_samples(name: str, moons: Dataset) -> None:
    """Two moons, by its own loss and its own solver: nearer to them than a normal law of their moments."""
    recipe, n = resolved(moons, process=name), 500
    denoiser, data = built(recipe, moons), torch.from_numpy(np.asarray(moons.x))
    normal = data.mean(0) + data.std(0) * Rng.of(1, n).normal((n, 2), torch.float32)

    def batches(first: int, count: int) -> Batch:
        index = torch.arange(first, first + count)
        return Batch(data[index % len(data)], None, index)

    settings = Training(steps=150, batch=128, ema=(0.1,))
    trainer = Trainer(denoiser, recipe.objective, batches, AdamW(lr=8e-3), settings)
    for _ in trainer.steps():
        pass
    denoiser.eval()
    with trainer.ema.average():
        x = denoiser.process.prior((n, 2), Rng.of(0, n), torch.float32)
        grid = uniform(min(recipe.sampling.steps, 40))
        drawn = sample(denoiser, recipe.sampling.solver, grid, x, rng=Rng.of(0, n).fork("solver"))
    assert energy_distance(drawn, data[:1000]) < energy_distance(normal, data[:1000]) * 0.8


# -- the classifier task -----------------------------------------------------------------------------------

SMALL = "threads=1 batch=64 steps=80 lr=1e-2 checkpoint_every=80 heldout_every=40"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("classifier") / "run"
    words = f"task=classifier network=classifier widths=16,32 unshuffle=1 {SMALL} out={run}"
    assert main(["train", "digits", *words.split(), "-q"]) == 0
    return run


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unlabelled") / "run"
    assert train("digits", run, "labels=false", "steps=60", "batch=32", "heldout_every=60") == 0
    return run


def test_a_classifier_is_a_run_and_a_model_file(classifier: Path) -> None:
    pipe, (_, test) = load(classifier), open_data("digits")
    x, y = test.take(np.arange(len(test)))

    def accuracy(t: Tensor) -> float:
        x_t = pipe.classifier.process.corrupt(pipe.codec.encode(x), t, Rng.of(0, len(test)))
        with torch.no_grad():
            told = pipe.classifier(x_t, t)
        assert torch.allclose(told.exp().sum(1), torch.ones(len(test)))
        return float((told.argmax(1) == y).float().mean())

    assert accuracy(double(0.05)) > 0.4
    assert accuracy(double(0.999)) < 0.25, "nothing can be told from noise"
    logged = [json.loads(line) for line in (classifier / "metrics.jsonl").read_text().splitlines()]
    first, last = (r["heldout_loss"] for r in logged if "heldout_loss" in r)
    assert last < first
    assert main(["inspect", str(classifier)]) == 0


def test_a_classifier_makes_a_model_conditional(unlabelled: Path, classifier: Path) -> None:
    """A model that never saw a label draws what it is asked for, the more the larger the scale."""
    pipe, told = load(unlabelled), load(classifier).classifier
    labels = [k % 10 for k in range(40)]

    def agreement(**settings: Any) -> float:
        drawn = pipe.sample(n=40, steps=8, **settings)
        x = pipe.codec.encode(torch.from_numpy(drawn.images).permute(0, 3, 1, 2))
        with torch.no_grad():
            return float(told(x, torch.tensor(0.01))[torch.arange(40), torch.tensor(labels)].exp().mean())

    guided = [agreement(classifier=str(classifier), label=labels, guidance=scale) for scale in (0, 1, 8)]
    assert guided[0] == pytest.approx(agreement(), abs=1e-6)
    assert guided[0] < guided[1] < guided[2]
    one = pipe.sample(n=1, seed=3, steps=8, label=3, classifier=str(classifier), guidance=2)
    many = pipe.sample(n=5, steps=8, label=3, classifier=str(classifier), guidance=2)
    assert np.array_equal(one.images[0], many.images[3])
    assert many.labels == [3] * 5


def test_the_recipe_of_a_guided_sample_makes_it_again(
    unlabelled: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first.npz", tmp_path / "second.npz"
    words = f"classifier={classifier} label=3,4 guidance=2 interval=0.1,0.9 n=2 steps=3 out={first}"
    assert main(["sample", str(unlabelled), *words.split(), "-q"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(first), "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["command"].replace("again.npz", str(again))
    assert main([*command.split()[1:], "-q"]) == 0
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("sample CLASSIFIER", 2, "is a classifier and generates nothing"),
        ("sample MODEL classifier=MODEL", 2, "is no classifier"),
        ("sample MODEL classifier=nothing", 4, "no model 'nothing'"),
        ("sample MODEL classifier=CLASSIFIER label=10", 2, "accepted: 0 to 9"),
        ("sample MODEL classifier=CLASSIFIER guidance=-1", 2, "a number >= 0"),
        ("sample MODEL classifier=CLASSIFIER guidance=nan", 2, "a number >= 0"),
        ("train points:moons task=classifier", 3, "no classes to tell apart"),
        ("train digits task=classifier labels=false", 3, "no classes to tell apart"),
        ("train digits task=classifier network=unet", 2, "leave network out"),
        ("train digits task=classifier objective=denoising", 2, "leave objective out"),
        ("train digits objective=classification", 2, "use task=classifier"),
        ("train digits network=classifier", 2, "use task=classifier"),
        ("train digits task=classify", 2, "did you mean 'classifier'"),
        ("train digits process=flow parameterization=eps", 2, "predict v, x0 or edm"),
        ("train digits process=ve sigma_max=0.001", 2, "0 < sigma_min < sigma_max"),
        ("train digits process=ddpm parameterization=score unit=alpha", 2, "one of one, sigma"),
        ("train points:moons flip=true", 2, "leave flip out"),
        ("train digits solver=ddpm solver.variance=learned", 2, "objective=hybrid"),
        ("train digits labels=false sampling.guidance=2", 2, "leave guidance out"),
        ("train digits sampling.rule=cfg_plus_plus sampling.guidance=0.5", 2, "use solver=ddim"),
        ("train digits sampling.weaker=attention sampling.guidance=2", 2, "no attention to switch off"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(
    unlabelled: Path,
    classifier: Path,
    words: str,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    line = words.replace("MODEL", str(unlabelled)).replace("CLASSIFIER", str(classifier))
    out = "out.png" if line.startswith("sample") else "run"
    assert main([*line.split(), f"out={tmp_path / out}"]) == code
    assert said in capsys.readouterr().err


def test_a_conditional_model_and_its_classifier_know_the_same_classes(
    classifier: Path, unlabelled: Path
) -> None:
    pipe = load(unlabelled)
    pipe.config = dataclasses.replace(pipe.config, classes=("cat", "dog"), class_counts=(1, 1))
    with pytest.raises(IncompatibleError, match="in its classes"):
        pipe.sample(n=1, classifier=str(classifier), label=1)
