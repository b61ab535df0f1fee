"""The same noise under several solvers and numbers of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import times
from ..pipeline import Pipeline
from ..process import Cosine, Gaussian
from ..rng import Rng
from ..sampling import sample
from ..solvers import DDIM, DPMpp2M, Heun, RungeKutta, UniPC
from ..solvers.base import Solver
from ..spec import Range
from .base import Chart, Explanation, Picture, Seed, Subject, Table, check_length, said
from .drawing import enlarged, labelled_grid
from .laws import law_of
from .start import prompts, start

__all__ = ["Solvers"]

START, END, POINTS = 0.85, 0.15, 64
"""Between these times every method has its full order: no end is touched."""
CELL = 64  # pixels of the shorter side of a picture in the grid
FINER = 2
"""The reference takes so many times the most steps, each with the four calls of the classic Runge-Kutta method."""


class Run(NamedTuple):
    """What a solver made of the noise in so many steps, and how often it called the network."""

    solver: Solver
    steps: int
    calls: int
    x: Tensor


@dataclass(frozen=True, kw_only=True)
class Solvers(Subject):
    """One start under several solvers and numbers of steps: pictures, and the error over the cost."""

    title: ClassVar = "Solvers and steps"
    place: ClassVar = 5

    solvers: tuple[Solver, ...] = (DDIM(), Heun(), DPMpp2M(), UniPC())
    """The rows."""
    steps: tuple[Annotated[int, Range(ge=1, le=200)], ...] = (2, 4, 8, 16)
    """The columns."""
    seed: Seed = 0
    """Of the noise that all start from."""
    guidance: Annotated[float, Range(ge=0, le=20)] | None = None
    """How far from the unconditional opinion; None: the model's."""
    prompt: str | None = None
    """What the sample is to show, of a model that reads."""
    label: int | str | None = None
    """A class, by number or name; None: drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_length("solvers", self.solvers, 8)
        check_length("steps", self.steps, 6)

    def explain(self, pipe: Pipeline | None = None, picture: np.ndarray | None = None) -> Explanation:
        return self._in_closed_form() if pipe is None else self._of(pipe)

    def _in_closed_form(self) -> Explanation:
        exact = law_of("clusters")
        denoiser, rng = exact.denoiser(Gaussian(Cosine())), Rng.of(self.seed, POINTS)
        first = torch.tensor(START, dtype=torch.float64)
        x = denoiser.process.corrupt(denoiser.draw(rng.fork("law")), first, rng.fork("noise"))

        def solve(solver: Solver, steps: int) -> Tensor:
            grid = torch.linspace(START, END, steps + 1, dtype=torch.float64)
            return sample(denoiser, solver, grid, x, rng=rng.fork("solver"))

        runs, truth = self._runs(solve, denoiser)
        text = (
            f"{POINTS} points of a mixture of three Gaussians, whose denoiser is known exactly, are carried from "
            f"t = {START} to {END}. The error is the distance to the solution of a fine grid. On these axes a method "
            "of order p is a line of slope -p: twice the calls, 2^p times less error. Methods that draw noise of their "
            "own have no such common end and are left out."
        )
        return self.explanation(text, charts=_charts(runs, truth), table=_table(runs, truth))

    @torch.no_grad()
    def _of(self, pipe: Pipeline) -> Explanation:
        prompt = prompts(pipe, self.prompt, ("orange swan",))
        begin = start(pipe, self.seed, guidance=self.guidance, prompt=prompt, label=self.label)
        self = replace(self, guidance=begin.chosen.guidance, prompt=prompt)
        schedule = pipe.denoiser.process.schedule

        def solve(solver: Solver, steps: int) -> Tensor:
            begin.denoiser.check(solver)
            grid = times.uniform(steps, schedule)
            return sample(begin.denoiser, solver, grid, begin.x, cond=begin.cond, rng=begin.rng)

        runs, truth = self._runs(solve, pipe.denoiser.network)
        pictures = []
        if pipe.config.kind == "image":
            cells = [enlarged(pipe.decode(run.x)[0], CELL) for run in runs]
            columns = [f"{steps} steps" for steps in self.steps]
            sheet = labelled_grid(cells, [said(solver) for solver in self.solvers], columns)
            pictures = [Picture("One start, solved in many ways", sheet)]
        text = (
            f"Sample {self.seed} of {pipe.name}: the same noise, solved by each method in few and in more steps. The "
            "error is the RMS distance of x_0 to the solution of a fine grid of the classic Runge-Kutta method. "
            "Methods that draw noise of their own end elsewhere, and have no error of this kind."
        )
        return self.explanation(
            text, pictures=pictures, charts=_charts(runs, truth), table=_table(runs, truth)
        )

    def _runs(self, solve: Callable[[Solver, int], Tensor], counted: nn.Module) -> tuple[list[Run], Tensor]:
        """A run for every row and column, and the reference."""
        calls: list[int] = []
        handle = counted.register_forward_hook(lambda *_: calls.append(1))
        try:
            runs = []
            for solver in self.solvers:
                for steps in self.steps:
                    calls.clear()
                    x = solve(solver, steps)
                    runs.append(Run(solver, steps, len(calls), x))
        finally:
            handle.remove()
        return runs, solve(RungeKutta(), FINER * max(self.steps))


def _errors(runs: list[Run], truth: Tensor) -> dict[str, dict[int, float]]:
    """{solver: {calls: RMS error}} of those that draw no noise."""
    found: dict[str, dict[int, float]] = {}
    for run in runs:
        if not run.solver.stochastic:
            error = float((run.x - truth).double().square().mean().sqrt())
            found.setdefault(said(run.solver), {})[run.calls] = error
    return found


def _charts(runs: list[Run], truth: Tensor) -> list[Chart]:
    errors = _errors(runs, truth)
    calls = sorted({count for each in errors.values() for count in each})
    curves = {word: [each.get(count, math.nan) for count in calls] for word, each in errors.items()}
    labels = "calls of the network", "RMS error"
    return (
        [Chart("Error over cost", labels[0], calls, labels[1], curves, log_x=True, log_y=True)]
        if errors
        else []
    )


def _table(runs: list[Run], truth: Tensor) -> Table:
    """Calls and errors, and the order: that of the method, and the slope between its last two numbers of steps."""
    errors = _errors(runs, truth)
    rows = []
    for run in runs:
        word = said(run.solver)
        error = errors.get(word, {}).get(run.calls)
        rows.append(
            [
                word,
                run.steps,
                run.calls,
                None if error is None else float(f"{error:.3g}"),
                run.solver.order,
                None,
            ]
        )
    for k, (run, before) in enumerate(zip(runs[1:], runs, strict=False), start=1):
        if (
            run.solver is before.solver
            and None not in (rows[k][3], rows[k - 1][3])
            and run.steps > before.steps
        ):
            ratio = errors[said(run.solver)][before.calls] / max(errors[said(run.solver)][run.calls], 1e-300)
            rows[k][5] = round(math.log(ratio) / math.log(run.steps / before.steps), 2)
    return Table(("solver", "steps", "calls", "error", "order", "measured"), rows)
