"""An autoencoder on the bench: items encoded and decoded, compared with what they were."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..codecs import VAE, VQVAE, Latent, LatentConfig
from ..data import Dataset, spread
from ..errors import CheckpointError, ConfigError
from ..evaluate import Finding, encoder_for, fidelity, latent_law
from ..files import read_header
from ..layers import cropped
from ..model import find_model
from ..pipeline import Pipeline, load
from ..recipes import Evaluation
from ..spec import choices
from .bench import Bench
from .result import Assessment, Sweep, values_of
from .subject import Subject, data_of

__all__ = ["Autoencoding", "decode", "on_bench"]

MOST = 5000
"""Items, unless told otherwise."""
FOR_SAMPLES = ("label", "prompt", "metrics", "sweep", "values", "sampling")
"""Settings of an evaluation that are for models that sample."""


def on_bench(
    model: str | Path | Pipeline,
    request: Evaluation,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int], Callable[[int], None]] = lambda n: lambda done: None,
) -> Bench | Autoencoding:
    """The bench for what this is: samples, a model that samples, or an autoencoder; see `Bench`."""
    pipe, path = (model, None) if isinstance(model, Pipeline) else _autoencoder(model)
    if pipe is None or not isinstance(pipe.module, Latent):
        return Bench(model, request, say, progress)
    return Autoencoding(Subject(pipe.name, pipe.digest, path, pipe), request, say)


def _autoencoder(model: str | Path) -> tuple[Pipeline | None, Path | None]:
    """The autoencoder of that name, and its file; None where it is something else, or nothing."""
    try:
        path = find_model(model).resolve()
        config = json.loads(read_header(path).metadata["unstir"])["config"]
        if config["network"]["name"] not in choices(LatentConfig):
            return None, None
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None, None
    return load(model, "cuda" if torch.cuda.is_available() else None), path


class Decoded(NamedTuple):
    """Items, what is left of them, their latents, and what these tell."""

    x: np.ndarray
    again: np.ndarray
    z: np.ndarray
    told: dict[str, float]


class Autoencoding:
    """An autoencoder and the items that it is judged by: held-out ones, where there are any; in place of a `Bench`.

    Args:
        subject: a model that is an autoencoder.
        request: the settings.
        say: told what goes on.

    Raises:
        ConfigError: a setting is for models that sample.
        DataError: its data cannot be read.
    """

    def __init__(
        self, subject: Subject, request: Evaluation, say: Callable[[str], None] = lambda _: None
    ) -> None:
        usual = values_of(Evaluation())
        for word in FOR_SAMPLES:
            if getattr(request, word) != usual[word]:
                raise ConfigError(
                    f"{word} is for models that sample, and {subject.name} is an autoencoder",
                    field=word,
                    hint="leave it out; n=, features=, data=, heldout=, micro_batch= and out= say how it is measured",
                )
        assert subject.pipe is not None, "an autoencoder is a model"
        self.subject, self.request, self.say, self.pipe = subject, request, say, subject.pipe
        self.seconds: dict[str, float] = {}
        with self._timed("data"):
            self.train, self.heldout = data_of(subject, subject.pipe, request)
        data = self.heldout if len(self.heldout) else self.train
        rows = spread(len(data), min(request.n or MOST, len(data)))
        self.items = Dataset(data.info.source, data.items, data.rows[rows])

    @property
    def folder(self) -> Path | None:
        """Where results go; None: nowhere, the model is in memory."""
        return Path(self.request.out).expanduser() if self.request.out else self.subject.folder

    def assess(self) -> Assessment:
        """Encodes, decodes and measures."""
        self.say(f"decode     {len(self.items):,} items")
        with self._timed("decoding"):
            found = decode(self.pipe, self.items, self.request.micro_batch)
        with self._timed("encoder"):
            encoder = encoder_for(self.request.features, self.train, self.heldout, say=self.say)
        findings: dict[str, Finding] = {}
        for word, measure in (
            ("Fidelity", lambda: fidelity(found.x, found.again, encoder)),
            ("Latents", lambda: latent_law(found.z, found.told)),
        ):
            self.say(f"measure    {word}")
            with self._timed(word):
                findings[word] = measure()
        return Assessment(
            model=self.subject.name,
            digest=self.subject.digest,
            step=self.subject.step,
            data=self._data(),
            n=len(self.items),
            seeds=None,
            sampling={},
            features=encoder.digest,
            encoder=encoder.about,
            findings=findings,
            skipped={},
            notes=self.subject.notes,
            seconds=dict(self.seconds),
            sampled=frozenset(findings),
        )

    def sweep(self) -> Sweep:
        """An autoencoder has no variants: the settings refuse a sweep."""
        raise AssertionError("refused at the start")

    def plan(self) -> dict[str, Any]:
        """What would be decoded and measured; nothing is trained or written."""
        return {
            "model": self.subject.name,
            "sha256": self.subject.digest,
            "data": self._data(),
            "n": len(self.items),
            "metrics": ["Fidelity", "Latents"],
            "skipped": {},
            "features": self.request.features or "auto",
            "out": None if self.folder is None else str(self.folder),
        }

    def _data(self) -> dict[str, Any]:
        info = self.train.info
        return {
            "source": info.source,
            "fingerprint": info.fingerprint,
            "count": info.count,
            "heldout": len(self.heldout),
            "real": "heldout" if len(self.heldout) else "train",
            "against": len(self.items),
        }

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


@torch.no_grad()
def decode(pipe: Pipeline, data: Dataset, micro_batch: int = 100) -> Decoded:
    """All its items encoded and decoded. What latents tell: `ratio`, how many times fewer values they are than the
    items; of a VAE `kl`, in nats; of a VQVAE `codes`, and `perplexity`, how many would tell as much, all used alike.
    """
    codec, parts, kl, numbers = pipe.autoencoder, [], [], []
    for first in range(0, len(data), micro_batch):
        x, _ = data.take(np.arange(first, min(first + micro_batch, len(data))))
        h = codec.encoded(codec.data.encode(x.to(pipe.device)))
        z = (codec.centre(h) - codec.shift) / codec.scale
        again = cropped(codec.decode(z), x.shape[2:])
        parts.append([part.cpu().movedim(1, -1).numpy() for part in (x, again, z)])
        if isinstance(codec, VAE):
            kl.append(codec.divergence(h).cpu())
        elif isinstance(codec, VQVAE):
            numbers.append(codec.nearest(codec.centre(h)).flatten().cpu())
    items, decoded, latents = (np.concatenate(column) for column in zip(*parts, strict=True))
    told = {"ratio": codec.config.ratio((items.shape[-1], *items.shape[1:-1]))}
    if kl:
        told["kl"] = float(torch.cat(kl).mean())
    if numbers and isinstance(codec, VQVAE):
        told |= {"codes": float(len(codec.usage)), "perplexity": _perplexity(torch.cat(numbers))}
    return Decoded(items, decoded, np.moveaxis(latents, -1, 1), told)


def _perplexity(numbers: torch.Tensor) -> float:
    """exp of the entropy of how often each number occurs."""
    p = numbers.bincount().double() / len(numbers)
    return math.exp(-float(torch.special.xlogy(p, p).sum()))
