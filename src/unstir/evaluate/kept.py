"""Networks that the tool trained on data, kept in the cache: found again by what decided their training."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from abc import ABC
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from torch import nn

from ..data.cache import cache_folder
from ..errors import CheckpointError, ConfigError
from ..files import read_header, write_atomic
from ..tensors import load_tensors, save_tensors

__all__ = ["Header", "digest_of", "keep", "recall"]

_log = logging.getLogger(__name__)

H = TypeVar("H", bound="Header")


@dataclass(frozen=True, kw_only=True)
class Header(ABC):
    """What a network is, written into its file as JSON."""

    found: ClassVar[tuple[str, ...]] = ()
    """Fields that say what came of the training; the others decided it."""

    data: str
    """The name of what it was trained on."""
    digest: str = ""
    """SHA-256 of the weights."""

    @property
    def key(self) -> str:
        """The name of its file: a hash of all that decided the training."""
        came = {"data", "digest", *self.found}
        start = {word: value for word, value in asdict(self).items() if word not in came}
        return hashlib.sha256(json.dumps(start, sort_keys=True).encode()).hexdigest()[:32]


def digest_of(network: nn.Module) -> str:
    """SHA-256 of the names, shapes and bytes of its weights."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        hashed.update(f"{name} {list(tensor.shape)} ".encode())
        hashed.update(tensor.contiguous().numpy().tobytes())
    return hashed.hexdigest()


def keep(network: nn.Module, header: Header, cache: str | os.PathLike[str] | None) -> None:
    """Writes the network into the cache; a disk that refuses it costs only the next time."""
    path = _path(header, cache)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: save_tensors(file, network.state_dict(), asdict(header)))
    except (OSError, CheckpointError) as error:
        _log.warning("the encoder is not kept: %s", error)


def recall(
    start: H, build: Callable[[H], nn.Module], cache: str | os.PathLike[str] | None
) -> tuple[nn.Module, H] | None:
    """The network whose training would begin like this, and what it is; None where there is none, with a warning
    where its file is damaged."""
    path = _path(start, cache)
    if not path.exists():
        return None
    try:
        header = replace(_read(path, type(start)), data=start.data)
        network = build(header)
        network.load_state_dict(load_tensors(path, network.state_dict()))
        if header.key == start.key and digest_of(network) == header.digest:
            return network, header
        problem = "its weights or its header were changed"
    except (CheckpointError, ConfigError) as error:
        problem = error.message
    _log.warning("the cached encoder was damaged (%s) and is trained again", problem)
    return None


def _path(header: Header, cache: str | os.PathLike[str] | None) -> Path:
    return cache_folder(cache).with_name("encoders") / f"{header.key}.safetensors"


def _read(path: Path, kind: type[H]) -> H:
    """What the file says of itself; raises CheckpointError where that is no such header."""
    try:
        written = {name: json.loads(text) for name, text in read_header(path).metadata.items()}
        fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in written.items()}
        return kind(**fields)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError("its header is no encoder's", field=str(path)) from error
