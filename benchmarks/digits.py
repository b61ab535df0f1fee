"""How good is `unstir demo`? Label agreement, recall and copies of 500 samples at default settings.

    python benchmarks/digits.py [RUN]

The judge is a classifier trained on real digits alone. Recall of the held-out digits is measured in its
features; a copy is a sample nearer to a training picture than 99% of the held-out pictures are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from judge import Judge, recall

from unstir.data import open_data
from unstir.demo import demo
from unstir.evaluate import nearest
from unstir.pipeline import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--guidance", type=float)
    options = parser.parse_args()
    if not options.run.exists():
        demo(options.run)
    train, test = open_data("digits")
    judge = Judge.train_on(train.x, train.y, epochs=40, cache=Path("runs/judges/digits.safetensors"))
    drawn = load(options.run).sample(n=options.n, guidance=options.guidance)
    unseen = nearest(test.x, train.x).distance
    found = nearest(drawn.images, train.x).distance
    result = {
        "judge_accuracy": round(float((judge.predict(test.x) == test.y).mean()), 4),
        "label_agreement": round(float((judge.predict(drawn.images) == drawn.labels).mean()), 4),
        "recall_heldout": round(recall(judge.embed(test.x), judge.embed(drawn.images)), 4),
        "recall_heldout_pixels": round(
            recall(test.x.reshape(len(test), -1) / 255.0, drawn.images.reshape(options.n, -1) / 255.0), 4
        ),
        "distinct": len(np.unique(drawn.images.reshape(options.n, -1), axis=0)),
        "copies": round(float((found < np.quantile(unseen, 0.01)).mean()), 4),
        "median_distance": {"samples": float(np.median(found)), "held_out": float(np.median(unseen))},
        "n": options.n,
        "guidance": drawn.recipe["guidance"],
        "evaluations": drawn.evaluations,
        "seconds": round(drawn.seconds, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
