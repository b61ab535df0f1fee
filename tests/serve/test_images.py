"""The same model, seed and settings are the same picture: by the library, the command line and HTTP, in any company."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny
from serving import SOON, Server, server
from unstir.cli import main
from unstir.modalities import read_recipe
from unstir.pipeline import Pipeline, load

STEPS = 3
WISHES: list[dict[str, Any]] = [
    {"n": 3, "seed": 7, "label": "bee"},
    {"n": 1, "seed": 100, "label": "ant"},
    {"n": 2, "seed": 8, "label": "bee"},
    {"n": 5, "seed": 2**40, "label": "cat"},
    {"n": 1, "seed": 7, "label": "bee"},
]
"""Their settings differ in what a batch may differ in."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.pipeline().save(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The command, with its own workers."""
    folder = tmp_path_factory.mktemp("served") / "served"
    with server(folder, "-m", "unstir", "serve", str(model), "port=0", f"folder={folder}") as running:
        yield running


@pytest.fixture(scope="module")
def library(model: Path) -> Pipeline:
    return load(model)


def submit(served: Server, wish: dict[str, Any]) -> str:
    return served.submit({"kind": "sample", "model": "tiny", "settings": wish | {"steps": STEPS}})


def pictures(served: Server, job: str) -> list[np.ndarray]:
    found = served.ended(job, 4 * SOON)
    assert found["state"] == "done", found["error"]
    contents = [served.client.get(item["url"]).content for item in found["result"]["items"]]
    return [np.asarray(Image.open(io.BytesIO(content))) for content in contents]


def test_library_command_line_and_http_agree(
    library: Pipeline, model: Path, served: Server, tmp_path: Path
) -> None:
    """Alone, and where all the jobs wait while the first loads the model, as one batch."""
    by_library = [list(library.sample(**wish, steps=STEPS).images[..., 0]) for wish in WISHES]
    jobs = [submit(served, wish) for wish in WISHES]
    together = [pictures(served, job) for job in jobs]
    begun = {served.job(job)["started"] for job in jobs}
    assert len(begun) < len(jobs), "some were drawn together"
    alone = [pictures(served, submit(served, wish)) for wish in WISHES]
    for k, wish in enumerate(WISHES):
        words = [f"{word}={value}" for word, value in wish.items()]
        out = tmp_path / f"{k}.npz"
        assert main(["sample", str(model), *words, f"steps={STEPS}", f"out={out}", "-q"]) == 0
        by_command = np.load(out)["x"][..., 0]
        for made in (together[k], alone[k], by_command):
            np.testing.assert_array_equal(np.stack(list(made)), np.stack(by_library[k]))
    distinct = {picture.tobytes() for some in by_library for picture in some}
    assert len(distinct) == 9, "of twelve, three were asked for twice"


def test_a_picture_says_how_to_make_it_again(served: Server, tmp_path: Path) -> None:
    """Its settings as another job, and its recipe."""
    first = served.ended(submit(served, WISHES[0]))
    item = first["result"]["items"][1]
    again = served.submit(
        {"kind": "sample", "model": "tiny", "settings": item["settings"], "parent": item["id"]}
    )
    (copy,) = pictures(served, again)
    content = served.client.get(item["url"]).content
    np.testing.assert_array_equal(copy, np.asarray(Image.open(io.BytesIO(content))))
    assert served.job(again)["result"]["items"][0]["parent"] == item["id"]
    (tmp_path / "picture.png").write_bytes(content)
    recipe = read_recipe(tmp_path / "picture.png")
    assert (recipe["seed"], recipe["label"], recipe["n"]) == (8, 1, 1)
