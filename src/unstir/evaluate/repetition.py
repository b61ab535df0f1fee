"""Does the model say the same thing again and again?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import at_most, duplicates
from ..modalities.image import to_grid
from .base import Evidence, Finding, Metric, Number
from .shares import wilson

__all__ = ["Repetition"]

SHOWN = 12  # pairs on the sheet


@dataclass(frozen=True)
class Repetition(Metric):
    """The share of samples that repeat an earlier sample, as `data.duplicates` finds repeated items in a data set.

    It needs no features and sees what distances forgive: a model that draws each of a thousand pictures twice.
    """

    needs = ("drawn",)

    def measure(self, evidence: Evidence) -> Finding:
        x, n = evidence.drawn.x, len(evidence.drawn)
        found = duplicates(x)
        again = np.isin(np.arange(n), [pair.item for pair in found])
        real = at_most(evidence.real.x, n)
        usual = evidence.once(f"repeated of {n}", lambda: len(duplicates(real)) / len(real))
        number = Number.share(
            "repeated", again, against=len(real), better="low", note=f"of as many real items {usual:.1%}"
        )
        _, most = wilson(usual, len(real))
        words: tuple[str, ...] = ()
        if number.low is not None and number.low > most:
            words = (
                f"{number.value:.0%} of the samples repeat another sample; of real items {usual:.1%} do",
            )
        if not found or evidence.train.info.kind != "image":
            return Finding(numbers=(number,), words=words)
        pairs = found[:SHOWN]
        sheet = np.concatenate([x[[pair.of for pair in pairs]], x[[pair.item for pair in pairs]]])
        caption = f"above: {len(pairs)} samples; below: those that repeat them"
        return Finding(numbers=(number,), words=words, sheets={caption: to_grid(sheet, columns=len(pairs))})
