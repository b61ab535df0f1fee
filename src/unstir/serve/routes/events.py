"""News as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from .common import Cursor, Served

__all__ = ["router"]

router = APIRouter(prefix="/api/events", tags=["events"])


@router.get("", response_class=EventSourceResponse)
async def events(
    core: Served,
    after: Cursor = None,
    last: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, lt=2**63)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """`job` and `item` events carry ids: after a break, Last-Event-ID brings what was missed. `progress` has none."""
    yield ServerSentEvent(comment="unstir")
    async for news in core.hub.listen(after if last is None else last):
        if news is None:
            yield ServerSentEvent(comment="nothing new")
        else:
            yield ServerSentEvent(
                event=news.kind, data=news.data, id=str(news.number) if news.number else None
            )
