"""Noise schedules: how fast data becomes noise."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch

from ..pipeline import Pipeline
from ..process import BetaLinear, Cosine, Schedule as NoiseSchedule
from ..spec import Range
from .base import Chart, Explanation, Subject, Table, Values, gaussian, said

__all__ = ["Chain", "Schedule"]

SHOWN = 0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0
"""The times of the table."""


class Chain:
    """A schedule as a chain of T steps: t, alpha, sigma, alpha_bar, log_snr and beta, each (T + 1,) in float64."""

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        process = gaussian(schedule)
        self.t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        self.alpha, self.sigma = process.schedule.alpha(self.t), process.schedule.sigma(self.t)
        self.log_snr = process.schedule.log_snr(self.t)
        added = process.kernel(self.t[:-1], self.t[1:])[1] ** 2
        self.alpha_bar = self.alpha**2
        # step k ends at t = k/T: there is no step 0
        self.beta = torch.cat((added.new_tensor([math.nan]), added))


@dataclass(frozen=True, kw_only=True)
class Schedule(Subject):
    """A noise schedule in curves: beta, alpha-bar, log-SNR, alpha and sigma."""

    title: ClassVar = "Noise schedule"
    place: ClassVar = 2

    schedule: NoiseSchedule = BetaLinear()
    """How data becomes noise."""
    compare: NoiseSchedule | None = Cosine()
    """Another one, drawn beside it."""
    steps: Annotated[int, Range(ge=2, le=1000)] = 1000
    """T, into how many steps of a Markov chain the way is divided."""

    @torch.no_grad()
    def explain(self, pipe: Pipeline | None = None, picture: np.ndarray | None = None) -> Explanation:
        chains = {
            said(one): Chain(one, self.steps) for one in (self.schedule, self.compare) if one is not None
        }
        first, k = chains[said(self.schedule)], range(self.steps + 1)
        growing = any(bool((chain.alpha_bar + chain.sigma**2 > 2).any()) for chain in chains.values())

        def each(field: str, symbol: str = "") -> dict[str, Values]:
            return {f"{symbol} {word}".strip(): getattr(chain, field) for word, chain in chains.items()}

        formula = (inspect.getdoc(self.schedule) or "").partition("\n\n")[0].replace("\n", " ")
        text = (
            f"{said(self.schedule)}: {formula} In a chain of {self.steps} steps, step k multiplies what there is by "
            "α(k)/α(k-1) and adds noise of variance β(k) = σ(k)² - (α(k)/α(k-1))² σ(k-1)². Where α² + σ² = 1 that is "
            "1 - ᾱ(k)/ᾱ(k-1). The log-SNR is log α²/σ²: at 0, data and noise weigh the same."
        )
        return self.explanation(
            text,
            charts=[
                Chart("The noise of each step", "step k", k, "β(k)", each("beta"), log_y=True),
                Chart("What is left of the data", "step k", k, "ᾱ(k) = α²", each("alpha_bar")),
                Chart("Signal to noise", "time t", first.t, "log α²/σ²", each("log_snr")),
                Chart(
                    "The two factors of x_t = α x_0 + σ ε",
                    "time t",
                    first.t,
                    "factor",
                    each("alpha", "α") | each("sigma", "σ"),
                    log_y=growing,
                ),
            ],
            table=_table(first),
        )


def _table(chain: Chain) -> Table:
    """The numbers at a few times."""
    columns = (chain.t, chain.beta, chain.alpha_bar, chain.alpha, chain.sigma, chain.log_snr)
    places = dict.fromkeys(round(share * (len(chain.t) - 1)) for share in SHOWN)
    rows = [[k, *(_word(float(column[k])) for column in columns)] for k in places]
    return Table(("k", "t", "β", "ᾱ", "α", "σ", "log-SNR"), rows)


def _word(x: float) -> float | str | None:
    """A number of five digits; infinity by its sign, nothing for what does not exist."""
    if math.isnan(x):
        return None
    return float(f"{x:.5g}") if math.isfinite(x) else "∞" if x > 0 else "-∞"
