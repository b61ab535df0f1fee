"""A codec whose latents are entries of a book: van den Oord et al. 2017, "Neural Discrete Representation Learning"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rng import Rng
from ..spec import Range
from .latent import Latent, LatentConfig, Sampled

__all__ = ["VQVAE", "VQVAEConfig"]

MEMORY = 0.98
"""Of the count of uses, per batch."""
IDLE = 0.05
"""A code that is used less than this, as a part of the mean use, is given a new place."""


@dataclass(frozen=True)
class VQVAEConfig(LatentConfig):
    """The settings of `VQVAE`."""

    codes: Annotated[int, Range(ge=2)] = 1024
    """Entries of the book."""
    commitment: Annotated[float, Range(ge=0)] = 0.25
    """How much of the distance to the nearest code the encoder has to answer for."""
    book: Annotated[float, Range(gt=0)] = 0.1
    """Weight of the distances against the reconstruction's error per value."""

    def build(self) -> VQVAE:
        return VQVAE(self)


class VQVAE(Latent):
    """z = E(x); D sees at each position the nearest code e of the book, with the gradient of z.

    penalty = book * mean over the values of z of (sg(z) - e)^2 + commitment (z - sg(e))^2, eq. 3 there: the codes learn
    by gradient as everything else does, and are averaged with it.

    What stands for x is z itself: diffusion works on latents that are not yet quantised, and `decode` quantises them,
    which forgives errors smaller than the distance between codes (Rombach et al. 2022, section 3.1).

    A code that almost nothing uses moves to a latent of the batch (Dhariwal et al. 2020, "Jukebox", section 3.1), drawn
    by the sample's own generator. That, and the counts of uses behind it, happens once a call in training: it is the
    same however often a run is resumed, but not with other micro-batches.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config, config.latent_channels)
        self.commitment, self.book = config.commitment, config.book
        self.table = nn.Parameter(torch.randn(config.codes, config.latent_channels))
        self.usage: Tensor
        self.register_buffer("usage", torch.ones(config.codes))
        """(K,): how often each code was used of late, as a part of the mean."""

    def nearest(self, z: Tensor) -> Tensor:
        """The number of the code nearest to z (B, C, *S) at each position, (B, *S) int64."""
        table = self.table.float()
        flat = z.float().movedim(1, -1)
        return (table.square().sum(1) - 2 * flat @ table.T).argmin(-1)

    def codes(self, z: Tensor) -> Tensor:
        """The codes nearest to z, (B, C, *S)."""
        return F.embedding(self.nearest(z), self.table).movedim(-1, 1)

    def sampled(self, h: Tensor, rng: Rng) -> Sampled:
        if self.training:
            self._count(h.detach(), rng)
        e = self.codes(h)
        told, committed = (h.detach() - e).square(), (h - e.detach()).square()
        return Sampled(h, self.book * (told + self.commitment * committed).flatten(1).mean(1))

    def centre(self, h: Tensor) -> Tensor:
        return h

    def decoded(self, z: Tensor) -> Tensor:
        z = z.float()
        return super().decoded(z + (self.codes(z) - z).detach())

    @torch.no_grad()
    def _count(self, z: Tensor, rng: Rng) -> None:
        """Take the uses in the batch into account; codes without any move to latents of the batch, one a sample."""
        if not bool(torch.isfinite(z).all()):
            return  # the step will be skipped, and the book must outlive it
        numbers = self.nearest(z)
        counts = torch.bincount(numbers.flatten(), minlength=len(self.usage)).float()
        self.usage.lerp_(counts * len(counts) / counts.sum(), 1 - MEMORY)
        idle = (self.usage < IDLE).nonzero()[: len(z), 0]
        if len(idle):
            flat = z.flatten(2)
            place = rng.fork("revive").integers(flat.shape[2], (len(z), 1), z.device)[:, 0]
            found = flat[torch.arange(len(z), device=z.device), :, place]
            self.table[idle] = found[: len(idle)].to(self.table.dtype)
            self.usage[idle] = 1.0

    @property
    def perplexity(self) -> float:
        """exp of the entropy of the uses of late: how many codes would say as much, were all used alike; 1 to K."""
        p = (self.usage / self.usage.sum()).double()
        return math.exp(-float(torch.special.xlogy(p, p).sum()))
