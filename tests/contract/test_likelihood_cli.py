"""`unstir likelihood`: numbers with their errors, each item's score, and how well it tells data apart."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

import tiny
from unstir.cli import main
from unstir.evaluate import roc


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the bound itself, so that it is seen to train."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    assert tiny.train("digits", path, "steps=12", "objective=bound") == 0
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that the command prints."""
    capsys.readouterr()
    assert main(["likelihood", *arguments, "--json", "-q"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the error."""
    capsys.readouterr()
    code = main(["likelihood", *arguments, "--json", "-q"])
    return code, json.loads(capsys.readouterr().err)["error"]


def test_all_ways_side_by_side(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    report = result(capsys, str(run), "n=2", "method=all", "end=9")
    assert [row["method"] for row in report["scores"]] == ["bound", "discrete", "ode"]
    for row in report["scores"]:
        assert (row["data"], row["items"]) == ("digits", 2)
        assert row["bits_per_dimension"] == pytest.approx(sum(row["terms"].values()))
        assert row["bits_per_dimension"] > 0
        assert row["error"] > 0
        assert row["draw_error"] > 0


def test_the_table_names_data_methods_and_errors(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    capsys.readouterr()
    assert main(["likelihood", str(run), "n=2", "draws=2", "end=9", "-q"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["data", "items", "method"]
    assert "bits/dim" in head
    assert "±" in head
    assert row.split()[:3] == ["digits", "2", "bound"]


def test_each_item_keeps_its_score(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    """In both formats the same, whatever the micro-batch."""
    settings = [str(run), "n=5", "draws=4", "end=9", "against=emoji"]
    report = result(capsys, *settings, "out=scores.csv")
    result(capsys, *settings, "out=scores.npz", "micro_batch=2")
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["data"] for row in rows] == 5 * ["digits"] + 5 * ["emoji"]
    assert len({(row["data"], row["item"]) for row in rows}) == 10
    bits = np.array([float(row["bound"]) for row in rows])
    assert bits[:5].mean() == pytest.approx(report["scores"][0]["bits_per_dimension"])
    assert all(float(row["bound_error"]) > 0 for row in rows)
    with np.load(tmp_path / "scores.npz") as arrays:
        np.testing.assert_allclose(arrays["bound"], bits, rtol=1e-4)
        assert arrays["item"].tolist() == [row["item"] for row in rows]


def test_other_data_is_resized_and_told_apart(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    report = result(capsys, str(run), "n=6", "draws=2", "end=9", "against=emoji", "roc=curves/roc.svg")
    curve = report["roc"]["bound"]
    assert 0 <= curve["area"] <= 1
    assert curve["false_alarms"][0] == curve["found"][0] == 0
    assert curve["false_alarms"][-1] == curve["found"][-1] == 1
    root = ElementTree.parse(tmp_path / "curves" / "roc.svg").getroot()
    assert root.tag.endswith("svg")


def test_labels_change_the_scores(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    """The same noise, another condition."""
    settings = [str(run), "n=4", "draws=2", "end=9"]
    without, known = (result(capsys, *settings, f"labels={k}")["scores"][0] for k in (0, 1))
    assert without["terms"]["reconstruction"] == known["terms"]["reconstruction"]
    assert without["terms"]["diffusion"] != known["terms"]["diffusion"]


def test_points(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "points:moons", "steps=2", "batch=8", "threads=1", "out=moons", "-q"]) == 0
    report = result(capsys, "moons", "n=4", "method=all")
    assert all(math.isfinite(row["bits_per_dimension"]) for row in report["scores"])
    assert report["end"] in (3, 5, 7, 9, 11, 13)
    code, error = refusal(capsys, "moons", "data=digits", "end=9")
    assert (code, error["field"]) == (2, "data")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("n=1", "n"),
        ("n=nan", "n"),
        ("method=guess", "method"),
        ("steps=10", "steps"),
        ("steps=10 method=all", "steps"),
        ("draws=3", "draws"),
        ("draws=4 method=all", "draws"),
        ("draws=0", "draws"),
        ("end=nan", "end"),
        ("end=50", "end"),
        ("roc=roc.svg", "roc"),
        ("roc=roc.png against=emoji", "roc"),
        ("roc=roc.svg against=emoji method=all", "roc"),
        ("out=scores.txt", "out"),
        ("seed=-1", "seed"),
        ("dequantise=maybe", "dequantise"),
        ("dequantise=uniform", "dequantise"),
        ("variance=upper method=ode", "variance"),
    ],
)
def test_wrong_settings_are_refused_before_the_model_is_read(
    capsys: pytest.CaptureFixture[str], line: str, field: str
) -> None:
    code, error = refusal(capsys, "no-such-run", *line.split())
    assert (code, error["field"]) == (2, field)
    assert error["hint"]


@pytest.mark.parametrize(
    ("line", "code", "field"),
    [
        ("data=no-such-folder end=9", 3, "data.source"),
        ("against=points:moons end=9", 2, "data"),
        ("against=emoji labels=1 end=9", 2, "labels"),
        ("method=discrete variance=learned end=9", 2, "variance"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], run: Path, line: str, code: int, field: str
) -> None:
    got, error = refusal(capsys, str(run), "n=2", *line.split())
    assert (got, error["field"]) == (code, field)


# -- the ROC curve ---------------------------------------------------------------------------------------------


def test_the_area_is_the_chance_to_be_larger() -> None:
    usual, strange = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 3.0, 6.0])
    curve = roc(usual, strange)
    wins = (strange[:, None] > usual).mean() + (strange[:, None] == usual).mean() / 2
    assert curve.area == pytest.approx(wins)
    assert np.trapezoid(curve.found, curve.false_alarms) == pytest.approx(wins)
    assert (np.diff(curve.found) >= 0).all()
    assert (np.diff(curve.false_alarms) >= 0).all()
    assert roc(usual, usual + 10).area == 1
    assert roc(usual, usual).area == 0.5


def test_the_error_of_the_area_is_its_error() -> None:
    """Normal scores one apart: the area is Phi(1/sqrt(2)); its spread over 400 sets is what is said of each."""
    rng = np.random.default_rng(0)
    curves = [roc(rng.normal(size=60), rng.normal(1, 1, size=40)) for _ in range(400)]
    areas = np.array([curve.area for curve in curves])
    assert areas.mean() == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)), abs=4 * areas.std() / 20)
    assert np.mean([curve.error for curve in curves]) == pytest.approx(areas.std(), rel=0.1)
