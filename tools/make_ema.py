"""Write the tables and the picture of docs/ema.md from measured values: `python tools/make_ema.py [RUN]`.

RUN is where the run of the sweep is: that of 10,000 pictures which benchmarks/small_data.py trains, or, where there is
none, one of Fashion-MNIST that is trained first, about ten minutes on one core. The tables take another three.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

import unstir
from unstir import config, runs
from unstir.assessment import losses_of
from unstir.data import open_data
from unstir.model import ema_addresses
from unstir.train import EMA, Trainer
from unstir.train.ema import Profile, exponent, fit
from unstir.train.snapshots import kept

ROOT = Path(__file__).parents[1]
PAGE, IMAGES = ROOT / "docs" / "ema.md", ROOT / "docs" / "images"

STEPS, TRAINED = 1000, (0.03, 0.1)
TRACKED = (0.017, 0.022, 0.04, 0.05, 0.07, 0.15, 0.2, 0.25)
SWEEP = {"steps": 2344, "checkpoint_every": 500, "preview_every": 4000, "threads": 1}
COLOURS = ("#999999", "#1b6ca8", "#c8553d")


# -- the sweep ---------------------------------------------------------------------------------------------


def sweep(run: Path) -> str:
    """Held-out loss by length, some time before the end of the run and at its end."""
    if not (run / "checkpoints").is_dir():
        unstir.fit("fashion-mnist", out=run, **SWEEP)
    data = config.read_file(run / "config.yaml").values["data"]
    words = ("size", "channels", "labels", "max_bad", "heldout")
    _, heldout = open_data(data["source"], **{word: data[word] for word in words})
    steps = sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step-*"))
    columns, rows = ["length"], {}
    for step in steps[-2:]:
        columns += [f"loss at step {step:,}", "less that of 0.03"]
        losses = {}
        for length, name in ema_addresses(f"{run}@{step}").items():
            losses[length] = losses_of(unstir.load(name))(heldout, len(heldout)).mean(1)
        best = min(losses, key=lambda length, losses=losses: float(losses[length].mean()))
        for length, loss in losses.items():
            off = loss - losses[TRAINED[0]]
            error = 1.96 * float(off.std()) / math.sqrt(len(off))
            cells = [f"{float(loss.mean()):.5f}", f"{float(off.mean()):+.5f} +- {error:.5f}"]
            rows.setdefault(length, []).extend(f"**{cell}**" if length == best else cell for cell in cells)
    return table(columns, [[f"{length:g}", *cells] for length, cells in rows.items() if len(cells) == 4])


# -- what is made against what was tracked -----------------------------------------------------------------


def errors() -> str:
    """|made - tracked| / |last - tracked|, by what is fitted and in what the averages are stored."""
    chosen = config.settings(
        "train", [config.Layer("here", {"data.source": "points:moons", "steps": STEPS, "threads": 1})]
    )
    job = runs.prepare(config.build("train", chosen.values), None, lambda _: None)
    recipe: Any = job.recipe
    trainer = Trainer(
        job.module,
        recipe.objective,
        job.batches(job.train_set, training=True),
        recipe.optimizer,
        recipe.training,
    )
    ema, stored = EMA(job.module, (*TRAINED, *TRACKED)), {}
    for step in trainer.steps():
        ema.update(step.step)
        if step.step in kept(STEPS, recipe.training.snapshots) or step.step == STEPS:
            for length, average in zip(TRAINED, ema.averages, strict=False):
                stored[Profile(step.step, length)] = flat(average.values())
    profiles, rows = list(stored), []
    last = flat(job.module.parameters())
    for length, average in zip(TRACKED, ema.averages[len(TRAINED) :], strict=True):
        true, target = flat(average.values()), Profile(STEPS, length)
        cells = []
        for weights in (fit(target, profiles).weights, derivatives(target, profiles)):
            for dtype in (torch.float32, torch.float16):
                made = sum(
                    w * (x if profile.n == STEPS else x.to(dtype).double())
                    for w, (profile, x) in zip(weights.tolist(), stored.items(), strict=True)
                )
                cells.append(f"{float((made - true).norm() / (last - true).norm()):.2g}")
        rows.append([f"{length:g}", *cells])
    return table(["length", "F, float32", "F, float16", "F', float32", "F', float16"], rows)


def derivatives(target: Profile, profiles: list[Profile]) -> np.ndarray:
    """The X that minimise the integral of (F'_target - sum X F')^2, whose terms are p q/(p+q-1) (n/m)^q / n, n <= m."""
    n = np.array([profile.n for profile in (*profiles, target)], dtype=np.float64)
    p = np.array([exponent(profile.length) + 1 for profile in (*profiles, target)])
    a, b = np.minimum(n[:, None], n), np.maximum(n[:, None], n)
    later = np.where(n[:, None] > n, p[:, None], p)
    products = p[:, None] * p / (p[:, None] + p - 1) * (a / b) ** later / a
    return np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=1e-15)[0]


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([x.detach().double().reshape(-1) for x in tensors])


# -- the picture -------------------------------------------------------------------------------------------


def picture(length: float = 0.06, count: int = 8) -> None:
    t = np.linspace(0, 1, 301)
    profiles = [Profile(k, trained) for k in range(1, count + 1) for trained in TRAINED]
    target = Profile(count, length)
    weights, error = fit(target, profiles)
    remaining = [np.minimum(1, (t * count / q.n) ** (exponent(q.length) + 1)) for q in (*profiles, target)]
    made = sum(w * f for w, f in zip(weights, remaining, strict=False))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    for f in remaining[:-1]:
        left.plot(t, np.gradient(f, t), color=COLOURS[0], lw=0.7)
    left.plot(t, np.gradient(remaining[-1], t), color=COLOURS[1], lw=2, label=f"length {length:g}")
    left.plot(t, np.gradient(made, t), color=COLOURS[2], lw=1, ls="--", label="sum of the grey ones")
    left.set(xlabel="part of the run", ylabel="weight of an update, F'", ylim=(-3, None))
    left.legend(frameon=False, loc="upper left")
    right.plot(t, made - remaining[-1], color=COLOURS[2])
    right.set(xlabel="part of the run", ylabel="error of F", title=f"{error:.1%} of F's norm")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / "ema-profiles.svg", metadata={"Date": None})


# -- the page ----------------------------------------------------------------------------------------------


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


def fill(name: str, text: str) -> None:
    """Put the text in the place of the page that has this name."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    page, found = re.subn(pattern, lambda m: f"{m[1]}{text}\n{m[2]}", PAGE.read_text(), flags=re.S)
    assert found == 1, f"{PAGE} has {found} places marked {name}"
    PAGE.write_text(page)


def main() -> None:
    torch.set_num_threads(1)
    mpl.rcParams["svg.hashsalt"] = "unstir"  # the same file every time
    picture()
    fill("errors", errors())
    fill("sweep", sweep(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/small-data/on-10000")))


if __name__ == "__main__":
    main()
