"""What does `unstir tune` buy? Frechet distance of a model's samples before and after, at equal evaluations.

    python benchmarks/tune.py RUN [--budget 8] [--n 2000]

RUN is a run on fashion-mnist. A copy is tuned by the command line; then both are sampled from the same
seeds and compared with 20,000 training pictures in the features of an independent classifier. Prints the table of
docs/tune.md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from judge import Judge, frechet

from unstir.data import open_data
from unstir.pipeline import Pipeline, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/bench-fashion"))
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--n", type=int, default=2000)
    options = parser.parse_args()
    copy = options.run.with_name(f"{options.run.name}-tuned-{options.budget}")
    if not copy.exists():
        shutil.copytree(options.run, copy)
        subprocess.run(
            [sys.executable, "-m", "unstir", "tune", str(copy), f"budget={options.budget}"], check=True
        )
    train, _ = open_data("fashion-mnist")
    judge = Judge.train_on(train.x, train.y, epochs=4, cache=Path("runs/judges/fashion-mnist.safetensors"))
    real = judge.embed(train.x[:20_000])

    def row(name: str, pipe: Pipeline, **settings: Any) -> None:
        drawn = pipe.sample(n=options.n, **settings)
        agreement = (judge.predict(drawn.images) == drawn.labels).mean()
        distance = frechet(real, judge.embed(drawn.images))
        print(f"| {name} | {drawn.evaluations} | {distance:.2f} | {agreement:.1%} |", flush=True)

    plain, tuned = load(options.run), load(copy)
    calls = 1 if plain.config.defaults.guidance == 1 else 2
    print("| settings | evaluations | FID | label |\n| --- | --- | --- | --- |")
    row("tuned", tuned)
    few = options.budget // calls
    row(f"`grid=shifted`, {few} steps", plain, steps=few, grid="shifted")
    for steps in (few, options.budget, plain.config.defaults.steps, 100 // calls):
        row(f"the default, {steps} steps", plain, steps=steps)


if __name__ == "__main__":
    main()
