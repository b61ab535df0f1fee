"""The denoiser E[x_0 | x_t]: what every network is turned into and every solver steps with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .condition import Condition
from .errors import IncompatibleError
from .modules import Divisible, Part, twin
from .noise import Noise
from .parameterization import Parameterization
from .process import Gaussian, Process, Schedule
from .process.base import unsqueeze_like

__all__ = ["Denoiser", "Moments", "Move", "Preconditioned", "input_scale", "noise_level", "positions"]

# beyond this the network could not tell noise levels apart: signal or noise is below 5e-5
MAX_LOG_SNR = 20.0


def input_scale(schedule: Schedule, t: Tensor, sigma_data: float) -> Tensor:
    """c_in = (alpha^2 d^2 + sigma^2)^(-1/2), which gives x_t unit variance for data of std d."""
    return torch.rsqrt((schedule.alpha(t) * sigma_data) ** 2 + schedule.sigma(t) ** 2)


def noise_level(schedule: Schedule, t: Tensor) -> Tensor:
    """log_snr(t)/4, finite: how a network is told t."""
    return schedule.log_snr(t).clamp(-MAX_LOG_SNR, MAX_LOG_SNR) / 4


def positions(x: Tensor) -> Tensor:
    """(B, 2, H, W): down and right, where each pixel of x (B, C, H, W) lies, from -1 to 1."""
    height, width = x.shape[2:]
    down = torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device)[:, None].expand(height, width)
    right = torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device).expand(height, width)
    return torch.stack((down, right)).expand(len(x), 2, height, width)


class Moments(NamedTuple):
    """E[x_0 | x_t] and, component by component, Var[x_0 | x_t], both (B, *S)."""

    mean: Tensor
    variance: Tensor


class Move(NamedTuple):
    """A step as a solver made it: from x_t at t to x_s at s, with the x_0 that it took; all (B, *S)."""

    x_s: Tensor
    x_0: Tensor
    x_t: Tensor
    t: Tensor
    s: Tensor


class Denoiser(nn.Module, ABC):
    """E[x_0 | x_t, cond]. A denoiser of one's own needs a `process` and `forward`, nothing else.

    `forward` takes x_t (B, *S), t as a () or (B,) tensor in (0, 1] and a condition, and returns (B, *S) in
    x_t's dtype. The times of one call may differ per sample.
    """

    process: Process

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor: ...

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        """E[x_0 | x_t, cond] and Var[x_0 | x_t, cond]; raises IncompatibleError where the latter is not known."""
        raise IncompatibleError(
            f"{type(self).__name__} knows the mean of x_0, not its variance",
            field="solver.variance",
            hint="use variance=lower or upper, or a model trained with objective=hybrid",
        )

    def draft_error(self, x_0: Tensor, cond: Condition | None) -> Tensor | None:
        """(B,) squared errors of what a network makes of x_0 from the condition alone; None where it makes nothing."""
        return None

    def during(self, t: Tensor, s: Tensor, memory: dict[Any, Any]) -> Denoiser:
        """The denoiser of one solver step from t to s, which the loop asks for before it takes the step.

        A plain denoiser is the same in all of them. Guidance that depends on where the step goes, or on earlier
        steps, finds here s and a `memory` that lives as long as the trajectory.
        """
        return self

    def settle(self, move: Move, cond: Condition | None, noise: Noise) -> Tensor:
        """x_s, which guidance that acts on the sample itself, beside x_0, may change after a solver's step."""
        return move.x_s

    def check(self, solver: Any) -> None:
        """Raises IncompatibleError where this denoiser cannot be stepped by the solver."""

    def without(self, part: Part, blocks: tuple[int, ...] | None = None) -> Denoiser:
        """The same denoiser, weights shared, with a part of its network switched off: a worse opinion for free.

        See `Network.without`. Raises IncompatibleError where there is no such part.
        """
        raise IncompatibleError(
            f"{type(self).__name__} has no network with {part} to switch off",
            field="weaker",
            hint="use a trained model with a dit, or with a unet of attention=1 or more",
        )


class Preconditioned(Denoiser):
    """D(x_t, t) = c_skip x_t + c_out network(c_in x_t, log_snr(t)/4, cond), c_in = (alpha^2 d^2 + sigma^2)^(-1/2).

    Coefficients are computed in t's precision; the network alone may run in a lower one.

    Args:
        network: (x, noise, cond) -> F, shapes (B, C, *S), (B,) and (B, C, *S), or (B, 2 C, *S) with `variance`.
        process: the Gaussian process.
        parameterization: what F means.
        sigma_data: d, the standard deviation of the data, > 0.
        dtype: precision of the network's arithmetic, e.g. torch.bfloat16; None keeps that of x_t.
        embedder: turns prompts into conditions; it is trained, averaged and saved with the network.
        variance: the network also says how uncertain x_0 is.
        augmentation: how many of the last entries of `cond.vector` say what was done to pictures in training;
            whoever does not give them means the picture as it is, 0.
        patches: `cond.spatial` says where a part of a picture lies; whoever does not give it means all of it.

    Raises:
        IncompatibleError: the parameterization cannot recover x_0 on this schedule.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Gaussian,
        parameterization: Parameterization,
        sigma_data: float = 0.5,
        dtype: torch.dtype | None = None,
        embedder: nn.Module | None = None,
        variance: bool = False,
        augmentation: int = 0,
        patches: bool = False,
    ) -> None:
        super().__init__()
        parameterization.check(process.schedule)
        self.network = network
        self.process: Gaussian = process
        if isinstance(process.schedule, nn.Module):
            self.schedule = process.schedule  # learned: trained, averaged, saved, moved with the network
        self.parameterization = parameterization
        self.sigma_data = sigma_data
        self.dtype = dtype
        self.embedder = embedder
        self.variance = variance
        self.augmentation = augmentation
        self.patches = patches

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in) at t."""
        schedule = self.process.schedule
        c_skip, c_out = self.parameterization.coefficients(schedule, t)
        return c_skip, c_out, input_scale(schedule, t, self.sigma_data)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self._outputs(x_t, t, cond)[0]

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        """x_0 and exp(G) v(t), G the network's second half of channels,

            v = sigma^2 d^2/(alpha^2 d^2 + sigma^2),

        which is Var[x_0|x_t] if x_0 ~ N(0, d^2).
        """
        if not self.variance:
            return super().moments(x_t, t, cond)
        x_0, G = self._outputs(x_t, t, cond)
        c_in = input_scale(self.process.schedule, t, self.sigma_data)
        v = (self.process.schedule.sigma(t) * self.sigma_data * c_in) ** 2
        return Moments(x_0, unsqueeze_like(v, x_t) * G.exp())

    def _outputs(self, x_t: Tensor, t: Tensor, cond: Condition | None) -> tuple[Tensor, Tensor]:
        """x_0, and the channels of the network's output beyond its own."""
        c_skip, c_out, c_in = (unsqueeze_like(c, x_t) for c in self.coefficients(t))
        level = noise_level(self.process.schedule, t).to(x_t)
        cond = self._completed(x_t, cond)
        with torch.autocast(x_t.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            F, G = self.network(c_in * x_t, level, cond).to(x_t.dtype).tensor_split([x_t.shape[1]], 1)
        return c_skip * x_t + c_out * F, G

    def _completed(self, x_t: Tensor, cond: Condition | None) -> Condition | None:
        """The condition with what samples are told and nobody has to say: not augmented, the whole picture."""
        if self.augmentation:
            told = None if cond is None else cond.vector
            if told is None:
                told = x_t.new_zeros(len(x_t), 0)
            cond = replace(cond or Condition(), vector=self._told(told))
        if self.patches and (cond is None or cond.spatial is None):
            cond = replace(cond or Condition(), spatial=positions(x_t))
        return cond

    def _told(self, vector: Tensor) -> Tensor:
        """The vector with the parameters of an augmentation, where they were left out: none."""
        if vector.shape[1] + self.augmentation == self.network.cond_dim:
            vector = torch.cat((vector, vector.new_zeros(len(vector), self.augmentation)), 1)
        return vector

    def draft_error(self, x_0: Tensor, cond: Condition | None) -> Tensor | None:
        draft = getattr(self.network, "draft", None)
        if draft is None or cond is None or cond.vector is None:
            return None
        return draft.error(self._told(cond.vector), x_0)

    def without(self, part: Part, blocks: tuple[int, ...] | None = None) -> Denoiser:
        if not isinstance(self.network, Divisible):
            return super().without(part, blocks)
        return twin(self, network=self.network.without(part, blocks))
