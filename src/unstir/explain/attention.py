"""Where a network looks while it denoises: at each word of its prompt, or from one place to all others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..embedders import Prompt
from ..embedders.weighting import parse
from ..errors import IncompatibleError
from ..layers import Attention as SelfAttention, CrossAttention, JointAttention
from ..networks import recording_attention
from ..pipeline import Pipeline
from ..sampling import trajectory
from ..spec import Fraction, Range
from .base import Chart, Explanation, Movie, Picture, Seed, Subject, some
from .drawing import captioned, enlarged, glow, shrunk, tiled
from .start import Start, given, prompts, start

__all__ = ["Attention"]

SIDE = 128  # pixels that the shorter side of a picture has at least
COLUMNS, WIDEST = 8, 1280  # pictures in a row, and pixels of it
BEGINNING = "(start)"
"""The tokens that begin and end every text: what a place looks at that has no use for any word."""


class Seen(NamedTuple):
    """One step: its t, the guess of x_0 as a picture, and for each name how much the places look at it, (H, W)."""

    t: float
    picture: np.ndarray
    looks: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Attention(Subject):
    """Where the network looks, word by word and step by step."""

    title: ClassVar = "Attention"
    place: ClassVar = 6

    prompt: str | None = None
    """What the sample is to show, of a model that reads."""
    label: int | str | None = None
    """A class, by number or name; None: drawn."""
    seed: Seed = 0
    """Of the sample."""
    steps: Annotated[int, Range(ge=1, le=50)] | None = None
    """Steps of the solver; None: the model's."""
    right: Fraction = 0.5
    """Of a model without words: from which place it looks, 0 = left to 1 = right."""
    down: Fraction = 0.5
    """The same from 0 = top to 1 = bottom."""

    @torch.no_grad()
    def explain(self, pipe: Pipeline | None = None, picture: np.ndarray | None = None) -> Explanation:
        pipe = given(pipe)
        _require(pipe)
        prompt = prompts(pipe, self.prompt, ("yellow castle",))
        begin = start(pipe, self.seed, steps=self.steps, prompt=prompt, label=self.label)
        self = replace(self, steps=begin.chosen.steps, prompt=prompt)
        reads = any(
            isinstance(part, CrossAttention | JointAttention) for part in pipe.denoiser.network.modules()
        )
        seen = self._seen(pipe, begin, words(pipe, prompt or "") if reads else None)
        names = list(seen[0].looks)
        final = seen[-1].picture
        shown = some(len(seen))
        every = {name: torch.stack([one.looks[name] for one in seen]) for name in names}
        light = {name: _relative(looks) for name, looks in every.items()}
        t = torch.tensor([one.t for one in seen]).flip(0)
        share = {name: looks.mean((1, 2)).flip(0) for name, looks in every.items()}
        charts = [Chart("How much each word is looked at", "time t", t, "share", share)] if reads else []
        return self.explanation(
            TEXTS[reads],
            movies=[
                Movie(
                    "While the picture emerges",
                    [_lit(seen[k].picture, {name: each[k] for name, each in light.items()}) for k in shown],
                    [f"t = {seen[k].t:.3f}" for k in shown],
                    fps=4,
                )
            ],
            pictures=[
                Picture(
                    "Over all steps", _lit(final, {n: _relative(looks.mean(0)) for n, looks in every.items()})
                )
            ],
            charts=charts,
        )

    def _seen(self, pipe: Pipeline, begin: Start, tokens: Mapping[str, Sequence[int]] | None) -> list[Seen]:
        """Every step as it was taken, the network asked once more, without guidance, for where it looks."""
        grid, x, seen = pipe.grid(begin.chosen), begin.x, []
        kinds = SelfAttention if tokens is None else CrossAttention | JointAttention
        steps = trajectory(begin.denoiser, begin.chosen.solver, grid, x, cond=begin.cond, rng=begin.rng)
        for t in grid[:-1]:
            with recording_attention(pipe.denoiser, kinds) as maps:
                pipe.denoiser(x, t, begin.cond)
            step = next(steps)
            picture = enlarged(pipe.decode(step.x_0)[0], SIDE)
            look = _finest([calls[0][0] for calls in maps.values()])
            looks = {"": self._from_place(look)} if tokens is None else _at_words(look, tokens)
            seen.append(Seen(float(t), picture, looks))
            x = step.x
        return seen

    def _from_place(self, look: Tensor) -> Tensor:
        """(H, W, L), L = H W -> how much the chosen place takes from each, (H, W)."""
        height, width = look.shape[:2]
        place = look[round(self.down * (height - 1)), round(self.right * (width - 1))]
        return place.reshape(height, width)


TEXTS = {
    True: (
        "For each word of the prompt, how much every place of the picture takes from it: softmax(q kᵀ/√d), the mean "
        "over heads and over the layers of the finest grid, at every step, on the denoiser's guess of x_0. The "
        "beginning of the text is a word too: what looks there needs none of the others. Light runs from each word's "
        "least value to its largest."
    ),
    False: (
        "How much one place of the picture takes from every other: softmax(q kᵀ/√d), the mean over heads and over the "
        "layers of the finest grid, at every step, on the denoiser's guess of x_0 at that time."
    ),
}


def _require(pipe: Pipeline) -> None:
    """Raises IncompatibleError where there is nothing that looks, or nothing to look at."""
    network = pipe.denoiser.network
    kinds = SelfAttention | CrossAttention | JointAttention
    if pipe.config.kind == "image" and any(isinstance(part, kinds) for part in network.modules()):
        return
    raise IncompatibleError(
        f"{pipe.name} has no attention: its network is a {type(network).__name__} without any"
        if pipe.config.kind == "image"
        else f"{pipe.name} makes {pipe.config.kind}, and attention is shown on pictures",
        field="model",
        hint="explain one with a dit or mmdit, or a unet of attention=1 or more; emoji comes with unstir",
    )


def words(pipe: Pipeline, prompt: str) -> dict[str, list[int]]:
    """The words of a prompt and the places of their tokens among those that the network is told, of all encoders."""
    embedder = pipe.denoiser.embedder
    assert isinstance(embedder, Prompt), "who attends to tokens is told them by a prompt"
    text = parse(prompt).text
    found: dict[str, list[int]] = {}
    offset = 0
    for encoder in embedder.encoders:
        pieces = list(encoder.split(text))[: encoder.room]
        after = len(encoder.before) + len(pieces)
        ends = [*range(len(encoder.before)), *range(after, after + len(encoder.after))]
        found.setdefault(BEGINNING, []).extend(offset + k for k in ends)
        for k, piece in enumerate(pieces):
            found.setdefault(_word(text, piece.start, piece.end), []).append(offset + len(encoder.before) + k)
        offset += encoder.length
    return {word: places for word, places in found.items() if places and word != BEGINNING} | {
        BEGINNING: found[BEGINNING]
    }


def _word(text: str, start: int, end: int) -> str:
    """The whole word around a token's characters; tokens may begin with the space before it."""
    start += len(text[start:end]) - len(text[start:end].lstrip())
    while start > 0 and not text[start - 1].isspace():
        start -= 1
    return text[start:].split(maxsplit=1)[0]


def _finest(maps: list[Tensor]) -> Tensor:
    """The mean over those maps (H, W, L) that have the finest grid."""
    most = max(math.prod(m.shape[:2]) for m in maps)
    return torch.stack([m for m in maps if math.prod(m.shape[:2]) == most]).mean(0)


def _at_words(look: Tensor, words: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """(H, W, L) -> how much each place takes from each word, (H, W)."""
    return {word: look[..., list(places)].sum(-1) for word, places in words.items()}


def _relative(x: Tensor) -> Tensor:
    """From 0, the least, to 1, the largest."""
    return (x - x.min()) / (x.max() - x.min()).clamp(min=1e-9)


def _lit(picture: np.ndarray, looks: Mapping[str, Tensor]) -> np.ndarray:
    """The picture, and beside it once for every name with the light where it is looked at."""
    plain = np.broadcast_to(picture, (*picture.shape[:2], 3))
    lit = [captioned(glow(picture, look.cpu().numpy()), name) for name, look in looks.items()]
    return shrunk(tiled([captioned(plain, ""), *lit], COLUMNS), WIDEST)
