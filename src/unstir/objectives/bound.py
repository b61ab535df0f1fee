"""The variational bound: what a model needs to tell x_0, as prior + diffusion + reconstruction.

    -log p(x_0) <= KL(q(x_1|x_0) | p(x_1)) + sum E KL(q(x_s|x_t,x_0) | p(x_s|x_t)) + E[-log p(x_0|x_{t_0})]

over the steps t -> s of a chain from t = 1 to t_0, or over infinitely many. Ho et al. 2020, eq. 5; Kingma et
al. 2021, "Variational Diffusion Models", eq. 11-18. The terms are functions, each (B,) in nats and
differentiable in the denoiser's guess of x_0 and in a learned schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..condition import Batch
from ..denoiser import Denoiser
from ..errors import ConfigError, IncompatibleError
from ..modules import twin
from ..process import Gaussian, Monotone, Schedule
from ..process.base import unsqueeze_like
from ..process.learned import Learned
from ..rng import Rng
from .base import Objective, taught
from .draws import spread

__all__ = ["Bound", "bits", "prior", "rate", "reconstruction", "step"]


def prior(schedule: Schedule, x_0: Tensor) -> Tensor:
    """KL(q(x_1|x_0) | N(0, sigma_1^2 I)) = SNR(1)/2 |x_0|^2."""
    log_snr = schedule.log_snr(torch.ones((), dtype=torch.float64, device=x_0.device))
    return (log_snr.exp() / 2).to(x_0.dtype) * _total(x_0**2)


def step(
    schedule: Schedule,
    x_0: Tensor,
    guess: Tensor,
    t: Tensor,
    s: Tensor,
    share: float = 0.0,
    variance: Tensor | None = None,
) -> Tensor:
    """KL(q(x_s|x_t,x_0) | p(x_s|x_t)) of one step of the chain, summed over components:

        1/2 sum [log r + 1/r - 1 + g/r (x_0 - guess)^2],  g = SNR(s) - SNR(t),

    where the model's step has the mean of q with `guess` in place of x_0, and r times its variance: that of q itself
    for share = 0 (Kingma et al. 2021, eq. 13), r = sigma_t^2/sigma_s^2 for share = 1, and r = 1 + g `variance` where
    the model knows Var[x_0|x_t].

    Args:
        guess: E[x_0|x_t], (B, *S).
        t, s: () or (B,), s < t, sigma(s) > 0.
        share: 0 = the variance of q(x_s|x_t,x_0), 1 = that of q(x_t|x_s).
        variance: Var[x_0|x_t], (B, *S), in place of a share.
    """
    log_snr_t, log_snr_s = schedule.log_snr(t), schedule.log_snr(s)
    gap = -torch.exp(log_snr_s) * torch.expm1(log_snr_t - log_snr_s)
    gap = unsqueeze_like(gap, x_0)
    if variance is None:
        log_r = unsqueeze_like(2 * share * (schedule.sigma(t).log() - schedule.sigma(s).log()), x_0)
    else:
        log_r = torch.log1p(gap * variance)
    error = gap * (x_0 - guess) ** 2
    return _total(log_r + torch.expm1(-log_r) + torch.exp(-log_r) * error) / 2


def rate(schedule: Schedule, x_0: Tensor, guess: Tensor, t: Tensor) -> Tensor:
    """-1/2 dSNR/dt |x_0 - guess|^2: the limit of `step` per unit of time. Kingma et al. 2021, eq. 15."""
    slope = torch.func.jvp(schedule.log_snr, (t,), (torch.ones_like(t),))[1]
    return (-slope * schedule.log_snr(t).exp() / 2).to(x_0.dtype) * _total((x_0 - guess) ** 2)


def reconstruction(schedule: Schedule, x_0: Tensor, t: Tensor, levels: int | None, rng: Rng) -> Tensor:
    """E[-log p(x_0|x_t)] for a decoder that knows x_t alone: p(x_0|x_t) ~ q(x_t|x_0) over what x_0 can be.

    Bytes and the like, of `levels` equal steps from -1 to 1: each component is one of them, and with
    r = alpha/sigma times the step between neighbours and x_t = alpha x_0 + sigma eps

        -log p(x_0|x_t) = log sum_j exp(j r eps - (j r)^2/2),  j = distance in levels from x_0,

    for one eps. Kingma et al. 2021, section 3, p(x|z_0).
    Real numbers, levels = None: N(x_0; x_t/alpha, sigma^2/alpha^2), whose expectation is D/2 (1 + log 2 pi - log_snr).

    Args:
        x_0: (B, *S).
        t: (), sigma(t) > 0.

    Raises:
        ConfigError: x_0 is not made of such levels.
    """
    log_snr = schedule.log_snr(t)
    if levels is None:
        each = (1 + math.log(2 * math.pi) - log_snr) / 2
        return (each * x_0[0].numel()).to(x_0.dtype).expand(len(x_0))
    place = (x_0 + 1) * ((levels - 1) / 2)
    if bool(((place - place.round()).abs() > 0.05).any() or (x_0.abs() > 1.001).any()):
        raise ConfigError(
            f"x_0 is not made of {levels} equal steps from -1 to 1",
            field="objective.levels",
            hint="levels=none is for data of real numbers, such as points",
        )
    r = (torch.exp(log_snr / 2) * 2 / (levels - 1)).to(x_0.dtype)
    eps = rng.normal(tuple(x_0.shape), x_0.dtype, x_0.device)
    # the terms are exp(eps^2/2 - (j r - eps)^2/2): seven standard deviations from the largest there is nothing to add
    reach = math.ceil(min(levels - 1, (float(eps.abs().max()) + 7) / max(float(r.detach()), 1e-3)))
    jump, total = r * eps, torch.ones_like(x_0)
    for j in (*range(-reach, 0), *range(1, reach + 1)):
        there = (place + j > -0.5) & (place + j < levels - 0.5)
        total = total + there * torch.exp(j * jump - (j * r) ** 2 / 2)
    return _total(total.log())


@dataclass(frozen=True)
class Bound(Objective):
    """(prior + diffusion + reconstruction)/(D log 2): an upper bound of -log2 p(x_0) in bits per dimension.

    Each sample's loss is an unbiased estimate of its bound, from one time and one noise. Sohl-Dickstein et al.
    2015, eq. 14, and Ho et al. 2020, eq. 5 (a chain); Kingma et al. 2021, eq. 11 (continuous time).

    Args:
        steps: of the chain from t = 1 to t_0, 2 or more; None: continuous time.
        variable: how times are spread: "snr", evenly in log(1 + SNR), which keeps the estimate's variance low
            on any fixed schedule and spares no end of it, down to SNR(t_0) = exp(end); "time", evenly in t, as
            in the papers and as a learned schedule needs, down to t_0 = 0 where sigma(0) > 0, else to the
            first time of the chain, 1/steps, or to exp(end) in continuous time.
        variance: of the chain's reverse steps: that of q(x_s|x_t,x_0), that of q(x_t|x_s), or learned with the mean;
            steps that are infinitely short have but one.
        levels: how many values a component can have, evenly from -1 to 1: 256 for bytes; None: any.
        end: the log-SNR at which the decoder takes over.

    Raises:
        IncompatibleError: the schedule is being learned and variable is "snr", whose times would follow it; or
            the model does not know the variance that is asked of it.
    """

    steps: int | None = None
    variable: Literal["snr", "time"] = "snr"
    variance: Literal["lower", "upper", "learned"] = "lower"
    levels: int | None = 256
    end: float = 13.0

    def __post_init__(self) -> None:
        _require(self.steps is None or self.steps >= 2, "steps", self.steps, "2 or more, or none")
        _require(self.variable in ("snr", "time"), "variable", self.variable, "'snr', 'time'")
        known = ("lower", "upper", "learned")
        _require(self.variance in known, "variance", self.variance, "'lower', 'upper', 'learned'")
        _require(self.levels is None or self.levels >= 2, "levels", self.levels, "2 or more, or none")
        _require(-20 <= self.end <= 20, "end", self.end, "a log-SNR from -20 to 20")

    @property
    def learns_variance(self) -> bool:
        return self.variance == "learned" and self.steps is not None

    def loss(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> Tensor:
        return taught(self.loss_at(denoiser, batch, spread(batch, rng), rng), denoiser, batch)

    def loss_at(self, denoiser: Denoiser, batch: Batch, u: Tensor, rng: Rng) -> Tensor:
        """The loss with its times at `time(u)`, (B,), for u in (0, 1): the bound is its mean over uniform u."""
        first, last = self.ends(denoiser, batch, rng)
        return bits(first + self._diffusion(denoiser, batch, u, rng) + last, batch.x_0)

    def _diffusion(self, denoiser: Denoiser, batch: Batch, u: Tensor, rng: Rng) -> Tensor:
        """`diffusion`; in continuous time with the gradient of its square for the curve of a learned log-SNR."""
        schedule = _process(denoiser).schedule
        if self.steps is not None or not isinstance(schedule, Monotone):
            return self.diffusion(denoiser, batch, u, rng)
        rows = schedule.per_sample(len(u))
        nats = self.diffusion(twin(denoiser, process=Gaussian(rows)), batch, u, rng)
        rows.weigh(2 * bits(nats.detach(), batch.x_0))
        return nats

    def ends(self, denoiser: Denoiser, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor]:
        """Prior and reconstruction, (B,) nats: the terms that ask no denoiser, only its schedule."""
        schedule, x_0 = _process(denoiser).schedule, batch.x_0
        t_0 = self.start(schedule).to(x_0.device)
        return prior(schedule, x_0), reconstruction(schedule, x_0, t_0, self.levels, rng.fork("decoder"))

    def diffusion(self, denoiser: Denoiser, batch: Batch, u: Tensor, rng: Rng) -> Tensor:
        """(B,) nats whose mean over u, uniform on (0, 1), and over the noise is the diffusion term."""
        process, x_0 = _process(denoiser), batch.x_0
        schedule, count, u = process.schedule, self.count(process.schedule), u.to(x_0.device)
        if self.variable == "snr" and _in_training(schedule):
            raise IncompatibleError(
                f"times spread over the SNR of {type(schedule).__name__} would move while it is learned",
                field="objective.variable",
                hint="use variable=time",
            )
        t = self.time(schedule, u if count is None else ((u * count).floor() + 1) / count)
        x_t = process.corrupt(x_0, t, rng.fork("noise"))
        if count is not None:
            learned = denoiser.moments(x_t, t, batch.cond) if self.variance == "learned" else None
            guess, variance = learned or (denoiser(x_t, t, batch.cond), None)
            s, share = self.time(schedule, (u * count).floor() / count), float(self.variance == "upper")
            return count * step(schedule, x_0, guess, t, s, share, variance)
        guess = denoiser(x_t, t, batch.cond)
        if self.variable == "time":
            return (1 - self.start(schedule)).to(x_0) * rate(schedule, x_0, guess, t)
        # d SNR = (1 + SNR) d log(1 + SNR)
        low, high = self._range(schedule, u)
        weight = (high - low) * (1 + schedule.log_snr(t).exp()) / 2
        return weight.to(x_0.dtype) * _total((x_0 - guess) ** 2)

    def time(self, schedule: Schedule, u: Tensor) -> Tensor:
        """t from t_0 at u = 0 up to 1 at u = 1; the chain's times are those of u = i/count."""
        if self.variable == "time":
            return torch.lerp(self.start(schedule).to(u), torch.ones_like(u), u)
        low, high = self._range(schedule, u)
        return schedule.time(torch.log(torch.expm1(torch.lerp(high, low, u))))

    def start(self, schedule: Schedule) -> Tensor:
        """t_0, a () float64 tensor."""
        if self.variable == "time" and not _ends_clean(schedule):
            return torch.zeros((), dtype=torch.float64)
        if self.variable == "time" and self.steps is not None:
            return torch.tensor(1 / self.steps, dtype=torch.float64)
        return schedule.time(torch.tensor(self.end, dtype=torch.float64))

    def count(self, schedule: Schedule) -> int | None:
        """Steps from 1 to t_0; in the papers' chain the last one, from 1/steps to clean data, is the decoder's."""
        if self.steps is not None and self.variable == "time" and _ends_clean(schedule):
            return self.steps - 1
        return self.steps

    def _range(self, schedule: Schedule, like: Tensor) -> tuple[Tensor, Tensor]:
        """log(1 + SNR) at t = 1 and at t_0."""
        ends = torch.stack((torch.ones((), dtype=torch.float64), self.start(schedule))).to(like)
        low, high = torch.logaddexp(schedule.log_snr(ends), torch.zeros_like(ends))
        return low, high


def bits(nats: Tensor, x_0: Tensor) -> Tensor:
    """Nats of a whole sample as bits per dimension."""
    return nats / (x_0[0].numel() * math.log(2))


def _total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _process(denoiser: Denoiser) -> Gaussian:
    return denoiser.process  # type: ignore[return-value]


def _in_training(schedule: Schedule) -> bool:
    return torch.is_grad_enabled() and isinstance(schedule, Learned) and schedule.in_training


def _ends_clean(schedule: Schedule) -> bool:
    return Gaussian(schedule).ends_clean


def _require(ok: bool, field: str, got: object, accepted: str) -> None:
    if not ok:
        raise ConfigError(f"{field} is {got!r}", field=f"objective.{field}", hint=f"accepted: {accepted}")
