"""What the latents of an autoencoder are like: how near to the normal law that diffusion starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .base import Finding, Number

__all__ = ["latent_law"]

EDGES = np.linspace(-4, 4, 41)
FAR = 4.0
CHANNELS = 8
"""Histograms, at most."""


def latent_law(z: np.ndarray, told: Mapping[str, float]) -> Finding:
    """Mean, deviation and shape of each channel of latents as diffusion sees them, shifted and scaled.

    Histograms stand beside N(0, 1). `apart` is the mean over channels of

        KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1 - ln s^2)/2,

    about 0 where shift and scale hold for these items; `tails` the share of values beyond 4, 6e-5 of a normal law: what
    is rare and large is hard to learn; `correlation` the mean |correlation| of two channels: what they say twice.

    Args:
        z: (N, C, *S).
        told: further numbers of theirs.
    """
    n = len(z)
    rows = np.moveaxis(z, 1, 0).reshape(z.shape[1], -1).astype(np.float64)
    mean, std = rows.mean(1), rows.std(1)
    safe = np.maximum(std, 1e-12)
    apart = (mean**2 + std**2 - 1 - 2 * np.log(safe)) / 2
    kurtosis = (((rows - mean[:, None]) / safe[:, None]) ** 4).mean(1)
    tails = (np.abs(rows) > FAR).mean(1)
    numbers = [Number(name=word, value=value, n=n) for word, value in told.items()]
    numbers.append(Number(name="apart", value=float(apart.mean()), n=n, better="low"))
    numbers.append(Number(name="tails", value=float(tails.mean()), n=n, better="low"))
    if len(rows) > 1:
        normal = (rows - mean[:, None]) / safe[:, None]
        off = np.abs(normal @ normal.T / rows.shape[1])[~np.eye(len(rows), dtype=bool)]
        numbers.append(Number(name="correlation", value=float(off.mean()), n=n, better="low"))
    table = tuple(
        {
            "channel": k,
            "mean": float(mean[k]),
            "deviation": float(std[k]),
            "kurtosis (normal: 3)": float(kurtosis[k]),
            "beyond 4": float(tails[k]),
        }
        for k in range(len(rows))
    )
    middle, width = (EDGES[1:] + EDGES[:-1]) / 2, EDGES[1] - EDGES[0]
    curves = {
        f"channel {k}": (middle.tolist(), (np.histogram(row, EDGES)[0] / len(row) / width).tolist())
        for k, row in enumerate(rows[:CHANNELS])
    }
    curves["N(0, 1)"] = (middle.tolist(), (np.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)).tolist())
    words = tuple(
        f"channel {k} of the latents is nearly constant: it tells nothing, and fewer latent_channels= would do"
        for k in np.flatnonzero(std < 1e-3)
    )
    return Finding(numbers=tuple(numbers), words=words, curves=curves, rows=table)
