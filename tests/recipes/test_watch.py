"""What looks at a run while it trains: the best step, an early end, samples that are measured, and its page."""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from failpoints import CRASHED, crashes
from tiny import child, ended, outcome, records, resume, step, train
from unstir import runs, watch
from unstir.cli import main
from unstir.data import open_data
from unstir.errors import ConfigError
from unstir.evaluate import Drawn, Evidence, Raw
from unstir.model import find_model
from unstir.recipes import Data, Recipe
from unstir.report import Curve, plot, write_report
from unstir.report.results import results
from unstir.train import Training, load_latest
from unstir.train.checkpoint import best_step, go_back, mark_best, prune, save
from unstir.train.trainer import TrainState
from unstir.watch import BETTER, METRICS, Examination, Judge, Measured, check

# -- the judge ---------------------------------------------------------------------------------------------


def judged(training: Training, *measured: dict[str, Any]) -> Judge:
    judge = Judge(training)
    for k, numbers in enumerate(measured, 1):
        judge({"step": k, **numbers})
    return judge


def test_the_best_is_the_lowest_or_the_highest_as_the_number_has_it() -> None:
    low = judged(Training(), *({"heldout_loss": x} for x in (3.0, 1.0, None, 2.0, 1.0)))
    assert low.best == Measured(2, 1.0, None)  # the first of equals
    assert low.stale == 3
    assert low.reason == ""
    high = judged(Training(best="coverage"), *({"coverage": x} for x in (0.1, 0.4, 0.3)))
    assert high.best == Measured(2, 0.4, None)


def test_patience_counts_measurements_in_a_row_that_were_no_better() -> None:
    losses = [{"heldout_loss": x} for x in (3.0, 3.5, 2.0, 2.5, None)]
    assert judged(Training(patience=2), *losses[:4]).reason == ""
    judge = judged(Training(patience=2), *losses)
    assert (
        judge.reason == "at step 5: 2 measurements of heldout_loss in a row were no better than 2 at step 3"
    )
    assert judge.back is None
    judge({"step": 5, "extended": True})
    assert (judge.reason, judge.stale, judge.best) == ("", 0, Measured(3, 2.0, None))


def test_with_copies_only_evaluated_steps_within_the_limit_can_be_best() -> None:
    judge = Judge(Training(copies=0.1, evaluate_every=2))
    for k, loss in enumerate((3.0, 2.0, 1.0, 1.5), 1):
        judge({"step": k, "heldout_loss": loss})
        if k % 2 == 0:
            judge({"step": k, "copied": 0.06 * k, "copied_low": 0.02 * k})
    assert judge.best == Measured(4, 1.5, 0.24)  # step 3 had a lower loss, but nobody looked at its samples
    judge({"step": 6, "heldout_loss": 0.1})
    assert judge({"step": 6, "copied": 0.3, "copied_low": 0.11}) is False
    assert judge.back == 4
    assert (
        judge.reason == "at step 6: 30% of the samples copy training items (limit 10%); back to step 4, 24%"
    )
    first = judged(Training(copies=0.1, evaluate_every=2), {"copied": 0.3, "copied_low": 0.2})
    assert first.back is None
    assert "no step before was within the limit" in first.reason


def test_the_numbers_that_can_be_best_are_those_of_the_metrics() -> None:
    train_set, heldout = open_data("digits")
    evidence = Evidence(train_set, heldout, Raw(), Drawn(np.asarray(heldout.x[:64])))
    for metric, ways in METRICS.items():
        found = {n.name: n for n in metric.measure(evidence).numbers}
        assert {k: found[k].better for k in ways} == ways
    assert BETTER["heldout_loss"] == "low"


# -- refusals ----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown": ({"best": "fidd"}, "training.best", "'fid'"),
    "without samples": ({"best": "fid"}, "training.best", "evaluate_every"),
    "copies without samples": ({"copies": 0.1}, "training.copies", "evaluate_every"),
    "no held-out items": ({"patience": 3}, "training.patience", "heldout"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_nothing_will_measure_is_refused_by_name(case: str) -> None:
    settings, field, hint = REFUSED[case]
    recipe = Recipe(data=Data(source="digits"), training=Training(**settings))
    _, heldout = open_data("digits", heldout=0.0)
    with pytest.raises(ConfigError) as error:
        check(recipe, heldout)
    assert error.value.field == field
    assert hint in (error.value.hint or "")


def test_what_restores_or_tells_apart_is_not_judged_by_free_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", "digits", "task=upscale", "evaluate_every=5", f"out={run}"]) == 2
    assert "task=upscale draws none" in capsys.readouterr().err
    assert not (run / "config.yaml").exists()


# -- checkpoints -------------------------------------------------------------------------------------------


def put(run: Path, at: int) -> None:
    tensors = {"weights.a": torch.full((5,), float(at))}
    save(run, TrainState(tensors, {"step": at}), lambda path: path.write_bytes(b"model") and None)


def links(run: Path) -> tuple[str, int | None]:
    found = load_latest(run)
    assert found is not None
    assert torch.equal(
        found.state.tensors["weights.a"], torch.full((5,), float(found.state.counters["step"]))
    )
    return found.path.name, best_step(run)


def template(folder: Path) -> Path:
    for at in (5, 10, 15):
        put(folder, at)
    mark_best(folder, 5)
    return folder


def test_dying_at_any_operation_of_a_new_best_one_keeps_one(tmp_path: Path) -> None:
    old, run, seen = template(tmp_path / "template"), tmp_path / "run", []

    def work() -> None:
        put(run, 20)
        mark_best(run, 20)
        prune(run, 2)

    shutil.copytree(old, run, symlinks=True)
    for _ in crashes(work):
        seen.append(links(run))
        assert (run / f"checkpoints/step-{seen[-1][1]}/model.safetensors").exists()
        shutil.rmtree(run)
        shutil.copytree(old, run, symlinks=True)
    assert seen[0] == ("step-15", 5)
    assert ("step-20", 5) in seen
    assert seen[-1] == ("step-20", 20)
    assert len(seen) > 25


def test_pruning_spares_the_best(tmp_path: Path) -> None:
    run = template(tmp_path)
    put(run, 20)
    prune(run, 1)
    assert {path.name for path in (run / "checkpoints").glob("step-*")} == {"step-5", "step-20"}


def test_dying_at_any_operation_of_going_back_it_is_finished_later(tmp_path: Path) -> None:
    old, run, deaths = template(tmp_path / "template"), tmp_path / "run", 0
    line = {"step": 15, "stopped": "too many copies", "back": 5}
    shutil.copytree(old, run, symlinks=True)
    for _ in crashes(lambda: go_back(run, 5) and None):
        deaths += 1
        (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        assert watch.ended(run) == "too many copies"
        assert links(run) == ("step-5", 5)
        assert os.readlink(run / "checkpoints/last") == "step-5"
        assert {path.name for path in (run / "checkpoints").glob("step-*")} == {"step-5"}
        shutil.rmtree(run)
        shutil.copytree(old, run, symlinks=True)
    assert deaths > 5


# -- runs --------------------------------------------------------------------------------------------------

FID = {5: 3.0, 10: 2.0, 15: 2.5, 20: 2.6, 25: 2.7, 30: 2.8}
COPIED = {5: 0.0, 10: 0.06, 15: 0.12, 20: 0.3}
SAMPLES = ("steps=20", "evaluate_every=5", "evaluate_n=16", "checkpoint_every=5", "keep=1", "best=fid")


@pytest.fixture(autouse=True)
def _pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """No encoder is trained here."""
    monkeypatch.setattr(watch, "encoder_for", lambda *_, **__: Raw())


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Evaluations with the numbers above, in place of measured ones; the steps that were evaluated."""
    seen: list[int] = []
    real = watch.Watch._write

    def write(self: watch.Watch, record: dict[str, Any]) -> bool:
        if "evaluated" in record:
            at = self.trainer.step
            seen.append(at)
            copied = COPIED.get(at, 0.0)
            record = {"evaluated": 16, "fid": FID[at], "copied": copied, "copied_low": copied / 2}
        return real(self, record)

    monkeypatch.setattr(Examination, "__call__", lambda self, pipe: {"evaluated": 16})
    monkeypatch.setattr(watch.Watch, "_write", write)
    return seen


def test_the_best_step_is_kept_named_and_listed(
    scripted: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train("digits", run, *SAMPLES) == 0
    assert scripted == [5, 10, 15, 20]
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {"step-10", "step-20", "last", "best"}
    assert os.readlink(run / "checkpoints/best") == "step-10"
    assert find_model(f"{run}@best").resolve().parent.name == "step-10"
    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["step"], row["best"], row["best_step"], row["best_value"]) == (20, "fid", 10, 2.0)
    assert [r["step"] for r in records(run) if "heldout_loss" in r] == [5, 10, 15, 20]


@pytest.mark.parametrize(
    ("place", "at"),
    [("unstir.train.checkpoint.mark_best", 10), ("unstir.train.checkpoint.prune", 10)],
    ids=["before the link", "after the link"],
)
def test_killed_around_a_new_best_one_the_run_ends_as_if_never_killed(
    scripted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, at: int
) -> None:
    whole, run = tmp_path / "whole/run", tmp_path / "killed/run"
    assert train("digits", whole, *SAMPLES) == 0

    def work() -> int:
        module, _, name = place.rpartition(".")
        import importlib

        owner = importlib.import_module(module)
        real = getattr(owner, name)

        def dying(path: Path, value: int) -> Any:
            if step(run) >= at:
                os._exit(CRASHED)
            return real(path, value)

        setattr(owner, name, dying)
        return train("digits", run, *SAMPLES)

    with child(work) as process:
        assert ended(process) == CRASHED
    assert best_step(run) == (5 if place.endswith("mark_best") else 10)
    assert resume(run) == 0
    assert outcome(run) == outcome(whole)
    assert best_step(run) == best_step(whole) == 10


def test_patience_ends_a_run_and_more_steps_extend_it(
    scripted: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    more = [word for word in SAMPLES if not word.startswith("steps")]
    assert train("digits", run, *more, "steps=30", "patience=2") == 0
    assert step(run) == 20
    assert best_step(run) == 10
    assert records(run)[-1]["stopped"].startswith("at step 20: 2 measurements of fid in a row")
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 0
    err = capsys.readouterr().err
    assert "2 measurements of fid in a row were no better than 2 at step 10" in err
    assert "nothing left to do" in err
    assert step(run) == 20
    assert resume(run, "steps=40") == 0
    assert step(run) == 30  # two more measurements, none better
    assert best_step(run) == 10


def test_copies_end_a_run_which_goes_back(
    scripted: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = [word for word in SAMPLES if not word.startswith("steps")]
    assert train("digits", run, *settings, "steps=25", "copies=0.1", "-q") == 0
    text = "at step 20: 30% of the samples copy training items (limit 10%); back to step 10, 6%"
    assert records(run)[-1] == {"step": 20, "stopped": text, "back": 10}
    assert os.readlink(run / "checkpoints/last") == os.readlink(run / "checkpoints/best") == "step-10"
    found = load_latest(run)
    assert found is not None
    assert found.state.counters["step"] == 10
    assert find_model(run).resolve().parent.name == "step-10"
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 0
    assert text in capsys.readouterr().err
    assert runs.listing(tmp_path)[0]["step"] == 10
    assert resume(run, "copies=0.5") == 0
    assert step(run) == 25
    assert best_step(run) == 10
    assert os.readlink(run / "checkpoints/last") == "step-25"


def test_samples_are_measured_alike_at_every_step_and_change_no_weight(tmp_path: Path) -> None:
    run, plain = tmp_path / "a/run", tmp_path / "b/run"
    assert train("digits", run, "steps=10", "evaluate_every=5", "evaluate_n=32", "best=coverage") == 0
    assert train("digits", plain, "steps=10") == 0
    measured = [r for r in records(run) if "evaluated" in r]
    assert [r["step"] for r in measured] == [5, 10]
    for record in measured:
        assert record["features"] == "raw"
        assert all(record[name] is not None for name in BETTER if name != "heldout_loss")
        assert record["fid_low"] < record["fid"] < record["fid_high"]
    assert outcome(run)["tensors"] == outcome(plain)["tensors"]


# -- the page ----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What must hold of any page: tags that close, no script, nothing from elsewhere."""

    EMPTY = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.titles: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        for name, value in attrs:
            assert name not in ("src", "href") or (value or "").startswith("data:")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.titles.append(data)


TASKS = {
    "generate": ("digits", ["steps=4", "evaluate_every=2", "evaluate_n=16", "heldout_every=2"]),
    "classifier": ("digits", ["task=classifier", "steps=2"]),
    "upscale": ("digits", ["task=upscale", "scale=2", "steps=2"]),
    "inpaint": ("digits", ["task=inpaint", "steps=2"]),
    "points": ("points:moons", ["steps=2", "evaluate_every=2", "evaluate_n=16"]),
}
NETWORKS = {
    "classifier": "widths=4,8 batch=8 threads=1 heldout_every=2 preview_every=2 checkpoint_every=2",
    "points": "network=mlp width=16 depth=2 batch=16 threads=1 heldout_every=2 preview_every=2",
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_page(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, (source, settings) = tmp_path / "run <1>", TASKS[task]
    if task in NETWORKS:
        code = main(["train", source, *NETWORKS[task].split(), *settings, f"out={run}", "-q"])
    else:
        code = train(source, run, *settings)
    assert code == 0
    assert not (run / "report.html").exists()  # too short to be worth one unasked
    capsys.readouterr()
    assert main(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(run / "report.html")}
    text = (run / "report.html").read_text()
    titles = Page(text).titles
    assert titles[0] == "run <1>"
    assert {"Data", "Loss", "Next"} <= {*titles}
    assert ("Nearest training pictures" in titles) == (task == "generate")
    assert ("Samples while it trained" in titles) == (task in ("generate", "points"))
    assert "@best" in text


def test_a_page_comes_without_its_data_and_with_evaluations(tmp_path: Path) -> None:
    run = tmp_path / "run"
    x = np.random.default_rng(0).integers(0, 256, (64, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=x)
    assert train(tmp_path / "data.npz", run, "steps=2", "data.size=8") == 0
    (tmp_path / "data.npz").unlink()
    (run / "eval").mkdir()
    (run / "eval/torn.json").write_text('{"numbers": [')
    numbers = [
        {"name": "fid", "value": 3.25, "low": 3.0, "high": 3.5, "n": 100, "against": 64, "better": "low"}
    ]
    document = {
        "model": "<run>",
        "n": 100,
        "seeds": [0, 99],
        "numbers": numbers,
        "findings": {
            "FID": {"words": ["a <b> sentence"], "sheets": {"a sheet": "../../secret.png"},
                    "curves": {"fid": [[1, 2], [3.0, None]]}, "rows": [{"class": "a", "share": 0.5}]},
        },
        "skipped": {"Accuracy": "the encoder knows no classes"},
    }  # fmt: skip
    (tmp_path / "secret.png").write_bytes(b"secret")
    (run / "eval/one.json").write_text(json.dumps(document))
    sweep = {
        "over": "ema",
        "by": "fid",
        "best": 0.1,
        "rows": [{"ema": 0.05, "fid": 3.0}, {"ema": 0.1, "fid": 2.0}],
    }
    (run / "eval/two.json").write_text(
        json.dumps({**document, "date": "2030", "findings": {}, "sweep": sweep})
    )
    text = write_report(run).read_text()
    Page(text)
    assert "no longer where it was" in text
    assert "a &lt;b&gt; sentence" in text
    assert "3 to 3.5" in text
    assert "Accuracy: the encoder knows no classes" in text
    assert "<tr class='best'><td class='number'>0.1</td>" in text
    assert results(run / "eval").count("<details") == 2
    assert "c2VjcmV0" not in text  # what lies outside of the folder


def test_a_page_of_a_run_that_held_nothing_out(tmp_path: Path) -> None:
    assert train("digits", tmp_path / "all", "heldout=0", "steps=2") == 0
    text = write_report(tmp_path / "all").read_text()
    Page(text)
    assert "Nearest training pictures" in text


def test_a_long_run_ends_with_its_page_and_survives_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, fired = tmp_path / "run", []
    import sys

    verb = sys.modules["unstir.cli.train"]
    monkeypatch.setattr(verb, "WORTH_A_PAGE", 0.0)
    assert train("digits", run, "steps=2") == 0
    assert (run / "report.html").stat().st_size > 1000
    (run / "report.html").unlink()

    def failing(*_: Any) -> Path:
        fired.append(1)
        raise RuntimeError("no page today")

    monkeypatch.setattr("unstir.report.write_report", failing)
    assert main(["train", "--resume", str(run), "steps=3"]) == 0
    assert fired == [1]
    assert "could not be written: no page today" in capsys.readouterr().err
    assert step(run) == 3


# -- plots -------------------------------------------------------------------------------------------------


def drawing(*arguments: Any, **settings: Any) -> ET.Element:
    return ET.fromstring(plot(*arguments, **settings))


def test_every_curve_of_a_plot_looks_different() -> None:
    curves = [Curve(f"curve <{k}>", [0, 1, 2], [k, k + 1, k]) for k in range(20)]
    lines = [e for e in drawing(curves, "x", "y").iter() if e.tag.endswith("polyline")]
    looks = {(e.get("stroke"), e.get("stroke-dasharray")) for e in lines}
    assert len(lines) == len(looks) == 20


CURVES: dict[str, Callable[[], list[Curve]]] = {
    "one point": lambda: [Curve("a", [3], [2.0])],
    "constant": lambda: [Curve("a", [1, 2], [0.0, 0.0])],
    "negative": lambda: [Curve("a", [1, 2], [-1.0, 3.0])],
    "interval": lambda: [Curve("a", [1, 2, 3], [1.0, 2.0, 300.0], [0.5, None, -4.0], [2.0, None, 301.0])],
    "tiny": lambda: [Curve("a", [1, 2], [1e-9, 2e-9])],
    "many": lambda: [Curve("a", range(500), [float(k % 7) + 1 for k in range(500)])],
}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("name", CURVES)
def test_curves_lie_inside_their_plot(name: str, log: bool) -> None:
    root = drawing(CURVES[name](), "x", "y", log=log, mark=2)
    width, height = (float(root.get(k) or 0) for k in ("width", "height"))
    shapes = [e for e in root.iter() if e.get("points")]
    assert shapes
    for shape in shapes:
        for pair in (shape.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_nothing_is_said_to_be_nothing() -> None:
    assert "Nothing was measured" in plot([Curve("a", [], [])], "x", "y")


def test_what_a_killed_writer_left_among_the_previews_goes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train("digits", run, "steps=2") == 0
    left = run / "samples" / ".step-000002.png.tmp-1"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half of a picture")
    assert resume(run, "steps=3") == 0
    assert not left.exists()
