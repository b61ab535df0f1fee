"""Which times training looks at: laws of t on (0, 1), given by their quantile function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..condition import Batch
from ..errors import ConfigError
from ..process import Schedule
from ..rng import Rng

__all__ = ["Draws", "LogNormal", "LogitNormal", "Uniform", "spread"]

# the fractional parts of multiples of this fill (0, 1) more evenly than any other sequence of the kind
GOLDEN_RATIO = 0.6180339887498949

# quantiles closer to the ends than this are not drawn: sigma(0) = 0 has nothing to learn
EDGE = 1e-4


def spread(batch: Batch, rng: Rng) -> Tensor:
    """(B,) float64 numbers, uniform on (0, 1).

    A batch with `index` gets those of a low-discrepancy sequence of the samples' running numbers, which
    spreads any stretch of samples evenly and lowers the variance of a loss (Kingma et al. 2021, appendix I.1,
    stratify within a batch; the sequence also does so across batches).
    """
    if batch.index is None:
        return rng.fork("time").uniform((len(rng), 1), torch.float64, batch.x_0.device)[:, 0]
    return torch.frac((batch.index.double() + 0.5) * GOLDEN_RATIO).to(batch.x_0.device)


class Draws(ABC):
    """t = quantile(u), u uniform on (0, 1)."""

    @abstractmethod
    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Times (B,) in (0, 1], increasing in u."""


@dataclass(frozen=True)
class Uniform(Draws):
    """t = u."""

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return EDGE + (1 - EDGE) * u


@dataclass(frozen=True)
class LogitNormal(Draws):
    """logit(t) ~ N(mean, std^2): middle times most. Esser et al. 2024, section 3.1, with pi_ln(0, 1)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _require_std(self.std)

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return torch.sigmoid(self.mean + self.std * _normal(u))


@dataclass(frozen=True)
class LogNormal(Draws):
    """log(sigma/alpha) ~ N(mean, std^2). Karras et al. 2022, table 1."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _require_std(self.std)

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        t = schedule.time(-2 * (self.mean + self.std * _normal(u)))
        return t.clamp(EDGE, 1)


def _normal(u: Tensor) -> Tensor:
    return torch.special.ndtri(u.clamp(EDGE, 1 - EDGE))


def _require_std(std: float) -> None:
    if not std > 0:
        raise ConfigError(f"std is {std}", field="objective.draws.std", hint="accepted: std > 0")
