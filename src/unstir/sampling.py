"""The only loop: a denoiser, a solver and a grid of times give a trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .condition import Condition
from .denoiser import Denoiser
from .errors import ConfigError, IncompatibleError, NumericError
from .noise import Noise
from .rng import Rng
from .solvers.base import Bound, Solver, Step

__all__ = ["sample", "trajectory"]


def trajectory(
    denoiser: Denoiser,
    solver: Solver,
    times: Tensor,
    x: Tensor,
    *,
    cond: Condition | None = None,
    rng: Rng,
) -> Iterator[Step]:
    """The steps from times[0] to times[-1], one per interval, as they are made.

    Falling times are solved; rising ones add noise by the process's own transition. Stop consuming to stop
    the work; decode `step.x_0` for a live preview.

    Args:
        denoiser: E[x_0 | x_t].
        solver: one step t -> s.
        times: (N + 1,) in [0, 1], finite, no two neighbours equal.
        x: (B, *S) at times[0].
        cond: its condition.
        rng: B generators; a noise depends on the sample's key and the interval alone.

    Raises:
        IncompatibleError: the solver is made for another process, or the guidance for another solver.
        ConfigError: the times are not such a grid.
    """
    if not isinstance(denoiser.process, solver.process):
        got, need = type(denoiser.process).__name__, solver.process.__name__
        raise IncompatibleError(
            f"{type(solver).__name__} solves {need} processes; the denoiser's is {got}",
            field="solver",
            hint=f"use a {got} solver",
        )
    denoiser.check(solver)
    _check_times(times)
    return _steps(denoiser, solver, times, x, cond, rng)


def _steps(
    denoiser: Denoiser, solver: Solver, times: Tensor, x: Tensor, cond: Condition | None, rng: Rng
) -> Iterator[Step]:
    noise, memory, state = Noise(rng, x), {}, None  # type: ignore[var-annotated]
    for place, (t, s) in enumerate(pairwise(times)):
        if s > t:
            x, state = denoiser.process.transition(x, t, s, rng.fork("rise", t, s, place)), None
            # a fall may visit the same times again: it must not meet the same noise
            noise = Noise(rng.fork("after", place), x)
            yield Step(x, x)
            continue
        step = solver.step(Bound(denoiser.during(t, s, memory), cond), x, t, s, state, noise)
        x, state = step.x, step.state
        yield step


def _check_times(times: Tensor) -> None:
    ok = times.ndim == 1 and len(times) >= 2 and bool(times.isfinite().all())
    ok = ok and bool((times >= 0).all() and (times <= 1).all() and (times.diff() != 0).all())
    if not ok:
        raise ConfigError(
            f"times {times.tolist()} are not a grid",
            field="times",
            hint="give two or more times in [0, 1] with no two neighbours equal, e.g. times.uniform(20)",
        )


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    solver: Solver,
    times: Tensor,
    x: Tensor,
    *,
    cond: Condition | None = None,
    rng: Rng,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """The end of the `trajectory`: data, where the grid ends at t = 0. `on_step` sees every step.

    Where sigma(0) > 0 (variance exploding) a grid that ends at 0 still leaves that much noise, and one more
    call of the denoiser removes it.

    Raises:
        NumericError: the result is not finite.
    """
    for step in trajectory(denoiser, solver, times, x, cond=cond, rng=rng):
        x = step.x
        if on_step is not None:
            on_step(step)
    if times[-1] == 0 and not denoiser.process.ends_clean:
        x = denoiser(x, times[-1], cond)
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise NumericError(
            f"{type(solver).__name__} gave NaN or infinite values",
            field="solver",
            hint="lower the guidance, use more steps or another solver; if it persists, the model diverged",
        )
    return x
