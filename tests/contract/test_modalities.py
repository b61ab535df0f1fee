"""Pictures as files: exact, small, and able to say how they were made."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unstir.errors import ConfigError, DataError
from unstir.modalities import check_path, grid_png, image, points, read_recipe, write_samples
from unstir.modalities.image import encode_png, per_class, to_grid

RECIPE = {"n": 5, "seed": 7, "model": "runs/é", "label": None, "steps": 3}


@dataclass
class Drawn:
    images: np.ndarray
    seeds: list[int] = field(default_factory=lambda: [7, 8, 9, 10, 11])
    labels: list[int] | None = None
    prompts: list[str] | None = None
    recipe: dict[str, Any] = field(default_factory=lambda: dict(RECIPE))
    frames: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


def pictures(n: int = 5, side: int = 8, channels: int = 1) -> np.ndarray:
    shape = (n, side, side, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


# -- sheets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_holds_every_picture_enlarged_by_a_whole_factor(channels: int) -> None:
    x = pictures(channels=channels)
    sheet = to_grid(x, columns=3)
    assert sheet.shape == (2 * 42 + 2, 3 * 42 + 2, channels)
    for i in range(5):
        top, left = 2 + i // 3 * 42, 2 + i % 3 * 42
        np.testing.assert_array_equal(sheet[top : top + 40 : 5, left : left + 40 : 5], x[i])
    assert (sheet[44:, 86:] == 255).all()  # the empty place is white


def test_pictures_large_enough_are_not_enlarged() -> None:
    assert to_grid(pictures(n=4, side=40)).shape == (86, 86, 1)


def test_one_picture_is_its_own_sheet() -> None:
    x = pictures(n=1)
    assert to_grid(x) is not None
    np.testing.assert_array_equal(to_grid(x), x[0])


def test_sheets_of_nothing_and_beyond_the_limit_are_refused() -> None:
    with pytest.raises(ConfigError, match="no pictures"):
        to_grid(pictures(n=0))
    with pytest.raises(ConfigError, match="would have") as caught:
        to_grid(np.broadcast_to(np.zeros((1, 64, 64, 1), np.uint8), (20_000, 64, 64, 1)))
    assert "npz" in str(caught.value.hint)


def test_a_row_per_class_with_its_name() -> None:
    rows = {"cat": pictures(n=3), "ñandú 鳥": pictures(n=2)}
    sheet = per_class(rows)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] == 2 * 44
    assert (sheet[:44] == 0).any()  # ink of the name
    assert (sheet[44:, -40:] == 255).all()  # the shorter row ends in white


# -- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_one_picture_is_written_bare(tmp_path: Path, channels: int, mode: str) -> None:
    x = pictures(n=1, channels=channels)
    with Image.open(write_samples(Drawn(x, seeds=[7]), tmp_path / "x.png")) as written:
        assert written.mode == mode
        np.testing.assert_array_equal(np.asarray(written).reshape(x[0].shape), x[0])


@pytest.mark.parametrize("name", ["x.png", "x.npz", "x.gif", "new/folder/x.png"])
def test_every_file_tells_its_recipe_and_is_the_same_again(tmp_path: Path, name: str) -> None:
    x = pictures(channels=3)
    frames = [(x, x), (x[::-1], x)] if name.endswith("gif") else []
    path = write_samples(Drawn(x, frames=frames), tmp_path / name)
    expected = RECIPE | ({"movie": True} if frames else {})
    assert read_recipe(path) == expected
    first = path.read_bytes()
    assert write_samples(Drawn(x, frames=frames), tmp_path / "again" / path.name).read_bytes() == first


def test_arrays(tmp_path: Path) -> None:
    x = pictures()
    with np.load(write_samples(Drawn(x, labels=[1, 0, 2, 1, 1]), tmp_path / "x.npz")) as file:
        np.testing.assert_array_equal(file["x"], x)
        assert file["x"].dtype == np.uint8
        assert file["seed"].tolist() == [7, 8, 9, 10, 11]
        assert file["y"].tolist() == [1, 0, 2, 1, 1]
        assert json.loads(str(file["recipe"])) == RECIPE


def test_single_files_carry_the_recipe_of_the_one_picture(tmp_path: Path) -> None:
    asked = Drawn(pictures(), labels=[1, 0, 2, 1, 1], recipe={**RECIPE, "label": [1, 0, 2, 1, 1]})
    write_samples(asked, f"{tmp_path}/folder/")
    files = sorted((tmp_path / "folder").iterdir())
    assert [f.name for f in files] == [f"{seed:06d}.png" for seed in asked.seeds]
    assert read_recipe(files[2]) == RECIPE | {"n": 1, "seed": 9, "label": 2}
    drawn = Drawn(pictures(), labels=[1, 0, 2, 1, 1])  # labels that were drawn are drawn again
    write_samples(drawn, tmp_path / "drawn")
    assert read_recipe(tmp_path / "drawn" / "000009.png") == RECIPE | {"n": 1, "seed": 9}


def test_a_movie_shows_x_t_beside_x_0(tmp_path: Path) -> None:
    black, white = np.zeros((1, 8, 8, 1), np.uint8), np.full((1, 8, 8, 1), 255, np.uint8)
    path = write_samples(Drawn(black, frames=[(black, white)] * 3 + [(white, black)]), tmp_path / "x.gif")
    with Image.open(path) as movie:
        assert movie.size == (8 + 4 + 8, 8)
        first = np.asarray(movie.convert("L"))
        assert (first[:, :8] == 0).all()
        assert (first[:, 12:] == 255).all()
        movie.seek(movie.n_frames - 1)
        assert (np.asarray(movie.convert("L"))[:, 12:] == 0).all()


@pytest.mark.parametrize("path", ["x.jpg", "x.gif", "x.png.exe"])
def test_other_endings_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        check_path(path)


def test_a_movie_must_be_a_gif() -> None:
    with pytest.raises(ConfigError, match="a movie is a"):
        check_path("x.png", movie=True)


def test_points_are_drawn_as_their_density(tmp_path: Path) -> None:
    x = np.array([[0.0, 0.0], [1.0, 2.0]], np.float32)
    picture = points.to_picture(x)
    assert picture.shape == (1, 256, 256, 1)
    row, column = np.argwhere(picture[0, :, :, 0] < 255)[0]
    assert row < 64  # y points up
    assert column > 128
    assert opened(grid_png(Drawn(x))).size == (256, 256)
    with np.load(write_samples(Drawn(x, seeds=[1, 2]), tmp_path / "x.npz")) as file:
        np.testing.assert_array_equal(file["x"], x)


# -- reading what others wrote -----------------------------------------------------------------------------


def without_recipe(tmp_path: Path) -> dict[str, Path]:
    """Files that carry none, or a broken one, by what they are."""
    files = {
        name: tmp_path / name for name in ("plain.png", "text.png", "plain.npz", "bomb.npz", "plain.gif")
    }
    files["plain.png"].write_bytes(encode_png(pictures(n=1)))
    files["text.png"].write_text("no picture")
    np.savez(files["plain.npz"], x=pictures())
    with zipfile.ZipFile(files["bomb.npz"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("recipe.npy", b"\0" * 2**24)
    Image.new("L", (4, 4)).save(files["plain.gif"], comment=b"made by hand")
    return files


@pytest.mark.parametrize("name", ["plain.png", "text.png", "plain.npz", "bomb.npz", "plain.gif", "none.png"])
def test_files_without_a_recipe_are_refused(tmp_path: Path, name: str) -> None:
    without_recipe(tmp_path)
    with pytest.raises(DataError, match=name):
        read_recipe(tmp_path / name)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, "NaN", '"x"'])
def test_a_broken_recipe_is_refused(tmp_path: Path, text: str) -> None:
    info = image.PngImagePlugin.PngInfo()
    info.add_itxt("unstir", text)
    Image.new("L", (4, 4)).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(DataError):
        read_recipe(tmp_path / "x.png")
