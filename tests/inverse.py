"""Measurements y = A x_0 + n whose posterior is known in closed form."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from truth import double
from unstir.analytic import GaussianMixture
from unstir.denoiser import Denoiser
from unstir.guidance import Method, Posterior
from unstir.operators import GaussianNoise, Matrix, Measurement
from unstir.process import Gaussian, Linear
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers.base import Solver

DIMENSION, MEASURED = 16, 8
ROWS = 2**14  # of a batch


@dataclass(frozen=True, eq=False)
class Inverse:
    """A prior, A, y and the standard deviation of the noise."""

    prior: GaussianMixture
    A: Tensor
    y: Tensor
    std: float

    @classmethod
    def drawn(cls, prior: GaussianMixture, A: Tensor, std: float, seed: int = 0) -> Inverse:
        """With the y of an x_0 from the prior."""
        clean, z = A @ prior.draw(Rng.of(seed, 1))[0], Rng.of(seed, 1).normal((1, len(A)), A.dtype)[0]
        return cls(prior, A, clean + std * z, std)

    @property
    def measurement(self) -> Measurement:
        return Measurement(Matrix(self.A), self.y[None], GaussianNoise(self.std))

    @functools.cached_property
    def posterior(self) -> GaussianMixture:
        """p(x_0 | y) = sum_k w'_k N(m'_k, C'_k): with S = A C A^T + std^2 I and G = C A^T S^-1 of each component

        C' = C - G A C,  m' = m + G (y - A m),  w' ~ w N(y; A m, S).
        """
        prior, A = self.prior, self.A
        C = prior.axes * prior.variances[:, None] @ prior.axes.mT
        S = A @ C @ A.mT + self.std**2 * torch.eye(len(A), dtype=A.dtype)
        G, gap = torch.linalg.solve(S, A @ C).mT, self.y - prior.means @ A.mT
        evidence = torch.distributions.MultivariateNormal(torch.zeros_like(gap), S).log_prob(gap)
        means = prior.means + (G @ gap[..., None])[..., 0]
        weights = (prior.log_weights + evidence).softmax(0)
        return GaussianMixture(prior.process, weights, means, C - G @ A @ C)

    @functools.cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the posterior."""
        law = self.posterior
        w = law.log_weights.exp()
        mean = w @ law.means
        apart, within = law.means - mean, law.axes * law.variances[:, None] @ law.axes.mT
        return mean, torch.einsum("k,kde->de", w, within + apart[:, :, None] * apart[:, None])

    def errors(self, x: Tensor) -> tuple[float, float]:
        """Of samples (N, D): |mean - m|/|m| and |cov - C|/|C|, m and C of the posterior."""
        m, C = self.moments
        return float((x.mean(0) - m).norm() / m.norm()), float((torch.cov(x.T) - C).norm() / C.norm())

    def draw(
        self,
        method: Method,
        solver: Solver,
        grid: Tensor,
        n: int,
        *,
        seed: int = 0,
        denoiser: Denoiser | None = None,
    ) -> Tensor:
        """n samples by the method, each with all of its particles, (n, K, D); by default of the prior's denoiser."""
        guided = Posterior(denoiser or self.prior, self.measurement, method)
        K, D = method.particles, self.prior.means.shape[1]
        drawn = []
        for samples in torch.arange(seed, seed + n).split(max(ROWS // K, 1)):
            rng = Rng(samples.repeat_interleave(K)).fork("particle", torch.arange(K).repeat(len(samples)))
            x = self.prior.process.prior((len(rng), D), rng.fork("prior"), torch.float64)
            x = sample(guided, solver, method.times(grid), x, rng=rng.fork("solver"))
            drawn.append(x.unflatten(0, (-1, K)))
        return torch.cat(drawn)


def matrix() -> Tensor:
    """A (8, 16), random."""
    return Rng.of(5, MEASURED).normal((MEASURED, DIMENSION), torch.float64) / 4


def spectrum() -> Tensor:
    """Variances from 2.6 to 0.08, 1 on average."""
    v = torch.logspace(0, -1.5, DIMENSION, dtype=torch.float64)
    return v / v.mean()


def gaussian(axes: Tensor, scale: float = 1.0) -> GaussianMixture:
    """N(m, scale^2 Q diag(v) Q^T)."""
    mean = 0.5 * Rng.of(7, 1).normal((1, DIMENSION), torch.float64)
    covariance = scale**2 * axes * spectrum() @ axes.mT
    return GaussianMixture(Gaussian(Linear()), double(1.0)[None], mean, covariance[None])


def full(scale: float = 1.0) -> GaussianMixture:
    """A Gaussian whose axes have nothing to do with A's."""
    Q, _ = torch.linalg.qr(Rng.of(6, DIMENSION).normal((DIMENSION, DIMENSION), torch.float64))
    return gaussian(Q, scale)


def aligned() -> GaussianMixture:
    """A Gaussian that is independent in A's singular basis."""
    return gaussian(torch.linalg.svd(matrix())[2].mT)


def two_modes() -> Inverse:
    """A narrow Gaussian and a wide one, far apart along what is measured; y is in the tails of both."""
    means = double(1.2, 0.4, -0.2, -1.2, -0.4, 0.2).reshape(2, 3)
    prior = GaussianMixture(Gaussian(Linear()), double(0.4, 0.6), means, double(0.2, 0.6))
    return Inverse(prior, double(1.0, 0.0, 0.0)[None], double(0.5)[None], std=0.5)
