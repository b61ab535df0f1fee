"""A server's clients in Python: what `unstir serve` and `unstir studio` do, a method each.

>>> import unstir
>>> with unstir.Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     client.sample("emoji", prompt="red heart", n=4, seed=7).save("hearts.png")

A lost connection and a full queue are borne: what is submitted carries a key, so that asking again never makes
a second job.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import httpx
import numpy as np
from PIL import Image

from .errors import ConfigError, DataError, UnstirError
from .files import write_atomic
from .modalities.image import encode_png, single_name
from .serve.messages import File, Item, Items, Job, Jobs, ModelInfo, Models, Progress

__all__ = ["Client", "Event", "Pictures"]

ADDRESS = "http://127.0.0.1:8000"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAUSE, LONGEST = 0.05, 1.0
"""Seconds between two looks at a job: at first, and at most."""
AGAIN = 0.25
"""Seconds before events are asked for again."""
SILENCE = 45.0
"""Seconds without a word after which events are asked for anew; a server says something every 15."""

Source: TypeAlias = "str | Path | bytes | Item | File"
"""A picture: a path, the bytes of a file, or one that the server has already."""


class Event(NamedTuple):
    """What is new: `job`, `item`, `models`, or the `progress` of a job, which has no number."""

    kind: str
    data: dict[str, Any]
    number: int | None


class Pictures(Sequence[Image.Image]):
    """What a job made: pictures, and in `items` how each was made."""

    def __init__(self, job: Job, files: Sequence[bytes]) -> None:
        self.job, self.files = job, tuple(files)

    @property
    def items(self) -> list[Item]:
        return self.job.result.items if self.job.result else []

    @cached_property
    def images(self) -> list[Image.Image]:
        return [Image.open(io.BytesIO(file)) for file in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        sizes = " ".join(dict.fromkeys(f"{item.width}x{item.height}" for item in self.items))
        return f"<{len(self)} pictures {sizes} of {self.job.model or self.job.kind}>"

    def __getitem__(self, place: Any) -> Any:
        return self.images[place]

    def save(self, path: str | Path) -> Path:
        """Write a sheet (.png; of one: the bare picture), or into a folder/ a file for each."""
        ending, path = "" if str(path).endswith("/") else Path(path).suffix.lower(), Path(path)
        if ending not in ("", ".png"):
            raise ConfigError(f"cannot write {path}", field="path", hint="use .png (a sheet) or a folder/")
        sheet = ending == ".png"
        (path.parent if sheet else path).mkdir(parents=True, exist_ok=True)
        if sheet:
            write_atomic(path, self._repr_png_())
            return path
        for item, file in zip(self.items, self.files, strict=True):
            write_atomic(path / single_name(item.index if item.seed is None else item.seed), file)
        return path

    def _repr_png_(self) -> bytes:
        if len(self) == 1 or self.job.kind == "plot":  # whose first picture is the sheet
            return self.files[0]
        recipe = json.loads(self.images[0].info.get("unstir") or "null")
        sheet = np.stack([np.asarray(image.convert("RGB")) for image in self.images])
        return encode_png(sheet, recipe and recipe | {"n": len(self)})


class Client:
    """Speaks to a server.

    Args:
        address: of the server.
        token: what it printed; None: that of the environment, UNSTIR_TOKEN.
        patience: seconds for which a server that is gone, or whose queue is full, is asked again.
        timeout: seconds in which it has to answer one request.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        token: str | None = None,
        *,
        patience: float = 60.0,
        timeout: float = 75.0,
    ) -> None:
        token = os.environ.get("UNSTIR_TOKEN") if token is None else token
        self.address, self.patience = address.rstrip("/"), patience
        self._http = httpx.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout,
            trust_env=httpx.URL(address).host not in LOOPBACK,  # no proxy leads back to this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- making --------------------------------------------------------------------------------------------
    def sample(self, model: str, **settings: Any) -> Pictures:
        """Pictures from nothing; settings as those of `unstir sample`: prompt, n, seed, steps, guidance, ..."""
        return self.pictures(self.submit("sample", model, **settings))

    def edit(self, model: str, picture: Source, mask: Source | None = None, **settings: Any) -> Pictures:
        """What is white in the mask is painted anew; or `extend`, or with `strength` all of it."""
        return self._draw("edit", model, picture, mask, settings)

    def upscale(self, model: str, picture: Source, **settings: Any) -> Pictures:
        return self._draw("upscale", model, picture, None, settings)

    def restore(self, model: str, picture: Source, mask: Source | None = None, **settings: Any) -> Pictures:
        """A picture from what `operator` left of it; a mask with operator="mask", white where it is unknown."""
        return self._draw("restore", model, picture, mask, settings)

    def explain(
        self, what: str, model: str | None = None, picture: Source | None = None, **settings: Any
    ) -> dict[str, Any]:
        """Charts, pictures and movies, as `unstir explain` draws them."""
        image = None if picture is None else self._id(picture)
        asked = {"what": what, "model": model, "settings": settings, "image": image}
        found: dict[str, Any] = self._ask("POST", "/api/explain", json=asked).json()
        return found

    def _draw(
        self, kind: str, model: str, picture: Source, mask: Source | None, settings: dict[str, Any]
    ) -> Pictures:
        given = {"image": picture} | ({} if mask is None else {"mask": mask})
        parent = picture.id if isinstance(picture, Item) else None
        return self.pictures(self.submit(kind, model, inputs=given, parent=parent, **settings))

    def pictures(self, job: Job, on_progress: Callable[[Progress], object] | None = None) -> Pictures:
        """What a job makes, once it is done; Ctrl-C calls it off."""
        try:
            job = self.wait(job, on_progress)
        except KeyboardInterrupt:
            self.cancel(job)
            raise
        return Pictures(job, [self.image(item) for item in job.result.items] if job.result else [])

    # -- jobs ----------------------------------------------------------------------------------------------
    def submit(
        self,
        kind: str,
        model: str | None = None,
        *,
        inputs: dict[str, Source] | None = None,
        parent: str | None = None,
        board: str | None = None,
        priority: int = 0,
        deadline: float | None = None,
        key: str | None = None,
        **settings: Any,
    ) -> Job:
        """Asks for a job and does not wait for it.

        Args:
            kind: sample, edit, upscale, restore, plot, train, evaluate or data.
            model: its name.
            inputs: {"image": picture, "mask": picture}
            parent: id of the picture that it comes from.
            board: id of the board on which its pictures go.
            priority: from -10 to 10; higher ones are done first.
            deadline: seconds after which nobody wants it any more.
            key: of yours; the same one again gives the same job. None: a new one.
            settings: of the kind.
        """
        wish: dict[str, Any] = {"kind": kind, "model": model, "settings": settings, "parent": parent}
        wish |= {"board": board, "priority": priority, "deadline": deadline}
        wish["inputs"] = {role: self._id(source) for role, source in (inputs or {}).items()}
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        return Job.model_validate(self._ask("POST", "/api/jobs", json=wish, headers=headers).json())

    def job(self, job: str | Job) -> Job:
        """As it is now."""
        return Job.model_validate(self._ask("GET", f"/api/jobs/{_id(job)}").json())

    def wait(
        self,
        job: str | Job,
        on_progress: Callable[[Progress], object] | None = None,
        seconds: float = float("inf"),
    ) -> Job:
        """The job, once it is done.

        Raises:
            UnstirError: what it failed with, or code `cancelled`.
            TimeoutError: it goes on for longer than these seconds.
        """
        until, pause, told = time.monotonic() + seconds, PAUSE, None
        while (found := self.job(job)).state in ("queued", "running"):
            if on_progress is not None and found.progress not in (None, told):
                told = found.progress
                on_progress(told)
            if time.monotonic() + pause > until:
                raise TimeoutError(f"job {found.id} is {found.state} after {seconds:g} s")
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST)
        if found.state != "done":
            assert found.error is not None
            raise UnstirError.from_dict(found.error.model_dump())
        return found

    def cancel(self, job: str | Job) -> Job:
        """Call it off; training ends with a checkpoint."""
        return Job.model_validate(self._ask("POST", f"/api/jobs/{_id(job)}/cancel").json())

    def jobs(self, *states: str) -> Iterator[Job]:
        """The newest first, all of them or those in these states."""
        pages = self._pages("/api/jobs", {"state": ",".join(states)})
        return (job for page in pages for job in Jobs.model_validate(page).jobs)

    # -- what there is -------------------------------------------------------------------------------------
    def models(self) -> list[ModelInfo]:
        return Models.model_validate(self._ask("GET", "/api/models").json()).models

    def items(self, **wanted: Any) -> Iterator[Item]:
        """Pictures that were made, the newest first; q="words", model, board, kind, starred, since, until, deleted."""
        return (
            item for page in self._pages("/api/items", wanted) for item in Items.model_validate(page).items
        )

    def image(self, item: str | Item) -> bytes:
        """The PNG, which carries its recipe."""
        return self._ask("GET", f"/api/items/{_id(item)}/image").content

    def upload(self, picture: str | Path | bytes) -> File:
        """A PNG, JPEG or WebP: its path, or its bytes; raises DataError where the file cannot be read."""
        if isinstance(picture, bytes):
            content = picture
        else:
            try:
                content = Path(picture).expanduser().read_bytes()
            except OSError as error:
                raise DataError(f"cannot read {picture}: {error.strerror}", field="picture") from None
        return File.model_validate(self._ask("POST", "/api/files", content=content).json())

    def _id(self, picture: Source) -> str:
        return picture.id if isinstance(picture, (Item, File)) else self.upload(picture).id

    def events(self, after: int | None = None) -> Iterator[Event]:
        """What is new, for ever; after a break nothing is missing but progress.

        Args:
            after: the number of the last event that is known; None: from now on.
        """
        last = self._ask("GET", "/api/info").json()["cursor"] if after is None else after
        lost: float | None = None
        while True:
            headers = {"Last-Event-ID": str(last)}
            try:
                with self._http.stream("GET", "/api/events", headers=headers, timeout=SILENCE) as answer:
                    if answer.is_error:
                        answer.read()
                        raise _error_of(answer)
                    lost = None
                    for event in _events(answer.iter_lines()):
                        last = last if event.number is None else event.number
                        yield event
            except httpx.TransportError as error:
                lost = lost or time.monotonic()
                self._bear(error, lost)
            time.sleep(AGAIN)

    # -- asking --------------------------------------------------------------------------------------------
    def _ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        """The answer, asked for until there is one, or patience ends.

        Raises:
            UnstirError: what the server says is wrong, as the class of its code; or that there is no server.
        """
        since, pause = time.monotonic(), PAUSE
        while True:
            try:
                answer = self._http.request(method, path, **what)
            except httpx.TransportError as error:
                self._bear(error, since)
            except ValueError as error:  # numbers that JSON has no word for
                raise ConfigError(f"the settings cannot be sent: {error}", field="settings") from None
            else:
                if not answer.is_error:
                    return answer
                wait = answer.headers.get("Retry-After", "")
                if answer.status_code != 429 or time.monotonic() - since > self.patience:
                    raise _error_of(answer)
                pause = float(wait) if wait.isdecimal() else pause
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)

    def _bear(self, error: httpx.TransportError, since: float) -> None:
        """Raises UnstirError once patience has ended."""
        if time.monotonic() - since > self.patience:
            raise UnstirError(
                f"no server answers at {self.address}: {error}",
                field="address",
                hint="start one: unstir serve MODEL",
            ) from error

    def _pages(self, path: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        given = {word: value for word, value in wanted.items() if value not in (None, "")}
        while True:
            page: dict[str, Any] = self._ask("GET", path, params=given).json()
            yield page
            if page["next"] is None:
                return
            given["before"] = page["next"]


def _id(thing: str | Job | Item) -> str:
    return thing if isinstance(thing, str) else thing.id


def _error_of(answer: httpx.Response) -> UnstirError:
    try:
        return UnstirError.from_dict(answer.json()["error"])
    except (ValueError, KeyError, TypeError):  # not one of ours: a proxy speaks
        return UnstirError(f"{answer.url} answered {answer.status_code}: {answer.text[:200]}")


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events: fields line by line, an empty line ends each; lines with a colon in front are comments."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            yield Event(fields.get("event", "message"), json.loads(fields["data"]), number)
        fields = {}
