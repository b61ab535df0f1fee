"""The solvers against the schedulers of diffusers: same denoiser, grid and noise, recorded by tools/make_parity.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unstir import times
from unstir.analytic import GaussianMixture
from unstir.process import BetaLinear, Gaussian
from unstir.rng import Rng
from unstir.sampling import trajectory
from unstir.solvers import DDIM, DDPM, DPMpp2M, Euler, Heun
from unstir.solvers.base import Solver

FIXTURES = Path(__file__).parent / "fixtures"
PAIRS = {
    "ddim": [DDIM(), Euler("sigma")],
    "ddim-eta": [DDIM(eta=1.0)],
    "ddpm-lower": [DDPM("lower"), DDIM(eta=1.0)],
    "ddpm-upper": [DDPM("upper")],
    "dpmpp2m": [DPMpp2M()],
    "heun": [Heun(variable="sigma")],
}


@pytest.mark.parametrize(
    ("name", "solver"), [(n, s) for n, solvers in PAIRS.items() for s in solvers], ids=str
)
def test_every_step_agrees(name: str, solver: Solver) -> None:
    recorded = json.loads((FIXTURES / f"{name}.json").read_text())
    law: list[Tensor] = [
        torch.tensor(recorded[k], dtype=torch.float64) for k in ("weights", "means", "deviations")
    ]
    path = torch.tensor(recorded["path"], dtype=torch.float64)
    denoiser = GaussianMixture(Gaussian(BetaLinear()), *law)
    grid = times.trailing(len(path) - 1)
    rng = Rng.of(0, path.shape[1])
    steps = [step.x for step in trajectory(denoiser, solver, grid, path[0], rng=rng)]
    if name == "ddpm-upper":
        # diffusers leaves out the noise of the step to data only if that step starts at the chain's first time
        t, s = grid[-2], grid[-1]
        steps[-1] += denoiser.process.kernel(s, t)[1] * rng.increment(
            t, s, tuple(path[0].shape), path.dtype, "cpu"
        )
    for i, (x, expected) in enumerate(zip(steps, path[1:], strict=True)):
        assert (x - expected).abs().max() < 1e-4, f"step {i}"


def test_every_fixture_is_used() -> None:
    assert {path.stem for path in FIXTURES.glob("*.json")} == set(PAIRS)
