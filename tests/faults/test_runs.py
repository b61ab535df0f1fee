"""Runs that are killed, interrupted, poisoned, crowded out or robbed of their data: what they leave is whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from faults.test_data import fragile, write_a_thousand  # noqa: F401
from tiny import TINY, child, ended, outcome, records, resume, step, train, wait_for
from unstir import files
from unstir.cli import main
from unstir.codecs import Scale
from unstir.model import find_model
from unstir.tensors import load_tensors
from unstir.train import Trainer, load_latest

STEPS = 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts, under the name that the interrupted ones have."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train("digits", run, f"steps={STEPS}") == 0
    return run


def start_or_resume(run: Path) -> int:
    """What a user does, who finds the process gone."""
    return resume(run) if (run / "config.yaml").exists() else train("digits", run, f"steps={STEPS}")


def slowly(pause: float = 0.02) -> int:
    """In a child: stretch every step, so that there is a middle of it to be met in."""
    real = Trainer._train_step

    def stretched(trainer: Trainer) -> dict[str, float]:
        time.sleep(pause)
        return real(trainer)

    Trainer._train_step = stretched  # type: ignore[method-assign]
    return 0


# -- kill -9 -----------------------------------------------------------------------------------------------


def test_killed_and_resumed_it_is_the_run_that_was_never_killed(whole: Path, tmp_path: Path) -> None:
    run, random, met = tmp_path / "run", Random(1), []
    for at in (3, 9, 22):  # before the first checkpoint, between two, near the end
        with child(lambda: start_or_resume(run)) as process:
            wait_for(lambda at=at: step(run) >= at, process)  # type: ignore[misc]
            time.sleep(random.uniform(0, 0.05))
            os.kill(process, signal.SIGKILL)
            assert ended(process) == -signal.SIGKILL
        met.append(step(run))
        found = load_latest(run)
        assert (found.state.counters["step"] if found else 0) >= met[-1] - 5
    print(f"killed {len(met)} times, at steps {met}")  # noqa: T201
    assert start_or_resume(run) == 0
    assert outcome(run) == outcome(whole)


@pytest.mark.slow
def test_ten_kills_at_random_moments(tmp_path: Path) -> None:
    """By the command itself, in a process of its own: start-up, data, steps, checkpoints, previews, the end."""
    command = [sys.executable, "-m", "unstir", "train"]
    start = [*command, "digits", *TINY.split(), "steps=200"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    reference = tmp_path / "whole" / "run"
    begun = time.monotonic()
    assert subprocess.run([*start, f"out={reference}"], check=False, **quiet).returncode == 0  # type: ignore[call-overload]
    duration, expected = time.monotonic() - begun, outcome(reference)

    random, kills, finished = Random(0), [], 0
    run = tmp_path / "0" / "run"
    while len(kills) < 10 or not finished:
        words = [*command, "--resume", str(run)] if (run / "config.yaml").exists() else [*start, f"out={run}"]
        process = subprocess.Popen(words, **quiet)  # type: ignore[call-overload]
        try:
            limit = random.uniform(0, duration) if len(kills) < 10 else None
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            assert process.wait() == -signal.SIGKILL
            kills.append(step(run))
            if load_latest(run) is not None:
                assert find_model(run).is_file()  # the link may not be there yet; the checkpoint is found
            continue
        assert code == 0
        assert outcome(run) == expected
        finished += 1
        run = tmp_path / str(finished) / "run"
    print(f"killed {len(kills)} times, at steps {kills}; {finished} runs finished, all equal")  # noqa: T201


# -- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_saves_stops_and_goes_on(
    whole: Path, tmp_path: Path, number: int, code: int
) -> None:
    run = tmp_path / "run"
    with child(lambda: slowly() or train("digits", run, f"steps={STEPS}")) as process:
        wait_for(lambda: step(run) >= 7, process)
        os.kill(process, number)
        assert ended(process) == code
    stopped = step(run)
    print(f"signal {number} met step {stopped}")  # noqa: T201
    assert 7 <= stopped < STEPS
    found = load_latest(run)
    assert found is not None
    assert found.state.counters["step"] == stopped
    assert resume(run) == 0
    assert outcome(run) == outcome(whole)


def test_the_second_signal_is_obeyed_at_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with child(lambda: slowly(pause=30.0) or train("digits", run, f"steps={STEPS}")) as process:
        wait_for(lambda: (run / "metrics.jsonl").exists(), process)
        time.sleep(0.3)
        os.kill(process, signal.SIGINT)
        time.sleep(0.3)
        assert os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        begun = time.monotonic()
        os.kill(process, signal.SIGTERM)
        assert ended(process) == 143
        assert time.monotonic() - begun < 2
    assert resume(run, "steps=2") == 0


def test_a_reader_that_leaves_stops_nothing(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    reader, writer = os.pipe()
    os.close(reader)

    def work() -> int:
        os.dup2(writer, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        return main(["train", "digits", *TINY.split(), f"steps={STEPS}", f"out={run}"])

    with child(work) as process:
        os.close(writer)
        assert ended(process) == 0
    assert outcome(run) == outcome(whole)


# -- the place ---------------------------------------------------------------------------------------------


def test_one_run_is_trained_by_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with child(lambda: slowly(pause=0.2) or train("digits", run, f"steps={STEPS}")) as process:
        wait_for(lambda: step(run) >= 1, process)
        before = {name: (run / name).read_bytes() for name in ("config.yaml", "env.json", "cmd.txt")}
        capsys.readouterr()
        assert resume(run) == 4
        assert f"is in use by process {process}" in capsys.readouterr().err
        assert train("digits", run, "steps=1", "--overwrite") == 4
        assert train("digits", run, "steps=1") == 2
        assert before == {name: (run / name).read_bytes() for name in before}
        assert step(run) >= 1
    assert resume(run, "steps=2") == 0  # the lock went with its holder


def test_what_cannot_be_written_is_refused_in_the_first_second(tmp_path: Path) -> None:
    """Before torch is imported or data read."""
    (tmp_path / "file").touch()
    code = (
        "import sys; from unstir.cli import main; "
        f"code = main(['train', 'digits', 'out={tmp_path}/file/run']); sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "file cannot be written to" in done.stderr
    assert train("digits", tmp_path / "file") == 4


def test_a_full_disk_ends_the_run_with_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, fired, real = tmp_path / "run", [], os.mkdir

    def full(path: str | Path, *args: int, **keywords: int) -> None:
        if Path(path).name.startswith(".step-") and (run / "checkpoints/step-5").exists():
            fired.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, *args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "mkdir", full)
        assert train("digits", run, "steps=40") == 4
    assert len(fired) == 3  # at steps 10, 15 and 20
    assert "free some space" in capsys.readouterr().err
    found = load_latest(run)
    assert found is not None
    assert found.state.counters["step"] == 5
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []
    assert resume(run) == 0
    assert step(run) == 40


# -- numbers -----------------------------------------------------------------------------------------------


def finite(run: Path) -> bool:
    paths = list((run / "checkpoints").rglob("*.safetensors"))
    assert paths
    return all(bool(x.isfinite().all()) for path in paths for x in load_tensors(path).values())


def test_poisoned_batches_are_skipped_and_many_in_a_row_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, fired, real, steps = tmp_path / "run", [], Scale.encode, Counter[str]()

    def poisoned(codec: Scale, x: torch.Tensor) -> torch.Tensor:
        steps["n"] += len(x) == 8 and (run / "config.yaml").exists()
        x_0 = real(codec, x)
        if steps["n"] == 7 or steps["n"] > 12:
            fired.append(steps["n"])
            x_0[0] = torch.nan
        return x_0

    with monkeypatch.context() as patch:
        patch.setattr(Scale, "encode", poisoned)
        assert train("digits", run, f"steps={STEPS}", "heldout_every=100", "preview_every=100") == 5
    assert len(fired) == 11
    assert "NaN or infinite in 10 steps in a row, up to step 22" in capsys.readouterr().err
    log = [r for r in records(run) if "loss" in r]
    assert [r["step"] for r in log if r["loss"] is None] == [7, *range(13, 23)]
    assert log[-1]["skipped"] == 11
    assert finite(run)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step-5", "step-10", "last"}
    assert resume(run) == 0  # the poison was not in the data
    assert step(run) == STEPS


def test_an_absurd_rate_diverges_with_advice_that_can_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = [
        "optimizer=adamw",
        "lr=1e30",
        "warmup=8",
        "steps=60",
        "checkpoint_every=1",
        "heldout_every=100",
    ]
    assert train("digits", run, *settings, "preview_every=100") == 5
    assert "lower lr=, or precision=fp32" in capsys.readouterr().err
    assert finite(run)
    assert resume(run, "lr=1e-4", "precision=fp32", "warmup=8") == 2  # one of them is not in the advice
    assert resume(run, "lr=1e-4", "precision=fp32") in (
        0,
        5,
    )  # accepted; whether it recovers is another matter


# -- checkpoints and data ----------------------------------------------------------------------------------


def test_a_rotten_checkpoint_is_passed_over_and_made_again(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    path = run / f"checkpoints/step-{STEPS}/state/weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)
    assert resume(run) == 0
    assert "its sha256 differs" in caplog.text
    assert outcome(run) == outcome(whole)


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    x = np.random.default_rng(0).integers(0, 256, (64, 8, 8), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(64) % 2)
    return path


CHANGES: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "a picture": lambda a: {**a, "x": np.concatenate([a["x"][:-1], a["x"][:1] // 2])},
    "a label": lambda a: {**a, "y": a["y"][::-1].copy()},
    "the number": lambda a: {key: value[:-4] for key, value in a.items()},
    "the classes": lambda a: {**a, "y": np.arange(64) % 3},
    "the size": lambda a: {**a, "x": a["x"].repeat(2, 1).repeat(2, 2)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_changed_is_refused(
    change: str, arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, before = tmp_path / "run", arrays.read_bytes()
    assert train(arrays, run, "steps=5", "data.size=8") == 0
    saved = outcome(run)
    with np.load(arrays) as file:
        changed = CHANGES[change](dict(file))
    np.savez(arrays, **changed)  # type: ignore[arg-type]
    assert resume(run, "steps=10") == 3
    err = capsys.readouterr().err
    assert "is not what" in err
    assert "bring the old files back" in err
    assert outcome(run) == saved
    assert "steps: 5 " in (run / "config.yaml").read_text()
    arrays.write_bytes(before)
    assert resume(run, "steps=10") == 0


def test_a_thousand_pictures_with_forty_bad_ones_train(
    tmp_path: Path,
    fragile: None,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, run = tmp_path / "pictures", tmp_path / "run"
    expected = write_a_thousand(source)
    settings = ["steps=2", "max_bad=0.1", "heldout_every=100", "preview_every=100"]
    assert (
        main(["train", str(source), *[w for w in TINY.split() if "_every" not in w], *settings, f"out={run}"])
        == 0
    )
    lines = [json.loads(line) for line in (run / "report.jsonl").read_text().splitlines()]
    assert {line["path"]: line["code"] for line in lines} == expected
    assert all(line["detail"] for line in lines)
    assert "40 files skipped" in capsys.readouterr().err
    assert step(run) == 2
