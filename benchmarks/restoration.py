"""What does each method make of each operator? 200 clothes that the model has not seen, measured and restored.

    python benchmarks/restoration.py [RUN] [--n 200] [--inpaint RUN] [--upscale RUN] [--only WORD] [--dry]

RUN is a model of Fashion-MNIST, runs/bench-fashion of fashion_mnist.py by default. Every method runs as `unstir
restore` runs it; those with K particles get n/(2 K) pictures. Beside them stand a baseline without a model and, with
--inpaint and --upscale, models trained for the task. What is done is kept under runs/restoration, so that a second
call goes on where the first one ended. Writes the tables into docs/restoration.md, between the marks `fashion-mnist`.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unstir import Rng, guidance, sample
from unstir.data import open_data
from unstir.embedders import LowResolution, Masked
from unstir.errors import IncompatibleError, NumericError
from unstir.evaluate import coverage, psnr, ssim
from unstir.files import write_atomic
from unstir.guidance import AnnealedLikelihood, Method, Posterior, Replacement
from unstir.guidance.choice import choose
from unstir.model import Defaults
from unstir.operators import (
    HDR,
    JPEG,
    Blur,
    Clip,
    Crop,
    Downsample,
    GaussianNoise,
    Mask,
    Measurement,
    MotionBlur,
    Operator,
    Phase,
    PoissonNoise,
    RandomPixels,
    Sensing,
)
from unstir.operators.mask import Selection
from unstir.pipeline import Pipeline, load
from unstir.seam import blend

PAGE = Path(__file__).parents[1] / "docs" / "restoration.md"
BATCH, SAMPLES, LEVEL = 50, 8, 0.9
GREY, GRAIN = 127.5, 2 / 255
"""Grey levels in one unit of x_0, and one of them in its units."""


# -- what is measured, and what can be made of it without a model -------------------------------------------
Baseline = Callable[[Measurement, Tensor], Tensor]
"""(measurement, the mean picture) -> (B, C, H, W)."""


def mean_fill(measurement: Measurement, mean: Tensor) -> Tensor:
    """The mean of a picture's known pixels where it is unknown."""
    operator, y = measurement.operator, measurement.y
    like = mean.expand(len(y), *mean.shape[1:])
    known, keep = operator.adjoint(y, like), operator.adjoint(operator.measured(torch.ones_like(y)), like)
    grey = known.sum((1, 2, 3), keepdim=True) / keep.sum((1, 2, 3), keepdim=True)
    return torch.where(keep > 0, known, grey)


def bicubic(measurement: Measurement, mean: Tensor) -> Tensor:
    height, width = mean.shape[2:]
    large = [
        [
            np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
            for plane in planes
        ]
        for planes in measurement.y.numpy()
    ]
    return torch.from_numpy(np.asarray(large))


def as_measured(measurement: Measurement, mean: Tensor) -> Tensor:
    gain = measurement.operator.gain if isinstance(measurement.operator, HDR) else 1.0
    return measurement.y / gain


def pseudo_inverse(measurement: Measurement, mean: Tensor) -> Tensor:
    """A^T y, of orthonormal rows."""
    return measurement.operator.adjoint(measurement.y, mean)


def mean_picture(measurement: Measurement, mean: Tensor) -> Tensor:
    return mean.expand(len(measurement.y), *mean.shape[1:])


@dataclass(frozen=True)
class Problem:
    """y = A x_0 + n, and a baseline."""

    operator: Operator
    noise: GaussianNoise | PoissonNoise
    baseline: Baseline

    def measure(self, x_0: Tensor) -> Measurement:
        """Picture i has the noise of seed i."""
        clean = self.operator.forward(x_0)
        noisy = self.noise.corrupt(clean, Rng.of(0, len(x_0)).fork("measurement"))
        return Measurement(self.operator, self.operator.measured(noisy), self.noise)


def hole(first: int, last: int, size: int = 28) -> Mask:
    keep = torch.ones(size, size)
    keep[first:last, first:last] = 0
    return Mask(keep)


NONE, LITTLE = GaussianNoise(0.0), GaussianNoise(0.05)
PROBLEMS = {
    "hole of 14 x 14": Problem(hole(7, 21), NONE, mean_fill),
    "20% of pixels": Problem(RandomPixels(0.2), NONE, mean_fill),
    "20% of pixels, std 0.05": Problem(RandomPixels(0.2), LITTLE, mean_fill),
    "outpainting by 4": Problem(Crop(4, 4, 4, 4), NONE, mean_fill),
    "downsample 4, bicubic": Problem(Downsample(4, "bicubic"), NONE, bicubic),
    "downsample 4, box": Problem(Downsample(4, "box"), NONE, bicubic),
    "downsample 4, box, std 0.05": Problem(Downsample(4, "box"), LITTLE, bicubic),
    "blur 2, std 0.05": Problem(Blur(2.0), LITTLE, as_measured),
    "motion blur 9, std 0.05": Problem(MotionBlur(9, 45.0), LITTLE, as_measured),
    "sensing 25%": Problem(Sensing(0.25), NONE, pseudo_inverse),
    "noise, std 0.5": Problem(Mask(torch.ones(28, 28)), GaussianNoise(0.5), as_measured),
    "noise, 10 photons": Problem(Mask(torch.ones(28, 28)), PoissonNoise(10.0), as_measured),
    "JPEG 5": Problem(JPEG(5), NONE, as_measured),
    "clip to ±0.5": Problem(Clip(-0.5, 0.5), NONE, as_measured),
    "HDR 2": Problem(HDR(2.0), NONE, as_measured),
    "phases lost": Problem(Phase(2), GaussianNoise(0.01), mean_picture),
}
KINDS = [
    part
    for name in guidance.__all__
    if issubclass(part := getattr(guidance, name), Method) and part != Method
]
METHODS = (*(kind() for kind in KINDS), Replacement(resample=5))
GRADIENTS = {"DPS": 1, "PiGDM": 1, "TDS": 1, "MMPS": 2}
"""What a call takes beside itself, in gradients; the later ones of MMPS find their graph made."""


# -- what the model makes of it ----------------------------------------------------------------------------
def settings(pipe: Pipeline, method: Method | None) -> tuple[Defaults, Tensor]:
    """What `unstir restore` would take: the model's own, or what the method needs."""
    chosen = pipe.config.defaults
    if method is None:
        return chosen, pipe.grid(chosen)
    chosen = replace(chosen, solver=method.solver or chosen.solver)
    if method.steps is not None and method.steps > chosen.steps:
        chosen = replace(chosen, steps=method.steps, grid="uniform")
    return chosen, method.times(pipe.grid(chosen))


def told(pipe: Pipeline, measurement: Measurement, like: Tensor) -> Tensor | None:
    """The condition of a model that was trained for such a measurement; None where it was not."""
    operator, config, noise = measurement.operator, pipe.config.spatial, measurement.noise
    if not isinstance(noise, GaussianNoise):
        return None
    if isinstance(config, LowResolution) and operator == Downsample(config.scale, config.kernel):
        return config.condition(measurement.y, noise.std)
    if isinstance(config, Masked) and operator.linear:
        selection = operator.svd(like[:1])
        if isinstance(selection, Selection) and bool((selection.s == 0).any()):
            return config.condition(selection.left(measurement.y), selection.s[:1], noise.std)
    return None


def restore(
    pipe: Pipeline, measurement: Measurement, method: Method | None, like: Tensor, copies: int = 1
) -> tuple[Tensor, float]:
    """`copies` samples of every picture, (n copies, C, H, W), and the calls of the network for each of them."""
    chosen, nodes = settings(pipe, method)
    particles = method.particles if method else 1
    n, calls, parts = len(like), 0, []

    def count(_: object, given: tuple[Tensor, ...], __: object) -> None:
        nonlocal calls
        calls += len(given[0])

    handle = pipe.denoiser.network.register_forward_hook(count)
    try:
        for samples in torch.arange(n * copies).split(max(1, BATCH // particles)):
            rows = samples.repeat_interleave(particles)
            keys = Rng.of(0, n * copies)[rows]
            keys = keys.fork("particle", torch.arange(particles).repeat(len(samples)))
            here = replace(measurement, y=measurement.y[rows // copies])
            spatial = None if method else told(pipe, here, like)
            cond = pipe.condition(pipe.nothing(len(rows)), spatial)
            denoiser = Posterior(pipe.denoiser, here, method) if method else pipe.denoiser
            x = pipe.denoiser.process.prior((len(rows), *like.shape[1:]), keys.fork("prior"), torch.float32)
            x = sample(denoiser, chosen.solver, nodes, x, cond=cond, rng=keys.fork("solver"))
            parts.append(x[::particles])
    finally:
        handle.remove()
    return torch.cat(parts), calls / (n * copies)


def stored(x: Tensor) -> Tensor:
    """As it is in a file: in bytes."""
    return ((x.clamp(-1, 1) + 1) * GREY).round() / GREY - 1


def judged(measurement: Measurement, x: Tensor, x_0: Tensor) -> dict[str, float]:
    """Means over the pictures."""
    x = stored(x)
    gap = measurement.residual(x).flatten(1).square().mean(1).sqrt() * GREY
    quality = {"psnr": psnr(x, x_0), "ssim": ssim(x, x_0), "consistency": gap}
    return {"n": len(x)} | {name: float(values.mean()) for name, values in quality.items()}


def once(pipe: Pipeline, problem: Problem, method: Method | None, x_0: Tensor) -> dict[str, float]:
    if method and method.particles > 1:
        x_0 = x_0[: max(1, len(x_0) // (2 * method.particles))]
    measurement, start = problem.measure(x_0), time.process_time()
    x, calls = restore(pipe, measurement, method, x_0)
    if not method and isinstance(pipe.config.spatial, Masked) and measurement.noiseless:
        selection = problem.operator.svd(x_0[:1])  # as `unstir edit` does it
        x = blend(selection.left(measurement.y), x, selection.s)
    seconds = (time.process_time() - start) / len(x)
    return judged(measurement, x, x_0) | {"calls": calls, "seconds": seconds}


def several(pipe: Pipeline, problem: Problem, method: Method, x_0: Tensor) -> dict[str, float]:
    """Of some samples of each of fewer pictures: how often the truth lies in their interval, how good their mean is."""
    x_0 = x_0[: max(1, len(x_0) // SAMPLES)]
    x, _ = restore(pipe, problem.measure(x_0), method, x_0, SAMPLES)
    x = stored(x).unflatten(0, (len(x_0), SAMPLES)).movedim(1, 0)
    unsure = x.std(0) > GRAIN
    return {
        "n": len(x_0),
        "coverage": coverage(x, x_0, LEVEL, GRAIN),
        "unsure": float(unsure.double().mean()),
        "unsure_coverage": coverage(x[:, unsure], x_0[unsure], LEVEL, GRAIN),
        "psnr": float(psnr(x[0], x_0).mean()),
        "mean_psnr": float(psnr(stored(x.mean(0)), x_0).mean()),
    }


# -- what is to be done, and how long it takes ----------------------------------------------------------------
@dataclass(frozen=True)
class Task:
    """One row of a table: a baseline, which has no pipe, a model trained for it, which has no method, or both."""

    problem: str
    name: str
    pipe: Pipeline | None = None
    method: Method | None = None
    several: bool = False

    @property
    def key(self) -> str:
        return f"{self.problem} | {self.name}{' | several' * self.several}"


def said(method: Method) -> str:
    """`MMPS(iterations=5)`, defaults left out."""
    usual = type(method)()
    given = [
        f"{f.name}={v}" for f in fields(method) if (v := getattr(method, f.name)) != getattr(usual, f.name)
    ]
    return f"{type(method).__name__}({', '.join(given)})" if given else type(method).__name__


def tasks(pipe: Pipeline, trained: Mapping[str, Pipeline], x_0: Tensor) -> Iterable[Task]:
    few = x_0[:2]
    for name, problem in PROBLEMS.items():
        measurement = problem.measure(few)
        best = choose(measurement)[0]
        yield Task(name, problem.baseline.__name__.replace("_", " "))
        operator = problem.operator
        for method in dict.fromkeys((*METHODS, best)):
            if isinstance(method, AnnealedLikelihood) and operator.linear and operator.svd(few) is None:
                continue  # a hundred inverses by iteration for each sample
            try:
                Posterior(pipe.denoiser, measurement, method).check(settings(pipe, method)[0].solver)
            except IncompatibleError:
                continue
            yield Task(name, said(method), pipe, method)
        for run, other in trained.items():
            if told(other, measurement, few) is not None:
                yield Task(name, f"trained, `{run}`", other)
        yield Task(name, said(best), pipe, best, several=True)


def done(task: Task, x_0: Tensor, mean: Tensor) -> dict[str, float]:
    """The numbers of a row; of a method that diverged there are none."""
    problem = PROBLEMS[task.problem]
    if task.pipe is None:
        measurement = problem.measure(x_0)
        return judged(measurement, problem.baseline(measurement, mean), x_0)
    try:
        if task.several and task.method:
            return several(task.pipe, problem, task.method, x_0)
        return once(task.pipe, problem, task.method, x_0)
    except NumericError:
        return {"n": len(x_0)}


def cost(task: Task, n: int, forward: float, backward: float) -> float:
    """Seconds, given those of a call for one picture and of its gradient."""
    if task.pipe is None:
        return 0.0
    chosen, nodes = settings(task.pipe, task.method)
    calls = int((nodes.diff() < 0).sum()) * (chosen.solver.evaluations or 1)
    back = GRADIENTS.get(type(task.method).__name__, 0)
    particles = task.method.particles if task.method else 1
    if particles > 1:
        n = n * particles if task.several else n // 2
    return n * calls * (forward + back * backward)


def measured_cost(pipe: Pipeline, like: Tensor) -> tuple[float, float]:
    """Seconds for one picture of a call and of its gradient, the graph of the former included."""
    x, t = like[:BATCH].clone().requires_grad_(), torch.tensor(0.5, dtype=torch.float64)
    cond = pipe.condition(pipe.nothing(len(x)))

    def seconds(work: Callable[[], object]) -> float:
        work()
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) / len(x)

    with torch.no_grad():
        forward = seconds(lambda: pipe.denoiser(x, t, cond))
    both = seconds(lambda: torch.autograd.grad(pipe.denoiser(x, t, cond).sum(), x))
    return forward, both - forward


# -- the page ------------------------------------------------------------------------------------------------
def tables(found: Mapping[str, Mapping[str, float]], plan: Iterable[Task]) -> str:
    """What single samples are worth, then what several of the default method are, which is bold in the former."""
    plan = [task for task in plan if task.key in found]
    default = {task.problem: task.name for task in plan if task.several}

    def row(task: Task, fields: Iterable[tuple[str, str]]) -> list[str]:
        numbers = found[task.key]
        bold = not task.several and task.name == default.get(task.problem)
        name = f"**{task.name}**" if bold else task.name
        return [task.problem, name, *(format(numbers[f], form) if f in numbers else "" for f, form in fields)]

    one = (
        ("psnr", ".2f"),
        ("ssim", ".3f"),
        ("consistency", ".1f"),
        ("calls", "g"),
        ("seconds", ".2f"),
        ("n", "g"),
    )
    many = (
        *((name, ".1%") for name in ("coverage", "unsure", "unsure_coverage")),
        *(("psnr", ".2f"), ("mean_psnr", ".2f"), ("n", "g")),
    )
    return "\n\n".join(
        (
            table(
                ("measured", "method", "PSNR", "SSIM", "\\|Ax - y\\|", "calls", "s", "n"),
                (row(task, one) for task in plan if not task.several),
            ),
            table(
                (
                    *("measured", "method", f"in the {LEVEL:.0%} interval", "uncertain pixels"),
                    *("of them in the interval", "PSNR of one", f"of the mean of {SAMPLES}", "n"),
                ),
                (row(task, many) for task in plan if task.several),
            ),
        )
    )


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_block(page: Path, name: str, text: str) -> None:
    """Replace what lies between <!-- name --> and <!-- /name -->."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = page.read_text()
    new = re.sub(f"{start}.*{end}", lambda _: f"{start}\n{text}\n{end}", old, flags=re.S)
    if new == old and text not in old:
        raise SystemExit(f"{page} has no block {start} ... {end}")
    write_atomic(page, new.encode())


def kept(store: Path) -> dict[str, dict[str, Any]]:
    """The rows that are done."""
    return json.loads(store.read_text()) if store.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="runs/bench-fashion")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--inpaint", help="a model trained with task=inpaint")
    parser.add_argument("--upscale", help="a model trained with task=upscale")
    parser.add_argument("--only", default="", help="rows whose operator or method holds this word")
    parser.add_argument("--dry", action="store_true", help="say what it would take, and print what is done")
    options = parser.parse_args()
    pipe = load(options.run)
    trained = {run: load(run) for run in (options.inpaint, options.upscale) if run}
    train, heldout = open_data("fashion-mnist")
    rows = np.unique(np.linspace(0, len(heldout) - 1, options.n).round().astype(np.int64))
    x_0 = pipe.codec.encode(heldout.take(rows)[0]).contiguous()
    mean = pipe.codec.encode(train.take(np.arange(10_000))[0]).mean(0, keepdim=True)
    store = Path("runs/restoration") / f"{Path(options.run).name}-{options.n}.json"
    found = kept(store)
    plan = list(tasks(pipe, trained, x_0))
    left = [task for task in plan if options.only in task.key and task.key not in found]
    forward, backward = measured_cost(pipe, x_0)
    costs = [cost(task, options.n, forward, backward) for task in left]
    print(
        f"{forward * 1e3:.2f} ms a call, {backward * 1e3:.2f} its gradient: {sum(costs) / 60:.0f} minutes",
        flush=True,
    )
    for task, expected in zip(left, costs, strict=True):
        if options.dry:
            print(f"{expected:6.0f} s  {task.key}")
            continue
        if task.key in kept(store):  # by a second process, which was given other rows first
            continue
        start = time.perf_counter()
        row = done(task, x_0, mean)
        found = kept(store) | {task.key: row}
        store.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(store, json.dumps(found, indent=1).encode())
        numbers = " ".join(f"{name} {value:.4g}" for name, value in found[task.key].items())
        print(f"{time.perf_counter() - start:6.0f} s ({expected:.0f})  {task.key}: {numbers}", flush=True)
    text = tables(kept(store), plan)
    print(text)
    if not options.dry and not options.only and PAGE.exists():
        write_block(PAGE, "fashion-mnist", text)


if __name__ == "__main__":
    main()
