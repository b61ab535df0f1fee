"""The solvers against the schedulers of diffusers: same denoiser, grid and noise, recorded by tools/make_parity.py."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unstir import times
from unstir.analytic import GaussianMixture
from unstir.noise import Noise
from unstir.process import BetaLinear, Gaussian
from unstir.rng import Rng
from unstir.sampling import trajectory
from unstir.solvers import (
    DDIM,
    DDPM,
    DEIS,
    AdamsBashforth,
    Ancestral,
    DPMpp2M,
    Euler,
    Heun,
    UniPC,
)
from unstir.solvers.base import Solver
from unstir.solvers.exponential import Node, average

FIXTURES = Path(__file__).parent / "fixtures"
GRID = times.trailing(10)
PAIRS = {
    "ddim": [DDIM(), Euler("sigma")],
    "ddim-eta": [DDIM(eta=1.0)],
    "ddpm-lower": [DDPM("lower"), DDIM(eta=1.0)],
    "ddpm-upper": [DDPM("upper")],
    "deis": [DEIS(order=2)],
    "dpmpp2m": [DPMpp2M()],
    "dpmpp2m-sde": [DPMpp2M(eta=1.0)],
    "euler-ancestral": [Ancestral(), DDIM(eta=1.0)],
    "heun": [Heun(variable="sigma")],
    "lms": [AdamsBashforth(order=2, variable="sigma")],
    "unipc-bh1": [UniPC(variant="bh1")],
    "unipc-bh2": [UniPC(variant="bh2")],
}


OTHER_ENDS = {
    "deis": "ends at the noise of the chain's first step, not at 0",
    "lms": "extrapolates into sigma = 0, where ours returns alpha x_0 as every solver does",
    "unipc-bh1": "multiplies zero by the infinite length of the step to data, and ends in NaN",
}
"""Where diffusers takes another last step."""


def recorded(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "solver"), [(n, s) for n, solvers in PAIRS.items() for s in solvers], ids=str
)
def test_every_step_agrees(name: str, solver: Solver) -> None:
    content = recorded(name)
    law: list[Tensor] = [
        torch.tensor(content[k], dtype=torch.float64) for k in ("weights", "means", "deviations")
    ]
    path = torch.tensor(content["path"], dtype=torch.float64)
    denoiser = GaussianMixture(Gaussian(BetaLinear()), *law)
    rng = Rng.of(0, path.shape[1])
    steps = [step.x for step in trajectory(denoiser, solver, GRID, path[0], rng=rng)]
    if name == "ddpm-upper":
        # diffusers leaves out the noise of the step to data only if that step starts at the chain's first time
        noise = Noise(rng, path[0])
        last = [noise.between(t, s) for t, s in pairwise(GRID)][-1]
        steps[-1] += denoiser.process.kernel(GRID[-1], GRID[-2])[1] * last
    agree = [float((x - expected).abs().max()) < 1e-4 for x, expected in zip(steps, path[1:], strict=True)]
    assert agree == [True] * 9 + [name not in OTHER_ENDS]


def test_its_third_order_is_the_second() -> None:
    """One step of length h from exact values is wrong by h^4 where a method has order 3.

    DPM-Solver++ (3M) as published in diffusers is wrong by h^3: it loses half of the second
    derivative, and the error for x_0 = l^2, l the half-log-SNR, is that half. The exact average of `DPMpp3M` integrates
    every parabola, and so does diffusers' DEIS.
    """
    content = recorded("third-order")
    lengths, errors = content["lengths"], content["dpmpp3m"]
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert slopes == pytest.approx([3, 3, 3], abs=0.1)
    assert max(content["deis"]) < 1e-14
    for h, error in zip(lengths, errors, strict=True):
        places = torch.tensor([0.0, -h, -2 * h, h], dtype=torch.float64)
        nodes = [Node(-place, place, place[None] ** 2) for place in places[:3]]
        integral = h**2 - 2 * h + 2 - 2 * math.exp(-h)  # e^-h int_0^h e^u u^2 du
        ours = average(nodes, places[0], places[3], rate=1) * -math.expm1(-h)
        assert float(ours) == pytest.approx(integral, rel=1e-13)
        alpha = float(torch.sigmoid(2 * places[3]).sqrt())
        assert error == pytest.approx(alpha * integral / 2, rel=1e-6)


def test_every_fixture_is_used() -> None:
    others = {"third-order", "similarity", "prdc", "text_encoders"}
    assert {path.stem for path in FIXTURES.glob("*.json")} == {*PAIRS, *others}
