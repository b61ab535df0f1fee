"""Do samples show what their prompts say?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..data import Dataset, at_most
from ..data.words import common_words
from ..modalities.image import to_grid
from ..spec import Count
from .base import Evidence, Finding, Metric, Number
from .shares import differ, quantile, wilson
from .two_towers import Texts, TwoTowers

__all__ = ["Agreement"]

ROWS = 2_000  # real items that stand beside the samples, at most
SHOWN = 12  # samples on the sheet
LEAST = 10  # prompts with a word, for the word to be judged
WORDS = 40


class Read(NamedTuple):
    """Of pictures and the texts that they should show: the cosine of each pair, (n,), and the text's rank, (n,)."""

    cosine: np.ndarray
    rank: np.ndarray
    others: float
    """The mean cosine with the text of another one."""


def read(towers: TwoTowers, x: np.ndarray, texts: Sequence[str], among: Texts) -> Read:
    z, w = towers.embed(x), towers.read(texts)
    return Read((z * w).sum(1), towers.ranked(z, texts, among), float((z * np.roll(w, 1, 0)).sum(1).mean()))


@dataclass(frozen=True)
class Agreement(Metric):
    """Mean cos(f(sample), g(prompt)), and the share of samples whose own prompt is among the `k` that fit them best.

    f and g are the two towers trained on the data's own pictures and captions (`two_towers`). A prompt is looked for
    among the captions of the data, of each item its heaviest; captions of items that have the prompt itself do not
    count. The note tells the same of held-out pairs, which the towers never saw: of captions that they know, samples
    may do better.

    The first is the CLIP score of Hessel et al. 2021, "CLIPScore: A Reference-free Evaluation Metric for Image
    Captioning", eq. 1, without its factor; the second the R-precision of Xu et al. 2018, "AttnGAN", section 4.

    Args:
        k: of how many captions the prompt has to be one.
    """

    needs = ("drawn", "prompts", "pictures", "captions")

    k: Count = 5

    def lacks(self, evidence: Evidence) -> str | None:
        why = super().lacks(evidence)
        empty = why is None and not any(evidence.drawn.prompts or ())
        return "every prompt is empty" if empty else why

    def measure(self, evidence: Evidence) -> Finding:
        towers, among = evidence.towers, Texts(evidence.train)
        prompts = evidence.drawn.prompts or ()
        asked = [row for row, prompt in enumerate(prompts) if prompt]
        x, texts = evidence.drawn.x[asked], [prompts[row] for row in asked]
        made = read(towers, x, texts, among)
        real = evidence.once("agreement held out", lambda: _held_out(towers, evidence.heldout, among))
        hits, beside = made.rank <= self.k, ("", "")
        if real is not None:
            of = f"of {len(real.rank):,} held-out pairs"
            beside = (f"{of} {real.cosine.mean():.3f}; ", f"{of} {(real.rank <= self.k).mean():.1%}; ")
        numbers = (
            Number.within(
                "agreement", float(made.cosine.mean()), float(made.cosine.std() / math.sqrt(len(hits))),
                n=len(hits), better="high", features=towers.digest,
                note=f"{beside[0]}{made.others:.3f} with the prompt of another sample",
            ),
            Number.share(
                f"agreement_top{self.k}", hits,
                against=len(among), better="high", features=towers.digest,
                note=f"{beside[1]}{min(self.k / len(among), 1):.1%} by chance",
            ),
        )  # fmt: skip
        words = () if towers.header.n else (f"{towers.about}: how far it can be trusted is not known",)
        rows, missed = _by_word(texts, hits)
        worst = np.argsort(made.cosine, kind="stable")[:SHOWN]
        named = "; ".join(f"{k}. {texts[i]}" for k, i in enumerate(worst, 1))
        sheets = {f"the samples that agree least with their prompts: {named}": to_grid(x[worst], columns=6)}
        return Finding(numbers=numbers, words=(*words, *missed), sheets=sheets, rows=rows)


def _held_out(towers: TwoTowers, heldout: Dataset, among: Texts) -> Read | None:
    """Of pictures that were held out, beside captions that were not."""
    pairs = [(row, text) for row, text in enumerate(heldout.texts or ()) if text]
    if len(pairs) < 2:
        return None
    rows = at_most(np.array([row for row, _ in pairs]), ROWS)
    known = dict(pairs)
    return read(
        towers, heldout.items.pixels[heldout.rows[rows]], [known[row] for row in rows.tolist()], among
    )


def _by_word(
    prompts: Sequence[str], hits: np.ndarray
) -> tuple[tuple[Mapping[str, object], ...], tuple[str, ...]]:
    """A row for each word of ten prompts or more, and those that are clearly drawn worse than the rest."""
    common = [word for word, count in common_words(prompts, WORDS) if count >= LEAST]
    spoken = [set(re.findall(r"\w+", prompt.lower())) for prompt in prompts]
    rows, words = [], []
    total, right = len(hits), int(hits.sum())
    for word in common:
        has = np.array([word in some for some in spoken])
        own, n = int(hits[has].sum()), int(has.sum())
        low, high = wilson(own / n, n)
        rows.append({"word": word, "samples": n, "agree": own / n, "low": float(low), "high": float(high)})
        rest = (right - own) / max(total - n, 1)
        if differ(own / n, n, rest, total - n) < -quantile(len(common)):
            words.append(
                f'"{word}": {own / n:.1%} of the {n} samples with it in the prompt agree, of the others {rest:.1%}'
            )
    return tuple(rows), tuple(words)
