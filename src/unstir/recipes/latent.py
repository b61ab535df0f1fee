"""Latent diffusion: what a recipe is in the space of an autoencoder, and what training one is."""

from __future__ import annotations

from dataclasses import replace

from ..codecs import VAEConfig
from ..data import Dataset
from ..errors import IncompatibleError
from ..networks import UNetConfig
from ..objectives import Reconstruction
from ..train.optim import Muon
from .base import Recipe

__all__ = ["autoencoder", "latent"]


def latent(measured: Recipe) -> Recipe:
    """The measured recipe for latents: few positions, each of which holds a whole patch of the picture."""
    return replace(
        measured, network=UNetConfig(widths=(96, 192, 256), blocks=(1, 1, 2), unshuffle=1, attention=2)
    )


def autoencoder(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe for encoding and decoding: a latent of 4 channels at a quarter of the size."""
    info = data.info
    if info.kind != "image":
        raise IncompatibleError(
            f"{info.source} has shape {info.shape}, too small to be encoded",
            field="task",
            hint="use task=generate",
        )
    network = VAEConfig(data_channels=info.shape[0], axes=len(info.shape) - 1)
    training = replace(measured.training, drop=0.0)
    return replace(
        measured, network=network, objective=Reconstruction(), optimizer=Muon(lr=1e-2), training=training
    )
