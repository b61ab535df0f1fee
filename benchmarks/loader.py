"""What share of a training step does the data take?

    python benchmarks/loader.py

Batches of 28x28 pictures with labels, drawn, mirrored and scaled as in training, against the training step of
the default network on the same batch, taken in turns.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from unstir import runs
from unstir.recipes import Data, Recipe
from unstir.train import Trainer, Training


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pictures.npz"
        rng = np.random.default_rng(0)
        np.savez(source, x=rng.integers(0, 256, (20_000, 28, 28), np.uint8), y=rng.integers(0, 10, 20_000))
        recipe = Recipe(data=Data(source=str(source), flip=True), training=Training(steps=1000))
        job = runs.prepare(recipe, None, lambda line: None)
        batches = job.batches(job.train_set, training=True)
        settings, optimizer, objective = job.recipe.training, job.recipe.optimizer, job.recipe.objective
        trainer = Trainer(job.module, objective, batches, optimizer, settings)  # type: ignore[arg-type]
        loading, stepping = [], []
        steps = trainer.steps()
        for k in range(15):
            start = time.perf_counter()
            with torch.no_grad():
                batches(k * settings.batch, settings.batch)  # type: ignore[operator]
            middle = time.perf_counter()
            next(steps)
            loading.append(middle - start)
            stepping.append(time.perf_counter() - middle)
        share = statistics.median(loading[3:]) / statistics.median(stepping[3:])
        result = {
            "batch": settings.batch,
            "load_ms": round(1e3 * statistics.median(loading[3:]), 2),
            "step_ms": round(1e3 * statistics.median(stepping[3:]), 1),
            "share": round(share, 4),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
