"""Write tests/parity/fixtures/prdc.json: what the published code makes of two sets of points.

Run with it importable (it is no dependency of the project):

    pip install --target DIR prdc scikit-learn
    PYTHONPATH=DIR python tools/make_prdc.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from prdc import compute_prdc

from unstir.rng import Rng

FILE = Path(__file__).parents[1] / "tests" / "parity" / "fixtures" / "prdc.json"
CASES = [
    {"seed": 0, "real": [300, 2], "drawn": [200, 2], "offset": 0, "copied": 0, "k": 5},
    {"seed": 1, "real": [200, 16], "drawn": [300, 16], "offset": 30, "copied": 0, "k": 3},
    {"seed": 2, "real": [400, 64], "drawn": [400, 64], "offset": 0, "copied": 100, "k": 5},
    {"seed": 3, "real": [250, 8], "drawn": [250, 8], "offset": 5, "copied": 60, "k": 1},
]


def points(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Real and drawn, whose spread is 0.8 of the real; `copied` real points are drawn as well, and also repeated.

    Multiples of 1/64, so that distances that are equal are equal in any arithmetic.
    """
    rng = Rng.of(case["seed"], 1)
    real, drawn = (
        (rng.fork(name).normal((1, *case[name]))[0].numpy() * scale * 64).round() / 64 + case["offset"]
        for name, scale in (("real", 1.0), ("drawn", 0.8))
    )
    n = case["copied"]
    drawn[:n] = real[:n]
    real[n : n + n // 2] = real[: n // 2]
    return real.astype(np.float32), drawn.astype(np.float32)


def main() -> None:
    found = []
    for case in CASES:
        real, drawn = (x.astype(np.float64) for x in points(case))
        numbers = compute_prdc(real, drawn, nearest_k=case["k"])
        found.append(case | {name: float(value) for name, value in numbers.items()})
        print(found[-1])
    FILE.write_text(json.dumps({"made_with": f"prdc {version('prdc')}", "cases": found}) + "\n")


if __name__ == "__main__":
    main()
