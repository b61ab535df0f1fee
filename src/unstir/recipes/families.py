"""Families of models as one word, `process=ve`: a schedule, what the network predicts, its loss, how it is sampled.

Each is the setting of the paper that its function names, in the notation x_t = alpha x_0 + sigma eps, fitted to the
spread of the data where the paper's was. docs/families.md compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from .. import parameterization, process
from ..data import Dataset, spread
from ..objectives import Bound, Denoising, LogitNormal, LogNormal, Objective, Target, Uniform
from ..parameterization import Eps, Parameterization, Score, V, Velocity
from ..process import VP, BetaLinear, Cosine, Geometric, Linear, MonotoneConfig, Schedule, SubVP
from ..solvers import DDPM, EulerMaruyama, Heun, Langevin, PredictorCorrector
from .base import Family, Sampling

__all__ = ["FAMILIES", "Parts", "largest_distance"]

SIMPLE = Denoising(weight=Target(), draws=Uniform())
"""The plain squared error of the network's target at uniform times: L_simple of Ho et al. 2020."""


class Parts(NamedTuple):
    """What a family decides; network and optimizer are the data's."""

    schedule: Schedule
    parameterization: Parameterization
    objective: Objective
    sampling: Sampling


def ddpm(data: Dataset) -> Parts:
    """Ho et al. 2020: a chain of 1000 steps with linear beta; the network predicts the noise."""
    return Parts(BetaLinear(), Eps(), SIMPLE, Sampling(solver=DDPM(), steps=250))


def cosine(data: Dataset) -> Parts:
    """Nichol & Dhariwal 2021: the cosine beta; v in place of the noise, since no signal is left at t = 1."""
    return Parts(Cosine(offset=0.008), V(), SIMPLE, Sampling(solver=DDPM(), steps=250))


def vp(data: Dataset) -> Parts:
    """Song et al. 2021: variance preserving, the chain of ddpm in continuous time, sampled by the reverse SDE."""
    return Parts(VP(), Eps(), SIMPLE, Sampling(solver=EulerMaruyama(), steps=250))


def subvp(data: Dataset) -> Parts:
    """Song et al. 2021: vp with less noise between the ends, sampled by the reverse SDE."""
    return Parts(SubVP(), Eps(), SIMPLE, Sampling(solver=EulerMaruyama(), steps=250))


def ve(data: Dataset) -> Parts:
    """Song et al. 2021: variance exploding; the score is the target, sampled by predictor and corrector."""
    return Parts(
        exploding(data), Score(unit="sigma"), SIMPLE, Sampling(solver=PredictorCorrector(), steps=125)
    )


def ncsn(data: Dataset) -> Parts:
    """Song & Ermon 2019, 2020: the score at a falling ladder of noise levels, sampled by Langevin dynamics alone."""
    # fewer and larger corrections than published, 250 calls in place of a thousand
    solver = Langevin(corrections=10, snr=0.3)
    return Parts(exploding(data), Score(unit="sigma"), SIMPLE, Sampling(solver=solver, steps=25))


def edm(data: Dataset) -> Parts:
    """Karras et al. 2022: noise on clean data, input and target of unit variance, a second-order ODE solver."""
    predicted = parameterization.EDM(sigma_data=round(data.info.std, 3))
    objective = Denoising(weight=Target(), draws=LogNormal())
    return Parts(process.EDM(), predicted, objective, Sampling(solver=Heun(), steps=18, grid="uniform"))


def flow(data: Dataset) -> Parts:
    """Lipman et al. 2022, Esser et al. 2024: straight paths; the network predicts the velocity along them."""
    objective = Denoising(weight=Target(), draws=LogitNormal())
    return Parts(Linear(), Velocity(), objective, Sampling(solver=Heun(), steps=20))


def vdm(data: Dataset) -> Parts:
    """Kingma et al. 2021: log-SNR is learned, the loss is the variational bound in continuous time."""
    objective = Bound(variable="time", levels=256 if data.info.kind == "image" else None)
    return Parts(MonotoneConfig(), Eps(), objective, Sampling(solver=DDPM(), steps=250))


FAMILIES: Mapping[Family, Callable[[Dataset], Parts]] = {
    "ddpm": ddpm,
    "cosine": cosine,
    "vp": vp,
    "subvp": subvp,
    "ve": ve,
    "ncsn": ncsn,
    "edm": edm,
    "flow": flow,
    "vdm": vdm,
}


def exploding(data: Dataset) -> Geometric:
    """sigma from 0.01, invisible, to the largest distance in the data: Song & Ermon 2020, technique 1."""
    return Geometric(sigma_min=0.01, sigma_max=round(largest_distance(data), 1))


def largest_distance(data: Dataset, at_most: int = 500) -> float:
    """The largest distance between two of `at_most` items, evenly chosen, in the units of x_0."""
    rows = spread(len(data), at_most)
    x = torch.from_numpy(np.asarray(data.x[rows], dtype=np.float32)).flatten(1)
    if data.info.kind == "image":
        x = x / 127.5
    return float(torch.cdist(x, x).max())
