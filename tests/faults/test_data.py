"""Bad files are named with the right reason and cost nothing else; a damaged cache is made again."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data import Dataset, open_data, pool
from unstir.data.decode import decode, measure
from unstir.data.folder import read_folder
from unstir.data.identify import BadFile
from unstir.data.items import Fault
from unstir.errors import ConfigError, DataError

# A child whose decoder dies of CRASH and never returns from HANG, as a real one does now and then.
FRAGILE = """
import os, signal, time, unstir.data.decode as module
real = module.decode
def decode(data, *settings):
    if b"CRASH" in data: os.kill(os.getpid(), signal.SIGSEGV)
    if b"HANG" in data: time.sleep(60)
    return real(data, *settings)
module.decode = decode
module.serve(2.0)
"""


def picture(seed: int, side: int = 16) -> Image.Image:
    """A smooth random colour image."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def encoded(kind: str, seed: int = 0, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be this large."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = encoded("PNG")[33:]
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content)) + rest
    )


def with_wrong_checksum() -> bytes:
    data = bytearray(encoded("PNG"))
    data[data.index(b"IDAT") + 8] ^= 0x10
    return bytes(data)


BAD: dict[str, tuple[str, bytes]] = {
    "nothing.png": ("empty", b""),
    "cut.jpg": ("truncated", encoded("JPEG")[:-100]),
    "cut.png": ("truncated", encoded("PNG")[:-30]),
    "page.jpg": ("not_media", b"<!DOCTYPE html><html><body>404</body></html>"),
    "pointer.png": (
        "not_media",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    ),
    "bomb.png": ("too_large", png_header(60_000, 60_000)),
    "flipped.png": ("corrupt", with_wrong_checksum()),
    "phone.jpg": ("unsupported", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    "crash.webp": ("decoder_crash", encoded("WEBP") + b"CRASH"),
    "hang.gif": ("timeout", encoded("GIF") + b"HANG"),
}


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, "-P", "-c", FRAGILE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(20):
        picture(i).save(root / f"{i:03}.png")
    return root


def reasons(faults: tuple[Fault, ...]) -> dict[str, str]:
    return {fault.path: fault.code for fault in faults}


def write_a_thousand(root: Path) -> dict[str, str]:
    """1,000 pictures in 7 folders, 40 of them bad in 10 ways: {their path: the reason}."""
    elsewhere = root.with_name("elsewhere.png")
    picture(0).save(elsewhere)
    kinds = [
        *list(BAD.items())[:-1],
        ("link.png", ("outside", b"")),
    ]  # a hanging one is waited for: once is enough
    expected = {}
    for i in range(1000):
        name = f"{i % 7}/{i:04}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if i % 25 == 13:
            kind, (code, data) = kinds[i // 25 % len(kinds)]
            name = f"{i % 7}/{i:04}{kind}"
            expected[name] = code
            if code == "outside":
                (root / name).symlink_to(elsewhere)
            else:
                (root / name).write_bytes(data)
        else:
            picture(i).save(root / name)
    assert len(expected) == 40
    assert len(set(expected.values())) >= 8
    return expected


def test_forty_bad_files_of_ten_kinds_in_a_thousand(tmp_path: Path, fragile: None) -> None:
    root, report = tmp_path / "pictures", tmp_path / "report.jsonl"
    expected = write_a_thousand(root)
    train, heldout = open_data(root, max_bad=0.1, report=report)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert {line["path"]: line["code"] for line in lines} == expected
    assert all(line["detail"] for line in lines)
    assert len(train) + len(heldout) == 960
    assert train.info.bad == 40
    assert train.info.shape == (3, 16, 16)

    report.unlink()
    with pytest.raises(DataError, match=r"40 of 1,000 files are bad .*truncated 8") as error:
        open_data(root, max_bad=0.01, report=report)
    assert error.value.exit_code == 3
    assert "max_bad=0.04" in str(error.value.hint)
    assert len(report.read_text().splitlines()) == 40


@pytest.mark.parametrize("name", BAD)
def test_reason(name: str, folder: Path, fragile: None) -> None:
    code, data = BAD[name]
    (folder / name).write_bytes(data)
    items = read_folder(folder)
    assert reasons(items.bad) == {name: code}
    assert len(items) == 20
    if name == "pointer.png":
        assert "git lfs pull" in items.bad[0].detail


def test_links_are_followed_inside_the_folder_only(folder: Path) -> None:
    outside = folder.parent / "outside.png"
    picture(99).save(outside)
    (folder / "out.png").symlink_to(outside)
    (folder / "in.png").symlink_to("003.png")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    items = read_folder(folder)
    assert reasons(items.bad) == {"out.png": "outside", "broken.png": "missing", "circle.png": "missing"}
    assert len(items) == 21
    assert any("loop" in note for note in items.notes)


def test_pipes_and_folders_named_as_images_are_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    items = read_folder(folder)
    assert reasons(items.bad) == {"pipe.png": "not_media"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders(folder: Path) -> None:
    (folder / "000.png").chmod(0)
    (folder / "closed").mkdir(mode=0)
    assert reasons(read_folder(folder).bad) == {"000.png": "permission", "closed": "permission"}


NAMES = [
    b"new\nline.png",
    "\N{FOX FACE} fox.png".encode(),
    b"caf\xe9\xff.png",
    b"x" * 251 + b".png",
    b"-rf.png",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_and_reported(name: bytes, folder: Path, tmp_path: Path) -> None:
    good, bad, report = (
        os.fsencode(folder) + b"/" + name,
        os.fsencode(folder) + b"/b" + name[1:],
        tmp_path / "r",
    )
    picture(50).save(io.FileIO(good, "w"), "PNG")
    open(bad, "wb").close()
    train, heldout = open_data(folder, report=report)
    assert os.fsdecode(name) in train.names + heldout.names
    (line,) = report.read_text("ascii").splitlines()
    assert os.fsencode(json.loads(line)["path"]) == b"b" + name[1:]
    with pytest.raises(DataError) as error:
        open_data(folder, max_bad=0)
    str(error.value).encode()  # can be printed


def test_a_wrong_extension_is_loaded_by_content(folder: Path) -> None:
    (folder / "photo.jpg").write_bytes(encoded("PNG", seed=7))
    items = read_folder(folder)
    assert not items.bad
    assert any(note.startswith("1 named as another format") for note in items.notes)


ENCODINGS: list[tuple[str, dict[str, object]]] = [
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg"}),
]


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
def test_a_cut_file_is_never_an_image(kind: str, options: dict[str, object]) -> None:
    """At whatever byte it ends: no half-grey picture is trained on."""
    data = encoded(kind, **options)
    for length in range(16, len(data) - 2, max(1, len(data) // 100)):
        with pytest.raises(BadFile) as error:
            decode(data[:length], None, 3)
        assert error.value.code == "truncated", length


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
def test_flipped_bits_decode_or_are_a_bad_file(kind: str, options: dict[str, object]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        data = bytearray(encoded(kind, **options))
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        with suppress(BadFile):  # nothing else
            measure(bytes(data))
            decode(bytes(data), 8, 3)


# -- sources that cannot be used --------------------------------------------------------------------------
def refused(source: str | Path, **settings: object) -> str:
    with pytest.raises(DataError) as error:
        open_data(source, **settings)  # type: ignore[arg-type]
    assert error.value.field
    return f"{error.value} | {error.value.hint}"


def test_folders_without_images(tmp_path: Path) -> None:
    assert "looked at 0 files" in refused(tmp_path)
    for i in range(398):
        (tmp_path / f"{i}.heic").touch()
    for i in range(14):
        (tmp_path / f"{i}.txt").touch()
    text = refused(tmp_path)
    assert "looked at 412 files; most common: .heic 398" in text
    assert ".jpeg .jpg .png" in text


def test_unknown_names() -> None:
    assert "did you mean 'digits'?" in refused("digit")
    assert "did you mean 'moons'?" in refused("points:moon")
    assert "no such folder or file" in refused("no/such/folder")


def test_files_that_are_no_data_set(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "one.png")
    assert "give a folder of images" in refused(tmp_path / "one.png")


def test_nothing_but_bad_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "1 of 1 files are bad (empty 1)" in refused(tmp_path, max_bad=1.0)


@pytest.mark.parametrize(
    "settings",
    [{"size": 1}, {"size": 5000}, {"channels": 2}, {"max_bad": 2.0}, {"heldout": -0.1}, {"heldout": 1e9}],
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        open_data("digits", **settings)  # type: ignore[arg-type]
    assert error.value.field
    assert error.value.field.removeprefix("data.") in settings
    assert error.value.hint


X = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X}, "has no array 'x'"),
        ({"x": X / 255.0}, "x is float64, uint8 is accepted"),
        ({"x": X[0, 0]}, r"shape \(8, 3\)"),
        ({"x": np.zeros((4, 8, 8, 4), np.uint8)}, r"shape \(4, 8, 8, 4\)"),
        ({"x": X[:0]}, "no images"),
        ({"x": X, "y": np.zeros(3, int)}, r"4 images need \(4,\)"),
        ({"x": X, "y": np.zeros(4)}, "integers and strings"),
        ({"x": X, "y": np.array([{}] * 4, object)}, "cannot read"),
    ],
)
def test_npz_of_another_shape(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        open_data(tmp_path / "a.npz")


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8))
    data = path.read_bytes()
    for damaged in (b"", b"PK", data[:-40], data[:80] + b"\xff" * 8 + data[88:]):
        path.write_bytes(damaged)
        assert "cannot read" in refused(path)


def test_damaged_idx(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    header = b"\0\0\x08\x03" + struct.pack(">III", 2, 4, 4)
    for data in (
        b"",
        header,
        header + bytes(31),
        header + bytes(33),
        b"\0\0\x0d\x03" + header[4:] + bytes(128),
    ):
        path.write_bytes(data)
        refused(path)
    path.write_bytes(b"\0\0\x08\x03" + b"\xff" * 12)
    assert "header says" in refused(path)
    path.with_suffix(".gz").write_bytes(b"\x1f\x8b\x08 not gzip at all")
    path.unlink()
    refused(tmp_path)


# -- cache ------------------------------------------------------------------------------------------------
@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were decoded rather than found in the cache."""
    paths: list[str] = []
    real = pool.Pool.map

    def spy(self: pool.Pool, jobs: Iterator[dict[str, object]]) -> Iterator[pool.Reply]:
        jobs = list(jobs)
        paths.extend(str(job["path"]) for job in jobs)
        return real(self, jobs)

    monkeypatch.setattr(pool.Pool, "map", spy)
    return paths


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "data").iterdir())


def same(a: Dataset, b: Dataset) -> bool:
    return a.names == b.names and np.array_equal(a.x, b.x) and a.info.fingerprint == b.info.fingerprint


def test_decoding_happens_once(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    first, _ = open_data(folder, cache=tmp_path / "cache")
    assert len(decoded) == 40  # measured, then decoded
    decoded.clear()
    second, _ = open_data(folder, cache=tmp_path / "cache")
    assert not decoded
    assert same(first, second)
    assert isinstance(second.items.pixels, np.memmap)


@pytest.mark.parametrize("change", ["edit", "add", "remove", "setting"])
def test_a_change_is_noticed(change: str, folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    before, _ = open_data(folder, cache=tmp_path / "cache", heldout=0)
    decoded.clear()
    if change == "edit":  # same size and time of modification, as a restored copy may have
        path = folder / "000.png"
        status = path.stat()
        path.write_bytes(path.read_bytes()[:-1] + b"\x82")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    if change == "add":
        picture(77).save(folder / "new.png")
    if change == "remove":
        (folder / "000.png").unlink()
    after, _ = open_data(folder, cache=tmp_path / "cache", heldout=0, size=8 if change == "setting" else None)
    assert decoded
    assert (change == "edit") == same(before, after)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Put a changed file in the place of one that may still be mapped."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(change(data))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit rot": lambda entry: rewrite(
        entry / "x.npy", lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
    ),
    "cut": lambda entry: rewrite(entry / "x.npy", lambda data: data[:100]),
    "header": lambda entry: rewrite(entry / "items.json", lambda data: b"{}"),
    "missing": lambda entry: (entry / "keys.npy").unlink(),
    "manifest": lambda entry: rewrite(entry / "manifest.json", lambda data: b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(damage: str, folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    cache = tmp_path / "cache"
    first, _ = open_data(folder, cache=cache)
    (entry,) = entries(cache)
    DAMAGE[damage](entry)
    decoded.clear()
    second, _ = open_data(folder, cache=cache)
    assert decoded
    assert same(first, second)
    assert "was damaged" in " ".join(second.info.notes)
    decoded.clear()
    third, _ = open_data(folder, cache=cache)
    assert not decoded
    assert "was damaged" not in " ".join(third.info.notes)


def test_a_cache_that_cannot_be_written_is_done_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    first, _ = open_data(folder, cache=tmp_path / "cache")
    assert "not kept" in " ".join(first.info.notes)
    assert same(first, open_data(folder, cache=tmp_path / "good")[0])


def test_a_passing_fault_is_not_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "slow.gif").write_bytes(encoded("GIF") + b"HANG")
    with monkeypatch.context() as patch:
        patch.setattr(pool, "COMMAND", (sys.executable, "-P", "-c", FRAGILE))
        assert reasons(read_folder(folder, cache=tmp_path / "cache").bad) == {"slow.gif": "timeout"}
    assert not read_folder(folder, cache=tmp_path / "cache").bad


def test_a_decoder_that_does_not_start_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
    with pytest.raises(DataError, match="does not start"):
        open_data(folder, cache=tmp_path / "cache")
