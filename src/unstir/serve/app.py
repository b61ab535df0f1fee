"""The HTTP application: routes, the form of every error, and the door before them."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from .. import __version__
from ..errors import UnstirError
from .core import Core
from .guard import Guard
from .routes import ROUTERS, page
from .routes.common import RESPONSES, TOLD, answer, refused

__all__ = ["make_app"]

_log = logging.getLogger("unstir.serve")

ABOUT = """Jobs go into a queue and are done one after the other; `GET /api/events` tells how they go.
Every request but `/live` and `/ready` needs the token: `Authorization: Bearer TOKEN`."""


def make_app(core: Core) -> tuple[ASGIApp, FastAPI]:
    """(what is served, the application behind its door)."""

    app = FastAPI(
        title="unstir",
        version=__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        responses=RESPONSES,
    )
    app.state.core = core
    for router in ROUTERS:
        app.include_router(router)
    if core.settings.studio:
        page.mount(app)

    @app.exception_handler(UnstirError)
    async def ours(request: Request, error: UnstirError) -> Response:
        return refused(core, error, request.url.path)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        code = TOLD.get(error.status_code, str(error.detail))
        hint = "GET /openapi.json lists what there is" if error.status_code in (404, 405) else None
        told = {
            "code": "http",
            "message": f"{request.method} {request.url.path[:200]}: {error.detail}",
            "field": None,
        }
        headers = dict(error.headers or {})
        return answer(error.status_code, told | {"hint": hint or code}, headers, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def of_fields(request: Request, error: RequestValidationError) -> Response:
        return answer(422, _fields(error.errors()), path=request.url.path)

    @app.exception_handler(Exception)
    async def of_nobody(request: Request, error: Exception) -> Response:
        _log.exception("a request met a fault", exc_info=error)
        hint = "this is a fault of unstir; the server's log says more"
        told = {"code": "failed", "message": "the request failed", "field": None, "hint": hint}
        return answer(500, told, path=request.url.path)

    public = page.paths() if core.settings.studio else frozenset[str]()
    return Guard(app, core.settings, core.token, public), app


def _fields(problems: Any) -> dict[str, Any]:
    """What pydantic found, in the words of every other error."""
    places = [
        ".".join(str(part) for part in problem["loc"][1:] if isinstance(part, str)) or str(problem["loc"][0])
        for problem in problems[:10]
    ]
    lines = [f"{place}: {problem['msg']}" for place, problem in zip(places, problems, strict=False)]
    return {
        "code": "config",
        "message": "; ".join(lines),
        "field": ", ".join(dict.fromkeys(places)),
        "hint": "GET /openapi.json says what is accepted",
    }
