"""Write the table of docs/guidance.md from measured values: `python tools/make_guidance.py`.

With `--check` nothing is written; exit code 1 says that the page is out of date. Half a minute on one core.

The data are the ten digits as ten Gaussians in 64 dimensions, with the means and covariances of the embedded 8x8
digits, so that the law of every class is known. The model is the exact denoiser of the same Gaussians made wider, as
a network that has not learned enough would be; the worse model is that of still wider ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guidance.md"
sys.path.insert(0, str(ROOT / "tests"))

from truth import Counting, double  # noqa: E402
from unstir import times  # noqa: E402
from unstir.analytic import GaussianMixture  # noqa: E402
from unstir.condition import Condition  # noqa: E402
from unstir.data import open_data  # noqa: E402
from unstir.denoiser import Denoiser  # noqa: E402
from unstir.guidance import (  # noqa: E402
    Autoguidance,
    CFGPlusPlus,
    CFGZero,
    ClassifierFree,
    ClassifierGuided,
    Projected,
    Rescaled,
    Threshold,
)
from unstir.process import Gaussian, Linear  # noqa: E402
from unstir.rng import Rng  # noqa: E402
from unstir.sampling import sample  # noqa: E402
from unstir.solvers import DDIM, DPMpp2M  # noqa: E402
from unstir.solvers.base import Solver  # noqa: E402

CLASSES, PER_CLASS, STEPS = 10, 60, 20
NUGGET, MODEL, WORSE = 0.02, 0.2, 0.5
"""Variances added to the covariances: of the data, of the model, of the worse model."""


def digits() -> tuple[Tensor, Tensor]:
    """Means (10, 64) and covariances (10, 64, 64) of the classes."""
    data, _ = open_data("digits")
    x, y = data.take(torch.arange(len(data)).numpy())
    x = x.double().flatten(1) / 127.5 - 1
    means = torch.stack([x[y == k].mean(0) for k in range(CLASSES)])
    covariances = torch.stack([torch.cov(x[y == k].T) for k in range(CLASSES)])
    return means, covariances


MEANS, COVARIANCES = digits()
LABELS = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
COND = Condition(vector=torch.eye(CLASSES, dtype=torch.float64).log()[LABELS])


def gaussians(extra: float) -> GaussianMixture:
    wider = COVARIANCES + extra * torch.eye(64, dtype=torch.float64)
    return GaussianMixture(Gaussian(Linear()), torch.ones(CLASSES, dtype=torch.float64), MEANS, wider)


TRUTH, STRONG, WEAK = gaussians(NUGGET), gaussians(MODEL), Counting(gaussians(WORSE))


def classifier(x_t: Tensor, t: Tensor) -> Tensor:
    """log p(k | x_t) of the model: what a network trained as long as it would give."""
    return STRONG._components(x_t, t, None)[0].log_softmax(1)


def frechet(x: Tensor) -> float:
    """Mean over the classes of |m - m_k|^2 + tr(C + C_k - 2 (C C_k)^(1/2))."""
    found = []
    for k in range(CLASSES):
        rows = x[k * PER_CLASS : (k + 1) * PER_CLASS]
        C, C_k = torch.cov(rows.T), COVARIANCES[k] + NUGGET * torch.eye(64, dtype=torch.float64)
        root = torch.linalg.eigvals(C @ C_k).real.clamp(min=0).sqrt().sum()
        found.append(((rows.mean(0) - MEANS[k]) ** 2).sum() + C.trace() + C_k.trace() - 2 * root)
    return float(torch.stack(found).mean())


Make = Callable[[Denoiser], Denoiser]
METHODS: dict[str, tuple[Make, Solver]] = {
    "none": (lambda d: d, DPMpp2M()),
    "`ClassifierFree(2)`": (lambda d: ClassifierFree(d, 2.0), DPMpp2M()),
    "`ClassifierFree(6)`": (lambda d: ClassifierFree(d, 6.0), DPMpp2M()),
    "`ClassifierFree(6, interval=(0.2, 0.8))`": (
        lambda d: ClassifierFree(d, 6.0, interval=(0.2, 0.8)),
        DPMpp2M(),
    ),
    "`ClassifierFree(6, rule=Rescaled(0.7))`": (lambda d: ClassifierFree(d, 6.0, rule=Rescaled()), DPMpp2M()),
    "`ClassifierFree(6, rule=Projected())`": (lambda d: ClassifierFree(d, 6.0, rule=Projected()), DPMpp2M()),
    "`ClassifierFree(6, rule=CFGZero())`": (lambda d: ClassifierFree(d, 6.0, rule=CFGZero()), DPMpp2M()),
    "`ClassifierFree(0.6, rule=CFGPlusPlus())`, `DDIM`": (
        lambda d: ClassifierFree(d, 0.6, rule=CFGPlusPlus()),
        DDIM(),
    ),
    "`Threshold(ClassifierFree(6), 0.9, bound=1.5)`": (
        lambda d: Threshold(ClassifierFree(d, 6.0), 0.9, bound=1.5),
        DPMpp2M(),
    ),
    "`ClassifierGuided(6)`": (lambda d: ClassifierGuided(d, classifier, LABELS, 6.0), DPMpp2M()),
    "`Autoguidance(2)`": (lambda d: Autoguidance(d, WEAK, 2.0), DPMpp2M()),
    "`Autoguidance(6)`": (lambda d: Autoguidance(d, WEAK, 6.0), DPMpp2M()),
}


def line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def judged(x: Tensor) -> list[str]:
    """What the columns say about samples in the order of LABELS."""
    posterior = TRUTH._components(x, double(0.0), None)[0].softmax(1)
    agreement = (posterior.argmax(1) == LABELS).double().mean()
    contrast = x.std(1).mean() / real().std(1).mean()
    outside = (x.abs() > 1.5).double().mean()
    return [f"{frechet(x):.1f}", f"{agreement:.0%}", f"{contrast:.2f}", f"{outside:.0%}"]


def real() -> Tensor:
    """Draws of the true law of each class."""
    Q, v = TRUTH.axes[LABELS], TRUTH.variances[LABELS]
    z = Rng.of(10**6, len(LABELS)).normal(v.shape, torch.float64)
    return MEANS[LABELS] + torch.einsum("bde,be->bd", Q, v.sqrt() * z)


def row(name: str, make: Make, solver: Solver) -> str:
    n, counted = len(LABELS), Counting(STRONG)
    WEAK.calls = 0
    x = STRONG.process.prior((n, 64), Rng.of(0, n), torch.float64)
    found = sample(make(counted), solver, times.uniform(STEPS), x, cond=COND, rng=Rng.of(0, n))
    worse = f" + {WEAK.calls} of the worse model" if WEAK.calls else ""
    return line(name, f"{counted.calls}{worse}", *judged(found))


@torch.no_grad()
def table() -> str:
    header = ("guidance", "calls", "distance", "right class", "contrast", "out of range")
    rows = (row(name, *method) for name, method in METHODS.items())
    return "\n".join([line(*header), line(*["---"] * 6), *rows, line("(the data)", "", *judged(real()))])


def main() -> int:
    torch.set_num_threads(1)
    page = PAGE.read_text()
    made, count = re.subn(
        r"(<!-- methods -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{table()}\n{m[2]}", page, flags=re.S
    )
    assert count == 1, f"{PAGE} has {count} places marked methods"
    if "--check" in sys.argv[1:]:
        return int(made != page)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
