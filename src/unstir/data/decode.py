"""One image file -> uint8 pixels, in a defined way; or the reason why not.

Imports neither torch nor the rest of the package's machinery: `serve` runs in child processes (pool.py).

Every picture becomes 8-bit RGB (or grey, where one channel is asked for):
the first frame of an animation; EXIF orientation applied; palettes looked up; transparency laid on white;
CMYK by (255 - C)(255 - K)/255; 16-bit grey v -> round(v / 257), 16-bit colour by its high byte; colour
profiles are not applied.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image

from unstir.data.identify import FORMATS, BadFile, identify, require_whole
from unstir.limits import LIMITS

__all__ = ["CONVERSIONS", "SECONDS", "answer", "decode", "fit", "measure", "read", "serve"]

SECONDS = 20.0
"""Wall-clock time a child may spend on one file."""

CONVERSIONS = {
    "rotated": "turned upright by EXIF",
    "alpha": "with transparency, laid on white",
    "palette": "with a palette",
    "cmyk": "CMYK, converted to RGB",
    "16-bit": "16-bit grey, reduced to 8 bits",
    "animation": "animated, first frame kept",
    "enlarged": "smaller than the chosen size, enlarged",
    "named": "named as another format, decoded by content",
}
"""What the notes of a picture say, for people."""

_MEMORY = 3 * 2**30  # address space of a child: several copies of the largest accepted image
_LARGEST_FILE = 2**29
_ORIENTATION = 0x0112  # the EXIF tag; its values 5 to 8 exchange width and height
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# -- one file ---------------------------------------------------------------------------------------------
def read(path: str) -> bytes:
    """The bytes of a regular file.

    Raises `BadFile`: `missing`, `permission`, `not_media`, `too_large` or `io`.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise BadFile("not_media", "not a regular file")
        if status.st_size > _LARGEST_FILE:
            raise BadFile("too_large", f"{status.st_size:,} bytes, at most {_LARGEST_FILE:,} are read")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise BadFile("missing", "the file is no longer there") from error
    except PermissionError as error:
        raise BadFile("permission", "the file may not be read") from error
    except OSError as error:
        raise BadFile("io", error.strerror or str(error)) from error


def measure(data: bytes) -> tuple[int, int]:
    """(height, width) of an image as it is meant to be seen, from its header."""
    with _opened(data) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def decode(data: bytes, size: int | tuple[int, int] | None, channels: int) -> tuple[np.ndarray, list[str]]:
    """The pixels (H, W, channels) of an image and the names of the conversions it took.

    Args:
        data: the whole file.
        size: what to scale to and to crop the centre of: (height, width) or the side of a square; None: as it is.
        channels: 3 or, by the luma of ITU-R 601, 1.
    """
    height, width = size if isinstance(size, tuple) else (size or 0, size or 0)
    with _opened(data) as image:
        if size is not None and image.format == "JPEG":
            turned = _orientation(image) >= 5
            least = (2 * height, 2 * width) if turned else (2 * width, 2 * height)
            image.draft(None, least)  # the decoder itself can halve, far faster
        image.load()
        turn = _TURNS.get(_orientation(image))
        picture, notes = _to_rgb(image if turn is None else image.transpose(turn))
        if turn is not None:
            notes.append("rotated")
        with suppress(Exception):  # later frames may be damaged: they are not used
            if image.is_animated:  # type: ignore[attr-defined]
                notes.append("animation")
    if size is not None:
        if (picture.width < width or picture.height < height) and image.format != "JPEG":
            notes.append("enlarged")
        picture = fit(picture, size)
    if channels == 1:
        picture = picture.convert("L")
    return np.asarray(picture).reshape(picture.height, picture.width, channels), notes


def fit(picture: Image.Image, size: int | tuple[int, int]) -> Image.Image:
    """Scale to cover (height, width), or a square of a side (bicubic, antialiased), and crop the centre."""
    height, width = size if isinstance(size, tuple) else (size, size)
    # the largest box of that shape, one of its sides whole
    tall = picture.width * height <= picture.height * width
    across = picture.width if tall else picture.height * width / height
    down = picture.width * height / width if tall else picture.height
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    box = (left, top, left + across, top + down)
    return picture.resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A whole image of an accepted format and size; whatever Pillow raises meanwhile becomes a `BadFile`."""
    require_whole(identify(data), data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > LIMITS.pixels:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
            yield image
        except BadFile:
            raise
        except Exception as error:
            raise _fault(error) from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where the tags are damaged, which says nothing about the pixels."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in _TURNS else 1


def _fault(error: Exception) -> BadFile:
    """The reason behind an exception of the decoder."""
    text = " ".join(str(error).split())[:200]
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return BadFile("too_large", f"{text}; at most {LIMITS.pixels:,} pixels are decoded")
    if isinstance(error, MemoryError) or "too large" in text.lower():
        return BadFile("too_large", text or "needs too much memory")
    if "truncated" in text.lower() or "not enough" in text.lower():
        return BadFile("truncated", text)
    return BadFile("corrupt", text or type(error).__name__)


def _to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """An 8-bit RGB picture and the names of the conversions."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image), ["16-bit"]
    if image.mode == "CMYK":
        return image.convert("RGB"), ["cmyk"]
    notes = ["palette"] if image.mode in ("P", "PA") else []
    if not image.has_transparency_data:
        return image.convert("RGB"), notes
    picture = image.convert("RGBA")
    if picture.getchannel("A").getextrema() == (255, 255):
        return picture.convert("RGB"), notes
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB"), [*notes, "alpha"]


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, white at 65535, -> RGB."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise BadFile("unsupported", f"pixels of mode {image.mode} with no defined white; use 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


# -- many files, in a child process -----------------------------------------------------------------------
def answer(job: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What is asked of one file: a JSON-able reply, and its pixels.

    A job names a `path`. With `channels` (and `size`) the file is decoded, without it is measured. A bad
    file's reply has `code` and `detail`.
    """
    try:
        data = read(job["path"])
        if "channels" not in job:
            return {"shape": measure(data)}, b""
        size = job["size"]
        pixels, notes = decode(data, tuple(size) if isinstance(size, list | tuple) else size, job["channels"])
        grey = bool((pixels == pixels[..., :1]).all())
        return {
            "shape": pixels.shape,
            "grey": grey,
            "notes": notes,
            "format": identify(data),
        }, pixels.tobytes()
    except Exception as error:  # whatever it is, one file must not stop the others
        bad = error if isinstance(error, BadFile) else _fault(error)
        return {"code": bad.code, "detail": bad.detail}, b""


def serve(seconds: float = SECONDS) -> None:
    """Answer jobs, one JSON line each on stdin, until it closes: a JSON line and `bytes` pixels on stdout.

    The process limits itself: memory, no files written, no core dump, and an alarm that kills it when one
    file takes longer than `seconds`.
    """
    limits = {resource.RLIMIT_AS: _MEMORY, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for limit, value in limits.items():
        with suppress(ValueError, OSError):  # not every system knows every limit
            resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; its end closes stdin
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        reply, pixels = answer(json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        out.write(json.dumps({**reply, "bytes": len(pixels)}).encode() + b"\n" + pixels)
        out.flush()
