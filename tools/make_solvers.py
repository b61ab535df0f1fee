"""Write the tables of docs/solvers.md from measured values: `python tools/make_solvers.py`.

With `--check` nothing is written; exit code 1 says that the page is out of date. The measurements are those of the
tests, on the mixture and with the exact reference of tests/truth.py. About a minute on one core.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

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
    label,
    measured_order,
    mixture,
    problem,
    solution,
)
from unstir import solvers, times  # noqa: E402
from unstir.evaluate.orders import measured_order as weak_order  # noqa: E402
from unstir.process import Cosine, Linear  # noqa: E402
from unstir.rng import Rng  # noqa: E402
from unstir.sampling import invert, sample  # noqa: E402
from unstir.solvers.base import Solver  # noqa: E402

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
    return 0


if __name__ == "__main__":
    sys.exit(main())
