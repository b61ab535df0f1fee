"""Encoders trained on the data itself: a classifier of its pictures; without labels, one that finds pictures again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..condition import Batch
from ..data import Dataset, Loader, at_most
from ..errors import DataError, IncompatibleError
from ..rng import Rng
from ..train.optim import Muon
from ..train.progress import duration
from ..train.settings import Training
from ..train.trainer import Trainer, network_dtype
from .encoder import Encoder
from .kept import Header, digest_of, keep, recall
from .shares import wilson

__all__ = ["Pictures", "Trained", "noised", "precision", "resized", "shifted", "size_of", "trained", "zoomed"]

VERSION = 1
"""Part of every cached encoder's name: raise it when training changes, and older ones are no longer found."""
FEATURES = 128
BATCH = 256
LARGEST = 64
"""Larger pictures are shrunk to this many pixels on the longer side."""
AMONG = 256
"""How many held-out pictures a view is looked for among."""


@dataclass(frozen=True, kw_only=True)
class About(Header):
    """What an encoder is, written into its file as JSON."""

    found: ClassVar[tuple[str, ...]] = ("right", "n", "among")

    version: int
    fingerprints: tuple[str, str]
    """Of what it was trained on, and of what its accuracy was measured on."""
    classes: tuple[str, ...]
    """() = trained without labels."""
    channels: int
    size: tuple[int, int]
    """Pictures are resized to this height and width first."""
    samples: int
    """Pictures shown in training, repetitions counted."""
    right: int = 0
    """Of `n` held-out pictures: those of the right class; without labels, those found again among `among`."""
    n: int = 0
    among: int = 0

    def about(self) -> str:
        what = "classifier" if self.classes else "self-supervised encoder"
        if not self.n:
            return f"{what} of {self.data}, never measured: no pictures were held out"
        low, high = wilson(self.right / self.n, self.n)
        done = "right" if self.classes else f"found again among {self.among} (chance {1 / self.among:.1%})"
        return (
            f"{what} of {self.data}, {self.right / self.n:.1%} ({low:.1%} to {high:.1%}) "
            f"of {self.n:,} held-out items {done}"
        )


class Trained(Encoder):
    """An encoder of pictures that the tool trained: 128 numbers a picture.

    They are the last hidden layer before its ReLU, as that would leave them far from normal, which the Frechet
    distance takes them for; each has about mean 0 and variance 1 over the pictures it was trained on.

    Args:
        network: with the weights.
        header: what it is.
    """

    def __init__(self, network: Pictures, header: About) -> None:
        self.header = header
        self.digest, self.about, self.classes = header.digest[:12], header.about(), header.classes
        self._network = network.eval()

    def embed(self, x: np.ndarray) -> np.ndarray:
        return self._map(self._network.features, x)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        if not self.classes:
            return super().probabilities(x)
        logits = torch.from_numpy(self._map(self._network, x))
        return logits.double().softmax(1).numpy()

    @torch.inference_mode()
    def _map(self, function: Callable[[Tensor], Tensor], x: np.ndarray) -> np.ndarray:
        if x.ndim != 4 or x.shape[3] != self.header.channels:
            raise IncompatibleError(
                f"{self.about} was given an array {list(x.shape)}",
                field="features",
                hint=f"it takes pictures (N, H, W, {self.header.channels})",
            )
        parts = [
            function(resized(torch.tensor(x[k : k + BATCH]).permute(0, 3, 1, 2), self.header.size))
            for k in range(0, max(len(x), 1), BATCH)
        ]
        return torch.cat(parts).numpy()


def trained(
    train: Dataset,
    heldout: Dataset,
    *,
    cache: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
    samples: int | None = None,
) -> Trained:
    """The encoder of these pictures, from the cache where it was trained before.

    Labels of two classes or more make it a classifier. Else it learns by contrast: two views of a picture, cropped,
    shifted, brighter or darker, noisy, are to be alike and unlike those of others; Chen et al. 2020, "A Simple
    Framework for Contrastive Learning of Visual Representations", eq. 1. The weights are a function of the data,
    `samples` and the machine.

    Args:
        train: pictures; at least one.
        heldout: where its accuracy is measured; may be empty.
        cache: a folder in place of the user's cache.
        say: is told how far it is.
        samples: pictures to show in training; None: as many as it takes, 320,000 at most.
    """
    start = _start(train, heldout, samples)
    found = recall(start, _network, cache)
    if found is not None:
        network, header = found
        assert isinstance(network, Pictures)
        return Trained(network, header)
    fresh = _train(start, train, heldout, say)
    keep(fresh._network, fresh.header, cache)
    return fresh


# -- pictures ----------------------------------------------------------------------------------------------
def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (B, C, H, W) -> in [-1, 1], resized to `size`: to less by the means of what each pixel covers."""
    x = x.float().contiguous(memory_format=torch.channels_last) / 127.5 - 1
    if x.shape[2:] == size:
        return x
    shrinks = x.shape[2] >= size[0] and x.shape[3] >= size[1]
    return F.interpolate(x, size, mode="area") if shrinks else F.interpolate(x, size, mode="bilinear")


def shifted(x: Tensor, rng: Rng, by: int) -> Tensor:
    """Each picture moved by up to `by` whole pixels on either axis, its border repeated: nothing is blurred."""
    moves = rng.integers(2 * by + 1, (len(x), 2)) - by
    rows = (torch.arange(x.shape[2]) + moves[:, :1]).clamp(0, x.shape[2] - 1)
    columns = (torch.arange(x.shape[3]) + moves[:, 1:]).clamp(0, x.shape[3] - 1)
    items = torch.arange(len(x))[:, None, None]
    return x[items, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def _view(x: Tensor, rng: Rng) -> Tensor:
    """Half to all of each axis, up to half as bright again and as strong, with noise of up to 0.1."""
    u = rng.uniform((len(x), 6))
    x = zoomed(x, 0.5 + 0.5 * u[:, :2], u[:, 2:4])
    return noised(x, 0.5 + u[:, 4], u[:, 5] - 0.5, 0.1 * u[:, 3], rng)


def zoomed(x: Tensor, scale: Tensor, place: Tensor) -> Tensor:
    """A part of each picture, enlarged to all of it: `scale` (B, 2) of each axis, at `place` (B, 2) from 0 to 1."""
    theta = torch.diag_embed(torch.cat((scale, torch.zeros_like(scale[:, :1])), 1))[:, :2]
    theta[:, :, 2] = (2 * place - 1) * (1 - scale)
    grid = F.affine_grid(theta, list(x.shape), False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def noised(x: Tensor, contrast: Tensor, brightness: Tensor, std: Tensor, rng: Rng) -> Tensor:
    """contrast x + brightness + std n, each (B,)."""
    noise = rng.fork("noise").normal(tuple(x.shape))
    return x * _wide(contrast) + _wide(brightness) + _wide(std) * noise


def _wide(value: Tensor) -> Tensor:
    return value[:, None, None, None]


# -- the network -------------------------------------------------------------------------------------------
def _block(channels: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    padding = (kernel - stride + 1) // 2
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, padding, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)
    )


class Pictures(nn.Module):
    """(B, C, H, W) -> features (B, 128) -> logits, or what views are compared by, (B, out).

    The first convolution leaves at most 16 positions on an axis, so that large pictures cost what small ones do.
    """

    def __init__(self, channels: int, size: tuple[int, int], out: int) -> None:
        super().__init__()
        stride = 2 ** max(0, math.ceil(math.log2(max(size) / 16)))
        self.enter = _block(channels, 32, 3 if stride == 1 else 2 * stride, stride)
        self.body = nn.Sequential(
            *(_block(32, 64), nn.MaxPool2d(2, ceil_mode=True), _block(64, 128), _block(128, 128)),
            *(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(512, FEATURES, bias=False)),
            nn.BatchNorm1d(FEATURES, affine=False),
        )
        self.leave = nn.Linear(FEATURES, out)

    def features(self, x: Tensor) -> Tensor:
        return self.body(self.enter(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.relu(self.features(x)))


def _network(header: About) -> Pictures:
    network = Pictures(header.channels, header.size, len(header.classes) or 64)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


# -- training ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Classify:
    """-log p(y | x) of shifted pictures."""

    shift: int

    def loss(self, network: Pictures, batch: Batch, rng: Rng) -> Tensor:
        assert batch.label is not None
        with precision():
            logits = network(shifted(batch.x_0, rng, self.shift))
        return F.cross_entropy(logits.float(), batch.label, reduction="none")


@dataclass(frozen=True)
class _Contrast:
    """-log softmax of the cosine of a picture's two views over those with all other views, by the temperature."""

    temperature: float = 0.2

    def loss(self, network: Pictures, batch: Batch, rng: Rng) -> Tensor:
        views = torch.cat([_view(batch.x_0, rng.fork(side)) for side in ("a", "b")])
        with precision():
            z = network(views)
        z = F.normalize(z.float())
        n = len(batch.x_0)
        likeness = (z @ z.T / self.temperature).fill_diagonal_(-math.inf)
        other = torch.arange(2 * n).roll(n)
        return F.cross_entropy(likeness, other, reduction="none").view(2, n).mean(0)


def precision() -> torch.autocast:
    dtype = network_dtype("auto", "cpu")
    return torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)


def size_of(data: Dataset) -> tuple[int, int]:
    """The height and width to which its pictures are resized; raises DataError where there are none."""
    info = data.info
    if info.kind != "image" or not len(data):
        raise DataError(f"{info.source} has no pictures to train an encoder on", field="features")
    shrink = min(1.0, LARGEST / max(info.shape[1:]))
    height, width = (max(1, round(side * shrink)) for side in info.shape[1:])
    return height, width


def _start(train: Dataset, heldout: Dataset, samples: int | None) -> About:
    info = train.info
    return About(
        version=VERSION,
        data=Path(info.source).name,
        fingerprints=(info.fingerprint, heldout.info.fingerprint),
        size=size_of(train),
        classes=info.classes if sum(count > 0 for count in info.class_counts) > 1 else (),
        channels=info.shape[0],
        samples=samples or min(max(10 * info.count, 8_000), 320_000),
    )


def _train(start: About, train: Dataset, heldout: Dataset, say: Callable[[str], None]) -> Trained:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)  # of the first weights, nothing else
        network = _network(start)
    objective = _Classify(max(1, max(start.size) // 16)) if start.classes else _Contrast()
    size = min(BATCH if start.samples > 100_000 else BATCH // 2, max(2, len(train)))
    loader = Loader(train, seed=0, batch=size)

    def batches(first: int, n: int) -> Batch:
        x, y = loader.batch(first, n)
        return Batch(resized(x, start.size), label=y)

    settings = Training(steps=max(1, start.samples // size), batch=size, ema=(0.03,))
    said = time.monotonic()
    say(f"training an encoder on {start.data}, once")
    for step in Trainer(network, objective, batches, Muon(lr=2e-2 * size / BATCH), settings).steps():
        if time.monotonic() - said > 10:
            said = time.monotonic()
            say(f"training an encoder on {start.data}: {step.progress:.0%}, {duration(step.eta)} left")
    found = Trained(network, replace(start, digest=digest_of(network)))
    right, n, among = _accuracy(found, heldout) if start.classes else _found_again(found, heldout)
    found = Trained(network, replace(found.header, right=right, n=n, among=among))
    say(found.about)
    return found


def _accuracy(encoder: Trained, heldout: Dataset) -> tuple[int, int, int]:
    """(pictures whose class it tells, of how many, 0)."""
    if not len(heldout) or heldout.y is None:
        return 0, 0, 0
    told = encoder.probabilities(at_most(heldout.x, 10_000)).argmax(1)
    return int((told == at_most(heldout.y, 10_000)).sum()), len(told), 0


@torch.inference_mode()
def _found_again(encoder: Trained, heldout: Dataset) -> tuple[int, int, int]:
    """(views whose nearest, by the cosine of features, is of the same picture, of how many, among how many)."""
    among = min(AMONG, len(heldout))
    x = at_most(heldout.x, 10 * AMONG)
    x = x[: len(x) // max(among, 1) * among]
    if among < 2:
        return 0, 0, 0
    right = 0
    for k in range(0, len(x), among):
        values = resized(torch.tensor(x[k : k + among]).permute(0, 3, 1, 2), encoder.header.size)
        rng = Rng.of(k, among)
        a, b = (F.normalize(encoder._network.features(_view(values, rng.fork(side)))) for side in ("a", "b"))
        right += int(((a @ b.T).argmax(1) == torch.arange(among)).sum())
    return right, len(x), among
