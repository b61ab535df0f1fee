"""A run from the first line to the last sample: what it leaves behind, how it goes on, how long it takes."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unstir
from tiny import TINY, outcome, records, resume, step, tensors, train
from unstir import runs
from unstir.cli import main


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 steps that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train("digits", run, "steps=20") == 0
    return run


def copy(run: Path, to: Path) -> Path:
    import shutil

    shutil.copytree(run, to, symlinks=True)
    return to


# -- what a run is -----------------------------------------------------------------------------------------


def test_a_run_holds_all_that_is_known_about_it(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} >= {
        "config.yaml", "env.json", "cmd.txt", "metrics.jsonl", "report.jsonl", "samples", "checkpoints",
    }  # fmt: skip
    assert {path.name for path in (whole / "checkpoints").iterdir()} == {"step-15", "step-20", "last", "best"}
    assert {(whole / "checkpoints" / name).readlink().name for name in ("last", "best")} == {"step-20"}
    assert {path.name for path in (whole / "samples").iterdir()} == {"step-000010.png", "step-000020.png"}
    assert (whole / "report.jsonl").read_text() == ""
    assert json.loads((whole / "env.json").read_text())["threads"] == 1
    log = records(whole)
    assert [r["step"] for r in log if "loss" in r] == list(range(1, 21))
    assert [r["step"] for r in log if "heldout_loss" in r] == [10, 20]
    kinds = {name.partition(".")[0] for name in tensors(whole)}
    assert kinds == {"model", "weights", "ema", "optimizer"}


def test_its_settings_train_it_again(whole: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    assert main(["train", "--config", str(whole / "config.yaml"), f"out={again}", "-q"]) == 0
    assert outcome(again) == outcome(whole)


def test_quiet_is_silent_and_json_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("digits", tmp_path / "run", "steps=2", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"run": str(tmp_path / "run")}
    assert err == ""
    assert main(["train", "digits", *TINY.split(), "steps=2", f"out={tmp_path / 'b'}"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'b'}\n"
    for word in ("1,623 images, 8x8 grey", "M parameters", "GiB", "img/s", "saved", "unstir sample"):
        assert word in err


# -- going on ----------------------------------------------------------------------------------------------


def test_a_finished_run_says_so(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy(whole, tmp_path / "run")
    assert main(["train", "--resume", str(run)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{run}\n"
    assert "nothing left to do" in err
    assert outcome(run) == outcome(whole)


def test_more_steps_plan_the_rate_anew_and_say_so(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy(whole, tmp_path / "run")
    assert resume(run, "steps=40") == 0
    assert "steps was 20 and is 40: the learning rate is planned anew" in caplog.text
    log = [r for r in records(run) if "loss" in r]
    assert [r["step"] for r in log] == list(range(1, 41))
    assert log[20]["lr"] > 2 * log[19]["lr"]
    assert log[-1]["lr"] < 0.01 * max(r["lr"] for r in log)
    before, after = ((path / "config.yaml").read_text().splitlines() for path in (whole, run))
    changed = [line for line in after if line not in before]
    assert changed == ["  steps: 40  # command line"]


def test_steps_can_become_time(whole: Path, tmp_path: Path) -> None:
    run = copy(whole, tmp_path / "run")
    seconds = records(whole)[-2]["seconds"]
    assert resume(run, f"time={seconds + 0.5:.3f}s") == 0
    assert step(run) > 20


@pytest.mark.parametrize(
    "changes", [["batch=4"], ["network.widths=8,8", "seed=3"], ["schedule=cosine"], ["data.size=4"]]
)
def test_what_would_make_it_another_run_cannot_change(
    whole: Path, changes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "config.yaml").read_bytes()
    assert resume(whole, *changes) == 2
    err = capsys.readouterr().err
    for change in changes:
        assert change.partition("=")[0] in err
    assert "training.steps" in err  # what may change
    assert (whole / "config.yaml").read_bytes() == before


def test_threads_and_precision_may_change(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy(whole, tmp_path / "run")
    assert resume(run, "threads=2", "precision=fp32", "steps=22") == 0
    assert "not bit for bit: threads was 1, is 2" in caplog.text
    assert step(run) == 22


def test_runs_are_resumed_by_name(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(whole, tmp_path / "runs/mine")
    monkeypatch.chdir(tmp_path)
    assert resume(Path("mine"), "steps=21") == 0
    assert step(tmp_path / "runs/mine") == 21


# -- replacing ---------------------------------------------------------------------------------------------


def test_a_run_is_replaced_only_when_asked_and_when_the_new_one_can_start(
    whole: Path, tmp_path: Path
) -> None:
    run = copy(whole, tmp_path / "run")
    before = outcome(run)
    assert train("digits", run, "steps=3") == 2
    assert train("digitz", run, "steps=3", "--overwrite") == 3
    assert train("digits", run, "steps=3", "network.blocks=1,1,1,1", "--overwrite") == 2
    assert outcome(run) == before
    assert train("digits", run, "steps=3", "--overwrite") == 0
    assert step(run) == 3
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step-3", "last", "best"}


def test_a_folder_that_is_no_run_keeps_what_is_in_it(tmp_path: Path) -> None:
    for name in ("samples/mine.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert train("digits", tmp_path, "steps=1", "--overwrite") == 0
    assert (tmp_path / "samples/mine.png").read_text() == (tmp_path / "notes.txt").read_text() == "mine"


def test_runs_without_a_name_get_the_next_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", "digits", *TINY.split(), "steps=1", "-q"]) == 0
    assert [row["run"] for row in runs.listing()] == ["runs/digits-1", "runs/digits-2"]


# -- time --------------------------------------------------------------------------------------------------


def test_a_run_ends_on_time_with_its_rate_at_the_end(tmp_path: Path) -> None:
    """Within 5%, or within its longest step where that is longer: it never begins a step it cannot end in time."""
    run, budget = tmp_path / "run", 3.0
    assert train("digits", run, f"time={budget}s", "checkpoint_every=20", "preview_every=20") == 0
    log = [r for r in records(run) if "loss" in r]
    seconds = [r["seconds"] for r in log]
    longest = max(b - a for a, b in pairwise([0.0, *seconds]))
    assert abs(seconds[-1] - budget) <= max(0.05 * budget, longest)
    assert log[-1]["lr"] < 0.02 * max(r["lr"] for r in log)
    assert log[-1]["progress"] == pytest.approx(seconds[-1] / budget)


# -- sampling ----------------------------------------------------------------------------------------------


def test_points_train_and_sample_by_the_same_commands(tmp_path: Path) -> None:
    run = tmp_path / "moons"
    assert train("points:moons", run, "network=mlp", "steps=3", "batch=16") == 2  # widths= is not the MLP's
    settings = "network=mlp width=16 depth=2 batch=64 threads=1 steps=6 preview_every=3 checkpoint_every=3"
    assert main(["train", "points:moons", *settings.split(), f"out={run}", "-q"]) == 0
    assert {path.name for path in (run / "samples").iterdir()} == {"step-000003.png", "step-000006.png"}
    for name in ("out.npz", "out.png"):
        assert main(["sample", str(run), "n=20", "seed=7", f"out={tmp_path / name}", "-q"]) == 0
    with np.load(tmp_path / "out.npz") as arrays:
        assert (arrays["x"].shape, arrays["x"].dtype) == ((20, 2), np.float32)
        assert np.isfinite(arrays["x"]).all()
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (256, 256)


@pytest.mark.parametrize("ending", [".png", ".npz"])
def test_the_printed_command_makes_the_same_bytes(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a step in the model's name, and spaces in paths."""
    run = copy(whole, tmp_path / "my runs/the $1 run")
    monkeypatch.chdir(tmp_path)
    first = tmp_path / f"first one{ending}"
    asked = ["n=3", "seed=4", "solver=heun", "steps=3", "guidance=2.5", "label=1,2,3", f"out={first}"]
    assert main(["sample", f"{run}@15", *asked, "-q"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(first), "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["command"]
    assert "@15" in command
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / f"again{ending}").read_bytes() == first.read_bytes()


def test_every_checkpoint_samples(whole: Path) -> None:
    assert not np.array_equal(*(unstir.load(f"{whole}@{k}").sample(n=2, steps=3).images for k in (15, 20)))


# -- listing -----------------------------------------------------------------------------------------------


def test_a_broken_run_does_not_hide_the_others(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(whole, tmp_path / "good")
    for name, text in {"empty": "", "torn": "data: [", "list": "- 1", "other": "data: 3"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
        (tmp_path / name / "metrics.jsonl").write_bytes(b'{"step": 3, "loss": 0.5}\n3\n\xff\xfe\n{"st')
    (tmp_path / "no run").mkdir()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    rows = {Path(row["run"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {"good", "empty", "torn", "list", "other"}
    assert rows["good"]["step"] == 20
    assert rows["torn"]["step"] == 3
    assert all(row["data"].startswith("broken: ") == (name != "good") for name, row in rows.items())
    assert main(["runs", str(tmp_path)]) == 0
    assert main(["inspect", str(tmp_path / "good")]) == 0
