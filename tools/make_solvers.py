"""Write the tables of docs/solvers.md from measured values: `python tools/make_solvers.py`.

With `--check` nothing is written; exit code 1 says that the page is out of date. The measurements are those of the
tests, on the mixture and with the exact reference of tests/truth.py. About a minute on one core.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator
from torch import Tensor

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "solvers.md"
sys.path.insert(0, str(ROOT / "tests"))

from truth import (  # noqa: E402
    DETERMINISTIC,
    END,
    SHOWN_SCHEDULES,
    START,
    STOCHASTIC,
    Counting,
    double,
    energy_distance,
    error,
    label,
    measured_order,
    mixture,
    problem,
    solution,
)
from unstir import solvers, times  # noqa: E402
from unstir.evaluate.orders import measured_order as weak_order  # noqa: E402
from unstir.noise import Noise  # noqa: E402
from unstir.process import Cosine, Gaussian, Linear  # noqa: E402
from unstir.rng import Rng  # noqa: E402
from unstir.sampling import invert, sample  # noqa: E402
from unstir.solvers.base import Bound, Solver, Step, hold  # noqa: E402

mpl.rcParams["svg.hashsalt"] = "unstir"  # the same file from the same numbers

BUDGETS = (8, 16, 32)
ITERATIONS = (1, 2, 3, 5, 10)
BEST_FOR = re.compile(r"Best for: (.*?)(?:\.\s|\.$|:\s|$)", re.S)
CLAIMING = tuple(s for s in DETERMINISTIC if s.order is not None)
DEFAULTS = tuple(getattr(solvers, name)() for name in solvers.__all__)
SHOWN = tuple(dict.fromkeys(s for s in (*DEFAULTS, *STOCHASTIC) if s.evaluations is not None))
"""The solvers whose samples are compared: each once, and those with noise in all their kinds."""


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(part: object) -> str:
    return f"`{label(part)}`"


def what_they_are() -> str:
    """Every solver once, as it is by default."""

    def row(name: str) -> list[str]:
        solver: Solver = getattr(solvers, name)()
        use = BEST_FOR.search(inspect.getdoc(solver) or "")
        calls = "varies" if solver.evaluations is None else str(solver.evaluations)
        return [
            f"`{name}`",
            "none" if solver.order is None else str(solver.order),
            calls + f", {solver.startup} more at first" * bool(solver.startup),
            "yes" if solver.stochastic else "no",
            "yes" if solver.pure else "no",
            " ".join(use[1].split()) if use else "",
        ]

    head = ("solver", "order", "calls a step", "fresh noise", "`invert`", "best for")
    return table(head, map(row, solvers.__all__))


def orders() -> str:
    rows = (
        [code(s), *(f"{measured_order(s, schedule):.2f}" for schedule in SHOWN_SCHEDULES)] for s in CLAIMING
    )
    return table(("solver", *map(code, SHOWN_SCHEDULES)), rows)


def weak_orders() -> str:
    rows = ([code(s), str(s.order), f"{weak_order(s):.2f}"] for s in STOCHASTIC if s.order is not None)
    return table(("solver", "claimed", "measured"), rows)


def adaptive() -> str:
    """Over the interior interval of the orders: calls for the slowest of eight samples, and the error."""
    denoiser, x, exact = problem(Cosine())

    def row(tolerance: float) -> list[str]:
        cells = [f"{tolerance:.0e}"]
        for pair in ("bs32", "dp54"):
            counted = Counting(denoiser)
            solver = solvers.Adaptive(pair, rtol=tolerance, atol=tolerance)
            found = sample(counted, solver, double(START, END), x, rng=Rng.of(0, 8))
            cells += [str(counted.calls), f"{float((found - exact).square().mean().sqrt()):.0e}"]
        return cells

    head = ("tolerance", "`bs32`: calls", "error", "`dp54`: calls", "error")
    return table(head, map(row, (1e-2, 1e-3, 1e-4, 1e-6, 1e-8)))


def inversion() -> str:
    """To noise and back by DDIM on a uniform grid: root mean square distance from the data."""
    denoiser, rng = mixture(Cosine()), Rng.of(0, 256)
    x = denoiser.draw(rng)

    def row(steps: int) -> list[str]:
        grid = times.uniform(steps)
        cells = [str(steps)]
        for iterations in ITERATIONS:
            z = invert(denoiser, solvers.DDIM(), grid, x, iterations=iterations)
            back = sample(denoiser, solvers.DDIM(), grid, z, rng=rng)
            cells.append(f"{float((back - x).square().mean().sqrt()):.0e}")
        return cells

    return table(("steps", *(f"{n} iteration{'s' * (n > 1)}" for n in ITERATIONS)), map(row, (10, 20, 40)))


def steps_for(solver: Solver, calls: int) -> int:
    """The steps that `calls` denoiser calls pay for; the last step always costs one."""
    assert solver.evaluations is not None
    return 1 + max(calls - 1 - solver.startup, 0) // solver.evaluations


def errors() -> str:
    """From x_1 to x_0: root mean square distance from the exact flow, Linear, uniform times."""
    denoiser, n = mixture(Linear()), 100
    x = denoiser.process.prior((n, 2), Rng.of(0, n), torch.float64)
    # the exact flow from just beside both ends, where it has them as limits
    near_1, near_0 = double(1 - 1e-7), double(1e-7)
    exact = solution(denoiser, near_1 * x + (1 - near_1) * denoiser(x, double(1.0)), near_1, near_0)

    def row(solver: Solver) -> list[str]:
        cells = []
        for calls in BUDGETS:
            counted = Counting(denoiser)
            found = sample(counted, solver, times.uniform(steps_for(solver, calls)), x, rng=Rng.of(0, n))
            assert counted.calls <= calls
            cells.append(f"{float((found - exact).square().mean().sqrt()):.4f}")
        return [code(solver), *cells]

    return table(("solver", *(f"{calls} calls" for calls in BUDGETS)), map(row, CLAIMING))


def distances() -> str:
    """Energy distance of 1500 samples to 1500 draws of the data, Cosine, uniform times, thousandths."""
    denoiser, n = mixture(Cosine()), 1500
    x, data = denoiser.process.prior((n, 2), Rng.of(0, n), torch.float64), denoiser.draw(Rng.of(10**6, n))

    def row(solver: Solver) -> list[str]:
        cells = []
        for calls in (*BUDGETS, 128):
            grid = times.uniform(steps_for(solver, calls))
            found = sample(denoiser, solver, grid, x, rng=Rng.of(0, n).fork("solver"))
            cells.append(f"{1000 * energy_distance(found, data):.1f}")
        return [code(solver), *cells]

    return table(("solver", *(f"{calls} calls" for calls in (*BUDGETS, 128))), map(row, SHOWN))


@dataclass(frozen=True)
class Published(Solver):
    """DPM-Solver++ (3M) with the coefficients of diffusers, after a start by `DPMpp3M`.

    Divided differences d_1, d_2 of the last three x_0, at h and r_i h, are weighted by phi_2 = (e^-h - 1)/h + 1 and
    phi_2/h - 1/2. The parabola's second derivative is 2 d_2/h^2, of which that is half.
    """

    process = Gaussian
    order = 3
    evaluations = 1

    def step(self, denoiser: Bound, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise) -> Step:
        ours = solvers.DPMpp3M().step(denoiser, x_t, t, s, state, noise)
        if len(ours.state) < 3:
            return ours
        (a, b, c), schedule = ours.state, denoiser.schedule
        h = (schedule.log_snr(s) - schedule.log_snr(t)) / 2
        first, second = (
            h * (a.value - b.value) / (a.place - b.place),
            h * (b.value - c.value) / (b.place - c.place),
        )
        d_2 = h * (first - second) / (a.place - c.place)
        d_1 = first + d_2 * (a.place - b.place) / h
        phi_2 = torch.expm1(-h) / h + 1
        mean = hold(denoiser.process, x_t, a.value, t, s)
        x_s = mean + schedule.alpha(s) * (phi_2 * d_1 - (phi_2 / h - 0.5) * d_2)
        return Step(x_s, ours.x_0, ours.state)


def draw_third_order() -> None:
    """docs/images/third-order.svg: errors of three methods against the number of steps, `Linear`."""
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    steps = [20, 40, 80, 160, 320]
    for name, solver in (
        ("2M, order 2", solvers.DPMpp2M()),
        ("3M as published", Published()),
        ("3M here, order 3", solvers.DPMpp3M()),
    ):
        axes.loglog(steps, [error(solver, Linear(), n) for n in steps], marker="o", markersize=4, label=name)
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("steps from t = 0.85 to 0.15")
    axes.set_ylabel("distance from the exact flow")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PAGE.parent / "images" / "third-order.svg", metadata={"Date": None})


def filled(page: str) -> str:
    """The page with the text between each pair of markers made anew."""
    for name, made in (
        ("solvers", what_they_are),
        ("orders", orders),
        ("weak orders", weak_orders),
        ("adaptive", adaptive),
        ("inversion", inversion),
        ("errors", errors),
        ("distances", distances),
    ):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, found = re.subn(pattern, lambda m, made=made: f"{m[1]}{made()}\n{m[2]}", page, flags=re.S)
        assert found == 1, f"{PAGE} has {found} places marked {name}"
    return page


def main() -> int:
    torch.set_num_threads(1)
    page = PAGE.read_text()
    made = filled(page)
    if "--check" in sys.argv[1:]:
        return int(made != page)
    PAGE.write_text(made)
    draw_third_order()
    return 0


if __name__ == "__main__":
    sys.exit(main())
