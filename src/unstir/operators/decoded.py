"""What is measured of data, told of the latents that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .base import NoiseLaw, Operator
from .noise import GaussianNoise

__all__ = ["Decoded", "Inexact", "inexact"]


class Decoded(Operator):
    """A D(z): the operator A of decoded latents z, with derivatives through the decoder D. Never linear.

    Chung et al. 2023, "Diffusion Posterior Sampling", in a latent space, as in Rout et al. 2023, "Solving Linear
    Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models", eq. 6.

    Args:
        operator: A, of data.
        decode: D, z (B, C, *S) -> data as values around zero, differentiable.
    """

    linear = False

    def __init__(self, operator: Operator, decode: Callable[[Tensor], Tensor]) -> None:
        self.operator, self.decode = operator, decode

    @property
    def title(self) -> str:
        return f"{self.operator.title} of what is decoded"

    def source(self, shape: tuple[int, ...]) -> None:
        """None: y tells the shape of the data, not of its latent."""

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.forward(self.decode(x))

    def measured(self, y: Tensor) -> Tensor:
        return self.operator.measured(y)

    def jvp(self, x: Tensor, u: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # of attention the others know no forward derivative
            return super().jvp(x, u)


@dataclass(frozen=True)
class Inexact:
    """The noise of y, and what a decoder cannot draw of it on top: Var[n] + std^2.

    Args:
        noise: the law of n.
        std: of A (x - D(z)), in the units of x.
    """

    noise: NoiseLaw
    std: float

    def variance(self, y: Tensor) -> Tensor:
        return self.noise.variance(y) + self.std**2

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """log N(y; clean, Var[n] + std^2), the variance that y itself tells."""
        variance = self.variance(y)
        return -((y - clean) ** 2 / variance + torch.log(variance)).flatten(1).sum(1) / 2


def inexact(noise: NoiseLaw, std: float) -> NoiseLaw:
    """The noise with what a decoder cannot draw on top: Gaussian where it was so."""
    if isinstance(noise, GaussianNoise):
        return GaussianNoise((noise.std**2 + std**2) ** 0.5)
    return Inexact(noise, std)
