"""The only loop: a denoiser, a solver and a grid of times give a trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .condition import Condition
from .denoiser import Denoiser, Move
from .errors import ConfigError, IncompatibleError, NumericError
from .noise import Noise
from .process.base import unsqueeze_like
from .rng import Rng
from .solvers.base import Bound, Frame, Solver, Step

__all__ = ["invert", "sample", "trajectory"]


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
    _check(denoiser, solver, times)
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
        now = denoiser.during(t, s, memory)
        step = solver.step(Bound(now, cond), x, t, s, state, noise)
        x, state = now.settle(Move(step.x, step.x_0, x, t, s), cond, noise), step.state
        yield step._replace(x=x)


def _check(denoiser: Denoiser, solver: Solver, times: Tensor) -> None:
    if not isinstance(denoiser.process, solver.process):
        got, need = type(denoiser.process).__name__, solver.process.__name__
        raise IncompatibleError(
            f"{type(solver).__name__} solves {need} processes; the denoiser's is {got}",
            field="solver",
            hint=f"use a {got} solver",
        )
    denoiser.check(solver)
    ok = times.ndim == 1 and len(times) >= 2 and bool(times.isfinite().all())
    ok = ok and bool((times >= 0).all() and (times <= 1).all() and (times.diff() != 0).all())
    if not ok:
        raise ConfigError(
            f"times {times.tolist()} are not a grid",
            field="times",
            hint="give two or more times in [0, 1] with no two neighbours equal, e.g. times.uniform(20)",
        )


def _check_finite(solver: Solver, x: Tensor) -> None:
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise NumericError(
            f"{type(solver).__name__} gave NaN or infinite values",
            field="solver",
            hint="lower the guidance, use more steps or another solver; if it persists, the model diverged",
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
    _check_finite(solver, x)
    return x


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    solver: Solver,
    times: Tensor,
    x: Tensor,
    *,
    cond: Condition | None = None,
    iterations: int = 3,
) -> Tensor:
    """The noise at times[0] from which `sample` comes to x at times[-1]: its steps undone, the last one first.

    x_s = step(x_t) is solved for x_t by y_t <- y_t + y_s - step(y_t), with y = x/sqrt(alpha^2 + sigma^2) and starting
    at y_t = y_s. The first iteration is DDIM inversion, Song et al. 2021, section 4.3: exact for small steps. Every
    further one brings the way back closer to x by a factor of the order of the step; Pan et al. 2023, "Effective
    Real Image Editing with Accelerated Iterative Diffusion Inversion", section 3.

    Args:
        denoiser: E[x_0 | x_t]; with guidance, iterate more.
        solver: a `pure` one: `DDIM()`, `Euler`, `Heun`, `RungeKutta`.
        times: (N + 1,) in [0, 1], falling: the grid of the way back.
        x: (B, *S), data where the grid ends at 0.
        cond: its condition.
        iterations: for each step, 1 or more; each takes the calls of one step of the solver.

    Raises:
        IncompatibleError: the solver draws noise or remembers earlier steps.
        ConfigError: the times do not fall, or iterations < 1.
        NumericError: the iteration diverged.
    """
    _check(denoiser, solver, times)
    if not solver.pure:
        raise IncompatibleError(
            f"the steps of {type(solver).__name__} cannot be undone: they draw noise or remember earlier ones",
            field="solver",
            hint="use DDIM(), Euler(), Heun(), RungeKutta() or DPMpp2S()",
        )
    if bool((times.diff() > 0).any()):
        raise ConfigError(f"times {times.tolist()} rise", field="times", hint="give the grid of the way back")
    if iterations < 1:
        raise ConfigError(f"iterations is {iterations}", field="iterations", hint="accepted: 1 or more")
    noise = Noise(Rng.of(0, len(x)), x)
    for s, t in pairwise(times.flip(0)):
        bound = Bound(denoiser.during(t, s, {}), cond)
        frame = Frame("angle", bound.process)
        x_s, ratio = x, unsqueeze_like(frame.scale(t) / frame.scale(s), x)
        x = ratio * x
        for _ in range(iterations):
            x = x + ratio * (x_s - solver.step(bound, x, t, s, None, noise).x)
    _check_finite(solver, x)
    return x
