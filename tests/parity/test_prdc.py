"""Precision, recall, density, coverage against the published code: same points, recorded by tools/make_prdc.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstir.evaluate.prdc import balls
from unstir.rng import Rng

CASES = json.loads((Path(__file__).parent / "fixtures" / "prdc.json").read_text())["cases"]


def points(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """As tools/make_prdc.py draws them: some points copied, some repeated."""
    rng, n = Rng.of(case["seed"], 1), case["copied"]
    real, drawn = (
        (rng.fork(name).normal((1, *case[name]))[0].numpy() * scale * 64).round() / 64 + case["offset"]
        for name, scale in (("real", 1.0), ("drawn", 0.8))
    )
    drawn[:n] = real[:n]
    real[n : n + n // 2] = real[: n // 2]
    return real.astype(np.float32), drawn.astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["seed"]))
def test_the_numbers_of_the_published_code(case: dict[str, Any]) -> None:
    real, drawn = points(case)
    assert len(real) - len(np.unique(real, axis=0)) >= case["copied"] // 2
    of_real, of_drawn = balls(real, drawn, case["k"]), balls(drawn, real, case["k"])
    found = {
        "precision": (of_real.held > 0).mean(),
        "recall": (of_drawn.held > 0).mean(),
        "density": of_real.held.mean() / case["k"],
        "coverage": (of_real.holds > 0).mean(),
    }
    assert found == pytest.approx({name: case[name] for name in found}, abs=1e-12)
