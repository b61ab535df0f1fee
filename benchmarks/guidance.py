"""What does each guidance do to a trained model? Quality of labelled samples, one line per setting.

    python benchmarks/guidance.py [RUN] [--n 1000] [--only WORD]

RUN is a model of Fashion-MNIST, runs/bench-fashion of fashion_mnist.py by default. Prints a Markdown table: calls of
the network per sample, Frechet distance and label agreement in the features of the judge of that benchmark, and
recall of real pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from judge import Judge, frechet, recall

from unstir import Condition, Denoiser, Rng, sample, times
from unstir.data import open_data
from unstir.guidance import CFGPlusPlus, CFGZero, ClassifierFree, Projected, Rescaled, SkipLayers, Threshold
from unstir.pipeline import Pipeline, load
from unstir.solvers import DDIM, DPMpp2M
from unstir.solvers.base import Solver

STEPS, BATCH = 20, 100
Make = Callable[[Denoiser, Condition], Denoiser]
SETTINGS: dict[str, tuple[Make, Solver]] = {
    "none": (lambda d, no: d, DPMpp2M()),
    "`ClassifierFree(2)`": (lambda d, no: ClassifierFree(d, 2.0, no), DPMpp2M()),
    "`ClassifierFree(4)`": (lambda d, no: ClassifierFree(d, 4.0, no), DPMpp2M()),
    "`ClassifierFree(4, interval=(0.2, 0.8))`": (
        lambda d, no: ClassifierFree(d, 4.0, no, interval=(0.2, 0.8)),
        DPMpp2M(),
    ),
    "`ClassifierFree(4, rule=Rescaled(0.7))`": (
        lambda d, no: ClassifierFree(d, 4.0, no, rule=Rescaled(0.7)),
        DPMpp2M(),
    ),
    "`ClassifierFree(4, rule=Projected())`": (
        lambda d, no: ClassifierFree(d, 4.0, no, rule=Projected()),
        DPMpp2M(),
    ),
    "`ClassifierFree(4, rule=CFGZero())`": (
        lambda d, no: ClassifierFree(d, 4.0, no, rule=CFGZero()),
        DPMpp2M(),
    ),
    "`ClassifierFree(0.4, rule=CFGPlusPlus())`, `DDIM`": (
        lambda d, no: ClassifierFree(d, 0.4, no, rule=CFGPlusPlus()),
        DDIM(),
    ),
    "`Threshold(ClassifierFree(4))`": (lambda d, no: Threshold(ClassifierFree(d, 4.0, no)), DPMpp2M()),
    "`Threshold(ClassifierFree(4), None)`": (
        lambda d, no: Threshold(ClassifierFree(d, 4.0, no), None),
        DPMpp2M(),
    ),
    "`SkipLayers(1.5)`": (lambda d, no: SkipLayers(d, 1.5), DPMpp2M()),
}


@torch.no_grad()
def draw(pipe: Pipeline, make: Make, solver: Solver, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Pictures (n, H, W, C), their labels, and calls of the network per sample."""
    denoiser, embedder, calls = pipe.denoiser, pipe.denoiser.embedder, 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    assert embedder is not None
    handle, parts = denoiser.register_forward_hook(count), []
    labels = torch.arange(n) % len(pipe.config.classes)
    for first in range(0, n, BATCH):
        rng, y = Rng.of(first, BATCH), labels[first : first + BATCH]
        x = denoiser.process.prior((BATCH, *pipe.config.shape), rng.fork("prior"), torch.float32)
        guided = make(denoiser, embedder(None, BATCH))
        x = sample(guided, solver, times.uniform(STEPS), x, cond=embedder(y), rng=rng.fork("solver"))
        parts.append(pipe.codec.decode(x).movedim(1, -1).numpy())
    handle.remove()
    return np.concatenate(parts), labels.numpy(), calls * BATCH / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="runs/bench-fashion")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--only", default="", help="settings whose name holds this word")
    options = parser.parse_args()
    pipe = load(options.run)
    train, _ = open_data("fashion-mnist")
    judge = Judge.train_on(train.x, train.y, epochs=4, cache=Path("runs/judges/fashion-mnist.safetensors"))
    real = judge.embed(train.x[:20_000])
    print("| guidance | calls | FID | right class | recall |\n| --- | --- | --- | --- | --- |")
    for name, (make, solver) in SETTINGS.items():
        if options.only not in name:
            continue
        x, y, calls = draw(pipe, make, solver, options.n)
        found = judge.embed(x)
        right = (judge.predict(x) == y).mean()
        cells = (
            name,
            f"{calls:g}",
            f"{frechet(real, found):.2f}",
            f"{right:.1%}",
            f"{recall(real, found):.2f}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
