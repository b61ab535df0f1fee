"""What a source becomes: shapes, labels, conversions, splits, order."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from unstir.data import (
    Caption,
    Dataset,
    Loader,
    builtin,
    contact_sheet,
    describe,
    describe_lines,
    open_data,
    source_names,
)
from unstir.data.decode import decode, fit
from unstir.data.folder import read_folder
from unstir.data.items import Items, content_keys
from unstir.data.points import POINTS, read_points
from unstir.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def dataset(n: int, *shape: int, labels: bool = False) -> Dataset:
    pixels = noise(0, n, *(shape or (4, 4, 1)))
    y = np.arange(n) % 2 if labels else None
    classes = ("even", "odd") if labels else ()
    names = [str(i) for i in range(n)]
    return Dataset(
        "test", Items(pixels=pixels, keys=content_keys(pixels), names=names, labels=y, classes=classes)
    )


def write(path: Path, seed: int = 0, size: tuple[int, int] = (16, 16), colour: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    Image.fromarray(noise(seed, height, width, 3) if colour else noise(seed, height, width)).save(path)


# -- decoding: every odd image in a defined way -----------------------------------------------------------
def decoded(
    tmp_path: Path, image: Image.Image, name: str = "a.png", **options: object
) -> tuple[np.ndarray, list[str]]:
    image.save(tmp_path / name, **options)
    return decode((tmp_path / name).read_bytes(), None, 3)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    pixels, notes = decoded(tmp_path, half)
    assert pixels[0, 0].tolist() == [255, 127, 127]
    assert notes == ["alpha"]
    pixels, _ = decoded(tmp_path, Image.new("LA", (2, 2), (0, 0)))
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    assert decoded(tmp_path, Image.new("RGBA", (2, 2), (1, 2, 3, 255)))[1] == []


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    pixels, notes = decoded(tmp_path, image)
    assert pixels.tolist() == [[list(RED), list(GREEN)]]
    assert notes == ["palette"]
    pixels, notes = decoded(tmp_path, image, transparency=1)
    assert pixels.tolist() == [[list(RED), list(WHITE)]]
    assert notes == ["palette", "alpha"]


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk(name: str, tmp_path: Path) -> None:
    pixels, notes = decoded(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), name)
    assert abs(pixels[0, 0].astype(int) - RED).max() <= 2
    assert notes == ["cmyk"]


def test_sixteen_bits(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        pixels, notes = decoded(tmp_path, Image.fromarray(values), name)
        assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
        assert notes == ["16-bit"]


def test_one_bit(tmp_path: Path) -> None:
    pixels, _ = decoded(tmp_path, Image.new("1", (2, 2), 1))
    assert pixels[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    """The stored picture is the upright one seen through the inverse of the tag's transform."""
    upright = noise(0, 3, 5, 3)
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, notes = decoded(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(pixels, upright)
    assert notes == (["rotated"] if orientation > 1 else [])


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        pixels, notes = decoded(tmp_path, red, name, save_all=True, append_images=[blue], lossless=True)
        assert pixels[0, 0].tolist() == list(RED)
        assert "animation" in notes


def test_resizing_is_antialiased_and_keeps_the_centre() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(fit(Image.fromarray(stripes), 8)).astype(int)
    assert abs(small - 127.5).max() <= 3  # point sampling would give 0 or 255
    wide = Image.new("RGB", (30, 10), RED)
    wide.paste(BLUE, (10, 0, 20, 10))
    assert (np.asarray(fit(wide, 10)) == BLUE).all()


def test_a_large_jpeg_scaled_by_its_decoder_looks_the_same(tmp_path: Path) -> None:
    smooth = Image.fromarray(noise(0, 6, 6, 3)).resize((400, 400), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    data = (tmp_path / "a.jpg").read_bytes()
    fast = decode(data, 32, 3)[0].astype(int)
    slow = np.asarray(fit(Image.open(tmp_path / "a.jpg"), 32)).astype(int)
    assert abs(fast - slow).mean() < 2


# -- folders ----------------------------------------------------------------------------------------------
def test_every_format_and_depth_in_the_order_of_names(tmp_path: Path) -> None:
    names = ["a.png", "b.JPG", "c.jpeg", "d.webp", "e.gif", "f.bmp", "g.tif", "h.TIFF", "sub/deep/i.png"]
    for i, name in enumerate(names):
        write(tmp_path / name, i)
    write(tmp_path / ".hidden/a.png")
    write(tmp_path / ".thumb.png")
    items = read_folder(tmp_path)
    assert list(items.names) == names
    assert items.pixels.shape == (9, 16, 16, 3)
    assert not items.bad


def test_labels_from_sub_folders(tmp_path: Path) -> None:
    for i in range(6):
        write(tmp_path / ("dog" if i % 2 else "cat") / f"x/{i}.png", i)
    train, heldout = open_data(tmp_path, heldout=2)
    assert train.info.classes == ("cat", "dog")
    assert sum(train.info.class_counts) == 4
    for part in (train, heldout):
        assert part.y is not None
        assert [part.info.classes[y] for y in part.y] == [name.split("/")[0] for name in part.names]
    assert open_data(tmp_path, labels=False)[0].info.classes == ()


def test_labels_below_a_common_folder(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"images/{'dog' if i % 2 else 'cat'}/{i}.png", i)
    assert read_folder(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (["a.png", "b.png"], "no sub-folders"),
        (["x/a.png", "x/b.png"], "a single sub-folder, x, so no labels"),
        (["a.png", "x/b.png", "y/c.png"], "1 of 3 images lie outside"),
        (["w/a.png", "x/b.png", "y/c.png"], "too many"),
        (
            ["train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "test/dog/d.png"],
            "test and train look like parts",
        ),
    ],
)
def test_no_labels(names: list[str], note: str, tmp_path: Path) -> None:
    for i, name in enumerate(names):
        write(tmp_path / name, i)
    items = read_folder(tmp_path)
    assert items.labels is None
    assert note in " ".join(items.notes)


def test_captions_beside_the_images(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.png", i)
    (tmp_path / "0.txt").write_text("\ufeffa red fox\n")
    (tmp_path / "1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "9.txt").write_text("of nothing")
    items = read_folder(tmp_path)
    assert items.captions == [(Caption("a red fox"),), (), (), ()]
    notes = " ".join(items.notes)
    assert "1.txt:1 (no UTF-8 at byte 3)" in notes
    assert "captions for 1 of 4" in notes
    assert "1 .txt files have no image" in notes
    (tmp_path / "0.txt").write_text("a blue fox")
    assert read_folder(tmp_path).captions == [(Caption("a blue fox"),), (), (), ()]


@pytest.mark.parametrize(
    ("sizes", "settings", "shape"),
    [
        ([(20, 12)] * 3, {}, (3, 12, 20)),
        ([(20, 12)] * 3, {"size": 8}, (3, 8, 8)),
        ([(400, 300)] * 3, {}, (3, 64, 64)),
        ([(40, 50), (45, 60), (300, 30)], {}, (3, 32, 32)),
        ([(9, 10), (10, 9)], {}, (3, 8, 8)),
        ([(5, 4), (4, 6)], {}, (3, 8, 8)),
    ],
)
def test_detected_shape(
    sizes: list[tuple[int, int]], settings: dict[str, int], shape: tuple[int, ...], tmp_path: Path
) -> None:
    for i, size in enumerate(sizes):
        write(tmp_path / f"{i}.png", i, size)
    train, _ = open_data(tmp_path, heldout=0, **settings)  # type: ignore[arg-type]
    assert train.info.shape == shape
    assert train.x.shape == (len(sizes), *shape[1:], shape[0])


def test_detected_channels(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 0, colour=False)
    Image.fromarray(noise(1, 16, 16)).convert("RGB").save(tmp_path / "b.png")
    items = read_folder(tmp_path)
    assert items.pixels.shape == (2, 16, 16, 1)
    np.testing.assert_array_equal(items.pixels[0, ..., 0], noise(0, 16, 16))
    assert read_folder(tmp_path, channels=3).pixels.shape[-1] == 3
    write(tmp_path / "c.png", 2)
    items = read_folder(tmp_path)
    assert items.pixels.shape[-1] == 3
    assert "2 grey images among colour ones" in " ".join(items.notes)
    assert read_folder(tmp_path, channels=1).pixels.shape[-1] == 1


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_order_does_not_depend_on_the_workers(workers: int, tmp_path: Path) -> None:
    for i in range(30):
        write(tmp_path / f"{i}.png", i, (8 + i, 8))
    (tmp_path / "bad.png").touch()
    items = read_folder(tmp_path, workers=workers, cache=tmp_path / f".cache{workers}")
    plain = read_folder(tmp_path, workers=0, cache=tmp_path / ".plain")
    assert items.names == plain.names
    assert items.bad == plain.bad
    np.testing.assert_array_equal(items.pixels, plain.pixels)


# -- arrays -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(10, 6, 5), (10, 6, 5, 1), (10, 6, 5, 3)])
def test_npz(shape: tuple[int, ...], tmp_path: Path) -> None:
    x, y = noise(0, *shape), np.array(["cat", "dog"] * 5)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    train, _ = open_data(tmp_path / "a.npz", heldout=0)
    assert train.info.classes == ("cat", "dog")
    np.testing.assert_array_equal(train.x, x.reshape(10, 6, 5, -1))
    np.testing.assert_array_equal(train.y, [0, 1] * 5)
    assert open_data(tmp_path / "a.npz", size=4, channels=3)[0].info.shape == (3, 4, 4)
    assert open_data(tmp_path / "a.npz", channels=1)[0].info.shape[0] == 1


def test_grey_colour_arrays_keep_one_channel(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.repeat(noise(0, 4, 6, 6, 1), 3, axis=-1))
    assert open_data(tmp_path / "a.npz")[0].info.shape == (1, 6, 6)
    assert open_data(tmp_path / "a.npz", channels=3)[0].info.shape == (3, 6, 6)


def write_idx(path: Path, array: np.ndarray) -> None:
    data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("pattern", ["{}-{}-idx{}-ubyte", "{}-{}-idx{}-ubyte.gz", "{}-{}.idx{}-ubyte"])
@pytest.mark.parametrize("source", ["", "train", "train-"])
def test_idx(pattern: str, source: str, tmp_path: Path) -> None:
    for split, n in (("train", 6), ("t10k", 4)):
        write_idx(tmp_path / pattern.format(split, "images", 3), noise(n, n, 7, 5))
        write_idx(tmp_path / pattern.format(split, "labels", 1), np.arange(n, dtype=np.uint8) % 3 + 4)
    train, heldout = open_data(tmp_path / source, heldout=None if not source else 0)
    np.testing.assert_array_equal(train.x[..., 0], noise(6, 6, 7, 5))
    assert train.info.classes == ("4", "5", "6")
    assert train.info.shape == (1, 7, 5)
    assert len(heldout) == (0 if source else 4)
    file = tmp_path / pattern.format("t10k", "images", 3)
    assert len(open_data(file, heldout=0)[0]) == 4


# -- built-in sets ----------------------------------------------------------------------------------------
def test_digits() -> None:
    train, heldout = open_data("digits", heldout=0)
    assert (train.info.count, len(heldout)) == (1797, 0)
    assert train.info.shape == (1, 8, 8)
    assert train.info.class_counts == (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
    assert train.info.duplicates == 0
    assert set(np.unique(train.x)) == {round(v * 255 / 16) for v in range(17)}


@pytest.mark.parametrize("size", [None, 16, 32, 48, 64])
def test_emoji(size: int | None) -> None:
    train, heldout = open_data("emoji", size=size)
    side = size or 32
    assert train.info.shape == (3, side, side)
    assert len(train) + len(heldout) == 1898
    assert len(train.info.classes) == 9
    captions = dict(
        zip(train.names + heldout.names, (train.texts or []) + (heldout.texts or []), strict=True)
    )
    assert captions["\N{FOX FACE}"] == "fox"
    assert all(captions.values())
    assert (train.x[:, 0, 0] > 250).all(axis=-1).mean() > 0.8  # on white


def test_embedded_files_are_small() -> None:
    assert sum(path.stat().st_size for path in builtin.EMBEDDED.iterdir()) <= 8e6


@pytest.mark.skipif(not builtin.FASHION_MNIST.exists(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist() -> None:
    train, heldout = open_data("fashion-mnist")
    assert (len(train), len(heldout)) == (60_000, 10_000)
    assert train.info.class_counts == (6_000,) * 10
    assert heldout.info.class_counts == (1_000,) * 10
    assert train.info.shape == (1, 28, 28)


def test_fashion_mnist_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "FASHION_MNIST", tmp_path)
    with pytest.raises(DataError, match="not installed") as error:
        open_data("fashion-mnist")
    assert "apt install dataset-fashion-mnist" in str(error.value.hint)


@pytest.mark.parametrize("name", POINTS)
def test_points(name: str) -> None:
    points = read_points(name, 5_000).pixels
    assert points.shape == (5_000, 2)
    assert points.dtype == np.float32
    assert abs(points.mean(0)).max() < 1e-5
    assert abs(points.std() - 1) < 1e-5
    assert abs(points).max() < 4
    train, _ = open_data(f"points:{name}")
    assert train.info.kind == "points"
    assert train.take(np.arange(3))[0].shape == (3, 2)


def test_unknown_points_are_answered_with_the_known() -> None:
    with pytest.raises(DataError, match="unknown points 'nope'") as error:
        open_data("points:nope")
    assert str(error.value.hint).startswith("known point sets: checkerboard, grid")


# -- held-out part ----------------------------------------------------------------------------------------
def test_shares_and_counts() -> None:
    data = dataset(10_000)
    assert abs(len(data.split()[1]) - 500) < 100
    assert abs(len(data.split(0.2)[1]) - 2_000) < 200
    assert len(data.split(123)[1]) == 123
    assert len(data.split(0)[1]) == 0
    assert abs(len(dataset(1_000).split()[1]) - 100) < 40
    assert abs(len(dataset(100_000).split()[1]) - 2_000) < 200
    assert len(dataset(2).split()[1]) == 1
    assert len(dataset(1).split()[1]) == 0


@given(st.integers(2, 200), st.floats(0, 0.9), st.integers(0, 99))
def test_equal_items_fall_on_the_same_side(n: int, heldout: float, repeats: int) -> None:
    pixels = noise(n, n, 2, 2, 1)
    pixels = np.concatenate((pixels, pixels[: repeats % n]))
    items = Items(pixels=pixels, keys=content_keys(pixels), names=[""] * len(pixels))
    train, out = Dataset("test", items).split(heldout)
    assert len(train) + len(out) == len(pixels)
    assert not np.isin(content_keys(train.x), content_keys(out.x)).any()
    assert len(train)


def test_adding_items_moves_none() -> None:
    small, large = dataset(500), dataset(900)
    assert set(small.split(0.1)[1].names) <= set(large.split(0.1)[1].names)
    assert set(small.split(0.1)[0].names) <= set(large.split(0.1)[0].names)


def test_fingerprint_is_of_content() -> None:
    assert dataset(50).info.fingerprint == dataset(50).info.fingerprint
    changed = (
        dataset(50, labels=True).info.fingerprint,
        dataset(51).info.fingerprint,
        dataset(50, 4, 2, 2).info.fingerprint,
    )
    assert len({dataset(50).info.fingerprint, *changed}) == 4


def test_moments() -> None:
    data = dataset(300, 4, 4, 3)
    x_0 = data.x / 127.5 - 1
    assert data.info.mean == pytest.approx(x_0.mean())
    assert data.info.std == pytest.approx(x_0.std())


# -- loader -----------------------------------------------------------------------------------------------
@given(
    st.integers(1, 40),
    st.integers(0, 2**62),
    st.integers(0, 10**12),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.booleans(),
)
def test_any_split_into_batches_draws_the_same(
    n: int, seed: int, first: int, sizes: list[int], flip: bool
) -> None:
    loader = Loader(dataset(n, labels=True), seed, sum(sizes), flip)
    x, y = loader.batch(first)
    starts = first + np.cumsum([0, *sizes[:-1]])
    parts = [loader.batch(int(start), size) for start, size in zip(starts, sizes, strict=True)]
    assert torch.equal(x, torch.cat([part[0] for part in parts]))
    assert y is not None
    assert torch.equal(y, torch.cat([part[1] for part in parts if part[1] is not None]))


@given(st.integers(1, 300), st.integers(0, 2**62), st.integers(0, 50))
def test_an_epoch_shows_every_item_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(Loader(dataset(n), seed, 8).indices(epoch * n, n)) == list(range(n))


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [Loader(dataset(100), seed, 8).indices(first, 100) for seed in (0, 1) for first in (0, 100)]
    assert len({tuple(order) for order in orders}) == 4


def test_half_of_the_images_are_mirrored() -> None:
    data = dataset(500, 4, 4, 3)
    plain, _ = Loader(data, 3, 500).batch(0)
    flipped, _ = Loader(data, 3, 500, flip=True).batch(0)
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], plain[~mirrored])
    assert 200 < int(mirrored.sum()) < 300


def test_batches_are_channels_last_and_right() -> None:
    data = dataset(20, 5, 6, 3)
    x, y = data.take(np.array([3, 1, 3]))
    assert x.shape == (3, 3, 5, 6)
    assert x.dtype == torch.uint8
    assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(x.permute(0, 2, 3, 1).numpy(), data.x[[3, 1, 3]])
    assert y is None


def test_nothing_to_draw_from() -> None:
    with pytest.raises(DataError):
        Loader(dataset(10).split(0)[1], 0, 4)


# -- telling about it -------------------------------------------------------------------------------------
def test_describe_says_what_was_found(tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path / f"{'ab'[i % 2]}\n/{i}.png", i, (20, 20))
    write(tmp_path / "a\n/8.png", 0, (20, 20))
    (tmp_path / "a\n/empty.png").touch()
    description = describe(*open_data(tmp_path, heldout=0, max_bad=0.5))
    assert json.loads(json.dumps(description)) == json.loads(json.dumps(description))
    lines = describe_lines(description)
    assert not any("\n" in line for line in lines)
    text = "\n".join(lines)
    assert "9 images, 20x20 RGB" in text
    assert r"2: a\n 5, b\n 4" in text
    assert "1 files skipped: empty 1" in text
    assert "1 duplicates" in text


@pytest.mark.parametrize("name", ["digits", "emoji", "points:grid"])
def test_contact_sheet(name: str) -> None:
    sheet = contact_sheet(open_data(name)[0], 10)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet.std() > 10


def test_every_name_is_known() -> None:
    assert {"digits", "emoji", "fashion-mnist", "points:moons", "points:grid"} <= set(source_names())


@pytest.mark.parametrize(
    "use", ["import unstir.data", "import unstir.data as d; d.describe(*d.open_data('digits'))"]
)
def test_reading_does_not_import_torch(use: str) -> None:
    code = f"import sys\n{use}\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
