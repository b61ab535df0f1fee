"""What is brought: pictures to start from, masks, data sets; and drafts of forms."""

from __future__ import annotations

import io
import json
import os
import re
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Path as InPath, Query, Request
from fastapi.responses import FileResponse, Response
from PIL import Image
from pydantic import Field

from ...command import remake
from ...errors import ConfigError, DataError
from ...files import write_atomic
from ...limits import LIMITS
from .. import jobs
from ..catalog import Missing
from ..core import Core
from ..messages import File, Strict
from ..store import decoded
from .common import Served

__all__ = ["keep", "looked_at", "router"]

router = APIRouter(prefix="/api", tags=["files"])

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
WORDS = (".txt", ".jsonl", ".csv")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", *WORDS)
"""Of the files of a data set."""
PART = re.compile(r"[^\x00-\x1f/\\:*?\"<>|]+")
LONGEST_PART = 200
"""Bytes of a name, which leaves some for those of temporary files."""
DEEPEST = 8
MAX_RECIPE = 2**20
DRAFT = Annotated[str, InPath(pattern=r"^[a-z0-9-]{1,32}$")]
LONGEST_DRAFT = 2**16


class NewDataset(Strict):
    name: Annotated[str, Field(min_length=1, max_length=100, examples=["my cats"])]


class Dataset(Strict):
    """Files to train on."""

    id: str
    name: str
    count: int = 0
    """Files."""
    pictures: int = 0
    """How many of them are no words."""
    bytes: int = 0


class Datasets(Strict):
    datasets: list[Dataset]


class Draft(Strict):
    """Whatever a page wants to remember."""

    value: Annotated[Any, Field(examples=[{"prompt": "red heart"}])] = None


async def keep(core: Core, content: bytes, field: str = "body") -> dict[str, Any]:
    """Stores a picture and says what it is; raises DataError where it is none."""
    about = looked_at(content, field)
    name = jobs.new_id()
    write_atomic(core.settings.files / name, content)
    row = (name, json.dumps(about), len(content), time.time())
    await core.write(lambda db: db.execute("INSERT INTO files VALUES (?, ?, ?, ?)", row))
    return {"id": name, "bytes": len(content), **about}


def looked_at(content: bytes, field: str = "body") -> dict[str, Any]:
    """What the head of a picture says; its pixels are for the workers."""
    hint = "accepted: PNG, JPEG and WebP"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(content), formats=list(FORMATS)) as picture:
                width, height = picture.size
                kind = str(picture.format)
                text = picture.info.get("unstir")  # `picture.text` would read all pixels
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        most = f"at most {LIMITS.pixels:,} pixels are read"
        raise DataError("this picture is too large", field=field, hint=most) from error
    except Exception as error:  # Pillow has many ways to say so
        what = f"a file that begins with {content[:8]!r}" if content else "an empty file"
        raise DataError(f"{what} is no picture that can be read", field=field, hint=hint) from error
    if width * height > LIMITS.pixels:
        raise DataError(f"{width}x{height} pixels", field=field, hint=f"at most {LIMITS.pixels:,} are read")
    recipe = _recipe(text)
    command = None
    if recipe is not None:
        try:
            command = remake(recipe)
        except Exception:  # a recipe is whatever somebody wrote into a file
            recipe = None
    return {
        "kind": "image",
        "type": FORMATS[kind],
        "width": width,
        "height": height,
        "recipe": recipe,
        "remake": command,
    }


def _recipe(text: object) -> dict[str, Any] | None:
    try:
        recipe = json.loads(text) if isinstance(text, str) and len(text) <= MAX_RECIPE else None
    except (ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


@router.post(
    "/files",
    status_code=201,
    response_model=File,
    openapi_extra={
        "requestBody": {
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "required": True,
        }
    },
)
async def upload(request: Request, core: Served) -> Any:
    """A picture, as the body: PNG, JPEG or WebP. Of one made by unstir the recipe comes back."""
    return await keep(core, await request.body())


@router.get("/files/{file}", response_class=FileResponse, responses={200: {"content": {"image/png": {}}}})
async def download(file: str, core: Served) -> Response:
    """The bytes that were uploaded."""
    about = decoded(core.store.value("SELECT about FROM files WHERE id = ?", file))
    if about is None:
        raise Missing(f"there is no file {file!r}", field="id")
    return FileResponse(
        core.settings.files / file, media_type=about["type"], filename=jobs.download_name(file, "")
    )


# -- data sets ---------------------------------------------------------------------------------------------
@router.get("/datasets", response_model=Datasets)
async def datasets(core: Served) -> Any:
    """Those that were uploaded, the newest first."""
    rows = core.store.rows("SELECT id, name FROM datasets ORDER BY created DESC")
    return {
        "datasets": [
            {"id": r["id"], "name": r["name"], **_counted(core.settings.datasets / r["id"])} for r in rows
        ]
    }


@router.post("/datasets", status_code=201, response_model=Dataset)
async def new_dataset(dataset: NewDataset, core: Served) -> Any:
    """An empty one, to be filled with POST /api/datasets/ID/files."""
    name = jobs.new_id()
    (core.settings.datasets / name).mkdir()
    row = (name, dataset.name, time.time())
    await core.write(lambda db: db.execute("INSERT INTO datasets VALUES (?, ?, ?)", row))
    return {"id": name, "name": dataset.name}


@router.post(
    "/datasets/{dataset}/files",
    response_model=Dataset,
    openapi_extra={
        "requestBody": {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            "required": True,
        }
    },
)
async def add(
    dataset: str,
    request: Request,
    core: Served,
    path: Annotated[str, Query(max_length=1000, examples=["cats/1.png"])],
) -> Any:
    """One file, as the body: a picture, or captions. Sub-folders are classes."""
    row = core.store.row("SELECT name FROM datasets WHERE id = ?", dataset)
    if row is None:
        raise Missing(
            f"there is no data set {dataset!r}", field="dataset", hint="POST /api/datasets makes one"
        )
    folder = core.settings.datasets / dataset
    target = folder.joinpath(*_parts(path))
    counted = _counted(folder)
    content = await request.body()
    if counted["bytes"] + len(content) > core.settings.dataset:
        raise ConfigError(
            f"the data set would be larger than {core.settings.dataset:,} bytes",
            field="path",
            hint="train on less",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path!r}: {error.strerror}", field="path", hint="rename it") from None
    if target.is_dir():
        raise ConfigError(f"{path!r} is a folder", field="path", hint="rename it")
    write_atomic(target, content)
    return {"id": dataset, "name": row["name"], **_counted(folder)}


def _parts(path: str) -> list[str]:
    """The names of folders and file; raises ConfigError for any that could lead elsewhere."""
    parts = path.split("/")
    fine = all(PART.fullmatch(part) and not part.startswith(".") and part == part.strip() for part in parts)
    fine &= all(len(part.encode()) <= LONGEST_PART for part in parts)
    if not fine or len(parts) > DEEPEST or not path.lower().endswith(ENDINGS):
        raise ConfigError(
            f"{path!r} is no name for a file of a data set",
            field="path",
            hint=f"FOLDER/NAME with an ending of {', '.join(ENDINGS)}, no name with a dot in front",
        )
    return parts


def _counted(folder: Path) -> dict[str, int]:
    names, size = [], 0
    for place, _, files in os.walk(folder):
        names += files
        size += sum(os.lstat(os.path.join(place, file)).st_size for file in files)
    pictures = sum(not name.lower().endswith(WORDS) for name in names)
    return {"count": len(names), "pictures": pictures, "bytes": size}


# -- drafts ------------------------------------------------------------------------------------------------
@router.get("/drafts/{name}", response_model=Draft)
async def draft(name: DRAFT, core: Served) -> Any:
    """What a page remembered under this name; null for nothing."""
    return {"value": decoded(core.store.value("SELECT value FROM drafts WHERE name = ?", name))}


@router.put("/drafts/{name}", response_model=Draft)
async def remember(name: DRAFT, what: Draft, core: Served) -> Any:
    """Remember it, in place of what was."""
    text = json.dumps(what.value)
    if len(text) > LONGEST_DRAFT:
        raise ConfigError(f"{len(text):,} letters", field="value", hint=f"at most {LONGEST_DRAFT:,}")
    await core.write(lambda db: db.execute("INSERT OR REPLACE INTO drafts VALUES (?, ?)", (name, text)))
    return what
