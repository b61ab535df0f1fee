"""Learning a consistency function without a teacher: what `task=decoder` minimises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from ..condition import Batch
from ..errors import IncompatibleError
from ..rng import Rng
from ..spec import Positive, Range, validate
from .base import Objective

__all__ = ["Consistency"]

RHO = 7.0


@dataclass(frozen=True)
class Consistency(Objective):
    """lambda d(f(x + b n, b), sg f(x + a n, a)) of neighbouring noise levels a < b: consistency training.

    Song and Dhariwal 2023, "Improved Techniques for Training Consistency Models", table 1: d(u, v) =
    (|u - v|^2 + c^2)^(1/2) - c with c = 0.00054 D^(1/2) for D values, here over D^(1/2); lambda = 1/(b - a); levels
    from eps to 80 spaced as in Karras et al. 2022, eq. 5, with rho = 7; the pair drawn by the share of a log-normal
    law that lies between its levels; no average as the teacher. The number of pairs is `pairs` at first and doubles
    every `double_every` samples up to `most_pairs`: few are learned quickly and with bias, many slowly and with little.
    Held-out losses, whose samples are counted from 0, are always those of the first.
    """

    pairs: Annotated[int, Range(ge=1)] = 10
    """Pairs of levels at the start."""
    most_pairs: Annotated[int, Range(ge=1)] = 1280
    """Pairs of levels, at most."""
    double_every: Annotated[int, Range(ge=1)] = 20_000
    """Samples after which their number doubles."""
    log_mean: float = -1.1
    """Mean of ln b."""
    log_std: Positive = 2.0
    """Its standard deviation."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    def loss(self, denoiser: Any, batch: Batch, rng: Rng) -> Tensor:
        if not hasattr(denoiser, "consistent"):
            raise IncompatibleError(
                f"{type(denoiser).__name__} is no consistency function",
                field="objective",
                hint="train one: unstir train DATA task=decoder codec=RUN",
            )
        x, told = denoiser.pair(batch.x_0)
        a, b = self.levels(batch.index, rng, denoiser.smallest, denoiser.largest)
        noise = rng.fork("noise").normal(tuple(x.shape), x.dtype, x.device)
        ones = [1] * (x.ndim - 1)
        made = denoiser.consistent(x + b.to(x).view(-1, *ones) * noise, b, told)
        with torch.no_grad():
            wanted = denoiser.consistent(x + a.to(x).view(-1, *ones) * noise, a, told)
        values = x[0].numel()
        c = 0.00054 * math.sqrt(values)
        apart = ((made - wanted).square().flatten(1).sum(1) + c**2).sqrt() - c
        return apart / math.sqrt(values) / (b - a).to(x)

    def levels(
        self, index: Tensor | None, rng: Rng, smallest: float, largest: float
    ) -> tuple[Tensor, Tensor]:
        """Neighbouring levels a < b for each sample, float64 (B,)."""
        u = rng.fork("level").uniform((len(rng), 1), torch.float64)
        seen = torch.zeros(len(rng), dtype=torch.int64) if index is None else index.cpu()
        counts = (self.pairs * 2 ** (seen // self.double_every).clamp(max=30)).clamp(max=self.most_pairs)
        found = torch.zeros(len(rng), 2, dtype=torch.float64, device=u.device)
        for count in counts.unique().tolist():
            sigma = karras(count + 1, smallest, largest)
            below = torch.erf((sigma.log() - self.log_mean) / (math.sqrt(2) * self.log_std))
            share = below.diff().cumsum(0).to(u.device)
            rows = (counts == count).to(u.device)
            k = torch.searchsorted(share / share[-1], u[rows, 0]).clamp(max=count - 1)
            found[rows] = torch.stack((sigma[:-1], sigma[1:]), 1).to(u.device)[k]
        return found[:, 0], found[:, 1]


def karras(n: int, smallest: float, largest: float) -> Tensor:
    """n levels from the smallest to the largest, float64, evenly spaced in sigma^(1/7)."""
    ends = smallest ** (1 / RHO), largest ** (1 / RHO)
    return torch.linspace(*ends, n, dtype=torch.float64) ** RHO
