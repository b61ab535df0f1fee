"""TDS: many particles for each sample, weighted by how well they agree with the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..denoiser import Move
from ..errors import IncompatibleError
from ..noise import Noise
from ..operators import Measurement
from ..process.base import unsqueeze_like
from ..solvers.base import Bound, Solver
from ..solvers.ddpm import DDPM
from ..spec import Count, Fraction, Positive, validate
from .posterior import Method, jacobian_product, spread

__all__ = ["TDS"]


class Twisted(NamedTuple):
    """Of x_t: D, D' and log p~(y | x_t), the latter (B,) and less a constant."""

    x_t: Tensor
    x_0: Tensor
    guided: Tensor
    log_twist: Tensor


@dataclass(frozen=True)
class TDS(Method):
    """A cloud of particles for each sample, each stepped by DDPM with D' in place of D:

        p~(y | x_t) = N(y; A D, r^2 A A^T + Var[n]),  r^2 = sigma^2 std^2/(alpha^2 std^2 + sigma^2),
        D' = D + sigma^2/alpha grad log p~(y | x_t),
        w_s = w_t p(x_s | x_t) p~(y | x_s) / (p~(y | x_t) q(x_s | x_t)),  w_1 = p~(y | x_1),

    where p is the step with D and q the one with D'. Where the effective sample size 1/sum w^2 falls below
    `threshold` particles, they are resampled by weight, and so they are at the end: any one row of a sample's is then
    a draw from p(x_0 | y), all of them together a finer picture of it.

    p~ is wider than p(y | D) by what x_t leaves open of x_0, as p(y | x_t) is: without that, the first few particles
    that happen to lie near y would take all the weight. r^2 is right for x_0 ~ N(m, std^2 I) and vanishes toward the
    data, so that it decides how many particles are enough, not what they are drawn from. Rather too wide than too
    narrow: that bounds the weights. For a nonlinear operator A A^T counts as 1.

    The steps have the variance of q(x_t | x_s), `DDPM("upper")`: D' then is the best proposal for p~, and for data of
    variance about 1, law and chain agree far better than with the lower one.

    Rows i K to (i + 1) K - 1 of a batch are the K particles of sample i. Each step takes an evaluation with its
    gradient for each of them.
    Wu et al. 2023, "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models", algorithm 1.

    Args:
        particles: K; rare laws, far from the model's, take more.
        threshold: of the effective sample size, as a share of K; 0 = resample at the end alone, 1 = always.
        std: of the data, in its own units.
    """

    particles: Count = 16
    threshold: Fraction = 0.5
    std: Positive = 1.0
    solver: ClassVar[Solver | None] = DDPM("upper")
    steps: ClassVar[int | None] = 100
    exact: ClassVar[str] = "every law and operator, Gaussian noise, as particles and steps grow"

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        return self._twisted(denoiser, x_t, t, measurement).guided

    def recall(
        self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement, memory: dict[Any, Any]
    ) -> Tensor:
        now = memory.get("twisted")
        if now is None or now.x_t is not x_t:
            now = memory["twisted"] = self._twisted(denoiser, x_t, t, measurement)
        return now.guided

    def settle(
        self, denoiser: Bound, move: Move, measurement: Measurement, noise: Noise, memory: dict[Any, Any]
    ) -> Tensor:
        if len(move.x_s) % self.particles:
            raise IncompatibleError(
                f"{len(move.x_s)} rows are no samples of {self.particles} particles",
                field="particles",
                hint="give a multiple: rows i K to (i + 1) K - 1 are the particles of sample i",
            )
        self.recall(denoiser, move.x_t, move.t, measurement, memory)
        now = memory["twisted"]
        log_weights = memory.get("log_weights", now.log_twist)
        if bool((denoiser.schedule.sigma(move.s) == 0).all()):
            return move.x_s[self._resampled(log_weights, move, noise)[0]]
        ahead = self._twisted(denoiser, move.x_s, move.s, measurement)
        log_weights = log_weights + _log_ratio(denoiser, move, now.x_0) + ahead.log_twist - now.log_twist
        rows, memory["log_weights"] = self._resampled(log_weights, move, noise)
        memory["twisted"] = ahead = Twisted(*(part[rows] for part in ahead))
        return ahead.x_t

    def check_solver(self, solver: Solver) -> None:
        if solver != DDPM("upper"):
            raise IncompatibleError(
                f"TDS weighs the steps of DDPM with variance=upper; {type(solver).__name__} takes others",
                field="solver",
                hint="use solver=ddpm:variance=upper with it, or another method",
            )

    def _twisted(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Twisted:
        x_0, product = jacobian_product(denoiser, x_t, t)
        gap, variance = measurement.residual(x_0), spread(denoiser.process, t, self.std).to(x_0)
        if measurement.operator.linear:
            solved = measurement.resolvent(gap, variance, x_0)
        else:
            solved = gap / (unsqueeze_like(variance, gap) + measurement.variance)
        guided = x_0 + product(measurement.operator.vjp(x_0, solved))
        return Twisted(x_t, x_0, guided, -(gap * solved).flatten(1).sum(1) / 2)

    def _resampled(self, log_weights: Tensor, move: Move, noise: Noise) -> tuple[Tensor, Tensor]:
        """Which row each row becomes, and the new logarithms of the weights, both (B,).

        Systematic resampling from a uniform start, round the circle: every row on its own is a draw by weight.
        """
        K, device = self.particles, log_weights.device
        log_weights = log_weights.unflatten(0, (-1, K)).log_softmax(1)
        weights, own = (
            log_weights.exp(),
            torch.arange(log_weights.numel(), device=device).unflatten(0, (-1, K)),
        )
        u = noise.rng[::K].fork("resample", move.t, move.s).uniform((len(weights), 1), weights.dtype, device)
        places = (u + torch.arange(K, device=device) / K) % 1
        drawn = torch.searchsorted(weights.cumsum(1), places).clamp(max=K - 1) + own[:, :1]
        poor = ((weights**2).sum(1, keepdim=True) * K * self.threshold > 1) | (move.s == 0)
        rows, left = torch.where(poor, drawn, own), torch.where(poor, 0, log_weights)
        return rows.flatten(), left.flatten()


def _log_ratio(denoiser: Bound, move: Move, x_0: Tensor) -> Tensor:
    """log p(x_s | x_t)/q(x_s | x_t), (B,): normal laws of one width, of the step with x_0 and of the one taken."""
    process = denoiser.process
    free, taken = (process.posterior(move.x_t, x, move.t, move.s).mean for x in (x_0, move.x_0))
    std = unsqueeze_like(process.kernel(move.s, move.t)[1], x_0)
    apart = (free - taken) / std
    return (apart * (move.x_s - taken) / std - apart**2 / 2).flatten(1).sum(1)
