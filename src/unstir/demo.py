"""The first two minutes: train on real digits, look at everything."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from . import runs
from .codecs import Scale
from .data import Dataset, open_data
from .files import write_atomic
from .modalities.image import encode_png, per_class
from .pipeline import Pipeline, load
from .process import BetaLinear, Gaussian
from .recipes import Data, Recipe
from .report import write_report
from .rng import Rng
from .train import Training

__all__ = ["demo", "forward_picture"]

PROMPTS = [
    *("red heart", "grinning face", "fox", "pizza"),
    *("rocket", "blue heart", "panda", "birthday cake"),
    *("snowman", "orange swan", "yellow castle", "red spiral shell"),
]
"""What the shipped model is asked for; it has never seen the last three pairs."""


def demo(out: Path = Path("runs/demo"), seconds: float = 90.0, say: Callable[[str], None] = print) -> Path:
    """Train on `digits` for `seconds`, then write what came of it, and what the shipped model makes of prompts.

    samples.png, denoise.gif, forward.png, prompts.png and report.html.
    """
    recipe = Recipe(data=Data(source="digits"), training=Training(time=seconds))
    runs.train(recipe, out, overwrite=True, say=say)
    pipe = load(out)
    data, _ = open_data("digits")
    write_atomic(out / "forward.png", forward_picture(data))
    write_atomic(out / "samples.png", _samples(pipe))
    pipe.sample(n=16, seed=7, label=[k % 10 for k in range(16)], record=True).save(out / "denoise.gif")
    load("emoji").sample(n=len(PROMPTS), prompt=PROMPTS, seed=1).save(out / "prompts.png")
    pictures = {
        "samples, a row per label": out / "samples.png",
        "the forward process: digits noised step by step, t = 0 to 1": out / "forward.png",
        "the reverse process: x_t, and beside it what the model takes it for": out / "denoise.gif",
        "what the model that comes with unstir makes of prompts": out / "prompts.png",
    }
    write_report(out, pictures)
    for name, what in (
        ("samples.png", "digits that nobody wrote, a row per label"),
        ("forward.png", "real digits, noised step by step"),
        ("denoise.gif", "noise becoming digits"),
        ("prompts.png", "prompts, drawn by the model that comes with unstir"),
        ("report.html", "all of it on one page"),
    ):
        say(f"         {out / name}  {what}")
    say(f"next     unstir sample {out} label=3 n=16 out=threes.png")
    say('         unstir sample emoji prompt="red heart" out=heart.png')
    return out


def _samples(pipe: Pipeline, columns: int = 10) -> bytes:
    classes = pipe.config.classes
    labels = [k for k in range(len(classes)) for _ in range(columns)]
    drawn = pipe.sample(n=len(labels), seed=0, label=labels)
    rows = {name: drawn.images[k * columns : (k + 1) * columns] for k, name in enumerate(classes)}
    return encode_png(per_class(rows)[None], drawn.recipe)


def forward_picture(data: Dataset, columns: int = 11) -> bytes:
    """Items noised by the Markov chain of DDPM, one `transition` after the other: rows items, columns times."""
    process, codec = Gaussian(BetaLinear()), Scale()
    labels = data.y if data.y is not None else np.zeros(len(data), np.int64)
    chosen = np.array([np.flatnonzero(labels == k)[0] for k in np.unique(labels)[:5]])
    x = codec.encode(data.take(chosen)[0])
    times = torch.linspace(0, 1, columns, dtype=torch.float64)
    rng, strip = Rng.of(0, len(x)), [x]
    for s, t in pairwise(times):
        strip.append(process.transition(strip[-1], s, t, rng.fork("forward", t)))
    pictures = codec.decode(torch.stack(strip, 1).flatten(0, 1)).movedim(1, -1).numpy()
    return encode_png(pictures, columns=columns)
