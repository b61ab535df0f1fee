"""The atomic writer under crashes and failing disks, hostile files, and the lock."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from failpoints import at_operation, crashes, failures
from unstir.errors import CheckpointError
from unstir.files import (
    MANIFEST,
    Lock,
    read_header,
    read_json,
    remove_leftovers,
    require_space,
    verify_folder,
    write_atomic,
    write_folder,
)
from unstir.limits import Limits
from unstir.tensors import load_tensors, save_tensors

OLD, NEW = b"old " * 100, b"new! " * 200


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- crashes and failing disks --------------------------------------------------------------------------
def test_a_file_is_old_or_new_wherever_the_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen = []
    write_atomic(path, OLD)
    for _ in crashes(lambda: write_atomic(path, NEW)):
        seen.append(path.read_bytes())
        remove_leftovers(tmp_path)
        assert names(tmp_path) == ["file"]
        write_atomic(path, OLD)
    assert len(seen) == 4  # write, fsync, rename, fsync of the folder
    assert set(seen) == {OLD, NEW}


def test_a_folder_is_whole_or_absent_wherever_the_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    files = {"a": OLD, "state/b": lambda place: place.write_bytes(NEW)}
    seen = []
    for n in crashes(lambda: write_folder(path, files)):
        if path.exists():
            assert verify_folder(path) == []
            assert (path / "state/b").read_bytes() == NEW
            shutil.rmtree(path)
        remove_leftovers(tmp_path)
        assert names(tmp_path) == []
        seen.append(n)
    assert len(seen) >= 10


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fails_anywhere_leaves_old_or_new_and_no_litter(tmp_path: Path, code: int) -> None:
    path = tmp_path / "file"
    write_atomic(path, OLD)
    raised = []
    for error in failures(lambda: write_atomic(path, NEW), code):
        assert isinstance(error, CheckpointError)
        assert str(path) in error.message
        assert "1,000 bytes" in error.message
        assert "free" in error.message
        assert path.read_bytes() in (OLD, NEW)
        assert names(tmp_path) == ["file"]
        write_atomic(path, OLD)
        raised.append(error)
    assert len(raised) == 4
    assert raised[0].exit_code == 4
    assert ("space" in str(raised[0].hint)) == (code in (errno.ENOSPC, errno.EDQUOT))


def test_everything_is_flushed_before_it_is_published(tmp_path: Path) -> None:
    with at_operation(0, lambda: None) as met:
        write_folder(tmp_path / "folder", {"a": OLD, "b": NEW})
    order = [name for name in met if name != "mkdir"]
    assert order == [*["write_bytes", "fsync"] * 3, "fsync", "rename", "fsync"]


def test_a_writer_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "folder", {"a": OLD, "b": broken})
    assert names(tmp_path) == []


def test_a_folder_without_room_or_permission_is_found_before_the_work(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(CheckpointError, match="needed"):
        require_space(tmp_path, 2**62)
    with (
        at_operation(1, lambda: os.open(tmp_path / "missing" / "file", os.O_RDONLY)),
        pytest.raises(CheckpointError),
    ):
        require_space(tmp_path, 1)
    assert names(tmp_path) == []


# -- damage ---------------------------------------------------------------------------------------------
def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit": (lambda folder: flip(folder / "state/b"), "state/b: its sha256"),
    "cut": (lambda folder: os.truncate(folder / "a", 5), "a: 5 bytes, the manifest says 400"),
    "gone": (lambda folder: (folder / "a").unlink(), "a: No such file"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "manifest.json: No such file"),
    "torn manifest": (lambda folder: os.truncate(folder / MANIFEST, 30), "not valid JSON"),
    "other manifest": (lambda folder: (folder / MANIFEST).write_text("[1]"), "not a manifest"),
    "outside": (
        lambda folder: (folder / MANIFEST).write_text('{"files": {"../x": {"bytes": 1, "sha256": ""}}}'),
        "outside the folder",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(tmp_path: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    folder = tmp_path / "folder"
    write_folder(folder, {"a": OLD, "state/b": NEW})
    assert verify_folder(folder) == []
    damage(folder)
    (problem,) = verify_folder(folder)
    assert message in problem


# -- hostile files --------------------------------------------------------------------------------------
def safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "empty": b"",
    "pickle": b"\x80\x02csomething\nevil\n.",
    "zip": b"PK\x03\x04" + b"\0" * 60,
    "long": struct.pack("<Q", 2**63 - 1) + b"{}",
    "header too large": safetensors(b"{" + b" " * 2**23 + b"}"),
    "not json": safetensors(b"{nonsense"),
    "not a mapping": safetensors([1, 2]),
    "not tensors": safetensors({"a": 3}),
    "twice": safetensors(b'{"a": %s, "a": %s}' % ((json.dumps(ONE).encode(),) * 2), bytes(4)),
    "deep": safetensors(b"[" * 100_000 + b"]" * 100_000),
    "many": safetensors(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}
    ),
    "overlap": safetensors({"a": ONE, "b": ONE}, bytes(4)),
    "cut": safetensors({"a": ONE}, bytes(2)),
    "overflow": safetensors({"a": {**ONE, "shape": [2**40, 2**40]}}, bytes(4)),
    "nan": safetensors({"a": ONE}, struct.pack("<f", float("nan"))),
    "infinity": safetensors({"a": ONE}, struct.pack("<f", float("inf"))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[kind])
    with pytest.raises(CheckpointError) as error:
        load_tensors(path)
    assert str(path) in error.value.message


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_header(tmp_path / "pipe")


def test_json_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" + "1," * 100 + "1]")
    assert len(read_json(tmp_path / "x.json")) == 101
    with pytest.raises(CheckpointError, match="larger"):
        read_json(tmp_path / "x.json", Limits(json=100))


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3).mT, "b": torch.tensor(7), "c": torch.zeros(0, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "x", tensors, {"config": {"width": 3}})
    header = read_header(tmp_path / "x")
    assert json.loads(header.metadata["config"]) == {"width": 3}
    assert header.tensors == {"a": ("F32", (3, 2)), "b": ("I64", ()), "c": ("BF16", (0,))}
    loaded = load_tensors(tmp_path / "x", tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_tensors_are_as_readable_as_other_files(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"a": torch.zeros(1)})
    (tmp_path / "y").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_the_first_ten_differences_are_listed(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {f"a{i}": torch.zeros(2) for i in range(8)} | {"same": torch.zeros(1)})
    expected = {f"b{i}": torch.zeros(2) for i in range(8)} | {"same": torch.zeros(1, dtype=torch.float16)}
    with pytest.raises(CheckpointError) as error:
        load_tensors(tmp_path / "x", expected)
    lines = error.value.message.splitlines()
    assert "b0: missing" in lines[1]
    assert len(lines) == 12
    assert lines[-1].strip() == "and 7 more"


# -- the lock -------------------------------------------------------------------------------------------
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    ready, go = os.pipe()
    holder = os.fork()
    if holder == 0:
        with Lock(tmp_path / ".lock"):
            os.write(go, b"x")
            signal.pause()
        os._exit(1)
    os.read(ready, 1)
    with (
        pytest.raises(CheckpointError, match=rf"{tmp_path} is in use by process {holder}$"),
        Lock(tmp_path / ".lock"),
    ):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with Lock(tmp_path / ".lock"), pytest.raises(CheckpointError), Lock(tmp_path / ".lock"):
        pass
    with Lock(tmp_path / ".lock"):
        pass
