"""A classifier of noisy data: log p(y | x_t), which guidance by a classifier follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .denoiser import input_scale, noise_level
from .process import Gaussian
from .process.base import unsqueeze_like

__all__ = ["NoisyClassifier"]


class NoisyClassifier(nn.Module):
    """log p(y | x_t) = log_softmax network(c_in x_t, log_snr(t)/4), with c_in as in `Preconditioned`.

    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs", section 4.1.

    Args:
        network: (x, noise) -> logits, shapes (B, C, *S), (B,) and (B, K).
        process: the Gaussian process; that of the denoiser it is to guide.
        sigma_data: d, the standard deviation of the data, > 0.
        dtype: precision of the network's arithmetic, e.g. torch.bfloat16; None keeps that of x_t.
    """

    def __init__(
        self, network: nn.Module, process: Gaussian, sigma_data: float = 0.5, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.network, self.process, self.sigma_data, self.dtype = network, process, sigma_data, dtype

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, K) log-probabilities of the classes; t is () or (B,)."""
        schedule = self.process.schedule
        scale = unsqueeze_like(input_scale(schedule, t, self.sigma_data), x_t)
        with torch.autocast(x_t.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            logits = self.network(scale * x_t, noise_level(schedule, t).to(x_t))
        return logits.to(x_t.dtype).log_softmax(1)
