"""How to spend few network evaluations on one model: which solver, on which grid, guided between which times.

The model itself decides, without data; one that reads is given captions of its training. The same noise is carried
to its end once with many evaluations, all of them guided: the reference. What ends nearest to it for the price wins.

1. Along the reference the denoiser's answer moves where a long step would miss; a first grid gives each step an
   equal share of that error.
2. Guidance doubles the price of a call, so it is spent on those neighbouring steps where it moves x_t most.
3. Every deterministic solver is tried on a few samples with each number of guided steps that the budget allows.
4. The times of the best are moved one after the other, as long as that brings the samples nearer.
5. They are ranked on samples that were not used before.
"""

from __future__ import annotations

import bisect
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch.nn import functional as F

from . import times
from .condition import Condition
from .data import open_data
from .denoiser import Denoiser
from .embedders.weighting import escape
from .errors import ConfigError, DataError, IncompatibleError, UnstirError
from .files import Lock, replace_sealed
from .guidance import CFGPlusPlus
from .model import Defaults, find_model
from .pipeline import Pipeline
from .pipeline.asked import rows_of
from .process import Gaussian
from .rng import Rng
from .sampling import sample, trajectory
from .solvers import DPMpp2M
from .solvers.base import Solver
from .spec import choices

__all__ = ["Trial", "Tuning", "store", "tune"]

REFERENCE = 50
"""Steps of the reference."""
KNOTS = 7
"""Steps whose times are moved; with more steps, these are interpolated."""
ROUGH, FINALISTS = 6, 3
"""Solvers whose times are moved on a few samples, and on half of them."""
MOST = 200
"""The largest budget: beyond it every grid is good."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """Settings and what they were measured to give."""

    settings: Defaults
    calls: int
    """Network evaluations per sample."""
    error: float
    """Distance from the reference over the spread of the reference: about 1.4 for unrelated samples."""
    seconds: float
    """Per sample, on this machine."""


@dataclass(frozen=True)
class Tuning:
    """What `tune` found: trials from the best to the worst, and the untuned settings for the same budget."""

    budget: int
    reference_calls: int
    trials: tuple[Trial, ...]
    untuned: Trial

    @property
    def best(self) -> Trial:
        return self.trials[0]


@dataclass(frozen=True)
class Layout:
    """A solver on a grid through `knots`, guided from step `first` up to, not including, step `last`."""

    solver: Solver
    steps: int
    knots: tuple[float, ...]
    first: int = 0
    last: int | None = None

    def settings(self, base: Defaults) -> Defaults:
        """As settings; the interval lies midway between the times of guided and unguided steps."""
        t = [round(u, 8) for u in times.optimised(self.steps, self.knots).tolist()]
        low, high = base.interval
        if self.first > 0:
            high = min(high, (t[self.first - 1] + t[self.first]) / 2)
        if self.last is not None and self.last < self.steps:
            low = max(low, (t[self.last - 1] + t[self.last]) / 2)
        return replace(
            base, solver=self.solver, grid="optimised", steps=self.steps, times=tuple(t), interval=(low, high)
        )


class Bench:
    """Noise, what it is asked to become, and where the reference carries it.

    Args:
        pipe: the model.
        base: the settings whose samples are wanted; their guidance is that of the reference.
        n: samples.
        seed: of the first.
        prompts: one for each, for a model that reads.
    """

    def __init__(
        self, pipe: Pipeline, base: Defaults, n: int, seed: int, prompts: Sequence[str] | None = None
    ) -> None:
        self.pipe, self.base = pipe, base
        self.keys = Rng.of(seed, n).to(pipe.device)
        self.asked = pipe.asked(None, None if prompts is None else list(prompts), Rng.of(seed, n), base)
        self.process: Gaussian = pipe.denoiser.process
        shape = (n, *pipe.config.shape)
        self.x_1 = self.process.prior(shape, self.keys.fork("prior"), torch.float32, pipe.device)
        self.reference = replace(base, solver=DPMpp2M(), grid="beta", steps=REFERENCE)
        self.fine = pipe.grid(self.reference)

    def run(self, settings: Defaults, rows: slice) -> Tensor:
        """x_0 of these samples, (B, *S)."""
        return torch.cat([self._part(settings, part) for part in self._parts(rows)])

    @torch.no_grad()
    def _part(self, settings: Defaults, rows: slice) -> Tensor:
        denoiser, cond = self._denoiser(settings, rows)
        rng = self.keys[rows].fork("solver")
        return sample(denoiser, settings.solver, self.pipe.grid(settings), self.x_1[rows], cond=cond, rng=rng)

    def _denoiser(self, settings: Defaults, rows: slice) -> tuple[Denoiser, Condition | None]:
        return self.pipe.guided(settings, rows_of(self.asked, rows))

    def _parts(self, rows: slice) -> Iterator[slice]:
        size = self.base.micro_batch
        for start in range(rows.start, rows.stop, size):
            yield slice(start, min(start + size, rows.stop))

    def error(self, settings: Defaults, rows: slice) -> float:
        """sqrt(E |f(x) - f(r)|^2 / E |f(r) - E f(r)|^2), x beside the reference r of the same noise, f = `features`."""
        try:
            x = self.run(settings, rows)
        except UnstirError:  # it diverged, or the guidance does not take this solver
            return math.inf
        found, wanted = features(x), self.wanted[rows]
        return float((found - wanted).square().sum(1).mean() / self._spread) ** 0.5

    @cached_property
    def wanted(self) -> Tensor:
        """The features of the reference, (N, D)."""
        return features(self.run(self.reference, slice(0, len(self.x_1))))

    @cached_property
    def _spread(self) -> Tensor:
        return self.wanted.var(0).sum().clamp(min=1e-12)

    @cached_property
    def course(self) -> tuple[Tensor, Tensor]:
        """Along the reference, between its times: how far E[x_0 | x_t] moves, and how far guidance moves it; (N,)."""
        rows = next(self._parts(slice(0, len(self.x_1))))
        denoiser, cond = self._denoiser(self.reference, rows)
        grid, x, rng = self.fine, self.x_1[rows], self.keys[rows].fork("solver")
        answers, pushes = [], []
        with torch.no_grad():
            for t, step in zip(
                grid, trajectory(denoiser, DPMpp2M(), grid, x, cond=cond, rng=rng), strict=False
            ):
                plain = step.x_0 if self.base.guidance == 1 else self.pipe.denoiser(x, t, cond)
                answers.append(step.x_0)
                pushes.append((step.x_0 - plain).square().mean().sqrt())
                x = step.x
        moves = torch.stack([(b - a).square().mean().sqrt() for a, b in itertools.pairwise([*answers, x])])
        return moves.double().cpu(), torch.stack(pushes).double().cpu()

    def place(self, steps: int) -> tuple[float, ...]:
        """The grid on which each step has an equal share of the integral of |d x_0 / du|^(1/2) du, u the angle.

        A first-order step of length h misses by about h^2 |d x_0 / du| / 2: equal shares of the root are equal
        errors. Long steps are far from where a higher order shows, so it is the start for all solvers.
        """
        schedule = self.process.schedule
        angle = torch.atan2(schedule.sigma(self.fine), schedule.alpha(self.fine)).double().cpu()
        share = (self.course[0] * -angle.diff()).sqrt()
        total = torch.cat((torch.zeros(1, dtype=torch.float64), share.cumsum(0)))
        wanted = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[1:-1] * total[-1]
        return (1.0, *_interpolate(wanted, total, self.fine.cpu()).tolist(), 0.0)

    def window(self, t: Sequence[float], guided: int) -> tuple[int, int]:
        """The neighbouring steps, `guided` in number, over which guidance moves x_t most in units of its scale."""
        schedule, now = self.process.schedule, torch.tensor(t, dtype=torch.float64)
        alpha, sigma = schedule.alpha(now).cpu(), schedule.sigma(now).cpu()
        grid = self.fine[:-1].cpu()
        push = _interpolate(-now[:-1], -grid, self.course[1])
        pull = (alpha[1:] - alpha[:-1] * sigma[1:] / sigma[:-1]) / torch.hypot(alpha[1:], sigma[1:])
        effect = (push * pull).unfold(0, guided, 1).sum(1)
        first = int(effect.argmax())
        return first, first + guided

    @property
    def dear(self) -> bool:
        """Whether a guided call costs two evaluations."""
        return not self.base.classifier and self.base.guidance not in (0, 1)

    def layouts(self, solver: Solver, guided: int, budget: int) -> Iterator[Layout]:
        """The layout with as many steps as the budget allows, `guided` of them guided; none if there is none."""

        def layout(steps: int) -> Layout:
            knots = self.place(steps)
            return Layout(solver, steps, knots, *(self.window(knots, guided) if guided else ()))

        fewest = max(guided, 1)
        more = _most(budget, lambda k: self.calls(layout(fewest + k - 1).settings(self.base)))
        found = layout(fewest + more - 1)
        if self.calls(found.settings(self.base)) <= budget:
            yield found

    @torch.no_grad()
    def pace(self) -> float:
        """Seconds per sample and evaluation."""
        rows = next(self._parts(slice(0, len(self.x_1))))
        cond = self._denoiser(replace(self.base, guidance=1.0), rows)[1]
        t, spent = torch.tensor(0.5, dtype=torch.float64), []
        for _ in range(4):  # the first warms up
            start = time.perf_counter()
            self.pipe.denoiser(self.x_1[rows], t, cond)[0, 0].sum().item()
            spent.append((time.perf_counter() - start) / (rows.stop - rows.start))
        return min(spent)

    def calls(self, settings: Defaults) -> int:
        """Network evaluations per sample, counted on a denoiser that does nothing."""
        counter = Counter(self.process, settings)
        x = torch.zeros(1, 1)
        sample(counter, settings.solver, self.pipe.grid(settings), x, rng=Rng.of(0, 1))
        return counter.calls


class Counter(Denoiser):
    """Answers 0 and counts what guidance would ask of the network."""

    def __init__(self, process: Gaussian, settings: Defaults) -> None:
        super().__init__()
        self.process, self.settings, self.calls = process, settings, 0

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        low, high = self.settings.interval
        dear = not self.settings.classifier and self.settings.guidance not in (0, 1)
        self.calls += 2 if dear and low <= float(t) <= high else 1
        return torch.zeros_like(x_t)


def features(x: Tensor) -> Tensor:
    """What samples are compared in, (B, D): pictures in a convolutional network with fixed random weights.

    Distances of pixels forgive blur; those of random features do not, and follow the Frechet distance in the
    features of a trained classifier better (docs/tune.md). Points are their own features.
    """
    if x.ndim != 4:
        return x.flatten(1).float()
    h = x.float()
    for k, width in enumerate((32, 64, 128)):
        shape = (width, h.shape[1], 3, 3)
        weight = Rng.of(k, 1).normal((1, math.prod(shape)), device=x.device).reshape(shape)
        h = F.relu(F.conv2d(h, weight * math.sqrt(2 / math.prod(shape[1:])), padding=1))
        h = F.max_pool2d(h, 2) if k < 2 and min(h.shape[2:]) > 3 else h
    return F.adaptive_avg_pool2d(h, 2).flatten(1)


def tune(
    pipe: Pipeline,
    budget: int | None = None,
    *,
    seconds: float | None = None,
    n: int = 128,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    say: Say = lambda _: None,
) -> Tuning:
    """The best settings for a budget.

    Args:
        pipe: the model; nothing of it is changed.
        budget: network evaluations per sample, 1 to 200; a guided call is two.
        seconds: instead of a budget, the time that one batch of samples (16, unless the model says otherwise) may
            take on this machine.
        n: samples to compare, 8 to 4096; the more, the surer.
        seed: of the first sample.
        prompts: what a model that reads is asked for, one for each sample, or fewer, in turn; None: captions that it
            was trained on.
        say: told what goes on.

    Raises:
        ConfigError: no such budget, or none of the solvers can keep to it; a model that reads, without prompts, and
            what it was trained on cannot be read.
    """
    _within("n", n, 8, 4096)
    base = _untuned(pipe.config.defaults)
    pipe.check(base)
    if isinstance(base.rule, CFGPlusPlus) and base.guidance != 1:
        raise IncompatibleError(
            "solvers and grids are compared, and the scale of CFG++ belongs to DDIM and a number of steps",
            field="rule",
            hint="tune a model with another rule: sampling.rule=linear in its training",
        )
    bench = Bench(pipe, base, n, seed, _prompts(pipe, prompts, n, seed))
    pace = bench.pace()
    budget = _budget(budget, seconds, pace * base.micro_batch)
    dear = bench.dear
    if budget < 1 + dear:
        raise ConfigError(
            f"budget={budget}, and a guided step takes two evaluations", field="budget", hint="use 2 or more"
        )
    few, half, rest = slice(0, max(4, min(n // 4, 256 // budget))), slice(0, n // 2), slice(n // 2, n)
    say(f"reference  {n} samples, {bench.calls(bench.reference)} evaluations each")
    _ = bench.wanted  # raises where the model gives nothing finite

    def error(layout: Layout) -> float:
        return bench.error(layout.settings(base), few)

    # how many steps to guide depends on the model more than on the solver: one solver finds out for all
    shares = sorted({round(g) for g in torch.linspace(1, budget / 2, 6).tolist()}) if dear else [0]
    shares.sort(key=lambda g: min(map(error, bench.layouts(DPMpp2M(), g, budget)), default=math.inf))
    solvers = [solver for solver in _deterministic() if solver.order is not None]
    layouts = [layout for s in solvers for g in shares[:2] for layout in bench.layouts(s, g, budget)]
    say(f"try        {len(layouts)} ways to spend {budget} evaluations")
    ranked = sorted(layouts, key=error)
    best_of = sorted({type(layout.solver): layout for layout in reversed(ranked)}.values(), key=ranked.index)
    rough = [_refined(layout, error, rounds=2, step=1.0) for layout in best_of[:ROUGH]]
    finalists = sorted(rough, key=error)[:FINALISTS]
    for k, layout in enumerate(finalists):
        say(f"refine     {type(layout.solver).__name__}, {layout.steps} steps")
        finalists[k] = _refined(layout, lambda changed: bench.error(changed.settings(base), half))
    refined = {type(layout.solver): layout for layout in [*best_of, *rough, *finalists]}

    def trial(settings: Defaults) -> Trial:
        calls = bench.calls(settings)
        return Trial(settings, calls, bench.error(settings, rest), calls * pace)

    trials = [trial(layout.settings(base)) for layout in refined.values()]
    untuned = trial(replace(base, steps=_most(budget, lambda k: bench.calls(replace(base, steps=k)))))
    trials.sort(key=lambda found: found.error)
    return Tuning(budget, bench.calls(bench.reference), tuple(trials), untuned)


def _prompts(pipe: Pipeline, given: Sequence[str] | None, n: int, seed: int) -> Sequence[str] | None:
    """One for each sample: those given, in turn, or captions of the training data; None: the model does not read."""
    if pipe.config.prompt is None:
        if given is not None:
            raise IncompatibleError(
                f"{pipe.name} was trained without captions", field="prompts", hint="leave prompts out"
            )
        return None
    if given is None:
        keys, source = Rng.of(seed, n).fork("prompt"), pipe.config.source
        try:
            # how much of it may be bad was settled when it was trained on
            data, _ = open_data(source, size=pipe.config.size[-1], heldout=0, max_bad=1.0)
        except DataError as error:
            raise ConfigError(
                f"{pipe.name} reads prompts, and {source} cannot be read: {error.message}",
                field="prompts",
                hint='give some in Python: unstir.tune.tune(pipe, budget, prompts=["red heart", ...])',
            ) from error
        items = keys.fork("item").integers(len(data), (n, 1))[:, 0].numpy()
        given = [escape(text) for text in data.caption(items, keys.fork("caption"))]
    if not given:
        raise ConfigError("prompts is empty", field="prompts", hint="give one or more, or leave it out")
    return [given[k % len(given)] for k in range(n)]


def store(model: str | Path, tuning: Tuning) -> Path:
    """Make the best settings the defaults of the model's file, in one atomic step, and return its path.

    Raises:
        CheckpointError: there is no such model, another process trains its run, or the disk refuses.
    """
    path = find_model(model).resolve()
    run = path.parents[2] if path.parent.parent.name == "checkpoints" else None
    with Lock(run / "lock") if run else nullcontext():
        pipe = Pipeline.load(path)
        pipe.config = replace(pipe.config, defaults=tuning.best.settings)
        replace_sealed(path, pipe.write)
    return path


def _refined(layout: Layout, error: Callable[[Layout], float], rounds: int = 4, step: float = 0.5) -> Layout:
    """The layout with its knots, and the window of guided steps, moved to where the error is least.

    One after the other is moved on the logit scale of t, on by the same step while that helps; the step is halved
    where nothing moves.
    """
    knots = times.optimised(min(layout.steps, KNOTS), layout.knots)
    layout = replace(layout, knots=tuple(knots.tolist()))
    least = error(layout)
    for _ in range(rounds):
        before = least
        for move in _moves(layout, step):
            while (moved := move(layout)) is not None and (found := error(moved)) < least:
                layout, least = moved, found
        step = step if least < before else step / 2
    return layout


def _moves(layout: Layout, step: float) -> Iterator[Callable[[Layout], Layout | None]]:
    for k, sign in itertools.product(range(1, len(layout.knots) - 1), (1, -1)):
        yield partial(_moved, k=k, by=sign * step)
    for by in (1, -1):
        yield partial(_shifted, by=by)


def _moved(layout: Layout, k: int, by: float) -> Layout | None:
    """One knot moved by so much on the logit scale; None where it would pass its neighbour."""
    logit = math.log(layout.knots[k] / (1 - layout.knots[k])) + by
    t = 1 / (1 + math.exp(-logit))
    if not layout.knots[k - 1] > t > layout.knots[k + 1]:
        return None
    return replace(layout, knots=(*layout.knots[:k], t, *layout.knots[k + 1 :]))


def _shifted(layout: Layout, by: int) -> Layout | None:
    """The window of guided steps moved along; None where it would leave the grid, or there is none."""
    if layout.last is None or not 0 <= layout.first + by < layout.last + by <= layout.steps:
        return None
    return replace(layout, first=layout.first + by, last=layout.last + by)


def _deterministic() -> Iterator[Solver]:
    """Every exported solver of Gaussian processes with a fixed number of calls and no noise, in all its variants."""
    for kind in choices(Solver).values():
        hints = {
            name: get_args(hint) for name, hint in get_type_hints(kind).items() if get_origin(hint) is Literal
        }
        for values in itertools.product(*hints.values()):
            solver = kind(**dict(zip(hints, values, strict=True)))
            if solver.process is Gaussian and not solver.stochastic and solver.evaluations is not None:
                yield solver


def _untuned(defaults: Defaults) -> Defaults:
    """The defaults as they were before a tuning: full guidance, and a grid that any model takes."""
    if defaults.grid != "optimised":
        return defaults
    fresh = Defaults()
    return replace(
        defaults, solver=fresh.solver, grid=fresh.grid, steps=fresh.steps, times=(), interval=fresh.interval
    )


def _budget(budget: int | None, seconds: float | None, batch: float) -> int:
    """The budget in evaluations, given one batch takes `batch` seconds."""
    if (budget is None) == (seconds is None):
        raise ConfigError(
            "give a budget or seconds", field="budget", hint="for example budget=8, or seconds=2"
        )
    if budget is not None:
        _within("budget", budget, 1, MOST)
        return budget
    assert seconds is not None
    if not (math.isfinite(seconds) and seconds >= batch):
        raise ConfigError(
            f"seconds={seconds}, and one evaluation takes {batch:.2g} s here",
            field="seconds",
            hint=f"give {math.ceil(40 * batch) / 10:g} or more, for four evaluations",
        )
    return min(int(seconds / batch), MOST)


def _within(field: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(
            f"{field} is {value}", field=field, hint=f"accepted: a whole number from {low} to {high}"
        )


def _most(budget: int, calls: Callable[[int], int]) -> int:
    """The largest k >= 1 with calls(k) <= budget; 1 where there is none. `calls` rises."""
    return max(1, bisect.bisect_right(range(1, budget + 1), budget, key=calls))


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Piecewise linear through (xs, ys), xs rising."""
    k = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    w = ((x - xs[k - 1]) / (xs[k] - xs[k - 1])).clamp(0, 1)
    return torch.lerp(ys[k - 1], ys[k], w)
