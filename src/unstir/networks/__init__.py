"""The networks: nn.Modules F(x, noise, condition), each beside the configuration that builds it."""

from __future__ import annotations

from .autoencoder import Autoencoder, AutoencoderConfig
from .classifier import Classifier, ClassifierConfig
from .dit import DiT, DiTConfig
from .maps import recording_attention
from .mlp import MLP, MLPConfig
from .mmdit import MMDiT, MMDiTConfig
from .unet import UNet, UNetConfig

__all__ = [
    "MLP",
    "Autoencoder",
    "AutoencoderConfig",
    "Classifier",
    "ClassifierConfig",
    "DiT",
    "DiTConfig",
    "MLPConfig",
    "MMDiT",
    "MMDiTConfig",
    "UNet",
    "UNetConfig",
    "recording_attention",
]
