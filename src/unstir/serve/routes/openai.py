"""OpenAI's images, so that its clients work here; what it does not know, as the seed, comes as `extra_body`.

Every request is a job like any other, which is called off when its client leaves.
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
import secrets
import time
from abc import ABC
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from PIL import Image, ImageOps
from pydantic import ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from ...errors import ConfigError, DataError
from ..catalog import Missing, Model
from ..core import Core
from ..messages import Message, Strict, Wish
from .common import TOLD, Served, done
from .files import keep, looked_at

__all__ = ["router"]


class OpenAIFaultDetail(Message):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIFault(Message):
    """An error as OpenAI tells it."""

    error: OpenAIFaultDetail


router = APIRouter(
    prefix="/v1",
    tags=["openai"],
    responses={status: {"model": OpenAIFault, "description": text} for status, text in TOLD.items()},
)

THEIRS = re.compile(r"(dall-e|gpt-image|chatgpt-image)\b.*")
"""Models of OpenAI; who asks for one gets what there is."""
QUALITY = {"low": 0.5, "high": 2.0, "hd": 2.0}
"""Times the steps that a model usually takes."""
VIVID = 1.5
"""Times its usual guidance."""
VARIATION, REDRAWN = 0.6, 0.75
"""Strength: of a variation, and of an edit that spares nothing."""
FILES, FIELDS, FIELD = 2, 32, 2**16
"""A form has at most so many files and fields, a field so many bytes."""
ONE = ThreadPoolExecutor(1, "masks")
"""Masks are looked at one at a time: open, a picture takes room."""

A = TypeVar("A", bound=Message)


# -- what is asked -----------------------------------------------------------------------------------------
class Ask(Strict, ABC):
    """What all three take."""

    model: Annotated[str, Field(max_length=200)] | None = None
    """One of GET /v1/models; none, or one of OpenAI's: the first here that reads prompts."""
    n: Annotated[int, Field(ge=1, le=1000)] | None = None
    size: Annotated[str, Field(pattern=r"^(auto|[0-9]{1,4}x[0-9]{1,4})$")] | None = None
    """WIDTHxHEIGHT; auto: as the model was trained."""
    response_format: Literal["b64_json", "url"] | None = None
    """None: url where the model is called dall-e, else b64_json. To open a url takes the token."""
    user: Annotated[str, Field(max_length=1000)] | None = None
    """Accepted, not kept."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """None: another one each time."""
    label: int | str | None = None
    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None


class Prompted(Ask, ABC):
    prompt: Annotated[str, Field(max_length=32_000)]
    """For a model without captions the name of a class; empty: anything."""
    quality: Literal["auto", "standard", "medium", "low", "high", "hd"] | None = None
    """low: half the steps; high and hd: twice as many."""
    style: Literal["natural", "vivid"] | None = None
    """vivid: half as much guidance again."""
    background: Literal["auto", "opaque"] | None = None
    output_format: Literal["png"] | None = None
    moderation: Literal["auto", "low"] | None = None
    """There is none."""
    stream: Literal[False] | None = None


class Generation(Prompted):
    """Pictures of a prompt."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model": "emoji", "prompt": "red heart", "n": 2, "seed": 7}]},
    )


class Edit(Prompted):
    """A picture, painted anew where the mask is transparent."""

    image: bytes
    """PNG, JPEG or WebP."""
    mask: bytes | None = None
    """None: the picture's own transparency; where it has none, all of it changes."""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None


class Variation(Ask):
    """Pictures like this one."""

    image: bytes
    strength: Annotated[float, Field(gt=0, le=1)] = VARIATION


class Picture(Message):
    b64_json: str | None = None
    url: str | None = None
    id: str
    """As in /api/items."""
    seed: int | None


class Pictures(Message):
    created: int
    data: list[Picture]


class Listed(Message):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["unstir"] = "unstir"


class Listing(Message):
    object: Literal["list"] = "list"
    data: list[Listed]


def _body(kind: type[Ask]) -> dict[str, Any]:
    content = {"multipart/form-data": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"content": content, "required": True}}


# -- routes ------------------------------------------------------------------------------------------------
@router.get("/models", response_model=Listing)
async def models(core: Served) -> Any:
    """The models that can be asked."""
    return {"data": [_listed(model) for model in core.catalog.models()]}


@router.get("/models/{name}", response_model=Listed)
async def model(name: str, core: Served) -> Any:
    """One of them."""
    return _listed(core.catalog[name])


@router.post("/images/generations", response_model=Pictures, response_model_exclude_none=True)
async def generations(ask: Generation, request: Request, core: Served) -> Any:
    """Pictures of a prompt."""
    model = _model(core, ask.model)
    settings = {**_settings(ask, model), "size": None if ask.size == "auto" else ask.size}
    return await _made(core, request, ask, Wish(kind="sample", model=model.name, settings=settings))


@router.post(
    "/images/edits", response_model=Pictures, response_model_exclude_none=True, openapi_extra=_body(Edit)
)
async def edits(request: Request, core: Served) -> Any:
    """A picture, painted anew where the mask is transparent."""
    ask = await _form(request, Edit)
    model = _model(core, ask.model)
    inputs = {"image": await _kept(core, ask)}
    looking = ONE.submit(_hole, ask.mask or ask.image, core.settings.pixels)
    hole = await asyncio.wrap_future(looking)
    if hole is not None:
        inputs["mask"] = (await keep(core, hole))["id"]
    elif ask.mask:
        raise ConfigError(
            "nothing of the mask is transparent",
            field="mask",
            hint="make transparent what is to be painted anew",
        )
    settings = {**_settings(ask, model), "strength": ask.strength or (REDRAWN if hole is None else None)}
    wish = Wish(kind="edit", model=model.name, settings=settings, inputs=inputs)  # type: ignore[arg-type]
    return await _made(core, request, ask, wish)


@router.post(
    "/images/variations",
    response_model=Pictures,
    response_model_exclude_none=True,
    openapi_extra=_body(Variation),
)
async def variations(request: Request, core: Served) -> Any:
    """Pictures like this one."""
    ask = await _form(request, Variation)
    model = _model(core, ask.model)
    settings = {**_settings(ask, model), "strength": ask.strength}
    wish = Wish(kind="edit", model=model.name, settings=settings, inputs={"image": await _kept(core, ask)})
    return await _made(core, request, ask, wish)


# -- their parts -------------------------------------------------------------------------------------------
def _listed(model: Model) -> Mapping[str, Any]:
    return {"id": model.name, "created": int(model.created)}


def _model(core: Core, name: str | None) -> Model:
    """The model of this name, or instead of one of OpenAI's the first that reads prompts."""
    if name and (name in core.catalog.names() or not THEIRS.fullmatch(name)):
        return core.catalog[name]
    fit = [model for model in core.catalog.models() if model.task == "generate" and model.kind == "image"]
    if not fit:
        raise Missing(
            "no model here makes pictures", field="model", hint="GET /v1/models lists what there is"
        )
    return next((model for model in fit if model.prompt), fit[0])


def _settings(ask: Ask, model: Model) -> dict[str, Any]:
    """In our words; None: not set."""
    given: dict[str, Any] = {word: getattr(ask, word) for word in ("label", "negative", "steps", "guidance")}
    given["n"] = ask.n or 1
    given["seed"] = secrets.randbelow(2**31) if ask.seed is None else ask.seed
    if isinstance(ask, Prompted):
        words = ask.prompt.strip() or None
        if model.prompt or not model.classes:
            given["prompt"] = words
        elif given["label"] is None:
            given["label"] = words
        if ask.steps is None and ask.quality in QUALITY:
            given["steps"] = max(1, round(model.defaults.get("steps", 20) * QUALITY[ask.quality]))
        if ask.guidance is None and ask.style == "vivid":
            given["guidance"] = VIVID * model.defaults.get("guidance", 1.0)
    return given


async def _form(request: Request, kind: type[A]) -> A:
    """The fields and files of a form, checked."""
    given: dict[str, Any] = {}
    async with request.form(max_files=FILES, max_fields=FIELDS, max_part_size=FIELD) as form:
        for name, part in form.multi_items():
            name = name.removesuffix("[]")
            if name in given:
                raise ConfigError(f"there is more than one {name}", field=name, hint="send one")
            given[name] = await part.read() if isinstance(part, UploadFile) else part
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in problems]) from None


async def _kept(core: Core, ask: Edit | Variation) -> str:
    """The id of the picture, uploaded; raises ConfigError where another size is wanted of it."""
    found = await keep(core, ask.image, "image")
    size = f"{found['width']}x{found['height']}"
    if ask.size not in (None, "auto", size):
        raise ConfigError(
            f"size is {ask.size}, that of the picture {size}",
            field="size",
            hint="leave it out: the picture keeps its size",
        )
    return str(found["id"])


def _hole(content: bytes, most: int) -> bytes | None:
    """A mask of our kind, white where this one is transparent; None: nowhere."""
    about = looked_at(content, "mask")
    if about["width"] * about["height"] > most:
        raise DataError(
            f"{about['width']}x{about['height']} pixels", field="mask", hint=f"at most {most:,} are accepted"
        )
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if not picture.has_transparency_data:
                return None
            alpha = ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"the picture is damaged: {error}", field="mask", hint="accepted: PNG, JPEG and WebP"
        ) from None
    hole = alpha.point([255] * 128 + [0] * 128)
    buffer = io.BytesIO()
    hole.save(buffer, "PNG")
    return buffer.getvalue() if hole.getbbox() else None


async def _made(core: Core, request: Request, ask: Ask, wish: Wish) -> dict[str, Any]:
    """What comes of it, in OpenAI's words."""
    given = {word: value for word, value in wish.settings.items() if value is not None}
    wish = wish.model_copy(update={"settings": given, "deadline": core.settings.wait})
    job, _ = await core.submit(wish)
    items = (await done(core, request, job, core.settings.wait))["result"]["items"]
    usual = "url" if (ask.model or "").startswith("dall-e") else "b64_json"
    word = ask.response_format or usual
    if word == "url":
        shown = [str(request.base_url).rstrip("/") + item["url"] for item in items]
    else:
        shown = await asyncio.to_thread(_encoded, [core.path_of(item["id"]) for item in items])
    data = [
        {word: text, "id": item["id"], "seed": item["seed"]} for text, item in zip(shown, items, strict=True)
    ]
    return {"created": int(time.time()), "data": data}


def _encoded(paths: list[Path]) -> list[str]:
    return [base64.b64encode(path.read_bytes()).decode() for path in paths]
