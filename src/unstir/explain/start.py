"""Where sampling of a model starts: what `Pipeline.sample` begins with, for those who take the steps themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..condition import Condition
from ..denoiser import Denoiser
from ..model import Defaults
from ..pipeline import Pipeline, load
from ..rng import Rng
from ..solvers.base import Solver

__all__ = ["SHIPPED", "Start", "given", "prompts", "start"]

SHIPPED = "emoji"
"""The model that is explained where none is given."""


class Start(NamedTuple):
    """The settings, E[x_0 | x_t] with its guidance, what it is told, x_1 (N, C, *S) and its noise."""

    chosen: Defaults
    denoiser: Denoiser
    cond: Condition | None
    x: Tensor
    rng: Rng


def given(pipe: Pipeline | None) -> Pipeline:
    """The pipeline, or that of the model that comes with the package."""
    return load(SHIPPED) if pipe is None else pipe


def prompts(pipe: Pipeline, prompt: str | None, usual: Sequence[str]) -> str | None:
    """The prompt, "one | two" for several; of a model that reads and is given none, the usual ones."""
    return " | ".join(usual) if prompt is None and pipe.config.prompt is not None else prompt


def start(
    pipe: Pipeline,
    seed: int,
    *,
    steps: int | None = None,
    solver: Solver | None = None,
    guidance: float | None = None,
    prompt: str | None = None,
    label: int | str | None = None,
) -> Start:
    """One sample of this seed, from the noise that `Pipeline.sample` would start from; raises what that would."""
    chosen = pipe.chosen({"steps": steps, "solver": solver, "guidance": guidance})
    rng = Rng.of(seed, 1)
    asked = pipe.asked(label, prompt, rng, chosen)
    pipe.check(chosen)
    denoiser, cond = pipe.guided(chosen, asked)
    shape = pipe.codec.shape(pipe.data_shape(None))
    x = pipe.denoiser.process.prior((1, *shape), rng.fork("prior"), torch.float32, pipe.device)
    return Start(chosen, denoiser, cond, x, rng.fork("solver"))
