"""The denoiser E[x_0 | x_t]: what every network is turned into and every solver steps with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from .condition import Condition
from .parameterization import Parameterization
from .process import Gaussian, Process
from .process.base import unsqueeze_like

__all__ = ["Denoiser", "Preconditioned"]


class Denoiser(nn.Module, ABC):
    """E[x_0 | x_t, cond]. A denoiser of one's own needs a `process` and `forward`, nothing else.

    `forward` takes x_t (B, *S), t as a () or (B,) tensor in (0, 1] and a condition, and returns (B, *S) in
    x_t's dtype. The times of one call may differ per sample.
    """

    process: Process

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor: ...

    def during(self, t: Tensor, s: Tensor, memory: dict[Any, Any]) -> Denoiser:
        """The denoiser of one solver step from t to s, which the loop asks for before it takes the step.

        A plain denoiser is the same in all of them. Guidance that depends on where the step goes, or on earlier
        steps, finds here s and a `memory` that lives as long as the trajectory.
        """
        return self

    def check(self, solver: Any) -> None:
        """Raises IncompatibleError where this denoiser cannot be stepped by the solver."""


class Preconditioned(Denoiser):
    """D(x_t, t) = c_skip x_t + c_out network(c_in x_t, log_snr(t)/4, cond), c_in = (alpha^2 d^2 + sigma^2)^(-1/2).

    Coefficients are computed in t's precision; the network alone may run in a lower one.

    Args:
        network: (x, noise, cond) -> F, shapes (B, C, *S), (B,) and (B, C, *S).
        process: the Gaussian process.
        parameterization: what F means.
        sigma_data: d, the standard deviation of the data, > 0.
        dtype: precision of the network's arithmetic, e.g. torch.bfloat16; None keeps that of x_t.
        embedder: turns prompts into conditions; it is trained, averaged and saved with the network.

    Raises:
        IncompatibleError: the parameterization cannot recover x_0 on this schedule.
    """

    # beyond this the network could not tell noise levels apart: signal or noise is below 5e-5
    MAX_LOG_SNR = 20.0

    def __init__(
        self,
        network: nn.Module,
        process: Gaussian,
        parameterization: Parameterization,
        sigma_data: float = 0.5,
        dtype: torch.dtype | None = None,
        embedder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        parameterization.check(process.schedule)
        self.network = network
        self.process: Gaussian = process
        self.parameterization = parameterization
        self.sigma_data = sigma_data
        self.dtype = dtype
        self.embedder = embedder

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in) at t."""
        schedule = self.process.schedule
        c_skip, c_out = self.parameterization.coefficients(schedule, t)
        c_in = torch.rsqrt((schedule.alpha(t) * self.sigma_data) ** 2 + schedule.sigma(t) ** 2)
        return c_skip, c_out, c_in

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        c_skip, c_out, c_in = (unsqueeze_like(c, x_t) for c in self.coefficients(t))
        log_snr = self.process.schedule.log_snr(t).clamp(-self.MAX_LOG_SNR, self.MAX_LOG_SNR)
        with torch.autocast(x_t.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            F = self.network(c_in * x_t, (log_snr / 4).to(x_t), cond)
        return c_skip * x_t + c_out * F.to(x_t.dtype)
