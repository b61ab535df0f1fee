"""Pictures and captions in one space, learned from the data itself: whether a picture shows what a text says."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..condition import Batch
from ..data import Caption, Dataset, Loader, at_most
from ..embedders import Tokenizer, Transformer, TransformerConfig, learn
from ..errors import DataError, IncompatibleError
from ..rng import Rng
from ..train.optim import Muon
from ..train.progress import duration
from ..train.settings import Training
from ..train.trainer import Trainer
from .encoder import Encoder
from .kept import Header, digest_of, keep, recall
from .shares import wilson
from .trained import Pictures, noised, precision, resized, size_of, zoomed

__all__ = ["Texts", "TwoTowers", "two_towers"]

VERSION = 1
"""Part of every cached model's name: raise it when training changes, and older ones are no longer found."""
WIDTH = 128
"""Of the space that pictures and texts meet in."""
READER = TransformerConfig(width=128, depth=2, length=32)
BATCH = 256
AMONG = 10_000
"""Of the data's captions, how many a picture's own is looked for among, at most."""
FIRST = 5
"""A picture shows what a text says where fewer than so many other captions fit it better."""
SHARPEST = math.log(100)
"""The largest logarithm of 1 / temperature; Radford et al. 2021, section 2.5."""


@dataclass(frozen=True, kw_only=True)
class About(Header):
    """What a model is, written into its file as JSON."""

    found: ClassVar[tuple[str, ...]] = ("merges", "n", "pictures", "captions")

    version: int
    fingerprints: tuple[str, str]
    """Of what it was trained on, and of what its retrieval was measured on."""
    channels: int
    size: tuple[int, int]
    """Pictures are resized to this height and width first."""
    samples: int
    """Pairs shown in training, repetitions counted."""
    merges: tuple[str, ...] = ()
    """Of its tokens, learned from the captions."""
    n: int = 0
    """Pairs of the held-out data that retrieval was measured on."""
    pictures: tuple[int, int] = (0, 0)
    """Captions of `n` whose own picture is the first, and among the first five, of the `n` that fit them best."""
    captions: tuple[int, int] = (0, 0)
    """The same of pictures and their own captions."""

    def about(self) -> str:
        """The model in one line: how often it finds the other half of pairs that it never saw."""
        if not self.n:
            return f"two towers of {self.data}, never measured: no captioned pictures were held out"

        def share(count: int) -> str:
            low, high = wilson(count / self.n, self.n)
            return f"{count / self.n:.1%} ({low:.1%} to {high:.1%})"

        return (
            f"two towers of {self.data}; of {self.n:,} held-out pairs, first or among the first {FIRST}: the picture "
            f"of a caption {share(self.pictures[0])}, {share(self.pictures[1])}; the caption of a picture "
            f"{share(self.captions[0])}, {share(self.captions[1])}; by chance {1 / self.n:.1%}, "
            f"{min(FIRST / self.n, 1):.1%}"
        )


class Texts:
    """The captions that a picture's own is looked for among: of each item its heaviest, once each.

    Args:
        data: items, of which those without a caption do not count.
    """

    def __init__(self, data: Dataset) -> None:
        captions = at_most(_array(data.captions or ()), AMONG)
        heaviest = [max(some, key=lambda caption: caption.weight).text for some in captions if some]
        self.texts: tuple[str, ...] = tuple(dict.fromkeys(heaviest))
        places = {text: place for place, text in enumerate(self.texts)}
        self._kin: defaultdict[str, set[int]] = defaultdict(set)
        for text, some in zip(heaviest, filter(len, captions), strict=True):
            for caption in some:
                self._kin[caption.text].add(places[text])

    def __len__(self) -> int:
        return len(self.texts)

    def kin(self, text: str) -> list[int]:
        """The places of those that say the same: captions of the items that have this one."""
        return sorted(self._kin.get(text, ()))


class TwoTowers(Encoder):
    """f(picture) and g(text) on one sphere, where pairs of the data are near to one another and to nothing else.

    Args:
        network: with the weights.
        header: what it is.
        texts: what the caption of a picture is looked for among.
    """

    def __init__(self, network: Towers, header: About, texts: Texts) -> None:
        self.header, self.texts = header, texts
        self.digest, self.about = header.digest[:12], header.about()
        self._network = network.eval()
        self._read: dict[str, np.ndarray] = {}

    @torch.inference_mode()
    def embed(self, x: np.ndarray) -> np.ndarray:
        """f(x), float32 (N, 128) of length 1."""
        if x.ndim != 4 or x.shape[3] != self.header.channels:
            raise IncompatibleError(
                f"{self.about} was given an array {list(x.shape)}",
                field="features",
                hint=f"it takes pictures (N, H, W, {self.header.channels})",
            )
        parts = [
            self._network.see(resized(torch.tensor(x[k : k + BATCH]).permute(0, 3, 1, 2), self.header.size))
            for k in range(0, max(len(x), 1), BATCH)
        ]
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def read(self, texts: Sequence[str]) -> np.ndarray:
        """g(text) of plain texts, float32 (N, 128) of length 1; parentheses are characters like others."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._read]
        for k in range(0, len(fresh), BATCH):
            some = fresh[k : k + BATCH]
            self._read |= dict(zip(some, self._network.read(some).numpy(), strict=True))
        return (
            np.stack([self._read[text] for text in texts]) if len(texts) else np.zeros((0, WIDTH), np.float32)
        )

    def similarity(self, x: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """cos(f(x_i), g(text_i)), float32 (N,)."""
        return (self.embed(x) * self.read(texts)).sum(1)

    def ranks(self, x: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """1 + how many captions of the data fit x_i better than text_i does, int64 (N,).

        Those that say the same, captions of the items that have text_i, do not count.
        """
        return self.ranked(self.embed(x), texts, self.texts)

    def ranked(self, z: np.ndarray, texts: Sequence[str], among: Texts) -> np.ndarray:
        """`ranks` of pictures that are seen already, z = f(x), among other captions."""
        others, found = self.read(among.texts), np.ones(len(z), np.int64)
        own = (z * self.read(texts)).sum(1)
        for k in range(0, len(z), BATCH):
            better = z[k : k + BATCH] @ others.T > own[k : k + BATCH, None]
            for row, text in enumerate(texts[k : k + BATCH]):
                better[row, among.kin(text)] = False
            found[k : k + BATCH] += better.sum(1)
        return found

    def agrees(self, x: np.ndarray, asked: Sequence[str]) -> np.ndarray:
        """Whether fewer than five captions of the data fit each x better than what was asked for, bool (N,)."""
        return self.ranks(x, asked) <= FIRST


def two_towers(
    train: Dataset,
    heldout: Dataset,
    *,
    cache: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
    samples: int | None = None,
) -> TwoTowers:
    """The model of these pictures and captions, from the cache where it was trained before.

    A batch of pairs is to be told apart, with s_ij = cos(f(x_i), g(c_j)) / tau and a learned tau:

        loss = -sum_i (log softmax_j s_ij + log softmax_j s_ji)_(j=i) / 2

    where the same item or the same caption, drawn twice, is left out of the other's sum. Radford et al. 2021,
    "Learning Transferable Visual Models From Natural Language Supervision", section 2.3 and figure 3. The weights
    are a function of the data, `samples` and the machine.

    Args:
        train: pictures with captions; at least two that differ.
        heldout: where its retrieval is measured; may be empty.
        cache: a folder in place of the user's cache.
        say: is told how far it is.
        samples: pairs to show in training; None: each 25 times, 128,000 in all at most.

    Raises:
        DataError: there are no pictures, or fewer than two captions.
    """
    size, texts = size_of(train), Texts(train)
    if len(texts) < 2:
        raise DataError(
            f"{train.info.source} has {len(texts)} different captions, and a model learns to tell them apart",
            field="metrics",
            hint="put a .txt beside each picture, or leave the metrics of prompts out",
        )
    start = About(
        version=VERSION,
        data=Path(train.info.source).name,
        fingerprints=(train.info.fingerprint, heldout.info.fingerprint),
        channels=train.info.shape[0],
        size=size,
        samples=samples or min(max(25 * train.info.captions, 8_000), 128_000),
    )
    found = recall(start, _network, cache)
    if found is not None:
        network, header = found
        assert isinstance(network, Towers)
        return TwoTowers(network, header, texts)
    fresh = _train(start, train, heldout, texts, say)
    keep(fresh._network, fresh.header, cache)
    return fresh


# -- the network -------------------------------------------------------------------------------------------
class Towers(nn.Module):
    """f: pictures in [-1, 1] -> (B, 128), g: texts -> (B, 128), both of length 1; and the logarithm of 1 / tau."""

    def __init__(self, header: About) -> None:
        super().__init__()
        self.pictures = Pictures(header.channels, header.size, WIDTH)
        self.texts = Transformer(READER, Tokenizer(header.merges))
        self.leave = nn.Linear(READER.width, WIDTH, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def see(self, x: Tensor) -> Tensor:
        return F.normalize(self.pictures(x).float())

    def read(self, texts: Sequence[str]) -> Tensor:
        rows = [self.texts.read(text, literal=True).ids for text in texts]
        return F.normalize(self.leave(self.texts.encode(rows).pooled).float())


def _network(header: About) -> Towers:
    return Towers(header).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


# -- training ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Pair:
    """See `two_towers`."""

    data: Dataset

    def loss(self, network: Towers, batch: Batch, rng: Rng) -> Tensor:
        assert batch.index is not None
        texts = self.data.caption(batch.index.numpy(), rng.fork("caption"))
        with precision():
            z, w = network.see(_glimpse(batch.x_0, rng)), network.read(texts)
        numbers = {text: k for k, text in enumerate(texts)}
        text = torch.tensor([numbers[text] for text in texts])
        twins = (batch.index[:, None] == batch.index) | (text[:, None] == text)
        likeness = z @ w.T * network.sharpness.clamp(max=SHARPEST).exp()
        likeness = likeness.masked_fill(twins.fill_diagonal_(False), -math.inf)
        own = torch.arange(len(z))
        ways = (F.cross_entropy(way, own, reduction="none") for way in (likeness, likeness.T))
        return sum(ways, torch.zeros(())) / 2


def _glimpse(x: Tensor, rng: Rng) -> Tensor:
    """Most of each picture, hardly brighter or stronger, with a little noise: its colours still are what they were."""
    u = rng.fork("glimpse").uniform((len(x), 7))
    x = zoomed(x, 0.75 + 0.25 * u[:, :2], u[:, 2:4])
    return noised(x, 0.85 + 0.3 * u[:, 4], 0.2 * u[:, 5] - 0.1, 0.1 * u[:, 6], rng)


def _train(
    start: About, train: Dataset, heldout: Dataset, texts: Texts, say: Callable[[str], None]
) -> TwoTowers:
    pairs = _captioned(train)
    captions = (caption.text for some in pairs.captions or () for caption in some)
    start = replace(start, merges=learn(captions, READER.vocabulary))
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)  # of the first weights, nothing else
        network = _network(start)
    size = min(BATCH, max(2, len(pairs)))
    loader = Loader(pairs, seed=0, batch=size)

    def batches(first: int, n: int) -> Batch:
        rows = loader.indices(first, n)
        x, _ = pairs.take(rows)
        return Batch(resized(x, start.size), index=torch.from_numpy(rows))

    settings = Training(steps=max(1, start.samples // size), batch=size, ema=(0.03,))
    optimizer = Muon(lr=1e-2 * size / BATCH)
    said = time.monotonic()
    say(f"training a model of the pictures and captions of {start.data}, once")
    for step in Trainer(network, _Pair(pairs), batches, optimizer, settings).steps():
        if time.monotonic() - said > 10:
            said = time.monotonic()
            say(
                f"training a model of the pictures and captions of {start.data}: {step.progress:.0%}, "
                f"{duration(step.eta)} left"
            )
    found = TwoTowers(network, replace(start, digest=digest_of(network)), texts)
    found = TwoTowers(network, _measured(found, heldout), texts)
    say(found.about)
    return found


def _captioned(data: Dataset) -> Dataset:
    """Those of its items that have a caption."""
    rows = [row for row, some in zip(data.rows.tolist(), data.captions or (), strict=False) if some]
    return Dataset(data.info.source, data.items, np.array(rows, np.int64))


def _measured(towers: TwoTowers, heldout: Dataset) -> About:
    """What it is, with how it finds the halves of held-out pairs."""
    header = towers.header
    if not len(heldout) or not heldout.info.captions:
        return header
    pairs = _captioned(heldout)
    kept = at_most(pairs.rows, AMONG // 5)
    pairs = Dataset(pairs.info.source, pairs.items, kept)
    z, texts = towers.embed(pairs.x), pairs.texts or []
    captions = towers.ranked(z, texts, Texts(pairs))
    scores = towers.read(texts) @ z.T
    better = scores > scores.diagonal()[:, None]
    owners = defaultdict(list)
    for item, some in enumerate(pairs.captions or ()):
        for caption in some:
            owners[caption.text].append(item)
    for row, text in enumerate(texts):  # pictures of the same caption are right as well
        better[row] &= scores[row] > scores[row, owners[text]].max()
    pictures = 1 + better.sum(1)

    def counts(ranks: np.ndarray) -> tuple[int, int]:
        return int((ranks == 1).sum()), int((ranks <= FIRST).sum())

    return replace(header, n=len(pairs), pictures=counts(pictures), captions=counts(captions))


def _array(captions: Sequence[tuple[Caption, ...]]) -> np.ndarray:
    """An array whose elements are tuples."""
    array = np.empty(len(captions), object)
    for k, some in enumerate(captions):
        array[k] = some
    return array
