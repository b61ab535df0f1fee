"""DDRM: in the singular basis of A, what y knows is written into the sample as a noisier version of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..denoiser import Move
from ..errors import IncompatibleError
from ..noise import Noise
from ..operators import SVD, Measurement
from ..process.base import unsqueeze_like
from ..solvers.base import Bound, Solver
from ..solvers.ddim import DDIM
from ..spec import Fraction, validate
from .posterior import Method, require_linear

__all__ = ["DDRM", "Measured", "require_svd"]


@dataclass(frozen=True)
class DDRM(Method):
    """With A = U diag(S) V^T, coordinate i of V^T x_s is made anew at the end of each step, where y knows it (S_i > 0):

        alpha ((1 - eta_b) D_i + eta_b y_i) + sqrt(sigma^2 - (eta_b alpha std_i)^2) z   if sigma >= alpha std_i,
        alpha D_i + sigma (sqrt(1 - eta^2) (y_i - D_i)/std_i + eta z)                   if it has less noise than y_i,

    with alpha and sigma of s, y_i of A^+ y and its noise std_i = std/S_i, D of the step, fresh z. What y does not know
    stays as the solver made it. Kawar et al. 2022, "Denoising Diffusion Restoration Models", eq. 7 and 8, whose x is
    x/alpha here. There the other coordinates renew a share eta^2 of their noise too, on every step however short;
    `DDIM(eta)` does so at a rate over time, so that more steps are better. The second line is as published: with noise
    in y it is made for about 20 steps, and many forget y.

    Takes linear operators that know their SVD, y with Gaussian noise or none, and first-order solvers of one call per
    step: others would take what is made anew for part of their own way.

    Args:
        eta: share of fresh noise where x_s has less than y.
        eta_b: share of y against D where x_s has more.
    """

    eta: Fraction = 0.85
    eta_b: Fraction = 1.0
    solver: ClassVar[Solver | None] = DDIM(eta=0.85)
    exact: ClassVar[str] = "y without noise, and independent of it what it leaves open, as steps grow"

    def __post_init__(self) -> None:
        validate(self)

    def denoise(self, denoiser: Bound, x_t: Tensor, t: Tensor, measurement: Measurement) -> Tensor:
        """D; at t = 0, where some schedules keep noise, D with y_i for D_i as in the first line."""
        x_0 = denoiser(x_t, t)
        if not bool((t == 0).any()):
            return x_0
        at = Measured.by(self, measurement, x_0)
        D = at.svd.right(x_0)
        alpha, sigma = denoiser.process.scales(t, D)
        told = at.known & (sigma >= alpha * at.std) & (unsqueeze_like(t, D) == 0)
        return at.svd.back(torch.where(told, torch.lerp(D, at.y, self.eta_b), D))

    def settle(
        self, denoiser: Bound, move: Move, measurement: Measurement, noise: Noise, memory: dict[Any, Any]
    ) -> Tensor:
        at = Measured.by(self, measurement, move.x_s)
        x_s, D, z = (at.svd.right(x) for x in (move.x_s, move.x_0, noise.fresh("measured", move.s)))
        alpha, sigma = denoiser.process.scales(move.s, x_s)
        lacking = sigma**2 - (self.eta_b * alpha * at.std) ** 2
        above = alpha * torch.lerp(D, at.y, self.eta_b) + lacking.clamp(min=0).sqrt() * z
        pull = (1 - self.eta**2) ** 0.5 * (at.y - D) / at.std.where(at.std > 0, 1)
        below = alpha * D + sigma * (pull + self.eta * z)
        made = torch.where(sigma >= alpha * at.std, above, below)
        return at.svd.back(torch.where(at.known, made, x_s))

    def check_measurement(self, measurement: Measurement) -> None:
        require_svd(self, measurement)

    def check_solver(self, solver: Solver) -> None:
        if (solver.order, solver.evaluations) != (1, 1):
            raise IncompatibleError(
                f"DDRM takes single steps of one call; {type(solver).__name__} takes others",
                field="solver",
                hint="use solver=ddim:eta=0.85 with it, or method=ddnm, which takes every solver",
            )


class Measured(NamedTuple):
    """What y says in coordinates of V, where A = U diag(S) V^T: y_i of A^+ y, whose noise has standard deviation std_i.

    Both are 0 where it says nothing: where S is 0, or small enough to be a rounding error squared.
    """

    svd: SVD
    known: Tensor
    y: Tensor
    std: Tensor

    @classmethod
    def by(cls, method: Method, measurement: Measurement, like: Tensor) -> Measured:
        """For x shaped like `like`; raises IncompatibleError where the SVD is not known."""
        svd = measurement.operator.svd(like)
        if svd is None:
            raise _unknown(method, measurement)
        known = svd.s > svd.s.max() * torch.finfo(svd.s.dtype).eps ** 0.5
        inverse = torch.where(known, 1 / svd.s.where(known, 1), 0)
        return cls(svd, known, inverse * svd.left(measurement.y), inverse * measurement.variance.sqrt())


def require_svd(method: Method, measurement: Measurement) -> None:
    """Raises IncompatibleError unless the operator knows its SVD and the noise is the same everywhere."""
    require_linear(method, measurement)
    shape = measurement.operator.source(tuple(measurement.y.shape[1:]))
    if shape is not None and measurement.operator.svd(measurement.y.new_zeros(1, *shape)) is None:
        raise _unknown(method, measurement)
    if measurement.variance.ndim:
        raise IncompatibleError(
            f"{type(method).__name__} takes Gaussian noise, not {type(measurement.noise).__name__}",
            field="method",
            hint="use method=diffpir or method=dps, or a Gaussian std",
        )


def _unknown(method: Method, measurement: Measurement) -> IncompatibleError:
    return IncompatibleError(
        f"{type(method).__name__} works in the singular basis of A, which is not known of "
        f"{measurement.operator.title}",
        field="method",
        hint="use method=diffpir, which iterates instead",
    )
