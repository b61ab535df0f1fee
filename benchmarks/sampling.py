"""What does sampling cost beyond the network itself?

    python benchmarks/sampling.py [RUN]

Twenty steps of `Pipeline.sample` against twenty calls of the bare network on the same padded micro-batch,
taken in turns; the share that the library adds is the median of the ratios, less one. Without RUN a model of
28x28 pictures with fresh weights serves: its speed is that of a trained one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from unstir.codecs import ScaleConfig
from unstir.embedders import LabelConfig
from unstir.model import ModelConfig
from unstir.networks import UNetConfig
from unstir.parameterization import EDM
from unstir.pipeline import Pipeline, load
from unstir.process import Linear


def fresh() -> Pipeline:
    config = ModelConfig(
        network=UNetConfig(),
        schedule=Linear(),
        parameterization=EDM(),
        sigma_data=0.5,
        codec=ScaleConfig(),
        shape=(1, 28, 28),
        classes=tuple("0123456789"),
        class_counts=(1,) * 10,
        embedder=LabelConfig(),
    )
    return Pipeline(config, config.build().eval())


@torch.no_grad()
def bare(pipe: Pipeline, steps: int) -> float:
    """Seconds of `steps` network calls on one micro-batch."""
    micro = pipe.config.defaults.micro_batch
    x = torch.randn(micro, *pipe.config.shape)
    cond = pipe.condition(torch.zeros(micro, dtype=torch.int64) if pipe.config.classes else None)
    noise = torch.zeros(())
    start = time.perf_counter()
    for _ in range(steps):
        pipe.denoiser.network(x, noise, cond)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    pipe = load(options.run) if options.run else fresh()
    n = pipe.micro_batch()  # also warms up
    ratios, seconds = [], []
    for _ in range(options.rounds):
        before = bare(pipe, options.steps)
        start = time.perf_counter()
        pipe.sample(n=n, steps=options.steps, guidance=1.0)
        whole = time.perf_counter() - start
        ratios.append(2 * whole / (before + bare(pipe, options.steps)))
        seconds.append(whole)
    result = {
        "steps": options.steps,
        "micro_batch": n,
        "seconds": round(statistics.median(seconds), 4),
        "overhead": round(statistics.median(ratios) - 1, 4),
        "rounds": options.rounds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
