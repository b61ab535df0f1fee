"""Write the table of docs/restoration.md from measured values: `python tools/make_restoration.py`.

With `--check` nothing is written; exit code 1 says that the page is out of date. A quarter of an hour on one core, half
of it for particles.

Every method of `guidance` draws from posteriors that are known: of a Gaussian in 16 dimensions of which 8 random
combinations are measured, and of a mixture of two. Errors are of the samples' mean and covariance.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "restoration.md"
sys.path.insert(0, str(ROOT / "tests"))

from inverse import ROWS, Inverse, aligned, full, matrix, two_modes  # noqa: E402
from truth import Counting, label  # noqa: E402
from unstir import guidance, times  # noqa: E402
from unstir.errors import IncompatibleError  # noqa: E402
from unstir.guidance import DPS, MMPS, TDS, Method, PiGDM, Replacement  # noqa: E402
from unstir.rng import Rng  # noqa: E402
from unstir.solvers import DPMpp2M  # noqa: E402

SAMPLES, STEPS = 10_000, 200
"""Of each method; TDS takes 100 steps."""
PROBLEMS = {
    "no noise, independent": Inverse.drawn(aligned(), matrix(), 0.0),
    "std 0.05": Inverse.drawn(full(), matrix(), 0.05),
    "std 0.3": Inverse.drawn(full(), matrix(), 0.3),
    "two modes": two_modes(),
}
MORE = {"MMPS": (MMPS(iterations=8),), "TDS": (TDS(particles=1), TDS(particles=4))}
"""Beside the defaults."""
CLAIMS = {"DDNM": 1, "DDRM": 1, "DiffPIR": 1, "MMPS(iterations=8)": 3, "TDS": 4}
"""How many of the problems, from the first on, the method is exact for with enough steps and particles."""


def methods() -> Iterator[Method]:
    for word in guidance.__all__:
        part = getattr(guidance, word)
        if issubclass(part, Method) and part is not Method:
            yield part()
            yield from MORE.get(word, ())


def line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def judged(problem: Inverse, x: torch.Tensor) -> str:
    """Errors of mean and covariance of samples (N, D); of a mixture the weight of its first mode too."""
    said = " / ".join(f"{error:.1%}" for error in problem.errors(x))
    if len(problem.prior.means) == 1:
        return said
    nearest = torch.cdist(x, problem.posterior.means).argmin(1)
    return f"{said}, {(nearest == 0).double().mean():.2f}"


def row(method: Method) -> str:
    smooth = isinstance(method, (DPS, MMPS, PiGDM))  # what their own solver lacks would hide what they lack
    solver = DPMpp2M() if smooth or method.solver is None else method.solver
    K, grid = method.particles, times.uniform(100 if isinstance(method, TDS) else STEPS)
    cells, seconds, calls = [], [0.0], 0
    for place, problem in enumerate(PROBLEMS.values()):
        counted, start = Counting(problem.prior), time.perf_counter()
        try:
            x = problem.draw(method, solver, grid, SAMPLES, denoiser=counted)
        except IncompatibleError as error:
            print(f"{label(method)}: {error}", file=sys.stderr)
            cells.append("-")
            continue
        mark = "**" if place < CLAIMS.get(label(method), 0) else ""
        cells.append(f"{mark}{judged(problem, x.flatten(0, 1))}{mark}")
        calls = K * counted.calls // -(-SAMPLES // max(ROWS // K, 1))
        seconds.append(time.perf_counter() - start)
        print(label(method), *cells, calls, seconds[-1], file=sys.stderr)
    return line(f"`{label(method)}`", f"`{label(solver)}`", *cells, f"{calls}", f"{max(seconds):.0f}")


def table() -> str:
    header = ("method", "solver", *PROBLEMS, "calls", "seconds")
    drawn = [judged(p, p.posterior.draw(Rng.of(0, SAMPLES))) for p in PROBLEMS.values()]
    rows = [row(method) for method in methods() if not isinstance(method, Replacement)]  # none is a mask
    floor = line("(draws of p(x_0 given y))", "", *drawn, "", "")
    return "\n".join([line(*header), line(*["---"] * len(header)), *rows, floor])


def timeless(page: str) -> str:
    """The page without the seconds, which no two runs share."""
    return re.sub(r"\| \d+ \|$", "|", page, flags=re.M)


def main() -> int:
    torch.set_num_threads(1)
    measured = table()
    page = PAGE.read_text()  # not before: that took its time
    made, count = re.subn(
        r"(<!-- exactness -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{measured}\n{m[2]}", page, flags=re.S
    )
    assert count == 1, f"{PAGE} has {count} places marked exactness"
    if "--check" in sys.argv[1:]:
        return int(timeless(made) != timeless(page))
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
