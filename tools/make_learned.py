"""Write the tables and pictures of docs/learned.md from measured values: `python tools/make_learned.py`.

Everything is on the mixture of tests/truth.py, whose denoiser is known at every noise level, so what is learned is the
process and nothing else; the last table also trains a small network. About a minute on one core.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from torch.func import jvp

ROOT = Path(__file__).parents[1]
PAGE, IMAGES = ROOT / "docs" / "learned.md", ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from truth import double, energy_distance, label, mixture  # noqa: E402
from unstir import times  # noqa: E402
from unstir.analytic import GaussianMixture  # noqa: E402
from unstir.condition import Batch  # noqa: E402
from unstir.denoiser import Denoiser, Preconditioned  # noqa: E402
from unstir.networks import MLPConfig  # noqa: E402
from unstir.objectives import Bound, Hybrid  # noqa: E402
from unstir.objectives.bound import bits  # noqa: E402
from unstir.parameterization import V  # noqa: E402
from unstir.process import (  # noqa: E402
    BetaLinear,
    BetaVector,
    BetaVectorConfig,
    Cosine,
    Gaussian,
    Linear,
    Monotone,
    MonotoneConfig,
    Schedule,
)
from unstir.rng import Rng  # noqa: E402
from unstir.sampling import sample  # noqa: E402
from unstir.solvers import DDPM  # noqa: E402

ENDS = MonotoneConfig()
CONTINUOUS = Bound(variable="time", levels=None)
NODES, ITEMS = 300, 300
CHAINS = (4, 8, 20)
STEPS = (5, 10, 20, 50)
COLOURS = ("#999999", "#1b6ca8", "#c8553d")


def on(schedule: Schedule) -> GaussianMixture:
    """The mixture, noised by this schedule."""
    denoiser = mixture(Linear())
    denoiser.process = Gaussian(schedule)
    return denoiser


def items(n: int, seed: int = 9) -> tuple[Batch, Rng]:
    rng = Rng.of(seed, n)
    return Batch(mixture(Linear()).draw(rng.fork("data"))), rng


def learn(
    loss: Callable[[Batch, Rng], Tensor], parameters: Iterable[Tensor], steps: int, lr: float, n: int
) -> None:
    """Adam on batches of fresh items, with a rate that falls to 0."""
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
        index = torch.arange(i * n, (i + 1) * n)
        rng = Rng(torch.zeros(n, dtype=torch.int64)).fork("train", index)
        batch = Batch(mixture(Linear()).draw(rng.fork("data")), index=index)
        optimizer.zero_grad()
        loss(batch, rng).mean().backward()
        optimizer.step()


# -- the log-SNR -------------------------------------------------------------------------------------------


@cache
def learned_curve() -> Monotone:
    """The curve alone is learned, so that all rows of the table have the same bound."""
    schedule = ENDS.build()
    learn(lambda batch, rng: CONTINUOUS.loss(on(schedule), batch, rng), [schedule.curve], 150, 0.08, 512)
    return schedule.requires_grad_(False)


@cache
@torch.no_grad()
def terms(schedule: Schedule) -> Tensor:
    """(NODES, ITEMS): the estimate of the diffusion term in bits, at even times."""
    batch, rng = items(ITEMS)
    rows = []
    for u in (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES:
        rows.append(CONTINUOUS.diffusion(on(schedule), batch, u.repeat(ITEMS), rng))
    return bits(torch.stack(rows), batch.x_0)


def std(schedule: Schedule) -> float:
    """Of one estimate at a random time, for a schedule between the log-SNRs of ENDS.

    With g the term per unit of log-SNR its second moment is the integral of E[g^2] |d lambda/dt| over lambda, times the
    span of t; no schedule has less than (integral of sqrt(E[g^2]) d lambda)^2.
    """
    places = (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES
    first, last = schedule.time(double(ENDS.log_snr_0, ENDS.log_snr_1))
    t = schedule.time(ENDS.log_snr(places))
    slope, even = (
        jvp(f, (u,), (torch.ones_like(u),))[1] for f, u in ((schedule.log_snr, t), (ENDS.log_snr, places))
    )
    # even times of ENDS, whose estimate is g |d lambda/dt|, are the nodes of the integral
    squares = (terms(ENDS) ** 2).mean(1)
    return math.sqrt(float((squares * slope / even * (last - first)).mean() - terms(ENDS).mean() ** 2))


def curves() -> str:
    rows = {
        "`BetaLinear`": BetaLinear(),
        "`Cosine`": Cosine(),
        "`Linear`": Linear(),
        "`Monotone` at first, nearly even in log-SNR": ENDS,
        "`Monotone`, learned": learned_curve(),
    }
    lines = [[name, f"{std(schedule):.1f}"] for name, schedule in rows.items()]
    least = float((terms(ENDS) ** 2).mean(1).sqrt().mean() ** 2 - terms(ENDS).mean() ** 2)
    return table(
        ["schedule", "std of one estimate, bits/dim"], [*lines, ["the least there is", f"{least**0.5:.1f}"]]
    )


@torch.no_grad()
def bounds() -> str:
    """The bound by the estimates of each schedule itself."""
    batch, rng = items(ITEMS)
    ends = float(bits(sum(CONTINUOUS.ends(on(ENDS), batch, rng)), batch.x_0).mean())
    before, after = (float(terms(schedule).mean()) + ends for schedule in (ENDS, learned_curve()))
    return f"The bound is {before:.4f} bits per dimension before and {after:.4f} after."


def picture_of_the_curve() -> None:
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for schedule, name, colour in ((ENDS, "start", COLOURS[0]), (learned_curve(), "learned", COLOURS[2])):
        left.plot(t, schedule.log_snr(t), color=colour, label=name)
        middle = (torch.arange(NODES) + 0.5) / NODES
        size = (terms(schedule) ** 2).mean(1).sqrt()
        right.plot(middle, smooth(size), color=colour, label=name)
    left.set(xlabel="t", ylabel="log-SNR")
    right.set(xlabel="t", ylabel="root mean square of the estimate", ylim=(0, None))
    left.legend(frameon=False)
    save(figure, "learned-log-snr")


def smooth(values: Tensor, width: int = 9) -> list[float]:
    padded = torch.nn.functional.pad(values[None, None], (width // 2, width // 2), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, width, 1)[0, 0].tolist()


# -- the betas ---------------------------------------------------------------------------------------------


def chain(steps: int) -> Bound:
    return Bound(steps=steps, variable="time", levels=None)


@cache
def learned_betas(steps: int, start: Schedule) -> BetaVector:
    schedule = BetaVectorConfig(steps, start).build()
    learn(
        lambda batch, rng: chain(steps).loss(on(schedule), batch, rng), schedule.parameters(), 300, 0.05, 128
    )
    return schedule.requires_grad_(False)


def precision(denoiser: Denoiser) -> torch.dtype:
    return next(iter(denoiser.state_dict().values())).dtype


@torch.no_grad()
def cost(denoiser: Denoiser, objective: Bound, n: int = 2000) -> float:
    """The bound in bits per dimension, every step of the chain seen by every item."""
    batch, rng = items(n)
    batch = Batch(batch.x_0.to(precision(denoiser)))
    count = objective.count(denoiser.process.schedule)
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return float(torch.stack([objective.loss_at(denoiser, batch, v.expand(n), rng).mean() for v in u]).mean())


def betas() -> str:
    rows = []
    for start in (BetaLinear(), Cosine(0.008)):
        fixed = [f"{cost(on(BetaVectorConfig(n, start)), chain(n)):.3f}" for n in CHAINS]
        learned = [f"{cost(on(learned_betas(n, start)), chain(n)):.3f}" for n in CHAINS]
        rows += [[f"`{label(start)}`", *fixed], ["learned from there", *learned]]
    return table(["betas", *(f"T = {n}" for n in CHAINS)], rows)


def picture_of_the_betas() -> None:
    steps = CHAINS[-1]
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    linear, cosine = (BetaVectorConfig(steps, s).build() for s in (BetaLinear(), Cosine(0.008)))
    learned = learned_betas(steps, BetaLinear())
    k = torch.arange(1, steps + 1)
    for schedule, name, colour in zip(
        (linear, cosine, learned), ("linear", "cosine", "learned from linear"), COLOURS, strict=True
    ):
        axes.plot(k, schedule.betas().detach(), ".-", color=colour, label=name)
    axes.set(xlabel="step", ylabel="beta", yscale="log", xticks=range(2, steps + 1, 2))
    axes.legend(frameon=False)
    save(figure, "learned-betas")


# -- the variance of the reverse step ----------------------------------------------------------------------


@cache
def network() -> Preconditioned:
    """A small network that has learned mean and variance of x_0 by the hybrid objective."""
    torch.manual_seed(0)
    built = MLPConfig(width=64, depth=2, embedding=64).build(2, (), out=4)
    denoiser = Preconditioned(built, Gaussian(Cosine(0.008)), V(), 0.8, variance=True)

    def loss(batch: Batch, rng: Rng) -> Tensor:
        return Hybrid().loss(denoiser, Batch(batch.x_0.float(), index=batch.index), rng)

    learn(loss, denoiser.parameters(), 1000, 3e-3, 512)
    return denoiser.requires_grad_(False)


def variances() -> str:
    exact, rows = mixture(Cosine(0.008)), []
    for name, denoiser in (("exact", exact), ("network", network())):
        for variance in ("lower", "upper", "learned"):
            found = [cost(denoiser, Bound(steps=n, variance=variance, levels=None)) for n in STEPS]
            rows.append([name, variance, *(f"{value:.3f}" for value in found)])
    return table(["denoiser", "variance", *(f"T = {n}" for n in STEPS)], rows)


def distances() -> str:
    """Energy distance from the law there should be, in thousandths; before the last step of five, and at the end."""
    n, rows = 4000, []
    grids = [times.uniform(STEPS[0])[:-1], *(times.uniform(steps) for steps in STEPS)]
    for name, denoiser in (("exact", mixture(Cosine(0.008))), ("network", network())):
        dtype, process = precision(denoiser), denoiser.process
        data = mixture(Linear()).draw(Rng.of(10_000, n)).to(dtype)
        for variance in ("lower", "upper", "learned"):
            row = []
            for grid in grids:
                rng = Rng.of(0, n)
                x = process.prior((n, 2), rng.fork("prior"), dtype)
                x = sample(denoiser, DDPM(variance), grid, x, rng=rng)
                there = process.corrupt(data, grid[-1], Rng.of(20_000, n))
                row.append(f"{1000 * energy_distance(x, there):.1f}")
            rows.append([name, variance, *row])
    columns = [f"{STEPS[0]} steps, at t = {float(grids[0][-1]):.1f}", *(f"{steps} steps" for steps in STEPS)]
    return table(["denoiser", "variance", *columns], rows)


# -- the page ----------------------------------------------------------------------------------------------


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


def save(figure: plt.Figure, name: str) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


def main() -> None:
    torch.set_num_threads(1)
    mpl.rcParams["svg.hashsalt"] = "unstir"  # the same file every time
    page = PAGE.read_text()
    for name, made in (
        ("curves", curves),
        ("bounds", bounds),
        ("betas", betas),
        ("variances", variances),
        ("distances", distances),
    ):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, found = re.subn(pattern, lambda m, made=made: f"{m[1]}{made()}\n{m[2]}", page, flags=re.S)
        assert found == 1, f"{PAGE} has {found} places marked {name}"
    PAGE.write_text(page)
    picture_of_the_curve()
    picture_of_the_betas()


if __name__ == "__main__":
    main()
