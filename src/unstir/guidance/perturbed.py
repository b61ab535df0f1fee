"""Guidance by the same network with a part of it switched off: nothing to train, and no condition needed."""

from __future__ import annotations

from ..denoiser import Denoiser
from .base import Contrast, Rule, Scale

__all__ = ["PerturbedAttention", "SkipLayers"]


class PerturbedAttention(Contrast):
    """The weak opinion is that of the network whose positions, in some blocks, attend to themselves alone.

    It keeps the texture and loses the structure, and moving away from it brings the structure out.
    Takes `DiT`, and `UNet` with attention. Ahn et al. 2024, "Self-Rectifying Diffusion Sampling with
    Perturbed-Attention Guidance", whose scale is this one less 1.

    Args:
        denoiser: a trained model, guided or not.
        scale: a number >= 0 or a function of t; 1 = the model alone.
        blocks: which blocks, counted along the network; None = the middle one of those with attention.
        rule, interval: see `Contrast`.

    Raises:
        IncompatibleError: the network has no attention.
        ConfigError: a block that does not exist or has no attention.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: Scale,
        blocks: tuple[int, ...] | None = None,
        *,
        rule: Rule | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        weaker = denoiser.without("attention", blocks)
        super().__init__(denoiser, weaker, scale, rule=rule, interval=interval)


class SkipLayers(Contrast):
    """The weak opinion is that of the network with some of its blocks left out.

    Takes `DiT`, `UNet` and `MLP`. Hyung et al. 2024, "Spatiotemporal Skip Guidance for Enhanced Video Diffusion
    Sampling", and Stable Diffusion 3.5.

    Args:
        denoiser: a trained model, guided or not.
        scale: a number >= 0 or a function of t; 1 = the model alone.
        blocks: which blocks, counted along the network; None = the middle one.
        rule, interval: see `Contrast`.

    Raises:
        IncompatibleError: the network has no blocks that can be left out.
        ConfigError: a block that does not exist.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: Scale,
        blocks: tuple[int, ...] | None = None,
        *,
        rule: Rule | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser, denoiser.without("blocks", blocks), scale, rule=rule, interval=interval)
