"""The page: its files as they lie in the package, and the link that lets a browser in."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from ...studio import STATIC
from ..guard import COOKIE
from .common import Served

__all__ = ["mount", "new_link", "paths"]

router = APIRouter(include_in_schema=False)

YEAR = 365 * 86400


def new_link(app: FastAPI, base: str) -> str:
    """An address that lets the first browser in that opens it."""
    app.state.code = secrets.token_urlsafe(16)
    return f"{base}/enter?code={app.state.code}"


@router.get("/enter")
async def enter(request: Request, core: Served, code: str = "") -> Response:
    """Changes the code of the printed link for a cookie, once; else the page says what to do, or knows its browser."""
    known = getattr(request.app.state, "code", None)
    response = RedirectResponse("/", 303)
    if known is None or not hmac.compare_digest(code.encode(), known.encode()):
        return response
    request.app.state.code = None
    name = f"{COOKIE}-{hashlib.sha256(core.token.encode()).hexdigest()[:8]}"
    response.set_cookie(name, core.token, max_age=YEAR, httponly=True, samesite="strict")
    return response


@router.post("/api/link")
async def link(request: Request) -> dict[str, str]:
    """Another link, for who has the token; the last one is void."""
    return {"link": new_link(request.app, str(request.base_url).rstrip("/"))}


class Files(StaticFiles):
    """Files that a browser keeps, and asks each time whether they are still the same."""

    def file_response(self, *given: Any, **more: Any) -> Response:
        response = super().file_response(*given, **more)
        response.headers["cache-control"] = "no-cache"
        return response


def mount(app: FastAPI) -> None:
    """After all other routes: the page takes what is left."""
    app.include_router(router)
    app.mount("/", Files(directory=STATIC, html=True))


def paths() -> frozenset[str]:
    """What the page needs before it knows the token; nothing in it is secret."""
    files = (path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
    return frozenset(("/", "/enter", *(f"/{file}" for file in files)))
