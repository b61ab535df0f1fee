"""Denoisers known in closed form: the truth that solvers, objectives and guidance are tested against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .condition import Condition
from .denoiser import Denoiser, Moments
from .errors import ConfigError
from .process import Gaussian
from .process.base import unsqueeze_like
from .rng import Rng

__all__ = ["Empirical", "GaussianMixture"]


class GaussianMixture(Denoiser):
    """E[x_0 | x_t] for x_0 ~ sum_k w_k N(m_k, C_k):

        sum_k r_k (m_k + alpha C_k (alpha^2 C_k + sigma^2 I)^-1 (x_t - alpha m_k)),
        r_k ~ w_k N(x_t; alpha m_k, alpha^2 C_k + sigma^2 I).

    A condition's `vector` (B, K), where given, holds log-weights per sample in place of log w.

    Args:
        process: the Gaussian process.
        weights: (K,), positive; normalised here.
        means: (K, D).
        covariances: (K, D, D), or (K,) standard deviations of isotropic components.
    """

    log_weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor

    def __init__(self, process: Gaussian, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        super().__init__()
        if means.ndim != 2 or len(weights) != len(means) or len(covariances) != len(means):
            raise ConfigError(
                f"weights {tuple(weights.shape)}, means {tuple(means.shape)}, covariances {tuple(covariances.shape)}",
                field="means",
                hint="give shapes (K,), (K, D) and (K, D, D), or (K,) for isotropic components",
            )
        if covariances.ndim == 1:
            covariances = covariances[:, None, None] ** 2 * torch.eye(means.shape[1], dtype=means.dtype)
        self.process: Gaussian = process
        # C = Q diag(v) Q^T, so that every noise level is diagonal in the same axes
        variances, axes = torch.linalg.eigh(covariances)
        self.register_buffer("log_weights", (weights / weights.sum()).log())
        self.register_buffer("means", means)
        self.register_buffer("variances", variances)
        self.register_buffer("axes", axes)

    def _components(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> tuple[Tensor, Tensor, Tensor]:
        """Log joint densities (B, K), residuals in the axes (B, K, D), and variances of x_t (B or 1, K, D)."""
        alpha, sigma = (unsqueeze_like(c, x_t)[..., None] for c in self._scales(t))
        residual = torch.einsum("kde,bkd->bke", self.axes, x_t[:, None] - alpha * self.means)
        total = alpha**2 * self.variances + sigma**2
        log_weights = self.log_weights if cond is None or cond.vector is None else cond.vector
        log_joint = log_weights - (residual**2 / total + torch.log(2 * math.pi * total)).sum(-1) / 2
        return log_joint, residual, total

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.process.schedule.alpha(t), self.process.schedule.sigma(t)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        share, means, _ = self._given(x_t, t, cond)
        return (share * means).sum(1)

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        share, means, variances = self._given(x_t, t, cond)
        mean, within = (share * means).sum(1), torch.einsum("kde,...ke->...kd", self.axes**2, variances)
        return Moments(mean, (share * (within + (means - mean[:, None]) ** 2)).sum(1))

    def _given(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of x_0 given x_t: the components' shares (B, K, 1), means (B, K, D), variances in their axes."""
        log_joint, residual, total = self._components(x_t, t, cond)
        alpha, sigma = (unsqueeze_like(c, x_t)[..., None] for c in self._scales(t))
        shrunk = self.variances / total
        means = self.means + torch.einsum("kde,bke->bkd", self.axes, alpha * shrunk * residual)
        return log_joint.softmax(1)[..., None], means, sigma**2 * shrunk

    def log_prob(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """log q(x_t), (B,) in nats."""
        return self._components(x_t, t, cond)[0].logsumexp(1)

    def draw(self, rng: Rng) -> Tensor:
        """One x_0 per generator, (B, D)."""
        k = (
            rng.fork("component").uniform((len(rng), 1), self.means.dtype) > self.log_weights.exp().cumsum(0)
        ).sum(1)
        k = k.clamp(max=len(self.means) - 1)
        z = rng.fork("normal").normal((len(rng), self.means.shape[1]), self.means.dtype)
        return self.means[k] + torch.einsum(
            "bde,be->bd", self.axes[k], self.variances[k].clamp(min=0).sqrt() * z
        )


class Empirical(Denoiser):
    """E[x_0 | x_t] for x_0 uniform on a finite set: sum_i r_i x_i, r ~ exp(-|x_t - alpha x_i|^2 / (2 sigma^2)).

    What a network of unlimited capacity trained for ever on this set would become; its samples are copies.

    Args:
        process: the Gaussian process.
        data: (N, *S).
    """

    data: Tensor

    def __init__(self, process: Gaussian, data: Tensor) -> None:
        super().__init__()
        self.process: Gaussian = process
        self.register_buffer("data", data)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        alpha, sigma = (unsqueeze_like(c, x_t.flatten(1)) for c in self._scales(t))
        x, data = x_t.flatten(1), self.data.flatten(1)
        # |x - alpha d|^2 less |x|^2, which is the same for every i
        distance = alpha**2 * (data**2).sum(1) - 2 * alpha * (x @ data.T)
        return ((-distance / (2 * sigma**2)).softmax(1) @ data).reshape(x_t.shape)

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.process.schedule.alpha(t), self.process.schedule.sigma(t)
