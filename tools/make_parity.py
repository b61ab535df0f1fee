"""Write tests/parity/fixtures/*.json: what the schedulers of `diffusers` do, on one grid, for one denoiser.

Run with diffusers and scikit-image importable (they are no dependencies of the project):

    pip install --no-deps --target DIR diffusers scikit-image lazy_loader
    pip install --target DIR huggingface_hub importlib_metadata requests
    PYTHONPATH=DIR python tools/make_parity.py

Each file holds x before and after every step. The denoiser is the exact one of a Gaussian mixture; noise comes from
`Noise`, so that a test can repeat the run without either package's generator. One file, `third-order.json`, holds
errors instead: those of single steps of the third-order schedulers; another, `similarity.json`, what scikit-image
says of pairs of pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import skimage
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    UniPCMultistepScheduler,
)
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from unstir import times
from unstir.analytic import GaussianMixture
from unstir.noise import Noise
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


def noises() -> Iterator[Tensor]:
    """What a solver draws on the steps of the grid, one after the other."""
    noise = Noise(Rng.of(0, SAMPLES), start())
    return (noise.between(t, s) for t, s in pairwise(times.trailing(STEPS)))


def plain(scheduler: Any, noisy: str = "", **arguments: Any) -> list[Tensor]:
    """x after every step of a scheduler that works on x_t itself and takes its noise under the name `noisy`."""
    scheduler.set_timesteps(STEPS)
    path = [start()]
    for timestep, z in zip(scheduler.timesteps.tolist(), noises(), strict=True):
        given = arguments | ({noisy: z} if noisy else {})
        found = eps(path[-1], timestep + 1)  # its timesteps count from 0
        path.append(scheduler.step(found, timestep, path[-1], **given).prev_sample)
    return path


def drawn(module: Any, z: Tensor) -> None:
    """Let the module's own draw be z."""
    module.randn_tensor = lambda *_, **__: z


def ddpm(variance: str) -> list[Tensor]:
    scheduler = DDPMScheduler(**COMMON, variance_type=variance, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    path = [start()]
    for timestep, z in zip(scheduler.timesteps.tolist(), noises(), strict=True):
        drawn(diffusers.schedulers.scheduling_ddpm, z)
        path.append(scheduler.step(eps(path[-1], timestep + 1), timestep, path[-1]).prev_sample)
    return path


def scaled(scheduler: Any, calls: int = 1, **arguments: Any) -> list[Tensor]:
    """x after every step of a scheduler that works on x/alpha and calls the model so many times a step."""
    scheduler.set_timesteps(STEPS)
    alphas, draws = BetaLinear().alpha(times.trailing(STEPS)), noises()
    y, path = start() / alphas[0], [start()]
    for i, timestep in enumerate(scheduler.timesteps.tolist()):
        if i % calls == 0:
            drawn(diffusers.schedulers.scheduling_euler_ancestral_discrete, next(draws))
        found = eps(scheduler.scale_model_input(y, timestep), round(timestep) + 1)
        y = scheduler.step(found, timestep, y, **arguments).prev_sample
        if i % calls == calls - 1 or i == len(scheduler.timesteps) - 1:
            path.append(y * alphas[len(path)])
    return path


def third_order() -> dict[str, Any]:
    """Errors of one step of length h in log(alpha/sigma), from l = 0, after three exact values.

    The model's output is a given function of l, so the exact step is an integral: x_0 = l^2 for DPM-Solver++, whose
    third order should integrate parabolas exactly, and eps = l^2 for DEIS.
    """
    lengths = [0.4, 0.2, 0.1, 0.05]
    errors: dict[str, list[float]] = {"dpmpp3m": [], "deis": []}
    for h in lengths:
        places = torch.tensor([-2 * h, -h, 0.0, h], dtype=torch.float64)
        for name, scheduler in (
            ("dpmpp3m", DPMSolverMultistepScheduler(solver_order=3, lower_order_final=False)),
            ("deis", DEISMultistepScheduler(solver_order=3, lower_order_final=False)),
        ):
            scheduler.set_timesteps(3)
            scheduler.sigmas, scheduler._step_index = torch.exp(-places), 2
            values = [place**2 * torch.ones(1, dtype=torch.float64) for place in places[:3]]
            x = torch.zeros(1, dtype=torch.float64)
            if name == "dpmpp3m":
                x_s = scheduler.multistep_dpm_solver_third_order_update(values, sample=x)
                exact = h**2 - 2 * h + 2 - 2 * torch.exp(-places[3])  # e^-h int_0^h e^u u^2 du
                factor = torch.sigmoid(2 * places[3]).sqrt()
            else:
                x_s = scheduler.multistep_deis_third_order_update(values, sample=x)
                exact = -(2 * torch.exp(places[3]) - h**2 - 2 * h - 2)  # -e^h int_0^h e^-u u^2 du
                factor = torch.sigmoid(-2 * places[3]).sqrt()
            errors[name].append(float((x_s - factor * exact).abs()))
    return {"lengths": lengths, **errors}


def similarity() -> dict[str, Any]:
    """PSNR and SSIM of bytes x and x + 25 z, z normal, both cut to 0..255."""
    pairs = []
    for seed, shape in enumerate([(1, 11, 11), (1, 28, 28), (3, 16, 23), (3, 40, 12)]):
        rng = Rng.of(seed, 1)
        x = (255 * rng.uniform((1, *shape), torch.float64)).round()
        y = (x + 25 * rng.fork("noise").normal((1, *shape), torch.float64)).round().clamp(0, 255)
        a, b = x[0].numpy(), y[0].numpy()
        kernel = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        pairs.append(
            {
                "seed": seed,
                "shape": shape,
                "psnr": float(peak_signal_noise_ratio(a, b, data_range=255)),
                "ssim": float(structural_similarity(a, b, data_range=255, channel_axis=0, **kernel)),
            }
        )
    return {"made_with": f"scikit-image {skimage.__version__}", "pairs": pairs}


def main() -> None:
    stochastic = DDIMScheduler(**COMMON, clip_sample=False, set_alpha_to_one=True)
    zero = {**COMMON, "final_sigmas_type": "zero"}
    runs = {
        "ddim": plain(stochastic),
        "ddim-eta": plain(stochastic, "variance_noise", eta=1.0),
        "ddpm-lower": ddpm("fixed_small"),
        "ddpm-upper": ddpm("fixed_large"),
        "deis": plain(DEISMultistepScheduler(**COMMON, solver_order=2)),
        "dpmpp2m": plain(DPMSolverMultistepScheduler(**zero)),
        "dpmpp2m-sde": plain(
            DPMSolverMultistepScheduler(**zero, algorithm_type="sde-dpmsolver++"), "variance_noise"
        ),
        "euler-ancestral": scaled(EulerAncestralDiscreteScheduler(**COMMON)),
        "heun": scaled(HeunDiscreteScheduler(**COMMON), calls=2),
        "lms": scaled(LMSDiscreteScheduler(**COMMON), order=2),
        "unipc-bh1": plain(UniPCMultistepScheduler(**zero, solver_type="bh1")),
        "unipc-bh2": plain(UniPCMultistepScheduler(**zero, solver_type="bh2")),
    }
    FIXTURES.mkdir(parents=True, exist_ok=True)
    made = {"made_with": f"diffusers {diffusers.__version__}"}
    law = {"weights": WEIGHTS, "means": MEANS, "deviations": DEVIATIONS}
    for name, path in runs.items():
        content = made | law | {"path": torch.stack(path).tolist()}
        (FIXTURES / f"{name}.json").write_text(json.dumps(content) + "\n")
        print(f"{name}: {len(path) - 1} steps, ends at {path[-1][0].tolist()}")
    errors = third_order()
    (FIXTURES / "third-order.json").write_text(json.dumps(made | errors) + "\n")
    print(errors)
    (FIXTURES / "similarity.json").write_text(json.dumps(similarity()) + "\n")


if __name__ == "__main__":
    main()
