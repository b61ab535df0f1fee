"""Frames as bytes: for a page, and as movies of points."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "COLOURS",
    "beside",
    "captioned",
    "data_url",
    "encode_movie",
    "enlarged",
    "glow",
    "labelled_grid",
    "scatter",
    "shrunk",
    "tiled",
]

COLOURS = ("#2b6cb0", "#d97706", "#2f855a", "#b83280", "#6b46c1", "#c53030", "#0891b2", "#8a6d3b")
"""Of groups of points, in turn."""
WHITE = 255
GAP = 4
LETTERS = 13  # pixels of their size
SIDE, OVERSAMPLING = 360, 2
"""Of a drawn frame of points, in pixels; it is drawn larger and made small, which smooths its edges."""
AMBER, DIM = np.array([255, 170, 20]), 0.3  # of light, and how much of a picture is seen without it
LAST_MS = 1600


def data_url(pixels: np.ndarray, kind: str = "png") -> str:
    """The picture uint8 (H, W, C) as a PNG, or as a WebP, which of a noisy one is a fifth of the size."""
    buffer = io.BytesIO()
    image = _image(pixels)
    if kind == "webp":
        image.save(buffer, "WEBP", quality=90, method=2)
    else:
        image.save(buffer, "PNG")
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def encode_movie(frames: Sequence[np.ndarray], fps: int) -> bytes:
    """A GIF that rests on its last frame."""
    first, *rest = (_image(frame) for frame in frames)
    buffer = io.BytesIO()
    times = [1000 // fps] * len(rest) + [LAST_MS]
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=times, loop=0)
    return buffer.getvalue()


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Pictures (H, W, C) of one height in a row, white between them."""
    gap = np.full((pictures[0].shape[0], GAP, pictures[0].shape[2]), WHITE, np.uint8)
    return np.concatenate(
        [part for k, one in enumerate(pictures) for part in ([gap, one] if k else [one])], axis=1
    )


def tiled(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures (H, W, C) of one size in rows of at most so many."""
    blank = np.full_like(pictures[0], WHITE)
    columns = min(columns, len(pictures))
    rows = [[*pictures[k : k + columns]] for k in range(0, len(pictures), columns)]
    return np.concatenate([beside(*row, *[blank] * (columns - len(row))) for row in rows])


def enlarged(picture: np.ndarray, least: int) -> np.ndarray:
    """The picture (H, W, C), by a whole factor so large that its shorter side has `least` pixels."""
    factor = -(-least // min(least, *picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture (H, W, C), so small that its longer side has at most `side` pixels."""
    image = _image(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, -1)


def glow(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture (H, W, C) dark and grey, lit where heat, from 0 to 1 on a grid of any size, is high: (H, W, 3)."""
    height, width = picture.shape[:2]
    light = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    grey = picture.mean(-1, keepdims=True) * DIM
    lit = grey + (1 - DIM) * AMBER * np.asarray(light).clip(0, 1)[..., None]
    return lit.round().clip(0, 255).astype(np.uint8)


def scatter(
    points: np.ndarray, reach: float, groups: Sequence[int] | None = None, arrows: np.ndarray | None = None
) -> np.ndarray:
    """Points (N, 2) in [-reach, reach]^2, and arrows (M, 4) under them, as a picture (360, 360, 3)."""
    side = SIDE * OVERSAMPLING
    image = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(image)

    def place(x: float, y: float) -> tuple[float, float]:
        return (x / reach + 1) * side / 2, (1 - y / reach) * side / 2

    for x, y, dx, dy in () if arrows is None else arrows.tolist():
        tip, bent = (x + dx, y + dy), 0.2
        pen.line([place(x, y), place(*tip)], fill="#b6bcc4", width=2)
        for turn in (-1, 1):
            wing = tip[0] - bent * (dx - turn * dy), tip[1] - bent * (dy + turn * dx)
            pen.line([place(*tip), place(*wing)], fill="#b6bcc4", width=2)
    radius = 2.6 * OVERSAMPLING
    for k, (x, y) in enumerate(points.tolist()):
        across, down = place(x, y)
        colour = COLOURS[(groups[k] if groups is not None else 0) % len(COLOURS)]
        pen.ellipse([across - radius, down - radius, across + radius, down + radius], fill=colour)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def labelled_grid(cells: Sequence[np.ndarray], rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """Pictures (H, W, C) row by row, the names of the rows to their left and those of the columns above."""
    height, width = cells[0].shape[:2]
    font = ImageFont.load_default(LETTERS)
    left = round(max(font.getlength(word) for word in rows)) + 2 * GAP
    top = LETTERS + 3 * GAP
    size = (left + len(columns) * (width + GAP), top + len(rows) * (height + GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for k, word in enumerate(columns):
        pen.text((left + k * (width + GAP) + width / 2, top / 2), word, fill="black", font=font, anchor="mm")
    for k, word in enumerate(rows):
        pen.text(
            (left - GAP, top + k * (height + GAP) + height / 2), word, fill="black", font=font, anchor="rm"
        )
    for k, cell in enumerate(cells):
        down, across = divmod(k, len(columns))
        sheet.paste(_image(cell), (left + across * (width + GAP), top + down * (height + GAP)))
    return np.asarray(sheet)


def captioned(picture: np.ndarray, words: str) -> np.ndarray:
    """The picture (H, W, 3) with a line of words beneath it."""
    line = Image.new("RGB", (picture.shape[1], LETTERS + 2 * GAP), "white")
    font = ImageFont.load_default(LETTERS)
    ImageDraw.Draw(line).text((line.width / 2, line.height / 2), words, fill="black", font=font, anchor="mm")
    return np.concatenate([picture, np.asarray(line)])
