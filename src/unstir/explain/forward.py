"""The forward process on a picture: by the Markov chain, and in one jump."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..codecs import Scale
from ..data.builtin import BUILTIN
from ..pipeline import Pipeline
from ..process import BetaLinear, Gaussian, Schedule
from ..rng import Rng
from ..spec import Range
from .base import Chart, Explanation, Movie, Picture, Seed, Subject, Table, gaussian, visible
from .drawing import beside, enlarged, shrunk

__all__ = ["Forward"]

SHOWN = 48  # pixels that the shorter side of a frame has at least
STRIP = 8  # pictures of the still figure


@dataclass(frozen=True, kw_only=True)
class Forward(Subject):
    """A picture becoming noise, frame by frame: step by step, and in one jump."""

    title: ClassVar = "The forward process"
    place: ClassVar = 1

    data: Literal["emoji", "digits", "fashion-mnist"] = "emoji"
    """Where the picture is from, unless one is given."""
    item: Annotated[int, Range(ge=0, le=1796)] = 85
    """Which of its pictures."""
    size: Annotated[int, Range(ge=8, le=96)] = 64
    """The longer side, in pixels; larger pictures are made smaller."""
    schedule: Schedule = BetaLinear()
    """How data becomes noise."""
    frames: Annotated[int, Range(ge=2, le=41)] = 25
    """How many times are shown, evenly from t = 0, data, to t = 1, noise."""
    seed: Seed = 0
    """Of the noise."""

    @torch.no_grad()
    def explain(self, pipe: Pipeline | None = None, picture: np.ndarray | None = None) -> Explanation:
        pixels = shrunk(_items(self.data)[self.item] if picture is None else picture, self.size)
        way = Way(gaussian(self.schedule), _values(pixels), self.frames, self.seed)
        t, alpha, sigma, log_snr = way.t, way.alpha, way.sigma, way.log_snr
        columns = zip(t.tolist(), alpha.tolist(), sigma.tolist(), log_snr.exp().tolist(), strict=True)
        labels = [f"t = {u:.3f} · α = {a:.3f} · σ = {s:.3f} · SNR = {snr:.3g}" for u, a, s, snr in columns]
        labels = [label.replace("inf", "∞") for label in labels]
        pairs = zip(way.seen(way.chain), way.seen(way.jumps), strict=True)
        frames = [beside(_pixels(left), _pixels(right)) for left, right in pairs]
        strip = [*dict.fromkeys(round(k * (self.frames - 1) / (STRIP - 1)) for k in range(STRIP))]
        still = beside(*(_pixels(x) for x in way.seen(way.chain)[strip]))
        text = (
            "Left, the Markov chain: each frame is the one before, times α(t)/α(s), with fresh noise added, "
            "q(x_t | x_s). Right, the closed form: x_t = α(t) x_0 + σ(t) ε in one jump from the picture, always with "
            "the same ε. Both have the same law, so the measured means and spreads agree with one formula."
        )
        return self.explanation(
            text,
            movies=[Movie("Step by step, and in one jump", frames, labels)],
            pictures=[Picture("The chain, from t = 0 to t = 1", still)],
            charts=[
                Chart("The two factors", "time t", t, "factor", {"α": alpha, "σ": sigma}),
                Chart("Signal to noise", "time t", t, "log α²/σ²", {"log-SNR": log_snr}),
                Chart("Spread of the pixels", "time t", t, "standard deviation", way.spread()),
                Chart("What is left of the picture", "time t", t, "correlation with x_0", way.correlation()),
            ],
            table=way.table(),
        )


class Way:
    """x_t of one x_0 (1, C, H, W) at N even times, (N, C, H, W): by the chain, and by jumps with one eps."""

    def __init__(self, process: Gaussian, x_0: Tensor, frames: int, seed: int) -> None:
        rng = Rng.of(seed, 1)
        self.process, self.x_0 = process, x_0
        self.t = torch.linspace(0, 1, frames, dtype=torch.float64)
        self.alpha, self.sigma = process.schedule.alpha(self.t), process.schedule.sigma(self.t)
        self.log_snr = process.schedule.log_snr(self.t)
        self.jumps = torch.cat([process.corrupt(x_0, t, rng.fork("jump")) for t in self.t])
        chain = [process.corrupt(x_0, self.t[0], rng.fork("chain", self.t[0]))]
        for s, t in pairwise(self.t):
            chain.append(process.transition(chain[-1], s, t, rng.fork("chain", t)))
        self.chain = torch.cat(chain)

    def seen(self, x: Tensor) -> Tensor:
        """x at all times, to be looked at."""
        return visible(x, self.process, self.t)

    def spread(self) -> dict[str, Tensor]:
        """Of the pixels: sqrt(alpha^2 Var x_0 + sigma^2), and as measured."""
        law = torch.sqrt((self.alpha * _std(self.x_0)) ** 2 + self.sigma**2)
        return {"formula": law, "chain": _std(self.chain), "jump": _std(self.jumps)}

    def correlation(self) -> dict[str, Tensor]:
        """With x_0: alpha s / sqrt(alpha^2 s^2 + sigma^2) of pixels with standard deviation s, and as measured."""
        spread = self.spread()
        own = (self.x_0 - self.x_0.mean()).double()

        def measured(x: Tensor, std: Tensor) -> Tensor:
            return (x.double() * own).flatten(1).mean(1) / (std * _std(self.x_0))

        law = self.alpha * _std(self.x_0) / spread["formula"]
        return {
            "formula": law,
            "chain": measured(self.chain, spread["chain"]),
            "jump": measured(self.jumps, spread["jump"]),
        }

    def table(self) -> Table:
        """Means and standard deviations of the pixels at five times: by the formula, and as measured."""
        spread, means = self.spread(), {"chain": _mean(self.chain), "jump": _mean(self.jumps)}
        means = {"formula": self.alpha * _mean(self.x_0)} | means
        last = len(self.t) - 1
        rows = [
            [
                float(f"{float(x[k]):.4g}")
                for x in (self.t, self.alpha, self.sigma, *means.values(), *spread.values())
            ]
            for k in dict.fromkeys(round(last * q / 4) for q in range(5))
        ]
        head = ("t", "α", "σ", *(f"mean, {word}" for word in means), *(f"std, {word}" for word in spread))
        return Table(head, rows)


def _mean(x: Tensor) -> Tensor:
    return x.double().flatten(1).mean(1)


def _std(x: Tensor) -> Tensor:
    return x.double().flatten(1).std(1, correction=0)


def _values(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, C) -> (1, C, H, W) from -1 to 1."""
    return Scale().encode(torch.from_numpy(pixels.copy()).movedim(-1, 0)[None])


def _pixels(x: Tensor) -> np.ndarray:
    """(C, H, W) from -1 to 1 -> uint8 (H, W, C), large enough to be seen."""
    return enlarged(Scale().decode(x).movedim(0, -1).numpy(), SHOWN)


@cache
def _items(name: str) -> np.ndarray:
    """The pictures of a built-in set, uint8 (N, H, W, C)."""
    return np.asarray(BUILTIN[name](64 if name == "emoji" else None, None, False)[0].pixels)
