"""How long does it take to compare 10,000 samples with 60,000 pictures, sampling apart?

    python benchmarks/evaluation.py [--data fashion-mnist] [--n 10000] [--against 60000] [--only fid] [--dear]

Held-out pictures with a little noise stand for samples: they cost what samples cost. Each part is timed twice, with an
empty cache and with what the first round left in it; what needs a denoiser is left out. The goal is three minutes on
two cores.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from unstir.data import Dataset, open_data
from unstir.evaluate import Drawn, Evidence, Metric, embedded, encoder_for
from unstir.spec import choices

GOAL = 180.0


class Clock:
    """Seconds by part, on the wall and of the processor, in the order of the parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, processor = time.monotonic(), time.process_time()
        yield
        self.seconds[name] = time.monotonic() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--n", type=int, default=10_000, help="samples")
    parser.add_argument(
        "--against", type=int, default=60_000, help="pictures they are compared with, at most"
    )
    parser.add_argument("--only", default="", help="metrics, as fid,prdc; all by default")
    parser.add_argument(
        "--dear", action="store_true", help="the metrics too that are measured only when named"
    )
    options = parser.parse_args()
    metrics = [
        metric()
        for name, metric in choices(Metric).items()  # type: ignore[type-abstract]
        if (name.lower() in options.only.split(",") if options.only else options.dear or not metric.dear)
    ]
    train, heldout = open_data(options.data)
    train = part(train, options.against)
    with tempfile.TemporaryDirectory() as cache:
        rounds = [measure(train, heldout, options.n, metrics, cache, say) for say in (print, str)]
    print(f"\n{options.n:,} samples against {len(train):,} pictures of {options.data}, {machine()}\n")
    print("| part | seconds | of the processor | with a warm cache |\n| --- | --- | --- | --- |")
    cold, warm = (clock.seconds for clock in rounds)
    for name, (wall, processor) in cold.items():
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {warm[name][0]:.1f} |")
    totals = [sum(wall for wall, _ in clock.seconds.values()) for clock in rounds]
    used = sum(processor for _, processor in cold.values())
    print(f"| all | {totals[0]:.1f} | {used:.1f} | {totals[1]:.1f} |")
    print(f"\ngoal: {GOAL:.0f} s; {'met' if totals[0] < GOAL else 'MISSED'} with an empty cache")


def measure(train: Dataset, heldout: Dataset, n: int, metrics: list[Metric], cache: str, say) -> Clock:  # type: ignore[no-untyped-def]
    clock = Clock()
    with clock.part("the encoder"):
        encoder = encoder_for(None, train, heldout, cache=cache, say=say)
    evidence = Evidence(
        train,
        heldout,
        encoder,
        samples(heldout, n),
        embed=lambda encoder, data: embedded(encoder, data, cache),
    )
    with clock.part("features of the pictures"):
        _ = evidence.train_features, evidence.heldout_features
    with clock.part("features of the samples"):
        _ = evidence.drawn_features
    for metric in metrics:
        name = type(metric).__name__
        if why := metric.lacks(evidence):
            say(f"{name} is left out: {why}")
            continue
        with clock.part(name):
            finding = metric.measure(evidence)
        say(f"{name}: " + ", ".join(f"{number.name} {number.value:.4g}" for number in finding.numbers))
    return clock


def samples(heldout: Dataset, n: int) -> Drawn:
    """n held-out pictures, repeated where there are fewer, with noise of 8 of 255."""
    rows = np.arange(n) % len(heldout)
    noise = np.random.default_rng(0).normal(0, 8, (n, *heldout.x.shape[1:]))
    x = (heldout.x[rows] + noise).round().clip(0, 255).astype(np.uint8)
    return Drawn(x, None if heldout.y is None else heldout.y[rows], (0, n - 1))


def part(data: Dataset, count: int) -> Dataset:
    if len(data) <= count:
        return data
    rows = data.rows[np.linspace(0, len(data) - 1, count).astype(np.int64)]
    return Dataset(data.info.source, data.items, rows)


def machine() -> str:
    return f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
