"""The colours of pictures on white: which one dominates, and the same picture in another.

All of it happens in OKLCh (lightness L, chroma C, hue h in degrees), in which equal steps look equal.

References: Ottosson 2020, A perceptual color space for image processing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

__all__ = ["COLOURS", "Dominant", "colour_of", "dominant", "foreground", "names_of", "recolour", "shares"]

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")

TARGETS = {
    "red": (0.60, 0.22, 27), "orange": (0.74, 0.17, 58), "yellow": (0.88, 0.175, 94), "green": (0.64, 0.17, 144),
    "blue": (0.56, 0.17, 255), "purple": (0.50, 0.19, 305), "pink": (0.78, 0.13, 355), "brown": (0.45, 0.075, 50),
    "black": (0.27, 0.006, 270), "white": (0.945, 0.004, 250), "grey": (0.66, 0.006, 250),
}  # fmt: skip
"""The OKLCh that the main colour of a picture is moved to."""

_TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip


def to_lch(x: np.ndarray) -> np.ndarray:
    """uint8 sRGB (..., 3) -> OKLCh float64 (..., 3); hue in [0, 360)."""
    v = x / 255.0
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360
    return np.stack((lab[..., 0], np.hypot(lab[..., 1], lab[..., 2]), hue), axis=-1)


def _linear(lch: np.ndarray) -> np.ndarray:
    """OKLCh -> linear sRGB, which lies outside [0, 1] where no screen shows the colour."""
    hue = np.radians(lch[..., 2])
    lab = np.stack((lch[..., 0], lch[..., 1] * np.cos(hue), lch[..., 1] * np.sin(hue)), axis=-1)
    return (lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T


def to_rgb(lch: np.ndarray) -> np.ndarray:
    """OKLCh -> uint8 sRGB; colours that no screen shows lose chroma until one does."""
    low, high = np.zeros(lch.shape[:-1]), np.ones(lch.shape[:-1])
    for _ in range(12):
        middle = (low + high) / 2
        linear = _linear(lch * np.stack((np.ones_like(middle), middle, np.ones_like(middle)), axis=-1))
        fits = ((linear > -1e-3) & (linear < 1 + 1e-3)).all(-1)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    kept = np.where(high > 0.999, 1.0, low)
    linear = _linear(lch * np.stack((np.ones_like(kept), kept, np.ones_like(kept)), axis=-1)).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def foreground(x: np.ndarray) -> np.ndarray:
    """bool (H, W): what is not white or is enclosed by what is not white; without its blended rim where it can be."""
    lch = to_lch(x)
    white = (lch[..., 0] > 0.975) & (lch[..., 1] < 0.02)
    areas, _ = ndimage.label(white)
    rim = np.concatenate((areas[0], areas[-1], areas[:, 0], areas[:, -1]))
    inside = ~np.isin(areas, np.unique(rim[rim > 0]))
    smaller = ndimage.binary_erosion(inside)
    return smaller if smaller.sum() >= 0.4 * inside.sum() else inside


def names_of(lch: np.ndarray) -> np.ndarray:
    """The colour word of each OKLCh value, as indices into `COLOURS`."""
    lightness, chroma, hue = np.moveaxis(lch, -1, 0)
    warm = (hue >= 18) & (hue < 105)
    rules = (
        ("black", lightness < 0.24),
        ("black", (lightness < 0.42) & (chroma < 0.035)),
        ("white", (lightness > 0.885) & (chroma < 0.035)),
        ("grey", chroma < np.where(warm & (lightness < 0.6), 0.025, 0.032)),
        ("brown", warm & (lightness < 0.64) & (chroma < 0.125)),
        ("brown", warm & (lightness < 0.7) & (chroma < 0.09)),
        ("brown", warm & (hue > 42) & (lightness < 0.56)),
        ("pink", warm & (hue < 66) & (lightness > 0.8) & (chroma < 0.1)),
        ("pink", ((hue >= 338) | (hue < 28)) & (lightness > 0.7) & (chroma < 0.19)),
        ("pink", ((hue >= 338) | (hue < 10)) & (lightness > 0.56)),
        ("pink", (hue >= 318) & (lightness > 0.68)),
        ("purple", (hue >= 283) & (hue < 340)),
        ("red", (hue >= 340) | (hue < 42)),
        ("orange", hue < 74),
        ("yellow", hue < 115),
        ("green", hue < 183),
        ("blue", hue < 283),
    )
    chosen = np.full(lightness.shape, -1)
    for name, holds in rules:
        chosen[(chosen < 0) & holds] = COLOURS.index(name)
    return chosen


def shares(x: np.ndarray) -> dict[str, float]:
    """The share of the foreground of uint8 (H, W, 3) on white that each colour word names; {} where all is white."""
    inside = foreground(x)
    if not inside.any():
        return {}
    counts = np.bincount(names_of(to_lch(x)[inside]), minlength=len(COLOURS)) / inside.sum()
    return {name: float(share) for name, share in zip(COLOURS, counts, strict=True)}


def colour_of(x: np.ndarray) -> str | None:
    """The colour word that names most of the foreground of uint8 (H, W, 3) on white; None where all is white."""
    found = shares(x)
    return max(found, key=lambda name: found[name]) if found else None


class Dominant(NamedTuple):
    """The region of one colour in a picture."""

    weight: np.ndarray
    """float (H, W), 0 to 1: how much a pixel belongs to it."""
    colour: tuple[float, float, float]
    """Its median OKLCh."""
    share: float
    """Of the foreground, 0 to 1."""


def dominant(x: np.ndarray, width: float = 38.0) -> Dominant:
    """The region of the commonest hue in uint8 (H, W, 3) on white, or of grey where that is more of the picture."""
    lch, inside = to_lch(x), foreground(x)
    lightness, chroma, hue = np.moveaxis(lch, -1, 0)
    coloured = inside & (chroma > 0.045)
    neutral = inside & (chroma < 0.04) & (lightness > 0.25)
    if neutral.sum() > coloured.sum():
        middle = float(np.median(lightness[neutral]))
        near = _falls(abs(lightness - middle), 0.22, 0.4)
        weight = _falls(chroma, 0.045, 0.09) * np.where(lightness > middle, 1, near)
        return Dominant(weight, (middle, 0.02, 0.0), float((inside & (weight > 0.5)).sum() / inside.sum()))
    histogram = np.bincount(hue[coloured].astype(int) % 360, weights=chroma[coloured] ** 0.5, minlength=360)
    smooth = ndimage.convolve1d(histogram, np.hanning(41), mode="wrap")
    peak = float(smooth.argmax())
    away = abs((hue - peak + 180) % 360 - 180)
    weight = _falls(away, width, 1.6 * width) * (1 - _falls(chroma, 0.02, 0.05))
    core = inside & (weight > 0.5)
    if not core.any():
        return Dominant(weight, (0.5, 0.1, peak), 0.0)
    best = tuple(float(np.median(lch[core][:, k])) for k in range(2))
    return Dominant(weight, (*best, peak), float(core.sum() / inside.sum()))


def _falls(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """1 up to `start`, 0 from `end` on, smooth in between."""
    t = ((x - start) / (end - start)).clip(0, 1)
    return 1 - t * t * (3 - 2 * t)


def recolour(x: np.ndarray, colour: str, region: Dominant | None = None) -> np.ndarray:
    """uint8 (H, W, 3) on white with its main colour replaced by `colour`, its shading and all else kept.

    In the region's OKLCh: L' = piecewise linear through (0, 0), (L_0, L_t), (1, 1), so that white stays white and
    blended edges stay blended; C' = C C_t / C_0; h' = h_t + (h - h_0) / 3.
    """
    region = dominant(x) if region is None else region
    lch = to_lch(x)
    lightness, chroma, hue = np.moveaxis(lch, -1, 0)
    (middle, strong, peak), (target, wanted, towards) = region.colour, TARGETS[colour]
    new_lightness = np.interp(lightness, (0, middle, 1), (0, target, 1))
    grey = strong <= 0.02
    if grey:  # nothing to scale: chroma fades towards black and white
        new_chroma = wanted * np.interp(lightness, (0, middle, 0.99, 1), (0.4, 1, 0.15, 0)).clip(0, 1)
        new_hue = np.full_like(hue, towards)
    else:
        new_chroma = wanted * (chroma / strong).clip(0, 1.4)
        new_hue = towards + ((hue - peak + 180) % 360 - 180) / 3
    changed = to_rgb(np.stack((new_lightness, new_chroma, new_hue % 360), axis=-1)).astype(float)
    mixed = x + region.weight[..., None] * (changed - x)
    return mixed.round().astype(np.uint8)
