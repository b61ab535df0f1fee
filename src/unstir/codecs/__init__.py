"""Data <-> x_0; one file per codec."""

from .base import Codec
from .consistency import Consistency, ConsistencyConfig
from .latent import Latent, LatentConfig
from .scale import Identity, IdentityConfig, Scale, ScaleConfig
from .vae import VAE, VAEConfig
from .vq import VQVAE, VQVAEConfig

__all__ = [
    "VAE",
    "VQVAE",
    "Codec",
    "Consistency",
    "ConsistencyConfig",
    "Identity",
    "IdentityConfig",
    "Latent",
    "LatentConfig",
    "Scale",
    "ScaleConfig",
    "VAEConfig",
    "VQVAEConfig",
]
