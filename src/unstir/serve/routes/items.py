"""The pictures that were made here, and the boards they are kept on."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import Field

from ...errors import ConfigError
from .. import jobs
from ..catalog import Missing
from ..messages import Board, Id, Item, Items, Strict
from .common import Cursor, Limit, Served

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["pictures"])

KEEP = {"cache-control": "private, max-age=31536000, immutable"}
"""A picture never changes under its id."""
Words = Annotated[str | None, Query(max_length=500)]
When = Annotated[float | None, Query(ge=0, le=1e11)]


class Change(Strict):
    """What may change of a picture."""

    starred: Annotated[bool | None, Field(examples=[True])] = None
    board: Id | None = None


class NewBoard(Strict):
    name: Annotated[str, Field(min_length=1, max_length=100, examples=["hearts"])]


class Boards(Strict):
    boards: list[Board]


@router.get("/items", response_model=Items)
async def listing(
    core: Served,
    q: Words = None,
    model: Words = None,
    board: Words = None,
    kind: Words = None,
    starred: bool = False,
    deleted: bool = False,
    since: When = None,
    until: When = None,
    limit: Limit = 60,
    before: Cursor = None,
) -> Any:
    """Those that match, the newest first. `q`: words that occur in prompt, label, seed or model."""
    wanted: dict[str, Any] = {"q": q, "model": model, "board": board, "kind": kind, "starred": starred}
    wanted |= {"deleted": deleted, "since": since, "until": until}
    items, further = core.views.items(wanted, before, limit)
    return {"items": items, "next": further}


@router.get("/items/{item}", response_model=Item)
async def one(item: str, core: Served) -> Any:
    """A picture and how it was made."""
    return core.views.item(item)


@router.patch("/items/{item}", response_model=Item)
async def change(item: str, what: Change, core: Served) -> Any:
    """Star it, or put it on a board; board: null takes it off."""
    core.views.item(item)
    given = what.model_dump(exclude_unset=True)
    if given.get("board") is not None:
        _require_board(core, given["board"])
    if "starred" in given and given["starred"] is None:
        raise ConfigError("starred is null", field="starred", hint="true or false")

    def work(db: Any) -> None:
        for word, value in given.items():
            db.execute(f"UPDATE items SET {word} = ? WHERE id = ?", (value, item))
        jobs.event(db, "item", item)

    await core.write(work)
    return core.views.item(item)


@router.delete("/items/{item}", response_model=Item)
async def delete(item: str, core: Served) -> Any:
    """Gone from sight; for an hour it can be brought back."""
    return await _mark(item, time.time(), core)


@router.post("/items/{item}/restore", response_model=Item)
async def restore(item: str, core: Served) -> Any:
    """Back again."""
    return await _mark(item, None, core)


async def _mark(item: str, deleted: float | None, core: Served) -> Any:
    core.views.item(item)

    def work(db: Any) -> None:
        db.execute("UPDATE items SET deleted = ? WHERE id = ?", (deleted, item))
        jobs.event(db, "item", item)

    await core.write(work)
    return core.views.item(item)


@router.get(
    "/items/{item}/image", response_class=FileResponse, responses={200: {"content": {"image/png": {}}}}
)
async def image(item: str, core: Served, download: bool = False) -> Response:
    """The picture, a PNG that carries its recipe."""
    return _file(item, ".png", core, download)


@router.get(
    "/items/{item}/thumb", response_class=FileResponse, responses={200: {"content": {"image/webp": {}}}}
)
async def thumb(item: str, core: Served) -> Response:
    """The picture, 256 pixels a side at most."""
    return _file(item, ".webp", core, False)


def _file(item: str, ending: str, core: Served, download: bool) -> Response:
    path = core.path_of(core.views.item(item)["id"]).with_suffix(ending)
    if not path.is_file():
        raise Missing(f"the file of picture {item!r} is gone", field="id")
    name = jobs.download_name(item, ending) if download else None
    return FileResponse(path, media_type=f"image/{ending[1:]}", filename=name, headers=KEEP)


@router.get("/boards", response_model=Boards)
async def boards(core: Served) -> Any:
    """All boards, with how many pictures are on each."""
    query = (
        "SELECT id, name, (SELECT count(*) FROM items WHERE board = boards.id AND deleted IS NULL) AS count "
        "FROM boards ORDER BY name"
    )
    return {"boards": [dict(row) for row in core.store.rows(query)]}


@router.post("/boards", status_code=201, response_model=Board)
async def new_board(board: NewBoard, core: Served) -> Any:
    """A new board."""
    name = jobs.new_id()

    def work(db: Any) -> None:
        if db.execute("SELECT 1 FROM boards WHERE name = ?", (board.name,)).fetchone() is not None:
            raise jobs.Conflict(
                f"there is a board {board.name!r} already", field="name", hint="choose another name"
            )
        db.execute("INSERT INTO boards VALUES (?, ?, ?)", (name, board.name, time.time()))

    await core.write(work)
    return {"id": name, "name": board.name, "count": 0}


@router.delete("/boards/{board}", response_model=Board)
async def delete_board(board: str, core: Served) -> Any:
    """Its pictures stay, on no board."""
    row = _require_board(core, board)

    def work(db: Any) -> None:
        db.execute("UPDATE items SET board = NULL WHERE board = ?", (board,))
        db.execute("DELETE FROM boards WHERE id = ?", (board,))

    await core.write(work)
    return {"id": board, "name": row["name"], "count": 0}


def _require_board(core: Served, board: str) -> Any:
    row = core.store.row("SELECT * FROM boards WHERE id = ?", board)
    if row is None:
        raise Missing(f"there is no board {board!r}", field="board", hint="GET /api/boards lists them")
    return row
