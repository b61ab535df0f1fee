"""Is a sample nearest to the picture whose caption it was asked for?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data import Dataset
from ..spec import Count
from .base import Evidence, Finding, Metric, Number

__all__ = ["Retrieval", "places"]

CHUNK = 128
SHOWN = 24  # samples in the table


def places(
    features: np.ndarray, prompts: Sequence[str], known: np.ndarray, owners: Mapping[str, Sequence[int]]
) -> np.ndarray:
    """1 + how many of the known items are nearer to each sample than the nearest whose caption its prompt is, int64.

    Args:
        features: of the samples, (n, D).
        prompts: what they were asked for; each a caption of some item.
        known: features of the items, (N, D).
        owners: the items of each caption.
    """
    found, square = np.empty(len(features), np.int64), (known.astype(np.float64) ** 2).sum(1)
    for k in range(0, len(features), CHUNK):
        apart = square - 2 * features[k : k + CHUNK].astype(np.float64) @ known.T
        for row, prompt in enumerate(prompts[k : k + CHUNK]):
            found[k + row] = 1 + (apart[row] < apart[row, list(owners[prompt])].min()).sum()
    return found


@dataclass(frozen=True)
class Retrieval(Metric):
    """The share of samples that have the picture of their own caption among the `k` pictures nearest to them.

    Distances are those of the encoder's features, which has never seen a caption; the pictures are those of training
    and those held out. Prompts that are no picture's caption do not count. A model that has learned its captions by
    heart does well: read it next to `copied`, and `Agreement` of prompts that were held out.

    Args:
        k: of how many pictures the own one has to be one.
    """

    needs = ("drawn", "prompts", "pictures", "captions")

    k: Count = 5

    def lacks(self, evidence: Evidence) -> str | None:
        why = super().lacks(evidence)
        if why is not None:
            return why
        owners = _owners(evidence.train, evidence.heldout)
        known = any(prompt in owners for prompt in evidence.drawn.prompts or ())
        return None if known else "no prompt is the caption of a picture"

    def measure(self, evidence: Evidence) -> Finding:
        drawn, owners = evidence.drawn, _owners(evidence.train, evidence.heldout)
        prompts = drawn.prompts or ()
        asked = [row for row, prompt in enumerate(prompts) if prompt in owners]
        known = evidence.train_features
        if len(evidence.heldout):
            known = np.concatenate([known, evidence.heldout_features])
        own = [prompts[row] for row in asked]
        rank = places(evidence.drawn_features[asked], own, known, owners)
        chance = float(np.mean([1 - (1 - self.k / len(known)) ** len(owners[prompt]) for prompt in own]))
        number = Number.share(
            f"retrieval_top{self.k}", rank <= self.k,
            against=len(known), better="high", features=evidence.encoder.digest, note=f"{chance:.1%} by chance",
        )  # fmt: skip
        names = [*evidence.train.names, *evidence.heldout.names]
        rows = tuple(
            {
                "prompt": own[i],
                "seed": drawn.seeds[0] + asked[i],
                "picture": names[owners[own[i]][0]],
                "rank": int(rank[i]),
            }
            for i in np.argsort(-rank, kind="stable")[:SHOWN]
        )
        return Finding(numbers=(number,), rows=rows)


def _owners(*parts: Dataset) -> dict[str, list[int]]:
    """The items of each caption, numbered through all parts."""
    found, first = defaultdict(list), 0
    for part in parts:
        for item, captions in enumerate(part.captions or ()):
            for caption in captions:
                found[caption.text].append(first + item)
        first += len(part)
    return dict(found)
