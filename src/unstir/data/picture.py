"""The single pictures and arrays that a command is given: to be edited, as a mask, or as a measurement."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from unstir.data.decode import CONVERSIONS, answer
from unstir.data.items import fit_arrays, printable
from unstir.errors import ConfigError, DataError
from unstir.limits import LIMITS

__all__ = ["ARRAYS", "Picture", "read_array", "read_mask", "read_picture"]

ARRAYS = (".npy", ".npz")
"""Endings of files that hold numbers and no picture."""
ROUNDING = 4
"""What colours of a brush may differ by: programs store its soft edge in bytes."""


class Picture(NamedTuple):
    """Pixels uint8 (H, W, 3), whether all of them are grey, and in words what was converted on the way."""

    pixels: np.ndarray
    grey: bool
    notes: list[str]

    def of(self, channels: int) -> np.ndarray:
        """uint8 (H, W, channels): 3, or 1 by the luma of ITU-R 601."""
        return self.pixels if channels == 3 else fit_arrays(self.pixels[None], None, channels)[0][0]


def read_picture(path: str | os.PathLike[str], field: str = "input") -> Picture:
    """The picture of a file, upright, transparency laid on white.

    Raises:
        DataError: there is no such file, or it is not a whole picture.
    """
    name = printable(os.fspath(path))
    hint = f"give a picture as {field}"
    if not os.path.exists(path):
        raise DataError(f"{name}: there is no such file", field=field, hint=hint)
    if os.path.isdir(path):
        raise DataError(f"{name} is a folder", field=field, hint=hint)
    reply, content = answer({"path": os.fspath(path), "size": None, "channels": 3})
    if "code" in reply:
        raise DataError(f"cannot read {name}: {reply['detail']} ({reply['code']})", field=field, hint=hint)
    notes = [f"{name}: {CONVERSIONS[note]}" for note in reply["notes"] if note != "palette"]
    pixels = np.frombuffer(content, np.uint8).reshape(reply["shape"]).copy()  # which torch may write to
    return Picture(pixels, reply["grey"], notes)


def read_mask(
    path: str | os.PathLike[str], size: tuple[int, ...], meaning: str = "painted"
) -> tuple[np.ndarray, list[str]]:
    """bool (H, W), true where the mask is painted, and in words how it was read, last of all how much that is.

    Painted is what is lighter than half. Of a mask with transparency: what is opaque, where that is of one colour;
    what is opaque and white, where it is black and white; else it is a picture, and its transparent hole counts.

    Raises:
        DataError: there is no such file, or it is not a whole picture.
        ConfigError: it is not of this size.
    """
    name, found = printable(os.fspath(path)), read_picture(path, "mask")
    light = found.of(1)[..., 0]
    if light.shape != size:
        raise ConfigError(
            f"{name} has {light.shape[1]}x{light.shape[0]} pixels, the picture {size[1]}x{size[0]}",
            field="mask",
            hint="give a mask of the picture's own size",
        )
    laid_on_white = f"{name}: {CONVERSIONS['alpha']}"
    notes = [note for note in found.notes if note != laid_on_white]
    if laid_on_white in found.notes:
        painted, where = _layer(path, light)
    else:
        painted, where = light > 127, "white"
        if ((light > 0) & (light < 255)).any():
            notes.append(f"{name}: not just black and white, lighter than half counts as white")
    share = f"{100 * painted.mean():.3g}%"
    return painted, [*notes, f"{name}: {meaning} where it is {where}, {share} of the picture"]


def _layer(path: str | os.PathLike[str], light: np.ndarray) -> tuple[np.ndarray, str]:
    """Where a mask with transparency is painted, and in words where that is."""
    with Image.open(path) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))
    opaque = pixels[..., 3] > 127
    if opaque.all():
        return light > 127, "white"
    colours = pixels[opaque][:, :3]
    if not opaque.any() or np.ptp(colours, axis=0).max() <= ROUNDING:
        return opaque, "opaque"
    if ((colours.max(1) <= ROUNDING) | (colours.min(1) >= 255 - ROUNDING)).all():
        return opaque & (light > 127), "white"
    return ~opaque, "transparent, a hole in a picture"


def read_array(path: str | os.PathLike[str], field: str = "y") -> np.ndarray:
    """The array of an .npy file, or the only one or `y` of an .npz file, as float32.

    Raises:
        DataError: there is no such file, or it holds no such array of finite numbers.
    """
    name, hint = printable(os.fspath(path)), "write it with numpy.save(path, y)"
    try:
        array = _loaded(Path(path))
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"cannot read {name}: {reason}", field=field, hint=hint) from error
    if array.dtype.kind not in "iuf" or array.size == 0 or not np.isfinite(array).all():
        raise DataError(
            f"{name} holds {array.dtype} of shape {array.shape}", field=field, hint="give finite numbers"
        )
    return array.astype(np.float32)


def _loaded(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        _require_room(array.nbytes)
        return np.asarray(array)
    with zipfile.ZipFile(path) as archive:
        _require_room(sum(entry.file_size for entry in archive.infolist()))
    with np.load(path, allow_pickle=False) as arrays:
        names = arrays.files
        if "y" not in names and len(names) != 1:
            raise ValueError(f"it holds {', '.join(names) or 'nothing'}, and no array y")
        return arrays["y" if "y" in names else names[0]]


def _require_room(size: int) -> None:
    if size > 8 * LIMITS.pixels:
        raise ValueError(f"{size:,} bytes of numbers; at most {8 * LIMITS.pixels:,} are read")
