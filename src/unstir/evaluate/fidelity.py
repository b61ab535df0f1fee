"""How near an autoencoder comes to what it encoded."""

from __future__ import annotations

import numpy as np
import torch

from .base import Finding, Number
from .encoder import Encoder
from .fid import frechet, moments
from .similarity import psnr, ssim

__all__ = ["fidelity", "similarities"]

BEST = 100.0
"""dB: a picture that comes back unchanged would make the mean infinite."""
SHOWN = 8
AT_ONCE = 256


def fidelity(x: np.ndarray, again: np.ndarray, encoder: Encoder) -> Finding:
    """PSNR and SSIM of pictures and the same pictures encoded and decoded, and the Frechet distance of both sets.

    psnr is the mean over pictures of 10 log10(255^2/mean error^2) in dB, at most 100 each. rfid is the distance of both
    sets in the features of the encoder: what is lost of the look of all, where psnr asks for each value. Both have the
    same items, so it is 0 for a perfect autoencoder, however few they are; it takes two at least.

    Args:
        x, again: uint8 (N, H, W, C).
        encoder: whose features are compared.
    """
    near, alike = similarities(x, again)
    n = len(x)
    numbers = [
        Number.within("psnr", *_mean(near), n=n, better="high", note="dB"),
        Number.within("ssim", *_mean(alike), n=n, better="high"),
    ]
    if n > 1:
        real, made = encoder.embed(x), encoder.embed(again)
        width = real.shape[1]
        numbers.append(
            Number(
                name="rfid",
                value=max(frechet(moments(made), moments(real)), 0.0),
                n=n,
                against=n,
                better="low",
                features=encoder.digest,
                note="" if n > width else f"rough: {n:,} items for {width:,} features",
            )
        )
    order = np.argsort(near)
    middle = max(len(order) // 2 - SHOWN // 2, 0)
    chosen = {"the worst": order[:SHOWN], "in the middle": order[middle : middle + SHOWN]}
    sheets = {f"{word}: true above, decoded below": _sheet(x[k], again[k]) for word, k in chosen.items()}
    return Finding(numbers=tuple(numbers), sheets=sheets)


def similarities(x: np.ndarray, again: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PSNR, at most 100 dB, and SSIM of each pair of pictures uint8 (N, H, W, C), both (N,) float64."""
    found = []
    for first in range(0, len(x), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        a, b = (torch.from_numpy(np.array(part[rows])).movedim(-1, 1) for part in (x, again))
        found.append((psnr(a, b, (0, 255)).clamp(max=BEST), ssim(a, b, (0, 255))))
    near, alike = (torch.cat(column).numpy() for column in zip(*found, strict=True))
    return near, alike


def _mean(values: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), float(error)


def _sheet(x: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Two rows of pictures with a white line around each."""
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    rows = [np.concatenate(np.pad(row, around, constant_values=255), 1) for row in (x, again)]
    return np.concatenate(rows)
