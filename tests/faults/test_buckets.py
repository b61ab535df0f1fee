"""Files that change, vanish or break between the two times that a folder with buckets is read; a damaged cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data import open_data
from unstir.data.buckets import read_buckets
from unstir.data.cache import cache_folder
from unstir.data.folder import read_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for k in range(40):
        width, height = (30, 20) if k % 2 else (20, 30)
        Image.fromarray(np.full((height, width, 3), 5 * k, np.uint8)).save(root / f"{k:02}.png")
    return root


@pytest.mark.parametrize("fault", ["removed", "emptied", "replaced"])
def test_a_file_that_cannot_be_read_again_is_cut_from_its_square(
    folder: Path, tmp_path: Path, fault: str
) -> None:
    items = read_folder(folder, size=16, cache=tmp_path / "cache", workers=0)
    victim = folder / items.names[6]
    if fault == "removed":
        victim.unlink()
    else:
        victim.write_bytes(b"" if fault == "emptied" else b"no picture at all")
    buckets, notes = read_buckets(folder, items, cache=tmp_path / "cache", workers=0)
    assert any("could not be read again" in note for note in notes)
    assert sum(len(bucket.rows) for bucket in buckets) == 40
    (held,) = [bucket for bucket in buckets if 6 in bucket.rows]
    picture = held.pixels[np.searchsorted(held.rows, 6)]
    assert (picture == items.pixels[6, 0, 0]).all()


def test_a_file_of_another_size_than_it_had_is_still_cut_to_its_bucket(folder: Path, tmp_path: Path) -> None:
    first = open_data(folder, size=16, buckets=True, cache=tmp_path / "cache", heldout=0)[0]
    Image.fromarray(np.full((50, 9, 3), 7, np.uint8)).save(folder / "01.png")
    second = open_data(folder, size=16, buckets=True, cache=tmp_path / "cache", heldout=0)[0]
    assert [len(b.rows) for b in first.items.buckets] == [20, 20]
    assert [len(b.rows) for b in second.items.buckets] == [21, 19]


def test_a_damaged_cache_of_buckets_is_made_again(folder: Path, tmp_path: Path) -> None:
    first = open_data(folder, size=16, buckets=True, cache=tmp_path / "cache", heldout=0)[0]
    before = [np.array(bucket.pixels) for bucket in first.items.buckets]
    for file in cache_folder(tmp_path / "cache").glob("*/x.npy"):
        file.write_bytes(file.read_bytes()[:-3])
    again = open_data(folder, size=16, buckets=True, cache=tmp_path / "cache", heldout=0)[0]
    assert any("damaged" in note for note in again.info.notes)
    for pixels, bucket in zip(before, again.items.buckets, strict=True):
        np.testing.assert_array_equal(pixels, bucket.pixels)


def test_bad_files_are_in_no_bucket(folder: Path, tmp_path: Path) -> None:
    (folder / "00.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    train, _ = open_data(folder, size=16, buckets=True, max_bad=0.1, cache=tmp_path / "cache", heldout=0)
    assert len(train) == sum(len(bucket.rows) for bucket in train.items.buckets) == 39
    assert train.info.bad == 1
