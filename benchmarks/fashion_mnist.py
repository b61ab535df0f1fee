"""How good is `unstir train fashion-mnist time=T`, all defaults? Frechet distance in a judge's features.

    python benchmarks/fashion_mnist.py [--time 10m] [--out runs/bench-fashion] [--only-judge]

Trains with the command line, samples 2,000 pictures with the command line, and compares them with 20,000
training pictures in the features of an independent classifier. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from judge import Judge, frechet

from unstir.data import open_data
from unstir.pipeline import load


def unstir(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "unstir", *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", default="10m")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-fashion"))
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--settings", nargs="*", default=[], help="further key=value settings of train")
    parser.add_argument("--sampling", nargs="*", default=[], help="further key=value settings of sample")
    parser.add_argument("--only-judge", action="store_true", help="judge the run that --out holds")
    options = parser.parse_args()
    if not options.only_judge:
        command = ["train", "fashion-mnist", f"time={options.time}", f"out={options.out}", "--overwrite"]
        unstir(*command, *options.settings)
    start = time.monotonic()
    samples = options.out / f"samples-{options.n}.npz"
    unstir("sample", str(options.out), f"n={options.n}", f"out={samples}", *options.sampling)
    seconds = time.monotonic() - start

    train, test = open_data("fashion-mnist")
    judge = Judge.train_on(train.x, train.y, epochs=4, cache=Path("runs/judges/fashion-mnist.safetensors"))
    real = judge.embed(train.x[:20_000])
    drawn = np.load(samples)
    generated = judge.embed(drawn["x"])
    result = {
        "time": options.time,
        "fid": round(frechet(real, generated), 2),
        "fid_real_test": round(frechet(real, judge.embed(test.x[: options.n])), 2),
        "judge_accuracy": round(float((judge.predict(test.x) == test.y).mean()), 4),
        "label_agreement": round(float((judge.predict(drawn["x"]) == drawn["y"]).mean()), 4),
        "n": options.n,
        "sampling_seconds": round(seconds, 1),
        "parameters": load(options.out).describe()["parameters"],
        "recipe": json.loads(str(drawn["recipe"])),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
