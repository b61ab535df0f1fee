"""How probable a model finds data: upper bounds of -log p(x_0), each item's with its standard error.

Two ways to the same number, tight where the denoiser is exact: the variational bound of the stochastic process,
and the probability-flow ODE, an invertible map from x at t_0 to noise whose volume change is integrated along.
Both leave the last bit of the way, from x at t_0 to x_0, to the decoder of `objectives.bound`.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .condition import Batch, Condition
from .denoiser import Denoiser
from .errors import ConfigError
from .objectives.bound import Bound, bits, reconstruction
from .process import Gaussian
from .process.base import unsqueeze_like
from .rng import Rng

__all__ = ["Estimate", "best_end", "bound", "log_prob", "ode"]

ENDS = (3.0, 5.0, 7.0, 9.0, 11.0, 13.0)
CONTINUOUS = Bound()
EXACT = 8  # up to so many components the trace of the Jacobian is cheap to have exactly


class Estimate(NamedTuple):
    """Bits per dimension, (B,) float64; of real numbers, where densities may exceed 1, they may be negative.

    Args:
        bits: the bound of -log2 p(x_0) / D.
        error: its standard error over the draws; NaN where one draw cannot tell.
        terms: what it is the sum of.
    """

    bits: Tensor
    error: Tensor
    terms: dict[str, Tensor]


@torch.no_grad()
def bound(
    denoiser: Denoiser,
    batch: Batch,
    rng: Rng,
    *,
    objective: Bound = CONTINUOUS,
    draws: int = 32,
) -> Estimate:
    """The variational bound of every item: prior + diffusion + reconstruction, averaged over noises and times.

    Times are stratified, two in each of draws/2 strata: what the two differ by is the error.

    Args:
        denoiser: E[x_0 | x_t] of a Gaussian process.
        batch: x_0 (B, *S), of as many levels as the objective says, and its condition.
        rng: B generators.
        objective: which bound, a chain's or that of continuous time.
        draws: calls of the denoiser, even.

    Raises:
        ConfigError: draws is odd, or x_0 has other values than the objective's levels.
    """
    if draws < 2 or draws % 2:
        raise ConfigError(f"draws is {draws}", field="draws", hint="give an even number, 2 or more")
    x_0, values = batch.x_0, []
    for k in range(draws):
        draw = rng.fork("draw", k)
        u = draw.fork("time").uniform((len(x_0), 1), torch.float64, x_0.device)[:, 0]
        first, last = objective.ends(denoiser, batch, draw)
        middle = objective.diffusion(denoiser, batch, (k // 2 + u) / (draws // 2), draw)
        values.append(bits(torch.stack((first, middle, last)).double(), x_0))
    terms = torch.stack(values).mean(0)
    first_of_two, second = torch.stack(values).sum(1).unflatten(0, (-1, 2)).unbind(1)
    error = (first_of_two - second).square().sum(0).sqrt() / draws
    return Estimate(
        terms.sum(0), error, dict(zip(("prior", "diffusion", "reconstruction"), terms, strict=True))
    )


def best_end(
    denoiser: Denoiser,
    batch: Batch,
    rng: Rng,
    *,
    levels: int | None = 256,
    draws: int = 8,
) -> float:
    """The log-SNR t_0 at which the decoder takes over best: of 3, 5, ..., 13 the one with the lowest bound.

    An exact denoiser is best at the largest. A network that has seen little of such low noise, where images are
    all but given, may well do worse there than the decoder, which knows no images. Part of the model: to be chosen
    on data that is not scored.
    """

    def mean(end: float) -> float:
        objective = Bound(levels=levels, end=end)
        return float(bound(denoiser, batch, rng, objective=objective, draws=draws).bits.mean())

    return min(ENDS, key=mean)


@torch.no_grad()
def ode(
    denoiser: Denoiser,
    batch: Batch,
    rng: Rng,
    *,
    levels: int | None = 256,
    dequantise: Literal["variational", "uniform"] = "variational",
    steps: int = 40,
    draws: int = 2,
    end: float = 13.0,
    exact: bool | None = None,
) -> Estimate:
    """-log p(x_0) by the probability-flow ODE, which is as probable an x at t_0 as its noise is at t = 1:

        -log P(x_0) <= E_q[-log p(x_{t_0}) + log q(x_{t_0}|x_0) - log P(x_0|x_{t_0})],  log-SNR(t_0) = end,

    for data of levels, with the decoder P(x_0|x_{t_0}) of the variational bound; with dequantise = "uniform"
    noise fills the step between two levels instead, -log P(x_0) <= E_u[-log p(alpha (x_0 + u))] - D log(alpha
    step). For real numbers the first form has a Gaussian decoder. Song et al. 2021, section 4.3 and appendix
    D.2; on dequantisation by noise like the process' own see Zheng et al. 2023, "Improved Techniques for Maximum
    Likelihood Estimation for Diffusion ODEs".

    Args:
        denoiser: E[x_0 | x_t] of a Gaussian process.
        batch: x_0 (B, *S) and its condition.
        rng: B generators.
        levels: how many values a component can have, evenly from -1 to 1; None: any.
        dequantise: what fills the gaps between levels.
        steps: of a Runge-Kutta method of order 4, four calls each.
        draws: how often the whole way is gone, each time with another noise and another probe.
        end: log-SNR(t_0); larger is nearer to the data, and further for the steps.
        exact: the trace of the Jacobian from every direction instead of one random probe (Hutchinson);
            None: where x_0 has at most 8 components.

    Raises:
        ConfigError: a setting is out of range, or x_0 has other values than the levels.
    """
    if min(steps, draws) < 1:
        raise ConfigError(f"steps={steps}, draws={draws}", field="steps", hint="give 1 or more of both")
    if dequantise not in ("variational", "uniform") or (dequantise == "uniform" and levels is None):
        raise ConfigError(
            f"dequantise is {dequantise!r} for levels={levels}",
            field="dequantise",
            hint="accepted: 'variational', and where there are levels 'uniform'",
        )
    process, x_0, dimensions = _process(denoiser), batch.x_0, batch.x_0[0].numel()
    t_0 = process.schedule.time(torch.tensor(end, dtype=torch.float64)).to(x_0.device)
    alpha, sigma = process.schedule.alpha(t_0), process.schedule.sigma(t_0)
    values = []
    for k in range(draws):
        draw = rng.fork("draw", k)
        if dequantise == "uniform" and levels is not None:
            gap = 2 / (levels - 1)
            u = draw.fork("uniform").uniform(tuple(x_0.shape), x_0.dtype, x_0.device) - 0.5
            x, decoded = alpha.to(x_0.dtype) * (x_0 + gap * u), -dimensions * (alpha.log() + math.log(gap))
        else:
            # one noise for all three, so that what they share of its square cancels
            noise = draw.fork("noise")
            x, eps = process.corrupt(x_0, t_0, noise), noise.normal(tuple(x_0.shape), x_0.dtype, x_0.device)
            square = _total(eps**2) if levels is not None else dimensions
            log_q = -(square + dimensions * torch.log(2 * math.pi * sigma**2)) / 2
            decoded = reconstruction(process.schedule, x_0, t_0, levels, noise) + log_q
        flow = -log_prob(denoiser, x, t_0, draw, cond=batch.cond, steps=steps, exact=exact)
        values.append(bits(torch.stack((flow, decoded.double().expand(len(x)))), x_0))
    terms = torch.stack(values)
    error = terms.sum(1).std(0) / math.sqrt(draws)
    return Estimate(terms.mean(0).sum(0), error, dict(zip(("flow", "decoder"), terms.mean(0), strict=True)))


@torch.no_grad()
def log_prob(
    denoiser: Denoiser,
    x_t: Tensor,
    t: Tensor,
    rng: Rng,
    *,
    cond: Condition | None = None,
    steps: int = 40,
    exact: bool | None = None,
) -> Tensor:
    """log p(x_t), (B,) float64 nats, of the law that the probability-flow ODE makes of N(0, sigma_1^2 I) at t:

        dy/dg = y cos(h) - E[x_0|x_t],  x_t = rho y,  rho = hypot(alpha, sigma),  cos(h) = alpha/rho,
        d log p(y)/dg = -tr(d/dy (dy/dg)),  g = log tan(h/2) = -asinh(alpha/sigma).

    It is the ODE in the angle h, stepped evenly in g: like log sigma where noise is low, so that data on a
    grid or a surface is no stiffer than any other, and regular up to pure noise, where g = 0. No term grows
    and nothing is divided by sigma; every schedule has the same ODE over g.

    Args:
        x_t: (B, *S) at t.
        t: (), sigma(t) > 0.
        rng: B generators, of the probe v whose v^T J v stands for the trace of J.
        steps: of the method of order 4.
        exact: the trace from every direction instead; None: where there are at most 8.
    """
    schedule, dimensions = _process(denoiser).schedule, x_t[0].numel()
    probes = _probes(x_t, rng, dimensions <= EXACT if exact is None else exact)
    one = torch.ones_like(t)
    first, last = (-torch.asinh(schedule.alpha(u) / schedule.sigma(u)) for u in (t, one))
    inner = torch.lerp(first, last, torch.linspace(0, 1, 2 * steps + 1).to(t)[1:-1])
    times = torch.cat((t[None], schedule.time(2 * torch.log(torch.sinh(-inner))), one[None]))
    alpha, rho = schedule.alpha(times), torch.hypot(schedule.alpha(times), schedule.sigma(times))

    def slope(y: Tensor, i: int) -> tuple[Tensor, Tensor]:
        cosine, scale = unsqueeze_like(alpha[i] / rho[i], y), unsqueeze_like(rho[i], y)
        with torch.enable_grad():
            x = (scale * y).detach().requires_grad_()
            guess = denoiser(x, times[i], cond)
            # the graph serves every probe, and the last one frees it
            traced = [
                _total(v * torch.autograd.grad(guess, x, v.expand_as(x), retain_graph=k + 1 < len(probes))[0])
                for k, v in enumerate(probes)
            ]
        trace = torch.stack(traced).double().sum(0)
        return cosine * y - guess.detach(), dimensions * alpha[i] / rho[i] - rho[i] * trace

    h = (last - first) / steps
    dg = unsqueeze_like(h, x_t)
    y = x_t / unsqueeze_like(rho[0], x_t)
    volume = torch.zeros(len(x_t), dtype=torch.float64, device=x_t.device)
    for i in range(0, 2 * steps, 2):
        k_1, v_1 = slope(y, i)
        k_2, v_2 = slope(y + dg / 2 * k_1, i + 1)
        k_3, v_3 = slope(y + dg / 2 * k_2, i + 1)
        k_4, v_4 = slope(y + dg * k_3, i + 2)
        y = y + dg / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
        volume = volume + h / 6 * (v_1 + 2 * v_2 + 2 * v_3 + v_4)
    variance = (schedule.sigma(one) / rho[-1]) ** 2
    noise = (_total(y.double() ** 2) / variance + dimensions * torch.log(2 * math.pi * variance)) / 2
    return volume - noise - dimensions * rho[0].log()


def _probes(x: Tensor, rng: Rng, exact: bool) -> list[Tensor]:
    """Every unit vector, or one vector of random signs."""
    if exact:
        return list(torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:]))
    return [(rng.fork("probe").uniform(tuple(x.shape), x.dtype, x.device) < 0.5).to(x.dtype) * 2 - 1]


def _total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _process(denoiser: Denoiser) -> Gaussian:
    return denoiser.process  # type: ignore[return-value]
