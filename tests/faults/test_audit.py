"""A planted fault of the largest kind: a model that has learned its training set by heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unstir


@pytest.mark.slow
def test_a_model_trained_on_fifty_pictures_is_found_out(tmp_path: Path) -> None:
    data, _ = unstir.open_data("digits")
    assert data.y is not None
    rows = np.linspace(0, len(data) - 1, 50).astype(int)
    np.savez(tmp_path / "fifty.npz", x=np.asarray(data.x)[rows], y=data.y[rows])
    run = unstir.fit(
        tmp_path / "fifty.npz", out=tmp_path / "run", steps=1500, batch=32, heldout=0, small_data="off",
        network="unet", network__widths="32,64", network__blocks="1,1", threads=1,
    )  # fmt: skip
    found = unstir.assess(run, n=300, metrics=["memorisation"], features="pixels")
    copied, memorised = found.numbers["copied"], found.numbers["memorised"]
    assert copied.low is not None
    assert copied.low > 0.9
    assert memorised.low is not None
    assert memorised.low > 0.1
    assert any("copy a training item" in words for words in found.words)

    honest = unstir.assess(run, data="digits", n=300, metrics=["memorisation"], features="pixels")
    assert (
        honest.numbers["copied"].value < copied.value
    )  # nothing but the 50 was learned, so most others are far
