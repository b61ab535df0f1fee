"""Published systems as one word, `system=stable-diffusion-3`: what each is made of, to be trained on one's own data.

Sizes are not theirs but the data's and the machine's; the parts, and how they are put together, are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..data import Dataset
from ..embedders import MiniLMConfig, TransformerConfig
from ..embedders.minilm import available
from ..errors import ConfigError
from ..networks import MMDiTConfig
from ..parameterization import Eps
from ..process import BetaLinear
from ..solvers import DPMpp2M
from .base import Recipe, Sampling, System, fill
from .families import SIMPLE, flow

__all__ = ["SYSTEMS", "system"]


def stable_diffusion(measured: Recipe, data: Dataset) -> Recipe:
    """Rombach et al. 2022: a U-Net that attends to text, in the latent space of an autoencoder.

    The chain has 1000 steps with beta spaced evenly in its root; the network predicts the noise.
    """
    sampling = Sampling(solver=DPMpp2M(), steps=25, grid="uniform", guidance=5.0)
    return replace(
        measured,
        schedule=BetaLinear(beta_1=0.00085, beta_T=0.012, spacing="scaled"),
        parameterization=Eps(),
        objective=SIMPLE,
        sampling=fill(sampling, measured.sampling),
    )


def stable_diffusion_3(measured: Recipe, data: Dataset) -> Recipe:
    """Esser et al. 2024: rectified flow, logit-normal times, a transformer of two streams, several text encoders."""
    parts = flow(data)
    encoders = (TransformerConfig(), MiniLMConfig()) if available() else (TransformerConfig(),)
    sampling = fill(replace(parts.sampling, guidance=5.0), measured.sampling)
    measured = replace(measured, **parts._asdict() | {"sampling": sampling})
    return replace(measured, network=MMDiTConfig(), text=encoders)


SYSTEMS: Mapping[System, Callable[[Recipe, Dataset], Recipe]] = {
    "stable-diffusion": stable_diffusion,
    "stable-diffusion-3": stable_diffusion_3,
}


def system(name: System, measured: Recipe, data: Dataset, *, latent: bool, reads: bool) -> Recipe:
    """The measured recipe as that system has it.

    Raises ConfigError where there is no latent space, or are no captions, to build it on.
    """
    if not latent:
        raise ConfigError(
            f"system={name} works in the latent space of an autoencoder, and codec= is not given",
            field="codec",
            hint=f"train one first: unstir train {data.info.source} task=autoencoder, then add codec=RUN",
        )
    if not reads:
        found = data.info.captions
        why = f"those of {found:,} of {len(data):,} items are not read unasked" if found else "there are none"
        raise ConfigError(
            f"system={name} is told captions, and {why}",
            field="data.captions",
            hint="use captions=true"
            if found
            else "put a .txt beside each picture, or a captions.jsonl into the folder",
        )
    return SYSTEMS[name](measured, data)
