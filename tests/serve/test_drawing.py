"""What a worker draws: the same pictures in company as alone, previews, cancellation, models that leave."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny
from unstir.addresses import SHIPPED
from unstir.modalities import read_recipe
from unstir.pipeline import load
from unstir.runs import fit
from unstir.serve.drawing import Drawing, Models
from unstir.serve.worker import Cancelled, Wanted

GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    for name, side in (("one", 8), ("two", 8), ("wide", 16)):
        tiny.pipeline(shape=(1, side, side)).save(place / f"{name}.safetensors")
    return place


@pytest.fixture
def draw(folder: Path, tmp_path: Path) -> Any:
    """(jobs) -> what was told of them."""
    runner = Drawing({"memory": GIB})

    def work(*jobs: dict[str, Any], wanted: Wanted | None = None) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        runner([job | {"out": str(tmp_path / job["id"])} for job in jobs], told.append, wanted or Wanted())
        return told

    return work


def job(folder: Path, name: str, kind: str = "sample", model: str = "one", **values: Any) -> dict[str, Any]:
    more = values.pop("more", {})
    files = values.pop("files", {})
    asked = {"values": values, "settings": values, "inputs": dict.fromkeys(files, "ab12cd34ef"), "more": more}
    path = str(folder / f"{model}.safetensors")
    return {"id": name, "kind": kind, "model": {"name": model, "path": path}, "asked": asked, "files": files}


def ends(told: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {message["done"]: message for message in told if "progress" not in message}


def pixels(place: Path, item: dict[str, Any]) -> np.ndarray:
    picture = np.asarray(Image.open(place / f"{item['path']}.png"))
    return picture.reshape(*picture.shape[:2], -1)


def test_jobs_drawn_together_are_those_drawn_alone(draw: Any, folder: Path, tmp_path: Path) -> None:
    wishes = {
        "a": {"n": 3, "seed": 5, "label": "bee"},
        "b": {"n": 1, "seed": 100, "label": 0},
        "c": {"n": 2, "seed": 5, "label": "cat"},
    }
    sampling = {"sampling": {"steps": 3}}
    told = ends(draw(*(job(folder, name, **wish, **sampling) for name, wish in wishes.items())))
    assert told.keys() == wishes.keys()
    pipe = load(folder / "one.safetensors")
    for name, wish in wishes.items():
        alone = pipe.sample(**wish, steps=3)  # type: ignore[arg-type]
        items = told[name]["items"]
        assert len(items) == wish["n"]
        for k, item in enumerate(items):
            np.testing.assert_array_equal(pixels(tmp_path, item), alone.images[k])
            recipe = read_recipe(tmp_path / f"{item['path']}.png")
            assert (recipe["seed"], recipe["n"]) == (wish["seed"] + k, 1)
            assert item["about"]["settings"]["seed"] == wish["seed"] + k
            assert item["about"]["command"].startswith("unstir sample one ")


@pytest.mark.skipif(not (SHIPPED / "emoji.safetensors").is_file(), reason="the model is not in this tree")
def test_company_changes_no_bit_of_a_decoded_latent() -> None:
    """A learned decoder's kernels depend on the size of the batch as the network's do: both get the padded one."""
    pipe = load("emoji")
    seeds, prompts = [104, 105, 122, 3, 4], ["pizza", "red heart", "green apple", "fox", "snowman"]
    together = pipe.sample(n=5, seed=seeds, prompt=prompts, steps=4).images
    for seed, prompt, picture in zip(seeds, prompts, together, strict=True):
        alone = pipe.sample(n=1, seed=seed, prompt=prompt, steps=4).images[0]
        np.testing.assert_array_equal(alone, picture)


def test_it_says_how_far_it_is_and_shows_what_it_sees(
    draw: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unstir.serve.drawing.EVERY", 0.0)
    monkeypatch.setattr("unstir.serve.drawing.COST", 0.0)
    told = [m for m in draw(job(folder, "a", n=2, sampling={"steps": 4})) if "progress" in m]
    assert [m["step"] for m in told] == [1, 2, 3, 4]
    assert [m["fraction"] for m in told] == [0.25, 0.5, 0.75, 1.0]
    assert told[0]["previews"].keys() == {0, 1}
    url = told[-1]["previews"][1]
    preview = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/webp;base64,"))))
    assert (preview.format, preview.size) == ("WEBP", (8, 8))
    json.dumps(told)  # goes over a pipe


def test_a_job_nobody_wants_stops_at_the_next_step(draw: Any, folder: Path) -> None:
    class Impatient(Wanted):
        steps = 0

        def require(self, jobs: list[dict[str, Any]]) -> None:
            self.steps += 1
            if self.steps == 3:
                self.cross_out("a")
            super().require(jobs)

    wanted = Impatient()
    with pytest.raises(Cancelled):
        draw(job(folder, "a", n=1, sampling={"steps": 50}), wanted=wanted)
    assert wanted.steps == 3


def test_of_two_jobs_drawn_together_one_may_be_called_off(draw: Any, folder: Path) -> None:
    wanted = Wanted()
    wanted.cross_out("a")
    told = draw(job(folder, "a", n=1, label=0), job(folder, "b", n=1, label=1), wanted=wanted)
    assert ends(told).keys() == {"b"}


def test_a_plot_has_a_picture_for_every_pair(draw: Any, folder: Path, tmp_path: Path) -> None:
    cells = [{"n": 1, "seed": s, "sampling": {"steps": k}} for s in (0, 1) for k in (1, 2, 3)]
    more = {"cells": cells, "x": ["steps", [1, 2, 3]], "y": ["seed", [0, 1]]}
    (told,) = ends(draw(job(folder, "a", kind="plot", more=more))).values()
    sheet, *single = told["items"]
    assert len(single) == 6
    assert [item["about"]["caption"] for item in single][:2] == ["steps 1, seed 0", "steps 2, seed 0"]
    pipe = load(folder / "one.safetensors")
    np.testing.assert_array_equal(pixels(tmp_path, single[5]), pipe.sample(n=1, seed=1, steps=3).images[0])
    assert pixels(tmp_path, sheet).shape[1] > pixels(tmp_path, sheet).shape[0]  # three beside each other


def test_edit_upscale_and_restore(draw: Any, folder: Path, tmp_path: Path) -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 255
    Image.fromarray(picture).save(tmp_path / "in.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    files = {"image": str(tmp_path / "in.png")}
    sampling = {"steps": 3}
    masked = files | {"mask": str(tmp_path / "mask.png")}
    (edited,) = ends(draw(job(folder, "e", kind="edit", files=masked, n=2, sampling=sampling))).values()
    for item in edited["items"]:
        found = pixels(tmp_path, item)[..., 0]
        np.testing.assert_array_equal(found[mask == 0], picture[mask == 0])
        assert "mask=unstir-ab12cd34.png" in item["about"]["command"]
    assert edited["result"]["method"]
    (larger,) = ends(
        draw(job(folder, "u", kind="upscale", files=files, n=1, scale=2, sampling=sampling))
    ).values()
    assert pixels(tmp_path, larger["items"][0]).shape == (16, 16, 1)
    blur = {"name": "Blur", "sigma": 1.0}
    (sharp,) = ends(
        draw(job(folder, "r", kind="restore", files=files, n=1, operator=blur, sampling=sampling))
    ).values()
    assert pixels(tmp_path, sharp["items"][0]).shape == (8, 8, 1)


def test_points_are_one_picture(draw: Any, tmp_path: Path) -> None:
    run = tmp_path / "runs/moons"
    fit("points:moons", out=run, steps=2, network="mlp", network__width=16, threads=1)
    told = draw(job(run / "checkpoints/last", "a", model="model", n=9, seed=3))
    (item,) = ends(told)["a"]["items"]
    assert item["about"]["settings"] == {"n": 9, "seed": 3}
    assert pixels(tmp_path, item).shape[:2] == (256, 256)


def test_the_model_not_used_for_longest_leaves(folder: Path) -> None:
    path = {name: str(folder / f"{name}.safetensors") for name in ("one", "two", "wide")}
    size = Path(path["one"]).stat().st_size
    models = Models(budget=int(2.5 * size))
    one = models("one", path["one"])
    models("two", path["two"])
    assert models("one", path["one"]) is one
    assert len(models) == 2
    models("wide", path["wide"])  # there is room for two: the second leaves
    assert models("one", path["one"]) is one
    assert len(models) == 2


def test_a_model_that_was_trained_on_is_read_anew(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    tiny.pipeline().save(path)
    models = Models(GIB)
    first = models("run", str(path))
    tiny.pipeline(classes=("ant", "bee")).save(path)
    assert len(models("run", str(path)).config.classes) == 2
    assert len(first.config.classes) == 3
