"""CFG-Zero*: guidance of velocities with a fitted weak opinion and a quiet start."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..parameterization import Velocity
from ..process import Gaussian
from ..process.base import unsqueeze_like
from ..spec import Fraction, validate
from .base import Place, Rule
from .projected import share

__all__ = ["CFGZero"]


@dataclass(frozen=True)
class CFGZero(Rule):
    """c u_w + scale (u_s - c u_w) in velocities u = dx_t/dt, with c = <u_s, u_w>/|u_w|^2 per sample.

    c u_w is the strong velocity projected on the weak one, so that only their difference in direction is amplified.
    Near pure noise, at t > 1 - zero, the velocity is 0 and x_t stays where it is. Works with every solver; made for
    flow models. Fan et al. 2025, "CFG-Zero*: Improved Classifier-Free Guidance for Flow Matching Models",
    arXiv:2503.18886.

    Args:
        zero: the share of the times, from t = 1 down, without motion, 0 <= zero <= 1; 0 = none.
    """

    zero: Fraction = 0.04

    def __post_init__(self) -> None:
        validate(self)

    def combine(self, weak: Tensor, strong: Tensor, scale: Tensor, place: Place) -> Tensor:
        process: Gaussian = place.process  # type: ignore[assignment]
        x_t, t = place.x_t, place.t
        skip, out = (unsqueeze_like(c, x_t) for c in Velocity().coefficients(process.schedule, t))
        u_weak, u_strong = ((x_0 - skip * x_t) / out for x_0 in (weak, strong))
        fitted = unsqueeze_like(share(u_strong, u_weak), x_t) * u_weak
        moving = unsqueeze_like(t <= 1 - self.zero, x_t)
        return skip * x_t + out * moving * torch.lerp(fitted, u_strong, scale)
