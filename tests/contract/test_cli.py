"""The command line: results on standard output, reasons on standard error, exit codes that mean something."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from unstir import cli, runs
from unstir.cli import app, main
from unstir.command import remake
from unstir.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    IncompatibleError,
    NumericError,
    UnstirError,
)
from unstir.modalities import read_recipe

VERBS = [verb.__name__ for verbs in cli.VERBS.values() for verb in verbs]
TINY = (
    "digits steps=2 batch=4 optimizer=adamw network=unet widths=4,8 blocks=1 embedding=8 sampling.steps=2 "
    "preview_every=100 heldout_every=100 checkpoint_every=1 data.heldout=0.01"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, trained by the command."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", *TINY.split(), f"out={path}", "-q"]) == 0
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    return code, *capsys.readouterr()


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON a command prints."""
    code, out, err = call(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


# -- help --------------------------------------------------------------------------------------------------


def test_help_lists_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for title, verbs in cli.VERBS.items():
        assert f"{title}:" in out
        assert all(f"  {verb.__name__} " in out for verb in verbs)
    assert "Examples:" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0
    assert f"Examples:\n    unstir {verb}" in out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys)
    assert code == 2
    assert "Make:" in out + err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--version")
    assert (code, out.split()[0]) == (0, "unstir")


# -- refusals ----------------------------------------------------------------------------------------------

REFUSED = [
    ("trian digits", "Did you mean 'train'"),
    ("train", "one folder or data set is needed"),
    ("train a b", "got: a b"),
    ("train digits stesp=3", "did you mean 'steps'"),
    ("train digits steps=many", "an integer >= 1"),
    ("train digits network=resnet", "network: 'resnet' is not known"),
    ("train digits steps=1 steps=2", "'steps' is given twice"),
    ("train digits process=flo", "did you mean 'flow'"),
    ("train digits --config none.yaml", "cannot read none.yaml"),
    ("train digits --resume x", "takes no 'digits'"),
    ("train --resume x --dry-run", "takes no '--dry-run'"),
    ("train --resume x stesp=3", "did you mean 'steps'"),
    ("train digits --foo", "--foo"),
    ("sample", "one model is needed"),
    ("sample x n=0", "an integer >= 1"),
    ("sample x solver=hein", "did you mean 'heun'"),
    ("config sampel", "did you mean 'sample'"),
    ("demo digits", "demo takes no 'digits'"),
    ("data digits size=1", "an integer >= 2"),
]


@pytest.mark.parametrize(("line", "reason"), REFUSED, ids=[line for line, _ in REFUSED])
def test_wrong_usage_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], line: str, reason: str
) -> None:
    code, out, err = call(capsys, *line.split())
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert reason in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        ("train no-such-folder", 3, "no-such-folder"),
        ("data no-such-folder", 3, "no-such-folder"),
        ("inspect no-such.png", 3, "no-such.png"),
        ("sample no-such-run", 4, "there is no model 'no-such-run'"),
        ("train --resume no-such-run", 4, "no-such-run is not a run"),
        ("train digits device=cuda:99 steps=1", 6, "cuda:99"),
    ],
)
def test_failures_have_their_own_exit_codes(
    capsys: pytest.CaptureFixture[str], line: str, code: int, reason: str
) -> None:
    got, out, err = call(capsys, *line.split())
    assert (got, out) == (code, "")
    assert f"error: {reason}" in err or reason in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnstirError("x"), 1),
        (RuntimeError("x"), 1),
        (ConfigError("x"), 2),
        (IncompatibleError("x"), 2),
        (DataError("x"), 3),
        (CheckpointError("x"), 4),
        (OSError(errno.ENOSPC, "No space left on device", "file"), 4),
        (NumericError("x"), 5),
        (DeviceError("x"), 6),
        (MemoryError(), 6),
        (torch.OutOfMemoryError("x"), 6),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), 6),
        (KeyboardInterrupt(), 130),
        (typer.Exit(143), 143),
    ],
    ids=repr,
)
def test_every_exception_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runs, "listing", fail)
    got, out, err = call(capsys, "runs")
    assert (got, out) == (code, "")
    assert "Traceback" not in err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "sample", "no-such-run", "--debug")
    assert code == 4
    assert "Traceback" in err


def test_json_errors(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "sample", "x", "n=0", "--json")
    assert (code, out) == (2, "")
    assert json.loads(err)["error"]["field"] == "n"


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "train --help",
        "train x stesp=3",
        "train x steps=a",
        "sample x n=0",
        "restore x y.png operator=blurr:sigma=2",
        "config train",
    ],
)
def test_torch_is_not_imported_for_help_and_refusals(line: str) -> None:
    code = (
        f"import sys; from unstir.cli import main; main({line.split()!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_closed_pipe_is_no_crash() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "unstir", "config", "train"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b""


# -- the verbs ---------------------------------------------------------------------------------------------


def test_config_lists_settings_and_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    listed = result(capsys, "config", "train")
    assert listed["training.steps"]["accepts"] == "an integer >= 1 or none"
    order = result(capsys, "config", "sample")["sampling.solver.order"]
    assert order["accepts"] == "one of 2, 3; one of 2, 3, 4"  # of DEIS, and of AdamsBashforth
    assert "AdamsBashforth: past slopes" in order["help"]
    code, out, _ = call(capsys, "config", "train", "--schema")
    assert code == 0
    assert json.loads(out)["properties"]["data"]["required"] == ["source"]


def test_solvers(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in result(capsys, "solvers")}
    assert (rows["heun"]["order"], rows["heun"]["evaluations"], rows["heun"]["stochastic"]) == (2, 2, False)


def test_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = result(capsys, "data", "digits", "sheet=sheet.png")
    assert (found["count"] + found["heldout"], found["shape"]) == (1797, [1, 8, 8])
    assert (tmp_path / "sheet.png").is_file()
    assert result(capsys, "data", "digits", "captions=no", "flip=yes")["count"] == found["count"]


def test_the_sheets_of_data_are_pictures_in_folders_that_need_not_exist(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.savez("twice.npz", x=np.repeat(np.arange(192, dtype=np.uint8).reshape(3, 8, 8), 2, axis=0))
    result(capsys, "data", "twice.npz", "sheet=new/a.png", "duplicates=b/pairs.png", "report=c/bad.jsonl")
    written = ("new/a.png", "b/pairs.png", "c/bad.jsonl")
    assert all((tmp_path / name).is_file() for name in written)
    for word in ("sheet=a.jpg", "duplicates=false"):
        code, _, err = call(capsys, "data", "twice.npz", word, "--json")
        error = json.loads(err)["error"]
        assert (code, error["field"], bool(error["hint"])) == (2, word.partition("=")[0], True)
        assert not (tmp_path / word.partition("=")[2]).exists()


def test_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = result(capsys, "train", *TINY.split(), "--dry-run")
    assert plan["parameters"] > 0
    assert plan["recipe"]["training"]["steps"] == 2
    assert plan["sources"]["training.steps"] == "command line"
    assert list(tmp_path.iterdir()) == []


def test_train_prints_the_run_and_keeps_every_setting_with_its_source(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    assert "widths: [4, 8]  # command line" in text
    assert "schedule:" in text
    assert (run / "checkpoints" / "last" / "model.safetensors").is_file()


def test_an_existing_run_is_not_overwritten(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    code, _, err = call(capsys, "train", *TINY.split(), f"out={run}")
    assert code == 2
    assert "--resume" in err


def test_sample_and_remake_by_the_printed_command(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    asked = ["n=3", "seed=5", "steps=2", "solver=ddim", "eta=0.5", "guidance=2", "label=3", "out=first.png"]
    code, out, _ = call(capsys, "sample", str(run), *asked)
    assert (code, out) == (0, "first.png\n")
    command = result(capsys, "inspect", "first.png")["command"]
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "first.png").read_bytes()


def test_remaking_a_movie_an_array_and_a_single_file(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    for extra in ("out=first.gif movie=1", "out=first.npz", "out=first/"):
        assert main(["sample", str(run), "n=2", "seed=3", "-q", *extra.split()]) == 0
    for name in ("first.gif", "first.npz", "first/000004.png"):
        command = result(capsys, "inspect", name)["command"]
        assert main(shlex.split(command)[1:]) == 0
        again = (tmp_path / "again").with_suffix(Path(name).suffix)
        assert again.read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_sample_depends_on_its_seed_alone(run: Path, tmp_path: Path) -> None:
    assert main(["sample", str(run), "n=4", "seed=7", "out=four.npz"]) == 0
    assert main(["sample", str(run), "n=1", "seed=9", "out=one.npz"]) == 0
    with np.load(tmp_path / "four.npz") as four, np.load(tmp_path / "one.npz") as one:
        np.testing.assert_array_equal(four["x"][2], one["x"][0])


def test_where_samples_go_when_nobody_says(run: Path, tmp_path: Path) -> None:
    for extra in (["n=2"], ["n=101", "steps=1"], ["n=1", "movie=1"]):
        assert main(["sample", str(run), "-q", *extra]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"samples.png", "samples.npz", "samples.gif"}


def test_a_path_that_cannot_be_written_is_refused_before_sampling(
    capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    assert call(capsys, "sample", str(run), "out=x.jpg")[0] == 2
    Path("file").touch()
    code, _, err = call(capsys, "sample", "no-such-run", "out=file/x.png")
    assert (code, "cannot be written to" in err) == (4, True)


def test_inspect_a_run_a_model_and_data(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    described = result(capsys, "inspect", str(run))
    assert (described["step"], described["data"]) == (2, "digits")
    model = result(capsys, "inspect", str(run / "checkpoints" / "last" / "model.safetensors"))
    assert model["sha256"] == described["sha256"]
    assert result(capsys, "inspect", "digits")["shape"] == [1, 8, 8]


def test_runs(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    (row,) = result(capsys, "runs", str(run.parent))
    assert (row["run"], row["step"]) == (str(run), 2)


def test_remake_leaves_defaults_out() -> None:
    recipe = {"model": "m", "n": 16, "seed": 0, "label": None, "solver": {"name": "DDIM", "eta": 0.0}}
    assert remake(recipe) == "unstir sample m solver=ddim out=again.png"
    assert "label=3,5" in remake(recipe | {"label": [3, 5]})


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        ({"name": "DEIS", "order": 2, "variable": "time"}, "solver=deis solver.order=2 solver.variable=time"),
        ({"name": "DEIS", "order": 3, "variable": "log_snr"}, "solver=deis"),
        ({"name": "AdamsBashforth", "order": 2, "variable": "angle"}, "solver=adamsbashforth"),
        ({"name": "Langevin", "corrections": 1, "snr": 0.2}, "solver=langevin solver.corrections=1"),
        (
            {"name": "Ancestral", "solver": {"name": "Heun", "churn": 0.0, "variable": "time"}, "eta": 1.0},
            "solver=ancestral solver.solver=heun solver.solver.variable=time",
        ),
    ],
)
def test_a_default_is_that_of_the_solver_itself(solver: dict[str, Any], words: str) -> None:
    """Solvers share names of fields, and differ in their defaults."""
    assert remake({"model": "m", "solver": solver}) == f"unstir sample m {words} out=again.png"


def test_a_folder_of_a_refused_training_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "parameterization=eps", "schedule=linear", "out=runs/refused", "-q"]) == 2
    _, _, err = call(capsys, "sample", "nothing")
    assert "refused" not in err


def test_a_single_file_recipe_is_that_of_one_picture(run: Path, tmp_path: Path) -> None:
    assert main(["sample", str(run), "n=2", "seed=3", "-q", "out=many/"]) == 0
    assert read_recipe(tmp_path / "many" / "000004.png")["seed"] == 4


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str]) -> None:
    checks = {check["name"]: check for check in result(capsys, "doctor")}
    assert {"python", "torch", "disk", "self-test"} <= checks.keys()
    assert [check for check in checks.values() if check["state"] == "bad"] == []


def test_the_application_is_a_typer_one() -> None:
    assert isinstance(app, typer.Typer)
