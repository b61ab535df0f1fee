"""Files that survive: one atomic writer, folders sealed by a manifest, a lock, and a careful header reader.

Everything is written beside its final place, flushed to the disk, and only then renamed, so a reader sees
the old content or the new, never a mixture, whenever the process or the machine dies. A failed fsync makes
the new file void (after it the kernel may call lost pages clean, so it is never retried on the same file;
Rebello et al. 2020, "Can Applications Recover from fsync Failures?").
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, TypeAlias

from .errors import CheckpointError
from .limits import LIMITS, Limits

__all__ = [
    "MANIFEST",
    "Content",
    "Header",
    "Lock",
    "read_header",
    "read_json",
    "remove_folder",
    "remove_leftovers",
    "replace_sealed",
    "require_space",
    "sha256",
    "verify_file",
    "verify_folder",
    "write_atomic",
    "write_folder",
    "write_link",
]

Content: TypeAlias = bytes | Callable[[Path], None]
"""What goes into a file: its bytes, or a function that writes it at the path it is given."""

MANIFEST = "manifest.json"
_TEMPORARY = ".tmp-"  # ".<name>.tmp-<pid>": hidden, and its owner can be told from its name


# -- writing ----------------------------------------------------------------------------------------------
def write_atomic(path: str | os.PathLike[str], data: Content) -> None:
    """Replace the file `path` by `data`: write beside it, fsync, rename, fsync the folder.

    Raises `CheckpointError` when the disk refuses; `path` then is what it was and nothing is left beside it.
    """
    path = Path(path)
    temporary = _temporary(path)
    with _clean_failure(path, temporary, len(data) if isinstance(data, bytes) else 0):
        _write(temporary, data)
        os.replace(temporary, path)
        _sync(path.parent)


def write_folder(path: str | os.PathLike[str], files: Mapping[str, Content], *, needed: int = 0) -> None:
    """Create the folder `path` with `files` (relative name -> content) and a manifest, all or nothing.

    The manifest (size and sha256 of each file) is written last; `verify_folder` checks a folder against it.
    Raises `CheckpointError` when the disk refuses or `path` exists; nothing is left behind then. `needed` is
    the size in bytes to name in that message where functions write the files.
    """
    path = Path(path)
    if path.exists():
        raise CheckpointError(f"{path} exists", field=str(path), hint="remove it or choose another name")
    temporary = _temporary(path)
    size = max(needed, sum(len(data) for data in files.values() if isinstance(data, bytes)))
    with _clean_failure(path, temporary, size):
        os.mkdir(temporary)
        for name, data in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            _write(temporary / name, data)
        entries = {name: _entry(temporary / name) for name in files}
        _write(temporary / MANIFEST, json.dumps({"format": 1, "files": entries}, indent=1).encode())
        for folder in sorted({(temporary / name).parent for name in files} | {temporary}, reverse=True):
            _sync(folder)
        os.rename(temporary, path)
        _sync(path.parent)


def replace_sealed(path: str | os.PathLike[str], data: Content) -> None:
    """`write_atomic` of a file that may lie in a folder of `write_folder`, whose manifest follows.

    Its entry is taken out first and comes back last: wherever it stops, the manifest says nothing that is not so.
    """
    path = Path(path)
    manifest = path.parent / MANIFEST
    document = read_json(manifest) if manifest.exists() else {"files": {}}
    name, sealed = path.name, path.name in document["files"]
    if sealed:
        del document["files"][name]
        write_atomic(manifest, json.dumps(document, indent=1).encode())
    write_atomic(path, data)
    if sealed:
        document["files"][name] = _entry(path)
        write_atomic(manifest, json.dumps(document, indent=1).encode())


def write_link(path: str | os.PathLike[str], target: str) -> None:
    """Point the symbolic link `path` at `target`, atomically: a new link is renamed over the old one."""
    path = Path(path)
    temporary = _temporary(path)
    with _clean_failure(path, temporary):
        os.symlink(target, temporary)
        os.replace(temporary, path)
        _sync(path.parent)


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Remove a folder; it is renamed first, so nobody meets one that is half gone."""
    path = Path(path)
    doomed = _temporary(path)
    with _clean_failure(path, doomed):
        os.rename(path, doomed)
        _remove(doomed)


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Remove what killed writers left in `folder`; call it only while holding the folder's lock."""
    leftovers = list(Path(folder).glob(f".*{_TEMPORARY}*"))
    for entry in leftovers:
        _remove(entry)
    return [entry.name for entry in leftovers]


def require_space(path: str | os.PathLike[str], needed: int) -> None:
    """Raise `CheckpointError` unless `needed` bytes can be written into the existing folder `path`."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise CheckpointError(
            f"{path}: {_size(needed)} needed, {_size(free)} free",
            field=str(path),
            hint="free some space or choose another out=",
        )
    probe = _temporary(Path(path) / "probe")
    with _clean_failure(Path(path), probe):
        _write(probe, b"")
        os.unlink(probe)


def _write(path: Path, data: Content) -> None:
    if callable(data):
        data(path)
    else:
        path.write_bytes(data)
    _sync(path)


def _sync(path: Path) -> None:
    """fsync a file or folder; a new descriptor sees every write-back error since the file was created."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{_TEMPORARY}{os.getpid()}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _clean_failure(path: Path, temporary: Path, needed: int = 0) -> Iterator[None]:
    """Remove `temporary` on any failure; tell a failure of the disk with the bytes needed and free."""
    try:
        yield
    except BaseException as error:
        written = _written(temporary)
        with suppress(OSError):  # on a disk gone read-only the leftover waits for `remove_leftovers`
            _remove(temporary)
        if isinstance(error, OSError):
            raise _disk_error(path, error, max(written, needed)) from error
        raise


def _written(path: Path) -> int:
    """Bytes that reached `path`, a file or a folder, before it failed."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _disk_error(path: Path, error: OSError, needed: int) -> CheckpointError:
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = error.strerror or str(error)
    space = f"; at least {_size(needed)} needed, {_size(free)} free" if full or needed else ""
    return CheckpointError(
        f"cannot write {path}: {reason}{space}",
        field=str(path),
        hint="free some space" if full else "check that the folder is writable and its disk healthy",
    )


def _size(count: int) -> str:
    return f"{count:,} bytes ({count / 2**20:.1f} MiB)"


# -- verifying --------------------------------------------------------------------------------------------
def sha256(path: str | os.PathLike[str]) -> str:
    """The hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_folder(path: str | os.PathLike[str]) -> list[str]:
    """What is wrong with a folder of `write_folder`, a line per file; [] when all is as it was written."""
    path = Path(path)
    try:
        entries = read_json(path / MANIFEST)["files"]
        return [problem for name, entry in entries.items() if (problem := _check(path, name, entry))]
    except CheckpointError as error:
        return [error.message]
    except (KeyError, TypeError, AttributeError):
        return [f"{path / MANIFEST}: not a manifest"]


def verify_file(path: str | os.PathLike[str]) -> str | None:
    """What is wrong with a file by the manifest beside it; None where nothing is, or where it lies alone."""
    path = Path(path)
    try:
        entry = read_json(path.parent / MANIFEST)["files"][path.name]
    except (CheckpointError, KeyError, TypeError):
        return None
    return _check(path.parent, path.name, entry)


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _check(folder: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        return f"{folder / MANIFEST}: names {name!r}, outside the folder"
    path = folder / name
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"{path}: {size:,} bytes, the manifest says {entry['bytes']:,}"
        return None if sha256(path) == entry["sha256"] else f"{path}: its sha256 differs from the manifest's"
    except OSError as error:
        return f"{path}: {error.strerror}"


# -- reading what may be hostile --------------------------------------------------------------------------
class Header(NamedTuple):
    """The header of a safetensors file: what it holds, without the numbers."""

    metadata: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    """name -> (dtype as the format spells it, shape)"""


def read_header(path: str | os.PathLike[str], limits: Limits = LIMITS) -> Header:
    """The header of a safetensors file, within `limits` and without importing torch.

    Raises `CheckpointError` when the file is not safetensors (a pickle is never opened), its header is too
    large, holds too many tensors or names one twice.
    """
    path = Path(path)
    with _open(path) as file:
        room = os.fstat(file.fileno()).st_size - 8
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= room:
            raise _refuse(path, "not a safetensors file, or cut short")
        if length > limits.header:
            raise _refuse(path, f"a header of {length:,} bytes, at most {limits.header:,} are accepted")
        text = file.read(length)
    try:
        entries = dict(_parse(path, text))
        metadata = dict(entries.pop("__metadata__", {}))
        tensors = {name: (str(entry["dtype"]), tuple(entry["shape"])) for name, entry in entries.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise _refuse(path, "its header does not describe tensors") from error
    if len(tensors) > limits.tensors:
        raise _refuse(path, f"{len(tensors):,} tensors, at most {limits.tensors:,} are accepted")
    return Header(metadata, tensors)


def read_json(path: str | os.PathLike[str], limits: Limits = LIMITS) -> Any:
    """The value in a JSON file; `CheckpointError` if missing, too large, not JSON or with a key twice."""
    with _open(Path(path)) as file:
        text = file.read(limits.json + 1)
    if len(text) > limits.json:
        raise _refuse(Path(path), f"larger than the accepted {limits.json:,} bytes")
    return _parse(Path(path), text)


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise _refuse(path, "not a regular file")
        return path.open("rb")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", field=str(path)) from error


def _parse(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"not valid JSON ({str(error)[:80]})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) < len(pairs):
        raise ValueError("a key appears twice")
    return items


def _refuse(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {reason}", field=str(path), hint="take the file from a good copy or an earlier checkpoint"
    )


# -- locking ----------------------------------------------------------------------------------------------
class Lock:
    """`with Lock(path):` holds the file `path` for this process; the kernel lets go when the process dies.

    The file names its holder (process, host, boot), so a second one is refused with `CheckpointError`
    saying who is there. It is never removed: removing a lock file lets two processes hold two files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _disk_error(self.path, error, 0) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            raise self._in_use(holder) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_identity()).encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _in_use(self, holder: bytes) -> CheckpointError:
        try:
            other = json.loads(holder)
            who = f"process {other['pid']}"
            if other["boot"] != _identity()["boot"]:
                who += f" on {other['host']}"
        except (ValueError, KeyError, TypeError):
            who = "another process"
        return CheckpointError(
            f"{self.path.parent} is in use by {who}",
            field=str(self.path.parent),
            hint="wait for it, stop it, or train into another folder",
        )


def _identity() -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
    }
