"""`unstir doctor`: whether this machine can train and sample, and what is missing."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import typer

from .common import Json, show, table

__all__ = ["doctor"]

GIB = 2**30
LEAST_DISK = 2 * GIB  # a few checkpoints of a small model
REQUIREMENT = re.compile(r"([\w.-]+).*extra == ['\"](\w+)['\"]")


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    state: Literal["ok", "note", "bad"]
    found: str
    advice: str = ""


def doctor(as_json: Json = False) -> None:
    """Check this machine and the installation.

    Python, torch, device, precision, disk, optional extras; then one step of training and of sampling. Exit
    code 1 if anything is bad.

    \b
    Examples:
      unstir doctor
      unstir doctor --json
    """
    checks = [
        check for part in (_python, _torch, _device, _disk, _extras, _self_test) for check in _safe(part)
    ]
    rows = [(c.state, c.name, c.found + (f"  ({c.advice})" if c.advice else "")) for c in checks]
    show(table(("", "", ""), rows).lstrip("\n"), [asdict(check) for check in checks], as_json)
    if any(check.state == "bad" for check in checks):
        raise typer.Exit(1)


def _safe(part: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """What a check raises is a bad line and no reason to leave the others out."""
    try:
        yield from part()
    except Exception as error:
        yield Check(part.__name__.strip("_").replace("_", "-"), "bad", f"{type(error).__name__}: {error}")


def _python() -> Iterator[Check]:
    fit = sys.version_info >= (3, 11)
    yield Check(
        "python",
        "ok" if fit else "bad",
        f"{platform.python_version()} on {platform.platform(terse=True)}",
        "" if fit else "unstir needs Python 3.11 or newer",
    )


def _torch() -> Iterator[Check]:
    import torch

    yield Check("torch", "ok", torch.__version__)
    yield Check("threads", "ok", f"{torch.get_num_threads()} for {os.cpu_count()} cores")


def _device() -> Iterator[Check]:
    import torch

    from ..train import network_dtype

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            memory = f"{properties.total_memory / GIB:.0f} GiB"
            yield Check(f"cuda:{i}", "ok", f"{properties.name}, {memory}, CUDA {torch.version.cuda}")
        device = torch.device("cuda")
    else:
        device = torch.device("mps" if torch.backends.mps.is_available() else "cpu")
        yield Check("device", "ok", f"{device.type}, no CUDA device")
    dtype = network_dtype("auto", device)
    yield Check(
        "precision", "ok", "bf16 pays here" if dtype is torch.bfloat16 else "fp32; bf16 would be slower"
    )


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= LEAST_DISK
    yield Check(
        "disk",
        "ok" if enough else "bad",
        f"{free / GIB:.1f} GiB free in {Path.cwd()}",
        "" if enough else "training needs about 2 GiB",
    )


def _extras() -> Iterator[Check]:
    wanted: dict[str, list[str]] = {}
    for requirement in metadata.requires("unstir") or []:
        if (match := REQUIREMENT.match(requirement)) and match[2] != "dev":
            wanted.setdefault(match[2], []).append(match[1])
    for extra, packages in wanted.items():
        if missing := [package for package in packages if not _installed(package)]:
            yield Check(extra, "note", f"without {', '.join(missing)}", f'pip install "unstir[{extra}]"')
        else:
            yield Check(extra, "ok", ", ".join(packages))


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _self_test() -> Iterator[Check]:
    """One step of training and one of sampling, through the same functions as the commands."""
    from .. import load, runs
    from ..config import Layer, build, settings

    wish = {"data.source": "digits", "steps": 1, "batch": 8, "network": "unet", "widths": [8, 16]}
    recipe = build("train", settings("train", [Layer("doctor", wish)]).values)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run = runs.train(recipe, Path(folder) / "run", say=lambda _: None)
        images = load(run).sample(n=2, steps=1).images
    size = f"{images.shape[2]}x{images.shape[1]}"
    yield Check("self-test", "ok", f"trained 1 step, sampled {len(images)} pictures of {size}")
