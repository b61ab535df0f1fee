"""Small models and runs of the command line that take a second or two, their outcome, and children."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unstir.cli import main
from unstir.codecs import ScaleConfig
from unstir.embedders import LabelConfig
from unstir.model import ModelConfig
from unstir.networks import UNetConfig
from unstir.parameterization import EDM
from unstir.pipeline import Pipeline
from unstir.process import Linear
from unstir.rng import Rng
from unstir.tensors import load_tensors

TINY = (
    "network=unet widths=8,16 network.blocks=1 network.embedding=16 batch=8 threads=1 sampling.steps=2 "
    "preview_every=10 heldout_every=10 checkpoint_every=5"
)


def pipeline(classes: tuple[str, ...] = ("ant", "bee", "cat"), **changes: Any) -> Pipeline:
    """A small U-Net with random weights everywhere, zeros of a fresh one included."""
    settings: dict[str, Any] = {
        "network": UNetConfig(widths=(8, 16), blocks=1),
        "schedule": Linear(),
        "parameterization": EDM(sigma_data=0.5),
        "sigma_data": 0.5,
        "codec": ScaleConfig(),
        "shape": (1, 8, 8),
        "classes": classes,
        "class_counts": (5, 3, 1)[: len(classes)],
        "embedder": LabelConfig() if classes else None,
    }
    config = ModelConfig(**settings | changes)
    module = config.build().eval()
    with torch.no_grad():
        for k, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * Rng.of(k, 1).normal((1, parameter.numel())).reshape(parameter.shape))
    return Pipeline(config, module)


def train(source: str | Path, out: Path, *more: str) -> int:
    """The exit code of `unstir train SOURCE out=OUT -q` with a small network; `more` replaces settings."""
    keys = {word.partition("=")[0] for word in more}
    words = [word for word in TINY.split() if word.partition("=")[0] not in keys]
    return main(["train", str(source), *words, *more, f"out={out}", "-q"])


def resume(run: Path, *more: str) -> int:
    return main(["train", "--resume", str(run), *more, "-q"])


# -- outcomes ----------------------------------------------------------------------------------------------


def records(run: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def step(run: Path) -> int:
    """The last step in the log."""
    return max((record["step"] for record in records(run)), default=0)


def tensors(run: Path) -> dict[str, str]:
    """sha256 of every tensor of the last checkpoint: the model file, weights, averages, optimizer."""
    last = run / "checkpoints/last"
    found = {}
    for file in (last / "model.safetensors", *sorted((last / "state").iterdir())):
        for name, tensor in load_tensors(file).items():
            key = name if file.parent.name == "state" else f"model.{name}"
            found[key] = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
    return found


def outcome(run: Path) -> dict[str, Any]:
    """All that must not depend on where a run was interrupted: tensors, and every logged number but times."""
    clock = ("seconds", "per_second")
    logged = [{k: v for k, v in record.items() if k not in clock} for record in records(run)]
    previews = {path.name: path.read_bytes() for path in (run / "samples").iterdir()}
    return {"tensors": tensors(run), "log": logged, "previews": previews}


# -- children ----------------------------------------------------------------------------------------------


@contextmanager
def child(work: Callable[[], int]) -> Iterator[int]:
    """The process id of a fork that does `work` and exits with what it returns; it does not outlive the block."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = work()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            os._exit(code)
    try:
        yield process
    finally:
        if os.waitpid(process, os.WNOHANG)[0] == 0:
            os.kill(process, 9)
            os.waitpid(process, 0)


def ended(process: int) -> int:
    """Waits for a child: its exit code, or minus the signal that killed it. It stays to be reaped."""
    status = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert status is not None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def wait_for(condition: Callable[[], bool], process: int, seconds: float = 60.0) -> None:
    """Until the condition holds; fails where the child ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        gone = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert gone is None, "the child ended before it happened"
        time.sleep(0.002)
