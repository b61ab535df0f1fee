"""The networks: nn.Modules F(x, noise, condition), each beside the configuration that builds it."""

from __future__ import annotations

from .autoencoder import Autoencoder, AutoencoderConfig
from .dit import DiT, DiTConfig
from .mlp import MLP, MLPConfig
from .unet import UNet, UNetConfig

__all__ = [
    "MLP",
    "Autoencoder",
    "AutoencoderConfig",
    "DiT",
    "DiTConfig",
    "MLPConfig",
    "UNet",
    "UNetConfig",
]
