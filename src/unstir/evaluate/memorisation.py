"""Has the model learned, or copied?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np

from ..data import at_most, duplicates, thumbnails
from ..modalities.image import to_grid
from ..spec import Range
from .base import Evidence, Finding, Metric, Number
from .neighbours import Neighbours, nearest
from .shares import wilson

__all__ = ["Memorisation", "Space"]

SIDE = 32  # pictures are compared at this size at most: a copy stays one
LEAST, MOST = 500, 5_000  # items that say how near is near
SHOWN = 12  # samples on a sheet


class Space(NamedTuple):
    """Where distances are measured: samples, training items and held-out items in it, (., ...) each."""

    drawn: np.ndarray
    train: np.ndarray
    heldout: np.ndarray
    mirrored: bool
    """Whether a mirror image counts as the same picture."""

    def samples(self) -> Neighbours:
        """The training items nearest to the samples."""
        return nearest(self.drawn, self.train, mirrored=self.mirrored)

    def from_mean(self) -> np.ndarray:
        """float64 (n,): the distances of the samples to the mean of the training items."""
        mean = self.train.mean(0, dtype=np.float64)
        return np.array([((x - mean) ** 2).mean() ** 0.5 for x in self.drawn])

    def yardstick(self) -> tuple[Neighbours, str, int]:
        """How near items come that are no copies; what these are, held-out items where they are enough, else each
        training item and the others; and how often each such distance occurs: of those two nearest to each other
        both have the same."""
        if len(self.heldout) >= min(LEAST, len(self.train)):
            return (
                nearest(at_most(self.heldout, MOST), self.train, mirrored=self.mirrored),
                "held-out items",
                1,
            )
        own = at_most(np.arange(len(self.train)), MOST)
        found = nearest(self.train[own], self.train, mirrored=self.mirrored, own=own)
        return found, "training items", 2


@dataclass(frozen=True)
class Memorisation(Metric):
    """The shares of samples that are too near to a training item, in pixels and in features.

    With d_1 and d_2 the distances of a sample to the nearest two training items, mirror images being the same picture,

        copied:     d_1 < the `quantile` of d_1 among held-out items, and d_1 < the distance to the mean of all
        memorised:  d_1 / d_2 < `ratio`

    Empty samples are near to everything, and nearest to the mean: they are no copies. As many samples of a model that
    does not copy are below the quantile as it says: the k-th smallest of m distances
    has k / (m + 1) of all others below it. Where few items were held out, the distance of each training item to the
    others stands in for theirs. Training items that repeat others are left out: the second of two would hide that
    the first was memorised; so are held-out items that repeat a training item.

    Args:
        quantile: of the distances of items that are no copies.
        ratio: below which one training item is near and no other is.

    Yoon, Choi, Kwon and Ryu 2023, "Diffusion Probabilistic Models Generalize when They Fail to Memorize": 1/3.
    """

    needs = ("drawn",)

    quantile: Annotated[float, Range(gt=0, lt=1)] = 0.01
    ratio: Annotated[float, Range(gt=0, lt=1)] = 1 / 3

    def lacks(self, evidence: Evidence) -> str | None:
        few = "there are fewer than 3 training items" if len(evidence.train) < 3 else None
        return super().lacks(evidence) or few

    def measure(self, evidence: Evidence) -> Finding:
        kept, fresh = evidence.once("repeats", lambda: _without_repeats(evidence))
        train, heldout, drawn = evidence.train, evidence.heldout, evidence.drawn
        image = train.info.kind == "image"
        spaces = {"": Space(_small(drawn.x), _small(train.x)[kept], _small(heldout.x)[fresh], image)}
        if image and evidence.encoder.digest != "raw":
            held = evidence.heldout_features[fresh] if len(heldout) else evidence.drawn_features[:0]
            spaces["_features"] = Space(
                evidence.drawn_features, evidence.train_features[kept], held, mirrored=False
            )
        numbers: list[Number] = []
        words: list[str] = []
        rows: list[Mapping[str, object]] = []
        sheets = {}
        for ending, space in spaces.items():
            found, digest = space.samples(), evidence.encoder.digest if ending else ""
            usual = evidence.once(f"yardstick{ending}", space.yardstick)
            near = found.distance < space.from_mean()
            more, said = self._judged(found, near, *usual, len(kept), ending, digest)
            numbers += more
            words += said
            order = np.lexsort((found.distance, _ratio(found)))[:SHOWN]
            rows += _rows(order, found, evidence, kept, "features" if ending else "values")
            if image:
                pairs = np.concatenate([drawn.x[order], train.x[kept[found.rows[order]]]])
                sheets[_caption(ending, len(order))] = to_grid(pairs, columns=len(order))
        return Finding(numbers=tuple(numbers), words=tuple(words), sheets=sheets, rows=tuple(rows))

    def _judged(
        self,
        found: Neighbours,
        near: np.ndarray,
        usual: Neighbours,
        who: str,
        times: int,
        against: int,
        ending: str,
        digest: str,
    ) -> tuple[Sequence[Number], Sequence[str]]:
        """The two shares in one space, and what is to be said of them."""
        m, where = len(usual.distance), " in features" if ending else ""
        k = max(1, math.floor(self.quantile * (m + 1)))
        expected = math.ceil(k / times) / (m / times + 1)
        spread = 1.96 * math.sqrt(expected * (1 - expected) / (m / times + 2))  # of a Beta(k, m + 1 - k)
        bound = np.partition(usual.distance, k - 1)[k - 1]
        chance = float((_ratio(usual) < self.ratio).mean())
        _, most = wilson(chance, m)
        kind: dict[str, Any] = {"against": against, "better": "low", "features": digest}
        copied = Number.share(
            f"copied{ending}", near & (found.distance < bound), **kind,
            note=f"nearer to a training item than {bound:.3g}; a model that does not copy: {expected:.1%}, "
            f"by the distances of {m:,} {who}",
        )  # fmt: skip
        memorised = Number.share(
            f"memorised{ending}", _ratio(found) < self.ratio, **kind,
            note=f"d_1 / d_2 < {self.ratio:.2g}; of {m:,} {who}: {chance:.1%}",
        )  # fmt: skip
        words = []
        if copied.low is not None and copied.low > expected + spread:
            among = " to one another" if who == "training items" else ""
            words.append(
                f"{copied.value:.0%} of the samples copy a training item{where}: they are nearer to one than "
                f"{1 - expected:.0%} of {who} are{among}; chance would be {expected:.1%}"
            )
        if memorised.low is not None and memorised.low > most:
            words.append(
                f"{memorised.value:.0%} of the samples are memorised{where}: they have one training item near them and "
                f"no other; of {who} {chance:.1%} have"
            )
        return (copied, memorised), words


def _without_repeats(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training items that repeat none, and of the held-out items that repeat no training item."""
    train, heldout = evidence.train, evidence.heldout
    n = len(train)
    x, keys = train.x, train.items.keys[train.rows]
    if len(heldout):
        x = np.concatenate([x, heldout.x])
        keys = np.concatenate([keys, heldout.items.keys[heldout.rows]])
    fresh = np.ones(len(x), bool)
    fresh[[twin.item for twin in duplicates(x, keys) if twin.of < n]] = False
    kept = np.flatnonzero(fresh[:n])
    return kept if len(kept) >= 3 else np.arange(n), np.flatnonzero(fresh[n:])


def _small(x: np.ndarray) -> np.ndarray:
    """Pictures at 32 x 32 at most; points as they are."""
    if x.ndim != 4 or max(x.shape[1:3]) <= SIDE:
        return x
    return thumbnails(x, SIDE).round().astype(np.uint8)


def _ratio(found: Neighbours) -> np.ndarray:
    """d_1 / d_2; 1 where both are 0."""
    safe = np.where(found.second > 0, found.second, 1)
    return np.where(found.second > 0, found.distance / safe, 1)


def _rows(
    order: np.ndarray, found: Neighbours, evidence: Evidence, kept: np.ndarray, space: str
) -> list[Mapping[str, object]]:
    first, names = evidence.drawn.seeds[0], evidence.train.names
    return [
        {
            "space": space,
            "sample": int(i),
            "seed": first + int(i),
            "nearest": names[kept[found.rows[i]]],
            "distance": float(found.distance[i]),
            "second": float(found.second[i]),
        }
        for i in order
    ]


def _caption(ending: str, count: int) -> str:
    where = "in the encoder's features" if ending else "in their pixels, mirrored or not"
    return f"above: the {count} samples nearest to one training picture; below: that picture; by distance {where}"
