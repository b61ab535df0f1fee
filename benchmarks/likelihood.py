"""How many bits per dimension does a model need for clothes it has not seen, by each way of counting?

    python benchmarks/likelihood.py RUN [--n 500] [--device cuda] [--data fashion-mnist] [--against digits]

For every log-SNR at which the decoder may take over: the variational bound in continuous time, that of chains of
1000 and of 100 steps, and the probability-flow ODE, with the standard error over items and, in brackets, that of
the noises alone. Then how well each tells `--against`, made as large, from the data, by area under the ROC curve.
The noises of an item are the same in every row, so rows differ by less than their errors say.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from unstir.condition import Batch
from unstir.data import Dataset, open_data
from unstir.evaluate import Scores, roc, score
from unstir.likelihood import Estimate, bound, ode
from unstir.objectives import Bound
from unstir.pipeline import Pipeline, load
from unstir.rng import Rng

Way = Callable[[Batch, Rng], Estimate]


def ways(pipe: Pipeline, end: float) -> dict[str, Way]:
    objectives = {
        "bound": Bound(end=end),
        "chain of 1000": Bound(steps=1000, end=end),
        "chain of 100": Bound(steps=100, end=end),
    }
    found: dict[str, Way] = {
        name: partial(bound, pipe.denoiser, objective=objective) for name, objective in objectives.items()
    }
    return found | {"ODE": partial(ode, pipe.denoiser, end=end)}


def scores(pipe: Pipeline, data: Dataset, way: Way, n: int) -> Scores:
    rows = np.unique(np.linspace(0, len(data) - 1, n).round().astype(np.int64))

    def batch(first: int, count: int) -> Batch:
        x, _ = data.take(rows[first : first + count])
        embedder = pipe.denoiser.embedder
        return Batch(pipe.codec.encode(x.to(pipe.device)), embedder and embedder(None, len(x)))

    return score(way, batch, len(rows), micro_batch=64 if pipe.device.type == "cpu" else 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="runs/bench-fashion")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--against", default="digits")
    parser.add_argument("--ends", type=float, nargs="+", default=[5.0, 7.0, 9.0, 11.0, 13.0])
    options = parser.parse_args()
    pipe = load(options.run, options.device)
    _, data = open_data(options.data)
    against, _ = open_data(
        options.against, size=pipe.config.shape[1], channels=pipe.config.shape[0], heldout=0
    )
    print(f"| end | way | {options.data} | {options.against} | ROC area | s per item |")
    print("| --- | --- | --- | --- | --- | --- |")
    for end in options.ends:
        for name, way in ways(pipe, end).items():
            start = time.perf_counter()
            usual, strange = (scores(pipe, part, way, options.n) for part in (data, against))
            if pipe.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - start) / (len(usual.bits) + len(strange.bits))
            curve = roc(usual.bits.numpy(), strange.bits.numpy())
            cells = (f"{s.mean:.3f} ± {s.mean_error:.3f} ({s.draw_error:.4f})" for s in (usual, strange))
            print(
                f"| {end:g} | {name} | {' | '.join(cells)} | {curve.area:.3f} ± {curve.error:.3f} | {seconds:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
