"""Guidance by the gradient of what should be large: a classifier's probability, or any reward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from ..errors import ConfigError
from ..process import Gaussian
from ..process.base import unsqueeze_like
from .base import Scale, Scaled, score_scale

__all__ = ["ClassifierGuided", "RewardGuided"]


class Tilted(Scaled):
    """D + scale sigma^2/alpha grad log r(x_t): the denoiser of the law q(x_t) r(x_t)^scale.

    By Tweedie's formula E[x_0|x_t] = (x_t + sigma^2 grad log q(x_t))/alpha, so a factor of the law is a term of the
    gradient. Where x_t says nothing about x_0, D is returned as it is: see `score_scale`.
    The gradient of one row does not see the others, if r does not.
    """

    off = 0.0
    through: ClassVar[bool]
    """Whether r depends on x_t through the denoiser, which then has to be differentiated as well."""

    @abstractmethod
    def log_factor(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """(B,) log r, differentiable in x_t, given the unguided x_0 too, which if `through` is a function of x_t."""

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        process: Gaussian = self.process  # type: ignore[assignment]
        factor = self.scale_at(t) * score_scale(process, t)
        if bool((factor == 0).all()):
            return self.denoiser(x_t, t, cond)
        keep = torch.is_grad_enabled()
        x = x_t if keep and x_t.requires_grad else x_t.detach().requires_grad_()
        with torch.set_grad_enabled(keep or self.through):
            x_0 = self.denoiser(x, t, cond)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.log_factor(x, t, x_0).sum(), x, create_graph=keep)
        return (x_0 if keep else x_0.detach()) + unsqueeze_like(factor, x_t) * slope


class ClassifierGuided(Tilted):
    """D + scale sigma^2/alpha grad log p(y | x_t): a classifier of noisy data makes any model conditional.

    With the true p(y | x_t), scale = 1 is the denoiser of class y, and any scale equals `ClassifierFree`, whatever
    the process. Costs one evaluation of the denoiser, and the classifier's with its gradient.
    Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", algorithms 1 and 2.

    Args:
        denoiser: a model, conditional or not.
        classifier: (x_t, t) -> (B, K) log-probabilities, as `NoisyClassifier`.
        label: (B,) int64, the class of each row; or () for all.
        scale: a number >= 0 or a function of t; 0 = no guidance.
        interval: see `Scaled`.
    """

    through = False

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: Callable[[Tensor, Tensor], Tensor],
        label: Tensor,
        scale: Scale = 1.0,
        *,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser, scale, interval=interval)
        self.classifier, self.label = classifier, label

    def log_factor(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        return self.classifier(x_t, t).gather(1, self.label.expand(len(x_t))[:, None])[:, 0]


class RewardGuided(Tilted):
    """D + scale sigma^2/alpha grad r(D(x_t)): toward x_0 with a high reward, through the denoiser.

    Approximates the law p(x_0) exp(scale r(x_0)), with r(E[x_0|x_t]) for log E[exp r(x_0)|x_t]: exact for a linear
    reward where x_0 is Gaussian given x_t, right to first order in scale for any law and linear reward. Costs an
    evaluation and its gradient.
    Chung et al. 2023, "Diffusion Posterior Sampling", theorem 1, for measurements; Bansal et al. 2023, "Universal
    Guidance for Diffusion Models".

    Args:
        denoiser: a model, differentiable in x_t.
        reward: (B, *S) -> (B,), differentiable; each row's from that row alone.
        scale: a number >= 0 or a function of t; 0 = no guidance.
        interval: see `Scaled`.
    """

    through = True

    def __init__(
        self,
        denoiser: Denoiser,
        reward: Callable[[Tensor], Tensor],
        scale: Scale = 1.0,
        *,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser, scale, interval=interval)
        self.reward = reward

    def log_factor(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        value = self.reward(x_0)
        if value.shape != x_0.shape[:1]:
            raise ConfigError(
                f"the reward of {tuple(x_0.shape)} has shape {tuple(value.shape)}",
                field="reward",
                hint=f"return one number per sample, shape ({len(x_0)},)",
            )
        return value
