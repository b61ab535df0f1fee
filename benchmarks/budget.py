"""What does a minute of training buy? Settings compared at equal time, by the loss on held-out pictures.

    python benchmarks/budget.py [--data fashion-mnist] [--time 60] [--only adamw]

Each row is one run of the command line with one thing changed from the defaults. The held-out loss is that of
the averaged weights, on the same pictures, noise and times for all; objectives that weigh differently do not
belong in one table, so none is changed here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from unstir.pipeline import load
from unstir.runs import read_metrics

CHANGES = {
    "defaults": [],
    "optimizer=adamw, lr 2e-3": ["optimizer=adamw", "optimizer.lr=2e-3"],
    "optimizer=adamw, lr 4e-3": ["optimizer=adamw", "optimizer.lr=4e-3"],
    "batch=128": ["batch=128"],
    "batch=32": ["batch=32"],
    "unet 64-128": ["network.widths=64,128", "network.blocks=1,2"],
    "unet 64-128-192": ["network.widths=64,128,192"],
    "dit": ["network=dit"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--time", default="60")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    options = parser.parse_args()
    print("| change | parameters | pictures seen | held-out loss |\n| --- | --- | --- | --- |")
    for name, settings in CHANGES.items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            command = [sys.executable, "-m", "unstir", "train", options.data, f"time={options.time}"]
            settings = [*settings, f"out={run}", "preview_every=100000", "-q"]
            subprocess.run([*command, *settings], check=True, stdout=subprocess.DEVNULL)
            records = read_metrics(run)
            samples = max(r["samples"] for r in records if "samples" in r)
            loss = [r["heldout_loss"] for r in records if "heldout_loss" in r][-1]
            parameters = load(run).describe()["parameters"]
            print(f"| {name} | {parameters / 1e6:.2f} M | {samples:,} | {loss:.4f} |", flush=True)


if __name__ == "__main__":
    main()
