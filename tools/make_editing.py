"""Pictures and numbers of docs/restoration.md that need trained models: `python tools/make_editing.py [PART...]`.

Parts, all by default; each takes minutes:

    inpaint  runs/emoji64: 32 held-out emoji, a part of each hidden and painted anew
    mosaic   runs/emoji64: a mosaic of held-out emoji, 256 pixels wide, made large in overlapping windows

The model: unstir train emoji size=64 time=85m data.flip=true network.attention=1 network.dropout=0.05
network.widths=32,64,128,192 network.blocks=1,1,2,2 network.unshuffle=2 out=runs/emoji64
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import unstir
from unstir.data import open_data
from unstir.evaluate import psnr, seam_ratio
from unstir.guidance.tiled import starts
from unstir.modalities.image import encode_png
from unstir.rng import Rng

ROOT = Path(__file__).parents[1]
PAGE, IMAGES = ROOT / "docs" / "restoration.md", ROOT / "docs" / "images"
GREY = 150
COLUMNS = 4  # of triples on the contact sheet


# -- masks -------------------------------------------------------------------------------------------------
def masks(size: int, n: int) -> np.ndarray:
    """bool (n, size, size), true = hidden: a box in the middle, a side, a brush stroke, scattered dots, in turn."""
    y, x = np.mgrid[:size, :size] / size
    draws = Rng.of(0, n).uniform((n, 8)).numpy()
    found = []
    for i, u in enumerate(draws):
        match i % 4:
            case 0:
                top, left = 0.15 + 0.3 * u[0], 0.15 + 0.3 * u[1]
                hidden = (y >= top) & (y < top + 0.42) & (x >= left) & (x < left + 0.42)
            case 1:
                side = [x < 0.45, x > 0.55, y < 0.45, y > 0.55][int(4 * u[0])]
                hidden = side
            case 2:
                wave = 0.5 + (u[0] - 0.5) * 0.4 + (0.1 + 0.15 * u[1]) * np.sin(6 * x + 6 * u[2])
                hidden = np.abs(y - wave) < 0.11
            case _:
                spots = Rng.of(100 + i, 1).uniform((1, 12, 2)).numpy()[0]
                hidden = np.min([(y - a) ** 2 + (x - b) ** 2 for a, b in spots], 0) < 0.09**2
        found.append(hidden)
    return np.stack(found)


# -- parts -------------------------------------------------------------------------------------------------
def inpaint() -> str:
    """32 held-out emoji, each beside what was given of it and what the model made of that."""
    pipe = unstir.load(ROOT / "runs/emoji64")
    _, heldout = open_data("emoji", size=64)
    rows = np.linspace(0, len(heldout) - 1, 32).astype(int)
    pictures, hidden = heldout.x[rows], masks(64, 32)
    shown, errors, mean_fill, seconds = [], [], [], 0.0
    for picture, hole in zip(pictures, hidden, strict=True):
        edited = pipe.edit(picture, hole)
        given = np.where(hole[..., None], np.uint8(GREY), picture)
        assert (edited.images[0][~hole] == picture[~hole]).all()
        shown += [given, edited.images[0], picture]
        filled = np.where(hole[..., None], picture[~hole].mean(0).round().astype(np.uint8), picture)
        errors.append(_psnr(edited.images[0], picture))
        mean_fill.append(_psnr(filled, picture))
        seconds += edited.seconds
    sheet = encode_png(np.stack(shown), columns=3 * COLUMNS)
    (IMAGES / "inpainting.png").write_bytes(sheet)
    return (
        f"{edited.method}, {edited.evaluations} calls of the network, {seconds / 32:.1f} s each; PSNR "
        f"{np.mean(errors):.1f} dB, {np.mean(mean_fill):.1f} dB with the mean colour of the rest in the "
        "hole. Every pixel outside of the holes has its byte."
    )


def mosaic() -> str:
    """16 held-out emoji side by side, 256 pixels wide, from a quarter of that, in windows of 64."""
    pipe = unstir.load(ROOT / "runs/emoji64")
    _, heldout = open_data("emoji", size=64)
    rows = np.linspace(3, len(heldout) - 4, 16).astype(int)
    truth = np.concatenate([np.concatenate(list(heldout.x[rows[i : i + 4]]), 1) for i in range(0, 16, 4)])
    truth = np.roll(truth, (21, 29), (0, 1))  # or no window's border would cut an emoji
    small = np.asarray(Image.fromarray(truth).resize((64, 64), Image.Resampling.BICUBIC))
    plain = np.asarray(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))
    lines = []
    for overlap in (32, 16, 0):
        large = pipe.upscale(small, 4, overlap=overlap)
        image = large.images[0]
        wrong = torch.from_numpy(image.astype(np.float64) - truth).movedim(-1, 0)[None]
        ratio = seam_ratio(wrong, [_borders(256, 64, overlap)] * 2)
        lines.append(
            f"| {overlap} | {_psnr(image, truth):.2f} | {float(ratio):.2f} | "
            f"{large.consistency[0]:.2f} | {large.evaluations} | {large.seconds:.0f} |"
        )
        if overlap == 32:
            gap = np.full((256, 6, 3), 255, np.uint8)
            enlarged = small.repeat(4, 0).repeat(4, 1)
            Image.fromarray(np.concatenate([enlarged, gap, plain, gap, image, gap, truth], 1)).save(
                IMAGES / "mosaic.png"
            )
    return "\n".join(
        [
            f"| overlap | PSNR, bicubic {_psnr(plain, truth):.2f} dB | differences across borders to elsewhere "
            "| consistency, grey levels | windows evaluated | s |",
            "|---|---|---|---|---|---|",
            *lines,
        ]
    )


# -- the page ----------------------------------------------------------------------------------------------
def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    x, y = (torch.from_numpy(v).movedim(-1, 0)[None].float() / 127.5 - 1 for v in (a, b))
    return float(psnr(x, y))


def _borders(size: int, window: int, overlap: int) -> list[int]:
    """Where windows begin or end inside of the picture."""
    return sorted({edge for s in starts(size, window, overlap) for edge in (s, s + window)} - {0, size})


def write(part: str, text: str) -> None:
    """The page with the text between the part's marks."""
    print(text)
    front, mark, rest = PAGE.read_text().partition(f"<!-- {part} -->\n")
    assert mark, f"{PAGE} has no place for {part}"
    PAGE.write_text(front + mark + text + "\n" + rest[rest.index("<!-- end -->") :])


PARTS: dict[str, Callable[[], str]] = {"inpaint": inpaint, "mosaic": mosaic}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or PARTS:
        write(chosen, PARTS[chosen]())
