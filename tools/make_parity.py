"""Write tests/parity/fixtures/*.json: what the schedulers of `diffusers` do, on one grid, for one denoiser.

Run with diffusers importable (it is no dependency of the project):

    pip install --no-deps --target DIR diffusers && pip install --target DIR huggingface_hub
    PYTHONPATH=DIR python tools/make_parity.py

Each file holds x before and after every step. The denoiser is the exact one of a Gaussian mixture; noise comes from
`Rng`, so that a test can repeat the run without either package's generator.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler
from torch import Tensor

from unstir.analytic import GaussianMixture
from unstir.process import BetaLinear, Gaussian
from unstir.rng import Rng

FIXTURES = Path(__file__).parents[1] / "tests" / "parity" / "fixtures"
STEPS, CHAIN, SAMPLES = 10, 1000, 4
WEIGHTS, DEVIATIONS = [0.3, 0.7], [0.4, 0.25]
MEANS = [[1.0, -0.5, 0.2], [-0.8, 0.3, -0.1]]
COMMON = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "timestep_spacing": "trailing"}


def denoiser() -> GaussianMixture:
    law = (torch.tensor(values, dtype=torch.float64) for values in (WEIGHTS, MEANS, DEVIATIONS))
    return GaussianMixture(Gaussian(BetaLinear()), *law)


def eps(x: Tensor, k: int) -> Tensor:
    """The noise in x at step k of the chain, 1..1000."""
    exact, t = denoiser(), torch.tensor(k / CHAIN, dtype=torch.float64)
    return exact.process.eps(x.double(), exact(x.double(), t), t)


def start() -> Tensor:
    return Rng.of(0, SAMPLES).fork("start").normal((SAMPLES, len(MEANS[0])), torch.float64)


def noise(k: int) -> Tensor:
    """What `Rng.increment` draws on the step down from k."""
    t, s = (torch.tensor(j / CHAIN, dtype=torch.float64) for j in (k, k - CHAIN // STEPS))
    return Rng.of(0, SAMPLES).increment(t, s, (SAMPLES, len(MEANS[0])), torch.float64, "cpu")


def plain(scheduler: Any, **arguments: Any) -> list[Tensor]:
    """x after every step of a scheduler that works on x_t itself."""
    scheduler.set_timesteps(STEPS)
    path = [start()]
    for timestep in scheduler.timesteps.tolist():
        k = timestep + 1  # its timesteps count from 0
        given = {name: f(k) for name, f in arguments.items()}
        path.append(scheduler.step(eps(path[-1], k), timestep, path[-1], **given).prev_sample)
    return path


def ddpm(variance: str) -> list[Tensor]:
    scheduler = DDPMScheduler(**COMMON, variance_type=variance, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    path = [start()]
    for timestep in scheduler.timesteps.tolist():
        k = timestep + 1
        module = diffusers.schedulers.scheduling_ddpm
        module.randn_tensor = lambda *_, k=k, **__: noise(k)
        path.append(scheduler.step(eps(path[-1], k), timestep, path[-1]).prev_sample)
    return path


def heun() -> list[Tensor]:
    """It works on x/alpha, and calls the model twice a step."""
    scheduler = HeunDiscreteScheduler(**COMMON)
    scheduler.set_timesteps(STEPS)
    schedule = BetaLinear()
    alphas = schedule.alpha(torch.linspace(1, 0, STEPS + 1, dtype=torch.float64))
    y, path = start() / alphas[0], [start()]
    for i, timestep in enumerate(scheduler.timesteps.tolist()):
        scaled = scheduler.scale_model_input(y, timestep)
        y = scheduler.step(eps(scaled, round(timestep) + 1), timestep, y).prev_sample
        if i % 2 == 1 or i == len(scheduler.timesteps) - 1:
            path.append(y * alphas[len(path)])
    return path


def main() -> None:
    stochastic = DDIMScheduler(**COMMON, clip_sample=False, set_alpha_to_one=True)
    multistep = DPMSolverMultistepScheduler(**COMMON, algorithm_type="dpmsolver++", final_sigmas_type="zero")
    runs = {
        "ddim": plain(stochastic),
        "ddim-eta": plain(stochastic, eta=lambda k: 1.0, variance_noise=noise),
        "ddpm-lower": ddpm("fixed_small"),
        "ddpm-upper": ddpm("fixed_large"),
        "dpmpp2m": plain(multistep),
        "heun": heun(),
    }
    FIXTURES.mkdir(parents=True, exist_ok=True)
    law = {"weights": WEIGHTS, "means": MEANS, "deviations": DEVIATIONS}
    for name, path in runs.items():
        content = {
            "made_with": f"diffusers {diffusers.__version__}",
            **law,
            "path": torch.stack(path).tolist(),
        }
        (FIXTURES / f"{name}.json").write_text(json.dumps(content) + "\n")
        print(f"{name}: {len(path) - 1} steps, ends at {path[-1][0].tolist()}")


if __name__ == "__main__":
    main()
