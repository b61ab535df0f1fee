"""Pictures as files: one, a sheet, a folder, arrays, the movie of a denoising; each carries its recipe.

Pictures are uint8 (N, H, W, C) with C = 1 or 3. A recipe is JSON-able; it is stored in a PNG as the iTXt
chunk `unstir`, in a GIF as the comment, in an .npz as the array `recipe`. No file holds a time or the path it
is written to, so the same pictures with the same recipe give the same bytes.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin, UnidentifiedImageError

from ..errors import ConfigError, DataError
from ..files import write_atomic
from ..limits import LIMITS
from . import points
from .base import Sampled

__all__ = [
    "check_path",
    "encode_gif",
    "encode_npz",
    "encode_png",
    "grid_png",
    "per_class",
    "read_recipe",
    "single_name",
    "single_recipes",
    "to_grid",
    "with_scale",
    "write_samples",
]

KEY = "unstir"
CELL = 40  # pixels a picture on a sheet should have for a person to see it
CAPTIONED = 96  # the same, with words beneath
LETTERS, LINE = 12, 15  # pixels of a letter's size, and of a line
SHOWN, BAR = 128, 8  # the least side of a picture of numbers, and the height of the bar beneath
PAD = 2
WHITE = 255
FRAME_MS, LAST_FRAME_MS = 80, 1600
SEVERAL = ("uncertainty",)  # settings that need several samples
MAX_RECIPE = 2**20  # bytes of JSON a picture may carry


# -- sheets ------------------------------------------------------------------------------------------------


def to_grid(
    images: np.ndarray,
    columns: int | None = None,
    pad: int = PAD,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """(N, H, W, C) -> one sheet (H', W', C), row by row, pictures below 40 pixels enlarged by a whole factor.

    A single picture is returned as it is: no border, no enlargement.

    Args:
        images: uint8.
        columns: pictures in a row; None: as many as make the sheet about square.
        pad: white pixels around each picture.
        captions: words under each picture, in as many lines as the longest needs, four at most.

    Raises:
        ConfigError: there is no picture, or the sheet would have more than `LIMITS.pixels`.
    """
    if len(images) == 0:
        raise ConfigError("there are no pictures to put on a sheet", field="n", hint="ask for n=1 or more")
    if len(images) == 1:
        return images[0]
    images = _enlarged(images, CELL if captions is None else CAPTIONED)
    if captions is not None:
        images = _captioned(images, captions)
    n, height, width, channels = images.shape
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = math.ceil(n / columns)
    shape = (rows * (height + pad) + pad, columns * (width + pad) + pad)
    if shape[0] * shape[1] > LIMITS.pixels:
        raise ConfigError(
            f"a sheet of {n} pictures would have {shape[1]}x{shape[0]} pixels",
            field="out",
            hint="write single files with out=DIR/ or arrays with out=FILE.npz",
        )
    sheet = np.full((*shape, channels), WHITE, np.uint8)
    for i, image in enumerate(images):
        top, left = pad + i // columns * (height + pad), pad + i % columns * (width + pad)
        sheet[top : top + height, left : left + width] = image
    return sheet


def per_class(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """A sheet with a row of pictures (n, H, W, C) for each class, its name in front."""
    sheets = {name: to_grid(images, columns=len(images)) for name, images in rows.items()}
    names = [_text(name) for name in sheets]
    margin = max(name.shape[1] for name in names) + 2 * PAD
    bands = []
    for name, sheet in zip(names, sheets.values(), strict=True):
        band = np.full((sheet.shape[0], margin + sheet.shape[1], sheet.shape[2]), WHITE, np.uint8)
        band[:, margin:] = sheet
        top = max(0, (sheet.shape[0] - name.shape[0]) // 2)
        room = band[top : top + name.shape[0], PAD : PAD + name.shape[1]]
        room[:] = name[: room.shape[0], :, None]
        bands.append(band)
    width = max(band.shape[1] for band in bands)
    padding = [((0, 0), (0, width - band.shape[1]), (0, 0)) for band in bands]
    return np.concatenate([np.pad(b, p, constant_values=WHITE) for b, p in zip(bands, padding, strict=True)])


def with_scale(values: np.ndarray, unit: str) -> np.ndarray:
    """Numbers >= 0 (H, W) as one picture (H', W', 1): black is 0, white the largest, a bar beneath says how much."""
    largest = float(values.max())
    shades = (values * (255 / largest if largest else 0)).round().astype(np.uint8)
    factor = math.ceil(SHOWN / min(SHOWN, *values.shape))
    picture = shades.repeat(factor, axis=0).repeat(factor, axis=1)
    left, right = _text("0"), _text(f"{largest:.3g} {unit}")
    width = max(picture.shape[1], left.shape[1] + right.shape[1] + 4 * PAD)
    bar = np.linspace(0, 255, width).round().astype(np.uint8)[None].repeat(BAR, axis=0)
    words = np.full((max(left.shape[0], right.shape[0]), width), WHITE, np.uint8)
    words[: left.shape[0], : left.shape[1]] = left
    words[: right.shape[0], width - right.shape[1] :] = right
    gap = np.full((2 * PAD, width), WHITE, np.uint8)
    wide = np.pad(picture, ((0, 0), (0, width - picture.shape[1])), constant_values=WHITE)
    return np.concatenate([wide, gap, bar, gap, words])[..., None]


def _enlarged(images: np.ndarray, least: int = CELL) -> np.ndarray:
    factor = math.ceil(least / min(least, *images.shape[1:3]))
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def _captioned(images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """(N, H, W, C) -> (N, H', W, C), each with its words beneath, centred."""
    n, height, width, channels = images.shape
    font = ImageFont.load_default(LETTERS)
    wrapped = [_wrapped(text, width, font)[:4] for text in captions]
    canvas = np.full((n, height + max(map(len, wrapped)) * LINE + PAD, width, channels), WHITE, np.uint8)
    canvas[:, :height] = images
    for k, lines in enumerate(wrapped):
        strip = Image.new("L", (width, canvas.shape[1] - height), WHITE)
        for row, line in enumerate(lines):
            x = max(0, (width - font.getlength(line)) / 2)
            ImageDraw.Draw(strip).text((x, row * LINE), line, fill=0, font=font)
        canvas[k, height:] = np.asarray(strip)[..., None]
    return canvas


def _wrapped(text: str, width: int, font: Any) -> list[str]:
    """The words in lines that fit into `width` pixels; a word that does not fit alone is cut at the picture's edge."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _text(text: str) -> np.ndarray:
    """Black on white (H, W), in Pillow's built-in bitmap font, twice its size."""
    font = ImageFont.load_default_imagefont()
    text = text.encode("latin-1", "replace").decode("latin-1") or " "
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (int(right - left), int(bottom - top)), WHITE)
    ImageDraw.Draw(canvas).text((-left, -top), text, fill=0, font=font)
    return np.asarray(canvas).repeat(2, axis=0).repeat(2, axis=1)


# -- files -------------------------------------------------------------------------------------------------


def write_samples(samples: Sampled, path: str | Path) -> Path:
    """Writes samples in the form that the path asks for, each file with its recipe; returns the path.

    `.png`: the bare picture of one, a sheet of several. `.npz`: `x`, `seed`, with labels `y`, and `recipe`.
    `.gif`: the movie of the recorded steps. A closing `/` or no ending: a folder with a file for each seed,
    whose recipe is that of the one picture.

    Raises:
        ConfigError: the path ends in something else, or a .gif was asked for and no steps were recorded.
        CheckpointError: the disk refuses.
    """
    ending = check_path(path, movie=bool(samples.frames))
    path = Path(path)
    (path.parent if ending else path).mkdir(parents=True, exist_ok=True)
    pictures = _pictures(samples.images)
    if ending == ".png":
        write_atomic(path, encode_png(pictures, samples.recipe, captions=_captions(samples)))
    elif ending == ".npz":
        write_atomic(path, encode_npz(samples.images, samples.recipe, samples.seeds, samples.labels))
    elif ending == ".gif":
        frames = ((_pictures(x_t), _pictures(x_0)) for x_t, x_0 in samples.frames)
        write_atomic(path, encode_gif(frames, {**samples.recipe, "movie": True}))
    else:
        for picture, recipe in zip(pictures, single_recipes(samples), strict=True):
            write_atomic(path / single_name(recipe["seed"]), encode_png(picture[None], recipe))
    return path


def single_name(seed: int) -> str:
    """What the sample of a seed is called in a folder."""
    return f"{seed:06d}.png"


def check_path(path: str | Path, movie: bool = False) -> str:
    """The ending of a path samples can be written to, "" for a folder; `ConfigError` for any other."""
    ending = "" if str(path).endswith("/") else Path(path).suffix.lower()
    if ending not in ("", ".png", ".npz", ".gif"):
        raise ConfigError(
            f"cannot write {path}: unknown ending '{ending}'",
            field="out",
            hint="use .png (a sheet), .npz (arrays), .gif with movie=1, or a folder/",
        )
    if (ending == ".gif") != movie:
        raise ConfigError(
            f"cannot write {path}: a .gif is a movie, and a movie is a .gif",
            field="out",
            hint="use both, out=FILE.gif movie=1, or neither",
        )
    return ending


def grid_png(samples: Sampled) -> bytes:
    """The samples as one PNG, for notebooks and reports."""
    return encode_png(_pictures(samples.images), samples.recipe, captions=_captions(samples))


def _captions(samples: Sampled) -> list[str] | None:
    """What stands under the pictures of a sheet: their prompts, where they differ."""
    prompts = samples.prompts
    return list(prompts) if prompts is not None and len(set(prompts)) > 1 else None


def _pictures(images: np.ndarray) -> np.ndarray:
    return images if images.ndim == 4 else points.to_picture(images)


def encode_png(
    images: np.ndarray,
    recipe: Mapping[str, Any] | None = None,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
) -> bytes:
    """The bare picture of one, a sheet of several, with their captions where they have some; grey stays grey."""
    info = PngImagePlugin.PngInfo()
    if recipe is not None:
        info.add_itxt(KEY, _json(recipe), zip=False)
    buffer = io.BytesIO()
    _picture(to_grid(images, columns, captions=captions)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def encode_npz(
    images: np.ndarray, recipe: Mapping[str, Any], seeds: Sequence[int], labels: Sequence[int] | None = None
) -> bytes:
    """`x` uint8 (N, H, W, C), `seed` int64 (N,), with labels `y` int64 (N,), and `recipe`, JSON text."""
    arrays = {"x": images, "seed": np.asarray(seeds, np.int64), "recipe": np.asarray(_json(recipe))}
    if labels is not None:
        arrays["y"] = np.asarray(labels, np.int64)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array, order="C"), allow_pickle=False)
            # np.savez would store the time of writing
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def encode_gif(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], recipe: Mapping[str, Any], columns: int | None = None
) -> bytes:
    """The movie of a denoising: of each (x_t, x_0), both (N, H, W, C), the two sheets side by side."""
    pictures = [_picture(_side_by_side(to_grid(x_t, columns), to_grid(x_0, columns))) for x_t, x_0 in frames]
    times = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        comment=_json(recipe).encode(),
    )
    return buffer.getvalue()


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe of a file that `write` made; raises `DataError` where there is none."""
    path = Path(path)
    try:
        text = _recipe_of_npz(path) if path.suffix.lower() == ".npz" else _recipe_of_picture(path)
        recipe = json.loads(text) if text is not None and len(text) <= MAX_RECIPE else None
    except (OSError, ValueError, KeyError, SyntaxError, RecursionError, zipfile.BadZipFile) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"cannot read {path}: {reason}", field=str(path)) from None
    if not isinstance(recipe, dict):
        raise DataError(
            f"{path} carries no recipe",
            field=str(path),
            hint="only files that unstir wrote do, and only while no other program has rewritten them",
        )
    return recipe


def _recipe_of_picture(path: Path) -> str | None:
    with Image.open(path) as image:
        if image.format == "GIF":
            comment = image.info.get("comment", b"")
            return comment.decode("utf-8") if comment.startswith(b"{") else None
        return image.text.get(KEY) if isinstance(image, PngImagePlugin.PngImageFile) else None


def _recipe_of_npz(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        if "recipe.npy" not in archive.namelist():
            return None
        if archive.getinfo("recipe.npy").file_size > 8 * MAX_RECIPE:
            raise ValueError("its recipe is too large")
        with archive.open("recipe.npy") as file:
            return str(np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False))


def single_recipes(samples: Sampled) -> list[dict[str, Any]]:
    """What makes each picture alone: its own seed, and its own label or prompt where one was asked for."""
    labels = samples.labels if samples.recipe.get("label") is not None else None
    prompts = samples.prompts if samples.recipe.get("prompt") is not None else None
    shared = {word: value for word, value in samples.recipe.items() if word not in SEVERAL}
    recipes = [{**shared, "n": 1, "seed": int(seed)} for seed in samples.seeds]
    for i, recipe in enumerate(recipes):
        if labels:
            recipe["label"] = int(labels[i])
        if prompts:
            recipe["prompt"] = prompts[i]
    return recipes


def _picture(array: np.ndarray) -> Image.Image:
    """uint8 (H, W, C) -> grey for C = 1, colour for C = 3."""
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    gap = np.full((left.shape[0], 2 * PAD, left.shape[2]), WHITE, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _json(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, sort_keys=True, ensure_ascii=False, allow_nan=False)
