"""Latent diffusion: what a recipe is in the space of an autoencoder, and what training one is."""

from __future__ import annotations

from dataclasses import replace

from ..codecs import ConsistencyConfig, VAEConfig
from ..data import Dataset, Info
from ..errors import IncompatibleError
from ..networks import UNetConfig
from ..objectives import Consistency, Reconstruction
from ..train.optim import Muon
from .base import Recipe

__all__ = ["autoencoder", "decoder", "latent"]


def latent(measured: Recipe) -> Recipe:
    """The measured recipe for latents: few positions, each of which holds a whole patch of the picture."""
    return replace(
        measured, network=UNetConfig(widths=(96, 192, 256), blocks=(1, 1, 2), unshuffle=1, attention=2)
    )


def autoencoder(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe for encoding and decoding: a latent of 4 channels at a quarter of the size."""
    info = _encodable(data)
    network = VAEConfig(data_channels=info.shape[0], axes=len(info.shape) - 1)
    training = replace(measured.training, drop=0.0)
    return replace(
        measured, network=network, objective=Reconstruction(), optimizer=Muon(lr=1e-2), training=training
    )


def decoder(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe for decoding by a consistency model; the encoder's settings come from the autoencoder."""
    info = _encodable(data)
    network = ConsistencyConfig(data_channels=info.shape[0], axes=len(info.shape) - 1)
    training = replace(measured.training, drop=0.0)
    return replace(
        measured, network=network, objective=Consistency(), optimizer=Muon(lr=5e-3), training=training
    )


def _encodable(data: Dataset) -> Info:
    """What the data is; raises IncompatibleError where there are no axes to make shorter."""
    if data.info.kind != "image":
        raise IncompatibleError(
            f"{data.info.source} has shape {data.info.shape}, too small to be encoded",
            field="task",
            hint="use task=generate",
        )
    return data.info
