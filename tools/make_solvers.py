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
    DEFAULT_SCHEDULES,
    DETERMINISTIC,
    SOLVERS,
    Counting,
    double,
    energy_distance,
    label,
    measured_order,
    mixture,
    solution,
)
from unstir import times  # noqa: E402
from unstir.process import Cosine, Linear  # noqa: E402
from unstir.rng import Rng  # noqa: E402
from unstir.sampling import sample  # noqa: E402
from unstir.solvers.base import Solver  # noqa: E402

BUDGETS = (8, 16, 32)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(part: object) -> str:
    return f"`{label(part)}`"


def what_they_are() -> str:
    def row(solver: Solver) -> list[str]:
        order = "none" if solver.order is None else str(solver.order)
        drawn = "yes" if solver.stochastic else "no"
        use = re.search(
            r"Best for: (.*?)(?:\.\s|\.$|:\s)", inspect.cleandoc(type(solver).__doc__ or ""), re.S
        )
        return [code(solver), order, str(solver.evaluations), drawn, " ".join(use[1].split()) if use else ""]

    return table(("solver", "order", "calls a step", "fresh noise", "best for"), map(row, SOLVERS))


def orders() -> str:
    rows = (
        [code(s), *(f"{measured_order(s, schedule):.2f}" for schedule in DEFAULT_SCHEDULES)]
        for s in DETERMINISTIC
    )
    return table(("solver", *map(code, DEFAULT_SCHEDULES)), rows)


def steps_for(solver: Solver, calls: int) -> int:
    """The steps that `calls` denoiser calls pay for; the last step always costs one."""
    assert solver.evaluations is not None
    return 1 + (calls - 1) // solver.evaluations


def errors() -> str:
    """From x_1 to x_0: root mean square distance from the exact flow, Linear, uniform times."""
    denoiser, n = mixture(Linear()), 256
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

    return table(("solver", *(f"{calls} calls" for calls in BUDGETS)), map(row, DETERMINISTIC))


def distances() -> str:
    """Energy distance of 2000 samples to 2000 draws of the data, Cosine, uniform times, thousandths."""
    denoiser, n = mixture(Cosine()), 2000
    x, data = denoiser.process.prior((n, 2), Rng.of(0, n), torch.float64), denoiser.draw(Rng.of(10**6, n))

    def row(solver: Solver) -> list[str]:
        cells = []
        for calls in (*BUDGETS, 128):
            grid = times.uniform(steps_for(solver, calls))
            found = sample(denoiser, solver, grid, x, rng=Rng.of(0, n).fork("solver"))
            cells.append(f"{1000 * energy_distance(found, data):.1f}")
        return [code(solver), *cells]

    return table(("solver", *(f"{calls} calls" for calls in (*BUDGETS, 128))), map(row, SOLVERS))


def filled(page: str) -> str:
    """The page with the text between each pair of markers made anew."""
    for name, made in (
        ("solvers", what_they_are),
        ("orders", orders),
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
