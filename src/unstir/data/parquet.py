"""Images inside Parquet files, as Hugging Face keeps its data sets: a column of {bytes, path}, and others beside it.

The images are unpacked once, each into a file beside the decoded ones, with their captions in a table and their labels
as sub-folders: from there on they are a folder of images like any other.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from unstir.data import cache as kept
from unstir.data.identify import BadFile, identify
from unstir.data.items import TEXT, WEIGHT, printable
from unstir.errors import CheckpointError, DataError

__all__ = ["rows_of", "shards_in", "unpack"]

IMAGE = ("image", "img", "jpg", "png")
"""What the column of the images may be called."""

_BATCH = 64  # rows in memory


def rows_of(path: Path, columns: Sequence[str], batch: int = 4096) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, of each what `columns` has of it: "image", or "image.path" of a nested one.

    Raises `DataError` when pyarrow is not installed or the file is damaged.
    """
    arrow, parquet = _arrow(path)
    try:
        with parquet.ParquetFile(path) as file:
            leaves = {file.schema.column(k).path for k in range(len(file.schema))}
            tops = {leaf.partition(".")[0] for leaf in leaves}
            known = [name for name in columns if name in tops | leaves]
            for part in file.iter_batches(batch_size=batch, columns=known):
                yield from part.to_pylist()
    except (arrow.ArrowException, ValueError, OSError) as error:
        raise DataError(
            f"cannot read {printable(str(path))}: {error}",
            field="data.source",
            hint="write it again or move it away",
        ) from error


def shards_in(folder: Path) -> list[Path]:
    """The Parquet files in a folder and all folders in it, but for hidden ones."""
    found = sorted(folder.rglob("*.parquet"))
    return [
        path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def unpack(files: Sequence[Path], cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the images in Parquet files: made once, kept under `cache` as long as the files do not change.

    Raises:
        DataError: pyarrow is not installed, a file is damaged or has no column of images.
        CheckpointError: the images cannot be kept.
    """
    stamps = [[os.path.realpath(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    folder = kept.cache_folder(cache).with_name("unpacked") / kept.key_of(stamps)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _write(files, draft)
            os.replace(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():  # else another process was quicker
            raise CheckpointError(
                f"cannot unpack the images of {printable(str(files[0]))}: {error.strerror}",
                field="cache",
                hint="free some space or set UNSTIR_CACHE to a larger disk",
            ) from error
    return folder


def _write(files: Sequence[Path], folder: Path) -> None:
    with (folder / "captions.jsonl").open("w", encoding="utf-8") as captions:
        for number, file in enumerate(files):
            names, image = _columns(file)
            rows = rows_of(file, [image, "label", *TEXT, *WEIGHT], _BATCH)
            for k, row in enumerate(rows):
                data = (row[image] or {}).get("bytes") or b""
                name = f"{number:04}-{k:08}{_extension(data)}"
                if row.get("label") is not None:
                    name = f"{_class(row['label'], names)}/{name}"
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
                texts = {key: row[key] for key in (*TEXT, *WEIGHT) if row.get(key) is not None}
                if texts.keys() & {*TEXT}:
                    captions.write(json.dumps({"file_name": name, **texts}) + "\n")


def _columns(file: Path) -> tuple[Sequence[str], str]:
    """The names of the classes, as Hugging Face notes them, and the column of the images."""
    arrow, parquet = _arrow(file)
    try:
        schema = parquet.read_schema(file)
    except (arrow.ArrowException, ValueError, OSError) as error:
        raise DataError(f"cannot read {printable(str(file))}: {error}", field="data.source") from error
    structs = [name for name in schema.names if arrow.types.is_struct(schema.field(name).type)]
    image = next((name for name in (*IMAGE, *structs) if name in structs), None)
    if image is None:
        raise DataError(
            f"{printable(str(file))} has no column of images, only {', '.join(map(printable, schema.names[:5]))}",
            field="data.source",
            hint=f"it needs a column {' or '.join(IMAGE)} of {{bytes, path}}",
        )
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    label = noted.get("info", {}).get("features", {}).get("label", {})
    return label.get("names", ()) if isinstance(label, Mapping) else (), image


def _class(label: Any, names: Sequence[str]) -> str:
    """The name of the folder of a class."""
    name = names[label] if isinstance(label, int) and 0 <= label < len(names) else str(label)
    return printable(name).replace("/", "_").lstrip(".") or "_"


def _extension(data: bytes) -> str:
    try:
        return f".{identify(data).lower()}"
    except BadFile:
        return ".png"  # kept to be reported as what it is


def _arrow(path: Path) -> tuple[ModuleType, ModuleType]:
    try:  # an extra, so that types of it are not at hand
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            f"{printable(str(path))} cannot be read: pyarrow is not installed",
            field="data.source",
            hint="run: pip install 'unstir[parquet]', or move the file away",
        ) from error
