"""A pipeline's samples depend on their seeds alone, its file holds all of it, and what is wrong is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import unstir
from tiny import pipeline
from unstir import solvers, times
from unstir.errors import CheckpointError, ConfigError, IncompatibleError, NumericError
from unstir.files import read_header, write_folder
from unstir.guidance import Rule
from unstir.model import FORMAT, Defaults, find_model
from unstir.pipeline import Pipeline
from unstir.rng import Rng
from unstir.spec import choices


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return pipeline()


@pytest.fixture(scope="module")
def file(pipe: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipe.save(tmp_path_factory.mktemp("model") / "model.safetensors")


# -- one sample, one seed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", solvers.__all__)
def test_a_sample_is_the_same_alone_and_among_others(pipe: Pipeline, solver: str, tmp_path: Path) -> None:
    """18 samples are two micro-batches: 5 lies in the first, 17 in the padded second."""
    settings: dict[str, Any] = {"steps": 3, "solver": solver, "guidance": 2.0}
    many = pipe.sample(n=18, seed=7, **settings)
    many.save(tmp_path / "many/")
    for i in (5, 17):
        one = pipe.sample(n=1, seed=7 + i, **settings)
        assert one.labels == [many.labels[i]]
        assert one.images.tobytes() == many.images[i].tobytes()
        path = one.save(tmp_path / "one.png")
        assert path.read_bytes() == (tmp_path / f"many/{7 + i:06d}.png").read_bytes()
    assert len(np.unique(many.images, axis=0)) == 18


@pytest.mark.parametrize("rule", choices(Rule))
def test_every_rule_guides(pipe: Pipeline, rule: str) -> None:
    drawn = pipe.sample(n=2, steps=2, label=1, solver="ddim", guidance=0.5, rule=rule)
    assert drawn.recipe["rule"]["name"] == rule
    assert drawn.images.tobytes() != pipe.sample(n=2, steps=2, label=1, solver="ddim").images.tobytes()


def test_guidance_acts_in_its_interval(pipe: Pipeline) -> None:
    settings: dict[str, Any] = {"n": 1, "steps": 4, "guidance": 3.0}
    inside = pipe.sample(interval=(0.4, 0.8), **settings)
    assert (inside.evaluations, pipe.sample(**settings).evaluations) == (6, 8)
    assert inside.recipe["interval"] == [0.4, 0.8]
    assert "interval" not in pipe.sample(n=1, steps=1, guidance=1, interval=(0.4, 0.8)).recipe


def test_a_negative_label_takes_the_place_of_none(pipe: Pipeline) -> None:
    settings: dict[str, Any] = {"n": 1, "steps": 3, "label": "ant", "guidance": 3.0}
    against, plain = pipe.sample(negative="bee", **settings), pipe.sample(**settings)
    assert against.images.tobytes() != plain.images.tobytes()
    assert against.images.tobytes() == pipe.sample(negative=1, **settings).images.tobytes()
    same = pipe.sample(negative="ant", **settings)
    np.testing.assert_allclose(same.images, pipe.sample(**settings | {"guidance": 1}).images, atol=1)


def test_the_worse_opinion_may_be_another_model_or_the_same_without_a_part(
    pipe: Pipeline, file: Path
) -> None:
    settings: dict[str, Any] = {"n": 1, "steps": 3, "label": 1, "guidance": 3.0}
    plain = pipe.sample(**settings | {"guidance": 1})
    same = pipe.sample(weaker=str(file), **settings)  # no worse: nothing to move away from
    assert same.evaluations == 6
    np.testing.assert_allclose(same.images, plain.images, atol=1)
    skipped = pipe.sample(weaker="layers", **settings)
    assert skipped.evaluations == 6
    assert skipped.images.tobytes() != plain.images.tobytes()
    one_by_one = {pipe.sample(weaker=f"layers:{k}", **settings).images.tobytes() for k in range(3)}
    assert len(one_by_one) == 3
    assert skipped.images.tobytes() in one_by_one
    assert pipeline(classes=()).sample(n=1, steps=2, guidance=2, weaker="layers").evaluations == 4


def test_thresholding_keeps_the_range(pipe: Pipeline) -> None:
    settings: dict[str, Any] = {"n": 2, "steps": 3, "guidance": 30.0}
    held = pipe.sample(threshold=0.9, **settings)
    assert held.images.tobytes() != pipe.sample(**settings).images.tobytes()
    assert held.recipe["threshold"] == 0.9


def test_thresholding_that_was_switched_off_is_said(pipe: Pipeline) -> None:
    """Else the recipe would mean the model's own."""
    clipped = Pipeline(replace(pipe.config, defaults=Defaults(threshold=0.9)), pipe.module)
    assert clipped.sample(n=1, steps=1, threshold=0).recipe["threshold"] == 0
    assert "threshold" not in pipe.sample(n=1, steps=1).recipe


def test_times_of_ones_own(pipe: Pipeline) -> None:
    own = pipe.sample(n=1, times=(1, 0.75, 0.5, 0.25, 0))
    assert own.images.tobytes() == pipe.sample(n=1, steps=4, grid="uniform").images.tobytes()
    assert own.recipe["times"] == [1, 0.75, 0.5, 0.25, 0]
    assert own.evaluations == 4
    assert pipe.sample(n=1, steps=7, times=(1, 0.75, 0.5, 0)).evaluations == 7


@pytest.mark.parametrize("grid", times.__all__)
def test_every_grid_samples(pipe: Pipeline, grid: str) -> None:
    assert pipe.sample(n=2, steps=3, grid=grid).images.shape == (2, 8, 8, 1)


def test_labels_of_a_batch_may_differ(pipe: Pipeline) -> None:
    mixed = pipe.sample(n=4, steps=3, seed=3, label=np.array([0, 1, 2, 1]), guidance=3.0)
    alone = pipe.sample(n=1, steps=3, seed=5, label="cat", guidance=3.0)
    assert mixed.images[2].tobytes() == alone.images[0].tobytes()
    assert mixed.recipe["label"] == [0, 1, 2, 1]
    assert pipe.sample(n=1, steps=3, seed=5, label=np.int64(2), guidance=3.0).recipe["label"] == 2


def test_labels_are_drawn_as_often_as_in_training(pipe: Pipeline) -> None:
    labels = pipe.labels(None, Rng.of(0, 9000), pipe.config.defaults)
    assert labels is not None
    share = torch.bincount(labels).double() / 9000
    torch.testing.assert_close(share, torch.tensor([5, 3, 1]).double() / 9, atol=0.02, rtol=0)


def test_guidance_counts(pipe: Pipeline) -> None:
    plain, none, much = (pipe.sample(n=2, steps=3, label=1, guidance=w) for w in (1, 0, 4))
    assert len({s.images.tobytes() for s in (plain, none, much)}) == 3
    assert (plain.evaluations, none.evaluations, much.evaluations) == (3, 3, 6)


def test_free_batches_are_not_padded(pipe: Pipeline) -> None:
    sizes: list[int] = []
    handle = pipe.denoiser.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    try:
        free = pipe.sample(n=3, steps=1, exact=False)
    finally:
        handle.remove()
    assert sizes == [3]
    difference = free.images.astype(int) - pipe.sample(n=3, steps=1).images
    assert np.abs(difference).max() <= 1


def test_whoever_waits_is_told(pipe: Pipeline) -> None:
    done: list[int] = []
    pipe.sample(n=40, steps=1, on_batch=done.append)
    assert done == [16, 32, 40]


def test_other_sizes_and_movies(pipe: Pipeline) -> None:
    wide = pipe.sample(n=2, steps=3, size=16, record=True)
    assert wide.images.shape == (2, 16, 16, 1)
    assert [x_0.shape for _, x_0 in wide.frames] == [wide.images.shape] * 3
    np.testing.assert_array_equal(wide.frames[-1][0], wide.images)


# -- refusals ----------------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("n", {"n": 0}),
    ("n", {"n": 2.5}),
    ("steps", {"steps": 0}),
    ("steps", {"steps": 2000, "grid": "trailing"}),
    ("seed", {"seed": -1}),
    ("seed", {"seed": 2**63}),
    ("solver", {"solver": "hein"}),
    ("grid", {"grid": "even"}),
    ("guidance", {"guidance": -1}),
    ("guidance", {"guidance": float("nan")}),
    ("guidance", {"guidance": float("inf")}),
    ("label", {"label": 3}),
    ("label", {"label": -1}),
    ("label", {"label": "dog"}),
    ("label", {"label": 1.5}),
    ("label", {"label": [0, 1]}),
    ("size", {"size": 0}),
    ("times", {"grid": "optimised"}),
    ("times", {"times": (1, 0.5)}),
    ("times", {"times": (1, 0.5, 0), "grid": "karras"}),
    ("interval", {"guidance": 2, "interval": (0.8, 0.2)}),
    ("interval", {"guidance": 2, "interval": (0.8,)}),
    ("interval", {"guidance": 2, "interval": (0.0, float("nan"))}),
    ("interval", {"guidance": 2, "interval": 0.5}),
    ("times", {"times": "abc"}),
    ("guidance", {"guidance": "much"}),
    ("rule", {"rule": "lineal"}),
    ("rule", {"rule": 3}),
    ("solver", {"solver": solvers.Heun}),
    ("weaker", {"guidance": 2, "weaker": "attention"}),
    ("weaker", {"guidance": 2, "weaker": "layers:x"}),
    ("weaker", {"guidance": 2, "weaker": "layers:99"}),
    ("weaker", {"weaker": "layers"}),
    ("rule", {"rule": "rescaled"}),
    ("threshold", {"threshold": -1}),
    ("threshold", {"threshold": float("nan")}),
    ("negative", {"guidance": 1, "negative": 0}),
    ("negative", {"guidance": 2, "negative": "dog"}),
    ("negative", {"guidance": 2, "negative": 0, "weaker": "layers"}),
    ("solver", {"guidance": 0.5, "rule": "cfgplusplus", "solver": "heun"}),
    ("guidance", {"guidance": 2, "rule": "cfgplusplus", "solver": "ddim"}),
    ("intervall", {"intervall": (0, 1)}),
]


@pytest.mark.parametrize(("field", "settings"), WRONG, ids=str)
def test_what_is_out_of_range_is_refused_by_name(
    pipe: Pipeline, field: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as error:
        pipe.sample(**{"n": 1, "steps": 1} | settings)
    assert error.value.field == field
    assert error.value.hint


def test_a_model_without_labels_takes_none() -> None:
    bare = pipeline(classes=())
    assert bare.sample(n=2, steps=2).labels is None
    for settings in ({"label": 3}, {"guidance": 2.0}):
        with pytest.raises(IncompatibleError, match=r"trained without labels|has none"):
            bare.sample(n=1, steps=2, **settings)  # type: ignore[arg-type]


def test_a_result_that_is_not_finite_is_no_picture() -> None:
    broken = pipeline()
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(torch.nan)
    with pytest.raises(NumericError):
        broken.sample(n=1, steps=2)


# -- files -------------------------------------------------------------------------------------------------


def test_a_saved_model_samples_the_same_bytes(pipe: Pipeline, file: Path, tmp_path: Path) -> None:
    loaded = unstir.load(file)
    assert loaded.config == pipe.config
    settings: dict[str, Any] = {"n": 5, "steps": 3, "seed": 2, "guidance": 2.0}
    assert loaded.sample(**settings).images.tobytes() == pipe.sample(**settings).images.tobytes()
    first, second = (loaded.sample(**settings).save(tmp_path / f"{k}.npz").read_bytes() for k in "ab")
    assert first == second
    assert Pipeline.load(file).save(tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def rewritten(file: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> bytes:
    """The file with its tensors and its document changed."""
    tensors, document = load_file(file), json.loads(read_header(file).metadata["unstir"])
    change(tensors, document)
    path = file.with_name("changed.safetensors")
    save_file(tensors, path, {"unstir": json.dumps(document)})
    return path.read_bytes()


def named(file: Path, text: str | None) -> bytes:
    """The file with another document, or none."""
    path = file.with_name("changed.safetensors")
    save_file(load_file(file), path, {} if text is None else {"unstir": text})
    return path.read_bytes()


def put(path: str, value: Any) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    def change(tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        *groups, last = path.split(".")
        for group in groups:
            document = document[group]
        document[last] = value

    return change


def first(tensors: dict[str, Tensor]) -> str:
    return min(tensors)


def torch_file(file: Path) -> bytes:
    path = file.with_name("changed.pt")
    torch.save(load_file(file), path)
    return path.read_bytes()


DAMAGE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda f: b"", "cut short"),
    "cut in the header": (lambda f: f.read_bytes()[:100], "cut short"),
    "cut in the weights": (lambda f: f.read_bytes()[:-10], "cannot read|cut"),
    "too long": (lambda f: f.read_bytes() + b"x", "cannot read"),
    "pickle": (lambda f: pickle.dumps({"x": 1}), "not a safetensors file"),
    "torch.save": (torch_file, "not a safetensors file"),
    "header of zeros": (lambda f: f.read_bytes()[:8] + bytes(len(f.read_bytes()) - 8), "JSON"),
    "of another program": (lambda f: named(f, None), "not written by unstir"),
    "document cut": (lambda f: named(f, '{"format": 1'), "header is damaged"),
    "document a list": (lambda f: named(f, "[1]"), "header is damaged"),
    "document too deep": (lambda f: named(f, "[" * 100_000), "header is damaged"),
    "no config": (lambda f: named(f, '{"format": 1, "name": "x"}'), "header is damaged"),
    "newer": (lambda f: rewritten(f, put("format", FORMAT + 1)), "install a newer|reads up to"),
    "unknown schedule": (lambda f: rewritten(f, put("config.schedule.name", "Spline")), "Spline"),
    "unknown setting": (lambda f: rewritten(f, put("config.wings", 2)), "wings"),
    "impossible network": (lambda f: rewritten(f, put("config.network.widths", [])), "describe no model"),
    "other shape": (lambda f: rewritten(f, put("config.shape", [3, 8, 8])), "does not fit"),
    "endless network": (
        lambda f: rewritten(f, put("config.network.widths", [8, 2**20])),
        "describe no model",
    ),
    "tensor missing": (lambda f: rewritten(f, lambda t, _: t.pop(first(t))), "missing"),
    "tensor extra": (lambda f: rewritten(f, lambda t, _: t.update(x=torch.ones(1))), "not expected"),
    "NaN": (lambda f: rewritten(f, lambda t, _: t[first(t)].view(-1)[0].fill_(torch.nan)), "NaN"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_no_whole_model_is_refused(kind: str, file: Path, tmp_path: Path) -> None:
    content, reason = DAMAGE[kind]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content(file))
    with pytest.raises(IncompatibleError if kind == "newer" else CheckpointError, match=reason) as error:
        unstir.load(path)
    assert error.value.field == str(path)


# -- names -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/fox@home with checkpoints of steps 5 and 10 and no link."""
    folder = tmp_path / "runs/fox@home/checkpoints"
    folder.mkdir(parents=True)
    for step in (5, 10):
        write_folder(folder / f"step-{step}", {"model.safetensors": pipe.write})
    monkeypatch.chdir(tmp_path)
    return folder.parent


def test_models_by_name_step_and_path(run: Path) -> None:
    newest = Path("runs/fox@home/checkpoints/step-10/model.safetensors")
    for name in ("fox@home", "fox@home@10", "fox@home@last", "runs/fox@home", "runs/fox@home@last", newest):
        assert find_model(name) == newest, name
    assert find_model("fox@home@5").parent.name == "step-5"
    assert find_model(run / "checkpoints/step-5").parent.name == "step-5"


def test_models_that_are_not_there(run: Path) -> None:
    (run.parent / "young").mkdir()
    (run.parent / "young/config.yaml").touch()
    for name, reason in (
        ("fox@home@7", "no checkpoint of step 7"),
        ("young", "no checkpoint yet"),
        ("fix@home", "there is no model"),
        ("nowhere/at/all", "there is no model"),
    ):
        with pytest.raises(CheckpointError, match=reason) as error:
            unstir.load(name)
        assert error.value.hint


def test_bit_rot_in_a_checkpoint_is_noticed(run: Path) -> None:
    path = run / "checkpoints/step-10/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="sha256 differs") as error:
        unstir.load(run)
    assert "RUN@STEP" in str(error.value.hint)
    assert unstir.load(f"{run}@5").sample(n=1, steps=1).images.shape == (1, 8, 8, 1)
