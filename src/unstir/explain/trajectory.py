"""Samples emerging from noise: x_t, and what the denoiser takes it for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import torch

from ..modalities.image import to_grid
from ..pipeline import Pipeline
from ..solvers.base import Solver
from ..spec import Range, complete
from .base import Chart, Cloud, Explanation, Movie, Picture, Scatter, Seed, Subject, said, some
from .drawing import beside, shrunk
from .start import given, prompts

__all__ = ["Trajectory"]

WIDEST = 1280  # pixels of a frame
PROMPTS = (
    "red heart",
    "grinning face",
    "fox",
    "tulip",
    "rocket",
    "panda",
    "snowman",
    "blue heart",
    "birthday cake",
)


@dataclass(frozen=True, kw_only=True)
class Trajectory(Subject):
    """A set of samples emerging: x_t beside the denoiser's guess of x_0, at every step."""

    title: ClassVar = "From noise to samples"
    place: ClassVar = 4

    n: Annotated[int, Range(ge=1, le=36)] = 9
    """How many samples."""
    seed: Seed = 0
    """Sample i depends on seed + i alone."""
    steps: Annotated[int, Range(ge=1, le=100)] | None = None
    """Steps of the solver; None: the model's."""
    solver: Solver | None = None
    """The method that steps from noise to data; None: the model's."""
    guidance: Annotated[float, Range(ge=0, le=20)] | None = None
    """How far from the unconditional opinion; None: the model's."""
    prompt: str | None = None
    """What the samples are to show, "one | two" for several, of a model that reads."""
    label: int | str | None = None
    """A class, by number or name; None: drawn as often as in training."""

    def explain(self, pipe: Pipeline | None = None, picture: np.ndarray | None = None) -> Explanation:
        pipe = given(pipe)
        prompt = prompts(pipe, self.prompt, PROMPTS)
        told = None if prompt is None else [text.strip() for text in prompt.split("|")]
        drawn = pipe.sample(
            n=self.n,
            seed=self.seed,
            steps=self.steps,
            solver=complete(self.solver, pipe.config.defaults.solver),
            guidance=self.guidance,
            prompt=told and [told[k % len(told)] for k in range(self.n)],
            label=self.label,
            record=True,
            exact=False,
        )
        chosen = pipe.chosen({"solver": self.solver, "steps": self.steps, "guidance": self.guidance})
        self = replace(
            self, steps=chosen.steps, solver=chosen.solver, guidance=chosen.guidance, prompt=prompt
        )
        t = pipe.grid(chosen)
        shown = some(len(drawn.frames))
        labels = [f"step {k + 1} of {chosen.steps} · t = {float(t[k + 1]):.3f}" for k in shown]
        frames = [drawn.frames[k] for k in shown]
        text = (
            f"{len(drawn)} samples of {pipe.name} by {said(chosen.solver)} in {chosen.steps} steps, "
            f"{drawn.evaluations} calls of the network each. Left is x_t, on its way from noise to data; right is "
            "E[x_0 | x_t], what the denoiser takes it for at that time: an average of all it might become, blurred at "
            "first, sharper as less noise is left."
        )
        chart = Chart(
            "How near the guess is to what it becomes",
            "time t",
            t[:-1].flip(0),
            "RMS difference",
            {"E[x_0 | x_t]": torch.tensor([_distance(x_0, drawn.images) for _, x_0 in drawn.frames[::-1]])},
        )
        if pipe.config.kind == "points":
            ways = (("x_t", 0), ("E[x_0 | x_t]", 1))
            clouds = [
                Cloud(
                    title,
                    [Scatter(word, frame[k][:, :2]) for word, frame in zip(labels, frames, strict=True)],
                )
                for title, k in ways
            ]
            return self.explanation(text, charts=[chart], clouds=clouds)
        sheets = [shrunk(beside(to_grid(x_t), to_grid(x_0)), WIDEST) for x_t, x_0 in frames]
        return self.explanation(
            text,
            charts=[chart],
            movies=[Movie("x_t, and what the denoiser takes it for", sheets, labels)],
            pictures=[Picture("The samples", to_grid(drawn.images))],
        )


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    """Root of the mean square; of pictures, in units of x_0 from -1 to 1."""
    scale = 127.5 if x.dtype == np.uint8 else 1.0
    return float(np.sqrt(np.mean(((x.astype(np.float64) - y) / scale) ** 2)))
