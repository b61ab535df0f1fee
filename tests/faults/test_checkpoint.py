"""Checkpoints of a run whose process is killed, whose disk fails or rots, and whose weights go bad."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from failpoints import crashes, failures
from unstir.condition import Batch
from unstir.errors import CheckpointError, IncompatibleError, NumericError
from unstir.files import Lock, verify_folder
from unstir.rng import Rng
from unstir.train import (
    AdamW,
    Checkpointer,
    MetricsLog,
    Progress,
    StopSignals,
    Trainer,
    Training,
    load_latest,
)
from unstir.train.checkpoint import prune, save
from unstir.train.trainer import TrainState, TrainStep


def state(step: int, value: float = 1.0) -> TrainState:
    tensors = {
        "weights.a": torch.full((5,), value),
        "ema.0.a": torch.ones(5),
        "optimizer.a.m": torch.zeros(5),
    }
    return TrainState(tensors, {"step": step, "seconds": 0.1})


def model_file(path: Path) -> None:
    path.write_bytes(b"model")


def put(run: Path, *steps: int) -> None:
    for step in steps:
        save(run, state(step, float(step)), model_file, {"seed": 3})


def steps_of(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def newest(run: Path) -> int:
    """The step of the newest whole checkpoint, after checking that its tensors are that step's."""
    found = load_latest(run)
    assert found is not None
    step: int = found.state.counters["step"]
    assert found.path.name == f"step-{step}"
    assert torch.equal(found.state.tensors["weights.a"], torch.full((5,), float(step)))
    return step


# -- the writer -----------------------------------------------------------------------------------------
def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    put(tmp_path, 5, 10)
    found = load_latest(tmp_path)
    assert found is not None
    assert found.meta == {"seed": 3}
    assert found.state.counters == {"step": 10, "seconds": 0.1}
    assert found.state.tensors.keys() == state(1).tensors.keys()
    assert os.readlink(tmp_path / "checkpoints/last") == "step-10"
    files = {str(p.relative_to(found.path)) for p in found.path.rglob("*") if p.is_file()}
    states = {f"state/{part}.safetensors" for part in ("weights", "ema", "optimizer")}
    assert files == {"model.safetensors", "state.json", "manifest.json"} | states


def test_dying_at_any_operation_of_a_save_loses_no_checkpoint(tmp_path: Path) -> None:
    template, run = tmp_path / "template", tmp_path / "run"
    put(template, 5, 10)
    shutil.copytree(template, run, symlinks=True)

    def work() -> None:
        put(run, 15)
        prune(run, 2)

    seen = []
    for _ in crashes(work):
        seen.append(newest(run))
        put(run, 20)  # the next save works, and sweeps up
        assert newest(run) == 20
        assert not [name for name in steps_of(run) if name.startswith(".")]
        shutil.rmtree(run)
        shutil.copytree(template, run, symlinks=True)
    assert len(seen) > 25
    assert set(seen) == {10, 15}
    assert seen == sorted(seen)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_operation_of_a_save_keeps_the_last_good(tmp_path: Path, code: int) -> None:
    put(tmp_path, 5)
    raised = []
    for step, error in zip(range(10, 1000, 5), failures(lambda: put(tmp_path, 10), code), strict=False):
        assert error is None or isinstance(error, CheckpointError)
        assert newest(tmp_path) in (5, 10)
        assert not [name for name in steps_of(tmp_path) if name.startswith(".")]
        shutil.rmtree(tmp_path / "checkpoints/step-10", ignore_errors=True)
        raised.append(error)
        assert step
    assert len(raised) > 15
    assert sum(error is not None for error in raised) > 15


def test_three_refusals_in_a_row_end_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full, refused = [True], []

    def refusing(path: Path) -> None:
        if full[0]:
            refused.append(trainer.step)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        model_file(path)

    def run() -> None:
        saver = Checkpointer(tmp_path, trainer, refusing)
        for step in trainer.steps():
            full[0] = step.step != 4  # room for one checkpoint in between starts the count again
            saver(step.step)

    trainer = make(checkpoint_every=2, steps=100)
    with pytest.raises(CheckpointError, match="No space left") as error:
        run()
    assert error.value.exit_code == 4
    assert refused == [2, 6, 8, 10]
    assert caplog.text.count("training goes on") == 3
    found = load_latest(tmp_path)
    assert found is not None
    assert found.state.counters["step"] == 4


# -- rot ------------------------------------------------------------------------------------------------
def test_a_rotten_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, 5, 10)
    broken = tmp_path / "checkpoints/step-10/state/ema.safetensors"
    content = bytearray(broken.read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path) == 5
    assert f"{broken}: its sha256 differs" in caplog.text
    put(tmp_path, 10)  # reached again: the rotten one is replaced
    assert newest(tmp_path) == 10

    for step in (5, 10):
        os.truncate(tmp_path / f"checkpoints/step-{step}/state.json", 7)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_latest(tmp_path)


@pytest.mark.parametrize("target", [None, "step-99"])
def test_the_link_is_a_convenience(tmp_path: Path, target: str | None) -> None:
    put(tmp_path, 5, 10)
    link = tmp_path / "checkpoints/last"
    link.unlink()
    if target is not None:
        link.symlink_to(target)
    assert newest(tmp_path) == 10


def test_only_whole_checkpoints_count_as_kept(tmp_path: Path) -> None:
    put(tmp_path, 5, 10, 15, 20)
    (tmp_path / "checkpoints/step-20/manifest.json").unlink()
    (tmp_path / "checkpoints/.step-25.tmp-1").mkdir()
    prune(tmp_path, 2)
    whole = [name for name in steps_of(tmp_path) if name.startswith("step") and name != "step-20"]
    assert whole == ["step-10", "step-15"]


def test_a_newer_format_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    put(tmp_path, 5, 10)
    path = tmp_path / "checkpoints/step-10"
    document = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(document | {"format": 9}))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["state.json"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IncompatibleError, match="format 9"):
        load_latest(tmp_path)


def test_another_environment_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, 5)
    torch.set_num_threads(2)
    with caplog.at_level(logging.WARNING):
        load_latest(tmp_path)
    assert "threads was 1, is 2" in caplog.text


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_published(tmp_path: Path, bad: float) -> None:
    put(tmp_path, 5)
    with pytest.raises(NumericError, match=r"weights\.a"):
        save(tmp_path, state(10, bad), model_file)
    assert steps_of(tmp_path) == ["last", "step-5"]


# -- processes ------------------------------------------------------------------------------------------
class Quadratic:
    def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
        noise = rng.normal(tuple(batch.x_0.shape))
        return (denoiser(batch.x_0 + noise) - batch.x_0).square().mean(1)


def batches(first: int, n: int) -> Batch:
    return Batch(torch.sin(torch.arange(first, first + n)[:, None] + torch.arange(4.0)))


def make(**settings: Any) -> Trainer:
    torch.random.manual_seed(0)
    return Trainer(nn.Linear(4, 4), Quadratic(), batches, AdamW(), Training(**{"batch": 2, **settings}))


def train(run: Path, steps: int = 40) -> None:
    """What a training command does, in small."""
    run.mkdir(exist_ok=True)
    with Lock(run / ".lock"), StopSignals() as stop:
        trainer = make(steps=steps, checkpoint_every=5)
        if (found := load_latest(run)) is not None:
            trainer.load_state_dict(found.state)
        with MetricsLog(run / "metrics.jsonl", trainer.step) as log:
            saver = Checkpointer(run, trainer, model_file, metrics=log)
            for step in trainer.steps():
                log(step)
                saver(step.step)
                time.sleep(0.002)
                if stop.exit_code is not None:
                    saver.save()
                    os._exit(stop.exit_code)
            saver.save()


def start(run: Path, **kwargs: int) -> int:
    child = os.fork()
    if child == 0:
        train(run, **kwargs)
        os._exit(0)
    return child


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_at_random_moments_and_resumed_it_ends_as_if_never_stopped(tmp_path: Path) -> None:
    began = time.monotonic()
    assert finish(start(tmp_path / "whole", steps=120)) == 0
    whole_time = time.monotonic() - began
    random, kills, code = Random(0), 0, -signal.SIGKILL
    while code != 0:
        child = start(tmp_path / "killed", steps=120)
        if kills < 10:
            time.sleep(random.uniform(0, whole_time / 5))  # four lives cannot be enough
            os.kill(child, signal.SIGKILL)
        code = finish(child)
        kills += code == -signal.SIGKILL
    assert kills >= 5
    whole, killed = (load_latest(tmp_path / name) for name in ("whole", "killed"))
    assert whole is not None
    assert killed is not None
    assert whole.state.counters["step"] == killed.state.counters["step"] == 120
    assert all(torch.equal(x, killed.state.tensors[name]) for name, x in whole.state.tensors.items())
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    losses = [[(r["step"], r["loss"].hex()) for r in map(json.loads, log)] for log in logs]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(tmp_path: Path, number: signal.Signals, code: int) -> None:
    child = start(tmp_path / "run", steps=100_000)
    log = tmp_path / "run/metrics.jsonl"
    while not log.exists() or log.stat().st_size == 0:
        time.sleep(0.01)
    os.kill(child, signal.SIGHUP)  # a closed terminal stops nothing
    os.kill(child, number)
    assert finish(child) == code
    found = load_latest(tmp_path / "run")
    assert found is not None
    assert found.state.counters["step"] == len(log.read_text().splitlines())


def test_a_second_signal_stops_at_once() -> None:
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        with StopSignals() as stop:
            os.write(go, b"x")
            while True:
                time.sleep(0.01)
                if stop.exit_code is not None:
                    os.write(go, b"x")
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    os.read(ready, 1)
    os.kill(child, signal.SIGINT)
    assert finish(child) == 130


STEP = TrainStep(
    step=3,
    samples=12,
    loss=0.5,
    grad_norm=1.0,
    lr=1e-3,
    skipped=1,
    seconds=6.0,
    per_second=2.0,
    progress=0.25,
)


def test_progress_off_a_terminal_is_a_line_at_a_time() -> None:
    stream = io.StringIO()
    with Progress(interval=3600.0, stream=stream) as progress:
        progress(STEP)
        progress(STEP)
    assert stream.getvalue() == " 25%  step 3  loss 0.5000  2 img/s  18s left  1 skipped\n"


def test_a_terminal_that_goes_away_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        with Progress(interval=0.0, stream=stream) as progress:
            progress(STEP)
            assert progress.stream is None
            progress(STEP)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # so that closing the stream can flush


def test_progress_on_a_terminal_is_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress(STEP)
    assert "loss 0.5000" in stream.getvalue()


def test_a_full_disk_under_the_log_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, fired = tmp_path / "metrics.jsonl", os.pwrite, []

    def half(descriptor: int, data: bytes, offset: int) -> int:
        fired.append(real(descriptor, data[:5], offset))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with MetricsLog(path) as log:
        log({"step": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half)
            log({"step": 2})
            log({"step": 3})
            with pytest.raises(CheckpointError, match="No space left"):
                log.sync()
        log.sync()
    assert len(fired) == 3
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_checkpoint_folder_verifies(tmp_path: Path) -> None:
    put(tmp_path, 5)
    assert verify_folder(tmp_path / "checkpoints/step-5") == []
