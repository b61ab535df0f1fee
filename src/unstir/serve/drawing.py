"""What a worker does with its models: draw, edit, upscale, restore, plot, and explain.

Jobs of the same settings are drawn as one batch. A sample depends on its own seed, label and prompt alone, and
micro-batches are padded to a fixed size, so that company changes no bit of a picture.
"""

from __future__ import annotations

import base64
import gc
import io
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .. import config
from ..command import remake
from ..data.items import printable
from ..data.picture import read_mask, read_picture
from ..files import write_atomic
from ..modalities.image import encode_png, single_recipes
from ..modalities.points import to_picture
from ..pipeline import Pipeline, load, restoration
from ..recipes.keywords import sample_keywords, wish_of
from ..solvers.base import Step
from .jobs import download_name
from .worker import Tell, Wanted

__all__ = ["Drawing", "Models"]

THUMB = 256
"""Longest side of a thumbnail, and least one of a preview that is worth enlarging."""
SHOWN = 16
"""Samples of one job that are shown while they are drawn."""
EVERY = 0.2
"""Seconds between two words on how far it is."""
COST = 10.0
"""A preview may take the time of one part in so many."""

Job = dict[str, Any]


class Models:
    """The models that are loaded; beyond the budget the one that was not used for longest leaves."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._loaded: OrderedDict[tuple[str, int], tuple[Pipeline, int]] = OrderedDict()

    def __call__(self, name: str, path: str) -> Pipeline:
        key = (path, Path(path).stat().st_mtime_ns)  # a run that trains on has a new one under the same name
        if key not in self._loaded:
            self._make_room(Path(path).stat().st_size)
            pipe = load(path)
            pipe.name = name
            self._loaded[key] = pipe, sum(x.nbytes for x in pipe.module.state_dict().values())
        self._loaded.move_to_end(key)
        return self._loaded[key][0]

    def _make_room(self, needed: int) -> None:
        while self._loaded and sum(size for _, size in self._loaded.values()) + needed > self.budget:
            self._loaded.popitem(last=False)
            gc.collect()

    def __len__(self) -> int:
        return len(self._loaded)


class Drawing:
    """The runner of the lanes `device` and `explain`."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        if threads := setup.get("threads"):
            torch.set_num_threads(threads)
        self.models = Models(setup["memory"])

    def __call__(self, jobs: list[Job], tell: Tell, wanted: Wanted) -> None:
        work: dict[str, Callable[[list[Job], Tell, Wanted], None]] = {
            "sample": self.sample,
            "plot": self.plot,
            "explain": self.explain,
            "data": self.data,
        }
        work.get(jobs[0]["kind"], self.restore)(jobs, tell, wanted)

    def _model(self, job: Job) -> Pipeline:
        return self.models(job["model"]["name"], job["model"]["path"])

    # -- pictures from nothing -----------------------------------------------------------------------------
    def sample(self, jobs: list[Job], tell: Tell, wanted: Wanted) -> None:
        begun = time.monotonic()
        pipe = self._model(jobs[0])
        requests = [config.build("sample", job["asked"]["values"]) for job in jobs]
        counts = [request.n or 1 for request in requests]
        keywords = sample_keywords(requests[0], (), sum(counts), pipe)
        for word in ("label", "prompt"):
            if getattr(requests[0], word) is not None:
                each = (_per_sample(getattr(r, word), n) for r, n in zip(requests, counts, strict=True))
                keywords[word] = [one for some in each for one in some]
        keywords["seed"] = [r.seed + k for r, n in zip(requests, counts, strict=True) for k in range(n)]
        parts = list(_parts(counts))
        watch = Watch(pipe, jobs, parts, tell, wanted, steps=requests[0].sampling.steps)
        samples = pipe.sample(**keywords, on_step=watch)
        recipes = single_recipes(samples)
        seconds = (time.monotonic() - begun) / len(samples)
        for job, rows in zip(jobs, parts, strict=True):
            if job["id"] in wanted:
                pictures, made = _pictures(samples.images[rows]), recipes[rows]
                if len(pictures) < len(made):  # points are one picture, all together
                    made = [made[0] | {"n": len(made)}]
                _hand_over(job, pictures, made, {"evaluations": samples.evaluations}, seconds, tell)

    def plot(self, jobs: list[Job], tell: Tell, wanted: Wanted) -> None:
        """One picture for every pair of values, on one labelled sheet."""
        (job,) = jobs
        begun, pipe, more = time.monotonic(), self._model(job), job["asked"]["more"]
        pictures, captions, recipes = [], [], []
        for place, values in enumerate(more["cells"]):
            request = config.build("sample", values)
            steps, places = request.sampling.steps, (place, len(more["cells"]))
            watch = Watch(pipe, jobs, [slice(0, 1)], tell, wanted, steps=steps, places=places)
            samples = pipe.sample(**sample_keywords(request, (), 1, pipe), on_step=watch)
            pictures.append(_pictures(samples.images)[0])
            row, column = divmod(place, len(more["x"][1]))
            words = [
                f"{axis[0]} {axis[1][k]}" for axis, k in ((more["x"], column), (more["y"], row)) if axis[0]
            ]
            captions.append(", ".join(words))
            recipes += single_recipes(samples)
        columns = len(more["x"][1])
        if (
            len({picture.shape for picture in pictures}) > 1
        ):  # sizes were varied: all are shown as the largest
            size = max(picture.shape[:2] for picture in pictures)
            pictures = [_fitted(picture, size) for picture in pictures]
        about: dict[str, Any] = {
            "verb": "plot",
            "model": pipe.name,
            "x": more["x"],
            "y": more["y"],
            "cells": recipes,
        }
        sheet = encode_png(np.stack(pictures), about, columns=columns, captions=captions)
        folder = Path(job["out"])
        items = [_written(folder, 0, sheet, {"settings": job["asked"]["settings"]})]
        for place, (picture, recipe, caption) in enumerate(zip(pictures, recipes, captions, strict=True), 1):
            told = {"caption": caption, "settings": more["cells"][place - 1]}
            items.append(_item(folder, place, picture, recipe, told, 0.0))
        tell(
            {
                "done": job["id"],
                "items": items,
                "result": {"seconds": time.monotonic() - begun, "columns": columns},
            }
        )

    # -- pictures from pictures ----------------------------------------------------------------------------
    def restore(self, jobs: list[Job], tell: Tell, wanted: Wanted) -> None:
        """Edit, upscale and restore."""
        (job,) = jobs
        begun, pipe = time.monotonic(), self._model(job)
        request: Any = config.build(job["kind"], job["asked"]["values"])
        channels = 1 if pipe.config.size[0] == 1 else 3
        picture = read_picture(job["files"]["image"], "inputs.image")
        image = picture.of(channels)
        mask = None
        if "mask" in job["files"]:
            mask = read_mask(job["files"]["mask"], image.shape[:2])[0]
        wish = wish_of(request, pipe, getattr(request, "strength", None))
        if job["kind"] == "edit":
            plan = restoration.edit(pipe, image, mask, request.extend, request.feather, wish)
        elif job["kind"] == "upscale":
            plan = restoration.upscale(pipe, image, request.scale, request.kernel, None, wish)
        else:
            operator = request.operator
            if mask is not None:
                from ..operators import Mask

                operator = Mask(torch.from_numpy(~mask))
            y = picture.of(restoration.measured_channels(pipe, operator, image.shape[:2]))
            plan = restoration.restore(pipe, y, operator, request.std, request.peak, None, wish)
        watch = Watch(pipe, jobs, [slice(0, request.n)], tell, wanted, steps=len(plan.plan.nodes) - 1)
        drawn = replace(plan, wish=replace(plan.wish, on_step=watch)).draw()
        named = {role: download_name(name) for role, name in job["asked"]["inputs"].items()}
        about = {"input": named["image"]} | ({"mask": named["mask"]} if "mask" in named else {})
        recipes = [recipe | about for recipe in single_recipes(drawn)]
        result = {"method": drawn.method, "reason": drawn.reason, "evaluations": drawn.evaluations}
        seconds = (time.monotonic() - begun) / len(drawn)
        _hand_over(job, drawn.images, recipes, result | {"consistency": drawn.consistency}, seconds, tell)

    # -- what pages show -----------------------------------------------------------------------------------
    def explain(self, jobs: list[Job], tell: Tell, wanted: Wanted) -> None:
        from ..explain import explain

        (job,) = jobs
        pipe = self._model(job) if job["model"] else None
        picture = read_picture(job["files"]["image"]).pixels if "image" in job["files"] else None
        found = explain(job["asked"]["more"]["what"], job["asked"]["values"], pipe, picture)
        tell({"done": job["id"], "items": [], "result": {"explanation": found.to_dict()}})

    def data(self, jobs: list[Job], tell: Tell, wanted: Wanted) -> None:
        """What training would see of a data set."""
        from ..data import contact_sheet, describe, describe_lines, find_repeats, open_data

        (job,) = jobs
        begun, given = time.monotonic(), job["asked"]["values"]
        of_training = ("flip", "captions")  # what is done with the items, not what they are
        train, heldout = open_data(
            **{word: value for word, value in given.items() if word not in of_training}
        )
        report = describe(train, heldout, find_repeats(train, heldout))
        sheet = encode_png(contact_sheet(train)[None]) if train.info.kind == "image" else None
        problems = [fault._asdict() | {"path": printable(fault.path)} for fault in train.items.bad[:100]]
        result: dict[str, Any] = {"report": report, "lines": describe_lines(report), "problems": problems}
        result |= {"sheet": _data_url(sheet, "png") if sheet else None, "seconds": time.monotonic() - begun}
        tell({"done": job["id"], "items": [], "result": result})


class Watch:
    """Sees every step: says how far it is, shows the guess at x_0, and stops where nobody wants it any more."""

    def __init__(
        self,
        pipe: Pipeline,
        jobs: list[Job],
        parts: Sequence[slice],
        tell: Tell,
        wanted: Wanted,
        *,
        steps: int | None = None,
        places: tuple[int, int] = (0, 1),
    ) -> None:
        self.pipe, self.jobs, self.parts, self.tell, self.wanted = pipe, jobs, parts, tell, wanted
        self.steps = steps or pipe.config.defaults.steps
        self.place, self.places = places
        self.begun = time.monotonic()
        self.told = self.showed = 0.0
        self.pause = EVERY
        self.n = parts[-1].stop
        self.rows, self.count = slice(0, 0), 0

    def __call__(self, step: Step, rows: slice | None = None) -> None:
        self.wanted.require(self.jobs)
        rows = slice(0, self.n) if rows is None else rows
        if rows != self.rows:  # the next micro-batch
            self.rows, self.count = rows, 0
        self.count += 1
        now = time.monotonic()
        if now - self.told < EVERY:
            return
        self.told = now
        within = min(self.count / self.steps, 1.0)
        here = (rows.start + within * (rows.stop - rows.start)) / self.n
        share, left = (self.place + here) / self.places, self.places - self.place - here
        eta = round((now - self.begun) / max(here, 1e-3) * left, 1)
        previews = self._previews(step, rows, now)
        for job, part in zip(self.jobs, self.parts, strict=True):
            self.tell(
                {
                    "progress": job["id"],
                    "step": self.count,
                    "steps": self.steps,
                    "done": max(0, min(rows.start, part.stop) - part.start),
                    "n": part.stop - part.start,
                    "fraction": round(share, 4),
                    "eta": eta,
                    "previews": {
                        k - part.start: url for k, url in previews.items() if part.start <= k < part.stop
                    },
                }
            )

    def _previews(self, step: Step, rows: slice, now: float) -> dict[int, str]:
        """Samples by their place in the batch, as data URLs; rarer where they are dear."""
        if now - self.showed < self.pause:
            return {}
        begun = time.monotonic()
        most = SHOWN if self.pipe.config.kind == "image" else len(step.x_0)
        count = min(rows.stop - rows.start, most)
        images = _pictures(self.pipe.decode(step.x_0[:count].float()))
        found = {rows.start + k: _data_url(_webp(image), "webp") for k, image in enumerate(images)}
        self.showed = time.monotonic()
        self.pause = max(EVERY, COST * (self.showed - begun))
        return found


def _per_sample(value: Any, n: int) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * n


def _parts(counts: Sequence[int]) -> Iterator[slice]:
    first = 0
    for count in counts:
        yield slice(first, first + count)
        first += count


def _pictures(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C), of points the picture of all of them."""
    return images if images.ndim == 4 else to_picture(images)


def _hand_over(
    job: Job,
    images: np.ndarray,
    recipes: Sequence[dict[str, Any]],
    result: Mapping[str, Any],
    seconds: float,
    tell: Tell,
) -> None:
    """Writes the pictures of a job, then says that it is done."""
    folder = Path(job["out"])
    items = []
    for k, image in enumerate(images):
        recipe = recipes[k]
        again = {word: value for word, value in job["asked"]["settings"].items() if word != "n"}
        again |= {
            word: recipe[word] for word in ("seed", "prompt", "label", "n") if recipe.get(word) is not None
        }
        items.append(_item(folder, k, image, recipe, {"settings": again}, seconds))
    tell({"done": job["id"], "items": items, "result": {**result, "seconds": seconds * len(images)}})


def _item(
    folder: Path,
    place: int,
    image: np.ndarray,
    recipe: Mapping[str, Any],
    about: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    told = {word: recipe.get(word) for word in ("seed", "prompt", "label")}
    told |= {"command": remake(recipe), "seconds": round(seconds, 3), **about}
    return _written(folder, place, encode_png(image[None], recipe), told)


def _written(folder: Path, place: int, png: bytes, about: Mapping[str, Any]) -> dict[str, Any]:
    """The picture and its thumbnail on the disk, and what the server keeps of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(png)) as picture:
        width, height = picture.size
        small = np.asarray(picture.convert("RGB"))
    thumb = _webp(small)
    write_atomic(folder / f"{place}.png", png)
    write_atomic(folder / f"{place}.webp", thumb)
    about = {"width": width, "height": height, **about}
    return {"path": f"{folder.name}/{place}", "bytes": len(png) + len(thumb), "about": about}


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = Image.fromarray(picture.squeeze()).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(resized).reshape(*size, picture.shape[2])


def _webp(image: np.ndarray) -> bytes:
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    picture.thumbnail((THUMB, THUMB))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85, method=0)
    return buffer.getvalue()


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
