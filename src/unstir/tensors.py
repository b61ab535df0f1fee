"""Named tensors on disk: safetensors files, written plainly and read with suspicion."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import CheckpointError
from .files import read_header
from .limits import LIMITS, Limits

__all__ = ["differences", "first_lines", "load_tensors", "nbytes", "non_finite", "save_tensors"]


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write `tensors` at `path`, each value of `metadata` as JSON. Not atomic: a `Content` for `files`."""
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.touch()
    mode = path.stat().st_mode  # what the umask leaves; save_file would let nobody else read it
    try:
        save_file(plain, path, metadata=header)
        path.chmod(mode)
    except SafetensorError as error:  # its only way to report a full or broken disk
        code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(code, str(error), os.fspath(path)) from error


def load_tensors(
    path: str | os.PathLike[str], expected: Mapping[str, Tensor] | None = None, *, limits: Limits = LIMITS
) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    `expected` gives the names, shapes and dtypes the file must hold, exactly. Raises `CheckpointError` for a
    file outside `limits`, one that differs from `expected` (the first 10 differences are listed) and one
    with a NaN or an infinity.
    """
    path = Path(path)
    read_header(path, limits)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}",
            field=str(path),
            hint="take the file from a good copy or an earlier checkpoint",
        ) from error
    if expected is not None and (found := differences(tensors, expected)):
        raise CheckpointError(
            f"{path} does not fit this model:\n" + first_lines(found),
            field=str(path),
            hint="use the settings the file was trained with",
        )
    if broken := non_finite(tensors):
        raise CheckpointError(
            f"{path} holds NaN or infinity in {len(broken)} tensors, such as {broken[0]}",
            field=str(path),
            hint="take an earlier checkpoint, RUN@STEP; the model diverged",
        )
    return tensors


def differences(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """How `got` differs from `expected` in names, shapes and dtypes, a line for each tensor."""
    missing = [f"{name}: missing" for name in expected if name not in got]
    extra = [f"{name}: not expected" for name in got if name not in expected]
    wrong = [
        f"{name}: {_kind(got[name])}, expected {_kind(expected[name])}"
        for name in expected
        if name in got and _kind(got[name]) != _kind(expected[name])
    ]
    return missing + extra + wrong


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that hold a NaN or an infinity."""
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Their size in bytes, on disk and in memory."""
    return sum(tensor.nbytes for tensor in tensors)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def first_lines(lines: list[str], count: int = 10) -> str:
    """The first `count` lines, indented, and how many more there are."""
    shown = ["  " + line for line in lines[:count]]
    return "\n".join(shown + [f"  and {len(lines) - count} more"] * (len(lines) > count))
