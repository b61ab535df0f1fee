"""PSNR and SSIM against scikit-image: same pictures, recorded by tools/make_parity.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unstir.evaluate import psnr, ssim
from unstir.rng import Rng

PAIRS = json.loads((Path(__file__).parent / "fixtures" / "similarity.json").read_text())["pairs"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(pair["shape"]))
def test_the_numbers_of_scikit_image(pair: dict[str, Any]) -> None:
    rng, shape = Rng.of(pair["seed"], 1), (1, *pair["shape"])
    x = (255 * rng.uniform(shape, torch.float64)).round()
    y = (x + 25 * rng.fork("noise").normal(shape, torch.float64)).round().clamp(0, 255)
    assert float(psnr(x, y, (0, 255))) == pytest.approx(pair["psnr"], abs=1e-9)
    assert float(ssim(x, y, (0, 255))) == pytest.approx(pair["ssim"], abs=1e-9)
    x, y = (x / 127.5 - 1).float(), (y / 127.5 - 1).float()  # in the units of x_0
    assert float(psnr(x, y)) == pytest.approx(pair["psnr"], abs=1e-4)
    assert float(ssim(x, y)) == pytest.approx(pair["ssim"], abs=1e-6)
