"""Which encoder a user means, and the features of whole data sets kept on disk."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..data import Dataset
from ..data.cache import cache_folder
from ..errors import CheckpointError, ConfigError, did_you_mean
from ..files import remove_folder, verify_folder, write_folder
from ..spec import load
from .encoder import Encoder, Raw
from .onnx import OnnxEncoder, Reading
from .trained import trained

__all__ = ["embedded", "encoder_for"]

_log = logging.getLogger(__name__)

ONNX = re.compile(r"(?P<path>.*\.onnx)(:(?P<fields>.*))?", re.IGNORECASE | re.DOTALL)
PIECE = 1024
KEPT = 2 * 2**30
"""Features of more bytes than this are not kept."""


def encoder_for(
    features: str | None,
    train: Dataset,
    heldout: Dataset,
    *,
    cache: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Encoder:
    """The encoder that the setting `features` names.

    Args:
        features: None or "auto": one trained on the data (see `trained`), or for points the points themselves;
            "pixels": the values themselves; FILE.onnx, or FILE.onnx:FIELD=VALUE,...: a network of the user's (see
            `OnnxEncoder`).
        train: what it is trained on.
        heldout: where its accuracy is measured.
        cache: a folder in place of the user's cache.
        say: is told how far its training is.

    Raises:
        ConfigError: there is no such encoder.
    """
    if features is None or features == "auto":
        return trained(train, heldout, cache=cache, say=say) if train.info.kind == "image" else Raw()
    if features == "pixels":
        return Raw()
    if found := ONNX.fullmatch(features):
        return OnnxEncoder(found["path"], _reading(found["fields"]), train.info.classes)
    hint = did_you_mean(features, ["auto", "pixels"], "encoder")
    raise ConfigError(f"'{features}' is no encoder", field="features", hint=f"give a file, FILE.onnx; {hint}")


def _reading(fields: str | None) -> Reading:
    """ "scale=unit,size=224" -> Reading."""
    given = {}
    for field in (fields or "").split(",") if fields else ():
        word, sign, value = field.partition("=")
        if not sign:
            raise ConfigError(
                f"'{field}' is no FIELD=VALUE",
                field="features",
                hint="write FILE.onnx:scale=unit,size=224; fields: scale, size, classes",
            )
        given[word.strip()] = value.strip()
    loaded = load(given, Reading)
    assert isinstance(loaded, Reading)
    return loaded


def embedded(encoder: Encoder, dataset: Dataset, cache: str | os.PathLike[str] | None = None) -> np.ndarray:
    """The features of all its items, (N, D) float32, from the cache where they were computed before.

    A damaged entry is computed again, with a warning. The values themselves, and what is larger than 2 GiB, are not
    kept.
    """
    entry = cache_folder(cache).with_name("features") / f"{dataset.info.fingerprint[:32]}-{encoder.digest}"
    if isinstance(encoder, Raw):
        return _embed(encoder, dataset)
    if entry.is_dir():
        if (found := _read(entry, len(dataset))) is not None:
            return found
        _log.warning("the cached features in %s were damaged and are computed again", entry)
    features = _embed(encoder, dataset)
    if features.nbytes <= KEPT:
        try:
            if entry.is_dir():
                remove_folder(entry)
            entry.parent.mkdir(parents=True, exist_ok=True)
            write_folder(
                entry, {"features.npy": lambda path: np.save(path, features)}, needed=features.nbytes
            )
        except (OSError, CheckpointError) as error:
            _log.warning("the features are not kept: %s", error)
    return features


def _embed(encoder: Encoder, dataset: Dataset) -> np.ndarray:
    """Piece by piece: a part of a data set is a copy, and all of it may not fit into memory."""
    pieces = np.array_split(dataset.rows, max(1, len(dataset) // PIECE))
    return np.concatenate([encoder.embed(dataset.items.pixels[rows]) for rows in pieces])


def _read(entry: Path, n: int) -> np.ndarray | None:
    """The features of an entry, None where they are not what was written."""
    try:
        if verify_folder(entry):
            return None
        found = np.load(entry / "features.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = found.dtype == np.float32 and found.ndim == 2 and len(found) == n and np.isfinite(found).all()
    return found if whole else None
