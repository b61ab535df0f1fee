"""What may be asked: each kind of job, checked against the schema and the limits before anything is allocated."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import config
from ..errors import ConfigError, IncompatibleError, did_you_mean
from ..schema import Schema, check as check_schema, refuse
from ..sizes import read_size
from .catalog import Catalog, Missing, Model, require_task
from .jobs import Asked, Conflict
from .messages import Wish
from .settings import Settings
from .store import Store

__all__ = ["HIDDEN", "KINDS", "Asks", "public_schema"]

DRAWING = ("out", "uncertainty", "reference", "mask", "kernel", "simulate")
HIDDEN: Mapping[str, tuple[str, ...]] = {
    "sample": ("out", "movie", "exact", "sampling.classifier", "sampling.decoder"),
    "edit": (*DRAWING, "sampling.classifier", "sampling.decoder"),
    "upscale": (*DRAWING, "sampling.classifier", "sampling.decoder"),
    "restore": (*DRAWING, "sampling.classifier", "sampling.decoder"),
    "evaluate": ("out", "data", "features", "sampling.classifier", "sampling.decoder"),
    "train": (
        "data.source",
        "training.device",
        "training.compile",
        "sampling.classifier",
        "sampling.decoder",
    ),
}
"""Settings that name files, or are the server's own business."""
WEAKER = re.compile(r"unconditional|(attention|layers)(:[0-9, ]+)?")
LARGER = 16
"""Times the pixels of training that may be asked for at once: a model knows nothing of so large a whole."""
CELLS = 100
"""Pictures of a plot, at most."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Asks:
    """Turns a wish into a job, or says what is wrong with it."""

    def __init__(self, settings: Settings, catalog: Catalog, store: Store, builtin: Sequence[str]) -> None:
        self.settings, self.catalog, self.store, self.builtin = settings, catalog, store, builtin

    def __call__(self, wish: Wish) -> Asked:
        """Raises ConfigError, IncompatibleError or Missing, each with its field."""
        if wish.kind not in KINDS:
            raise ConfigError(
                f"there is no kind of job {wish.kind!r}",
                field="kind",
                hint=did_you_mean(wish.kind, KINDS, "kind"),
            )
        for word, table in (("board", "boards"), ("parent", "items")):
            found = getattr(wish, word)
            if found is not None and self.store.value(f"SELECT 1 FROM {table} WHERE id = ?", found) is None:
                raise Missing(f"there is no {word} {found!r}", field=word)
        for role, name in wish.inputs.items():
            if role not in ("image", "mask"):
                raise ConfigError(
                    f"unknown input {role!r}", field=f"inputs.{role}", hint="known: image, mask"
                )
            self.require_file(name, f"inputs.{role}")
        asked = KINDS[wish.kind](self, wish)
        return replace(
            asked,
            settings=asked.settings or wish.settings,
            inputs={str(role): name for role, name in wish.inputs.items()},
            priority=wish.priority,
            deadline=None if wish.deadline is None else time.time() + wish.deadline,
            parent=wish.parent,
            board=wish.board,
        )

    def require_file(self, name: str, field: str) -> None:
        """Raises Missing unless it is an upload or a picture made here."""
        query = "SELECT 1 FROM files WHERE id = ? UNION SELECT 1 FROM items WHERE id = ?"
        if self.store.value(query, name, name) is None:
            raise Missing(f"there is no file {name!r}", field=field, hint="upload it first: POST /api/files")

    # -- each kind -----------------------------------------------------------------------------------------
    def sample(self, wish: Wish, default_n: int = 1) -> Asked:
        model = self._model(wish, ("generate",), "sample")
        values = _checked("sample", wish.settings)
        values["n"] = values.get("n") or default_n
        self._check_words(model, values)
        self._check_room(values["n"], self._size(model, values.get("size")))
        alone = ("n", "seed", "prompt", "label")
        shared = {word: value for word, value in values.items() if word not in alone}
        told = [values.get(word) is None for word in ("prompt", "label")]
        batch = _digest([model.name, str(model.path), model.created, shared, told])
        return Asked(
            kind="sample", lane="device", model=model.name, values=values, samples=values["n"], batch=batch
        )

    def _drawing(self, wish: Wish, tasks: Sequence[str]) -> Asked:
        model = self._model(wish, tasks, wish.kind)
        if model.kind != "image":
            raise IncompatibleError(
                f"{model.name} makes {model.kind}", field="model", hint="use a model of pictures"
            )
        if "image" not in wish.inputs:
            raise ConfigError(
                "the picture is missing",
                field="inputs.image",
                hint="give the id of an upload or of a picture made here",
            )
        given = dict(wish.settings)
        masked = wish.kind == "restore" and str(given.get("operator")).lower() == "mask"
        if (masked or wish.kind == "edit") < ("mask" in wish.inputs):
            raise ConfigError(
                "this takes no mask", field="inputs.mask", hint="leave it out, or use operator=mask"
            )
        if masked > ("mask" in wish.inputs):
            raise ConfigError(
                "operator=mask needs a mask", field="inputs.mask", hint="white is what is unknown"
            )
        values = _checked(wish.kind, given)
        if values.get("operator") == "kernel":
            raise ConfigError(
                "operator=kernel reads a file", field="settings.operator", hint="use unstir restore"
            )
        if wish.kind == "edit" and not (
            "mask" in wish.inputs or values.get("extend") or values.get("strength")
        ):
            raise ConfigError(
                "there is nothing to edit",
                field="inputs.mask",
                hint="give a mask (white = repaint), settings.extend, or settings.strength to change all of it",
            )
        self._check_words(model, values)
        values["n"] = values.get("n") or 1
        self._check_room(values["n"], self._grown(wish.kind, wish.inputs["image"], values))
        return Asked(kind=wish.kind, lane="device", model=model.name, values=values, samples=values["n"])

    def edit(self, wish: Wish) -> Asked:
        return self._drawing(wish, ("generate", "inpaint"))

    def upscale(self, wish: Wish) -> Asked:
        return self._drawing(wish, ("generate", "upscale"))

    def restore(self, wish: Wish) -> Asked:
        return self._drawing(wish, ("generate",))

    def plot(self, wish: Wish) -> Asked:
        """{base: settings, x: {setting, values}, y: the same or none}: a picture for every pair of values."""
        unknown = set(wish.settings) - {"base", "x", "y"}
        base, axes = wish.settings.get("base") or {}, [wish.settings.get(word) for word in ("x", "y")]
        if unknown or not isinstance(base, Mapping) or not isinstance(axes[0], Mapping):
            raise ConfigError(
                "a plot needs settings.x",
                field="settings.x",
                hint='as {"base": {...}, "x": {"setting": "steps", "values": [5, 10, 20]}, "y": null}',
            )
        columns, rows = (_axis(axis, f"settings.{word}") for axis, word in zip(axes, ("x", "y"), strict=True))
        if len(columns[1]) * len(rows[1]) > CELLS:
            raise ConfigError(
                f"{len(columns[1]) * len(rows[1])} pictures", field="settings.x", hint=f"at most {CELLS}"
            )
        cells, model = [], ""
        for row in rows[1]:
            for column in columns[1]:
                settings = {**base, "n": 1} | ({rows[0]: row} if rows[0] else {}) | {columns[0]: column}
                one = self.sample(wish.model_copy(update={"settings": settings}))
                model = one.model
                cells.append(one.values)
        self._check_room(len(cells), self._size(self.catalog[model], cells[0].get("size")))
        more = {"cells": cells, "x": columns, "y": rows}
        return Asked(kind="plot", lane="device", model=model, samples=len(cells), more=more)

    def train(self, wish: Wish) -> Asked:
        """{data: a built-in set or an uploaded one, name: of the run, ...} or {resume: RUN, ...}."""
        if self.catalog.runs is None:
            raise ConfigError("this server does not train", field="kind", hint="start unstir studio")
        given = dict(wish.settings)
        resume, data, name, _ = (given.pop(word, None) for word in ("resume", "data", "name", "data_name"))
        if resume is not None:
            if not (
                NAME.fullmatch(str(resume)) and (self.catalog.runs / str(resume) / "config.yaml").is_file()
            ):
                raise Missing(f"there is no run {resume!r}", field="settings.resume")
            if resume in self._training():
                raise Conflict(
                    f"{resume} trains already", field="settings.resume", hint="pause it first: cancel its job"
                )
            if any(isinstance(value, Mapping) for value in given.values()):
                raise ConfigError(
                    "a group of settings",
                    field="settings",
                    hint='give each by its path: {"training.steps": 9}',
                )
            _checked("train", given, [_source_layer("digits")])
            return Asked(kind="train", lane="background", more={"run": resume, "resume": True}, values=given)
        source = self.source(data)
        if name is not None and not NAME.fullmatch(str(name)):
            raise ConfigError(
                f"the name {name!r}", field="settings.name", hint="letters, digits, dots, - and _, 64 at most"
            )
        if (codec := given.get("codec")) and self.catalog[str(codec)].task == "generate":
            raise ConfigError(
                f"{codec} is no autoencoder", field="settings.codec", hint="train one: task=autoencoder"
            )
        layers = [_source_layer(source)]
        preset = given.pop("preset", None)
        if preset is not None and not source.startswith("points:"):  # presets are for pictures
            layers.append(config.read_preset(str(preset)))
        values = _checked("train", given, layers)
        if _mentions(values.get("text"), ("Pretrained", "MiniLM")):
            raise ConfigError("this encoder reads files", field="settings.text", hint="use text=transformer")
        if values.get("codec"):
            values["codec"] = str(self.catalog[values["codec"]].path)
        run, title = self._free(str(name or self._title(data))), self._uploaded(data)
        settings = {**wish.settings, "name": run} | ({"data_name": title} if title else {})
        more = {"run": run, "resume": False}
        return Asked(kind="train", lane="background", settings=settings, values=values, more=more)

    def evaluate(self, wish: Wish) -> Asked:
        model = self._model(
            wish, ("generate", "autoencoder", "decoder", "classifier", "upscale", "inpaint"), "evaluate"
        )
        values = _checked("evaluate", wish.settings)
        return Asked(kind="evaluate", lane="background", model=model.name, values=values)

    def data(self, wish: Wish) -> Asked:
        """{source: a built-in set or an uploaded one, ...}: what training would see of it."""
        given = {f"data.{word}": value for word, value in wish.settings.items() if word != "source"}
        values = _checked("train", given, [_source_layer(self.source(wish.settings.get("source")))])
        return Asked(kind="data", lane="explain", values=values["data"])

    def explain(self, wish: Wish) -> Asked:
        """{what: a subject, ...}"""
        given = dict(wish.settings)
        what, subjects = str(given.pop("what", "")), config.subjects()
        if what not in subjects:
            raise ConfigError(
                f"there is no subject {what!r}",
                field="settings.what",
                hint=did_you_mean(what, subjects, "subject"),
            )
        values, problems = check_schema(given, subjects[what], subjects[what], "")
        refuse([replace(problem, field=f"settings.{problem.field}") for problem in problems])
        model = self._model(wish, ("generate",), "explain").name if wish.model else ""
        return Asked(kind="explain", lane="explain", model=model, values=values, more={"what": what})

    # -- what they share -----------------------------------------------------------------------------------
    def source(self, name: Any) -> str:
        """What `open_data` takes for a built-in set, or the folder of an uploaded one."""
        if isinstance(name, str) and name in self.builtin:
            return name
        if self.store.value("SELECT 1 FROM datasets WHERE id = ?", str(name)) is not None:
            return str(self.settings.datasets / str(name))
        hint = "upload one, or take " + ", ".join(n for n in self.builtin if ":" not in n)
        raise Missing(f"there is no data set {name!r}", field="settings.data", hint=hint)

    def _uploaded(self, data: Any) -> str | None:
        """What an uploaded data set is called."""
        found = self.store.value("SELECT name FROM datasets WHERE id = ?", str(data))
        return None if found is None else str(found)

    def _title(self, data: Any) -> str:
        title = self._uploaded(data) or str(data)
        return re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-._")[:48] or "run"

    def _training(self) -> set[str]:
        """The runs that wait, or are under way."""
        query = "SELECT asked FROM jobs WHERE kind = 'train' AND state IN ('queued', 'running')"
        return {json.loads(row["asked"])["more"]["run"] for row in self.store.rows(query)}

    def _free(self, name: str) -> str:
        """The name, or the first of NAME-2, NAME-3, ... that neither a folder nor a job in the queue has."""
        assert self.catalog.runs is not None
        taken = self._training()
        tries = (name if k == 1 else f"{name}-{k}" for k in range(1, 10_000))
        return next(n for n in tries if n not in taken and not (self.catalog.runs / n).exists())

    def _model(self, wish: Wish, tasks: Sequence[str], verb: str) -> Model:
        model = self.catalog[wish.model or ""]
        require_task(model, tasks, verb)
        return model

    def _check_words(self, model: Model, values: Mapping[str, Any]) -> None:
        """Raises what the model would: labels it has not, prompts it does not read, another model's name."""
        label, prompt = values.get("label"), values.get("prompt")
        if prompt is not None and not model.prompt:
            raise IncompatibleError(
                f"{model.name} was trained without captions",
                field="settings.prompt",
                hint="leave the prompt out",
            )
        for one in label if isinstance(label, (list, tuple)) else [] if label is None else [label]:
            number = isinstance(one, int) and 0 <= one < len(model.classes)
            if not number and str(one) not in model.classes:
                hint = did_you_mean(str(one), model.classes, "class") if model.classes else "leave it out"
                raise IncompatibleError(
                    f"{model.name} has no class {one!r}", field="settings.label", hint=hint
                )
        if isinstance(label, (list, tuple)) and len(label) != values["n"]:
            raise ConfigError(
                f"{len(label)} labels for n={values['n']}", field="settings.label", hint="one, or n of them"
            )

    def _size(self, model: Model, size: Any) -> tuple[int, int]:
        """(height, width) that is asked for; raises ConfigError where the model would be lost in it."""
        if size is None:
            return model.size
        height, width = read_size(size)
        own_height, own_width = model.size
        if height * width > LARGER * own_height * own_width:
            side = round(LARGER**0.5)
            raise ConfigError(
                f"size is {width}x{height}, and {model.name} was trained on {own_width}x{own_height}",
                field="settings.size",
                hint=f"at most {LARGER} times its pixels, as {side * own_width}x{side * own_height}; then upscale it",
            )
        return height, width

    def _grown(self, kind: str, image: str, values: Mapping[str, Any]) -> tuple[int, int]:
        """(height, width) of what becomes of an input."""
        row = self.store.row("SELECT about FROM items WHERE id = ?", image)
        row = row or self.store.row("SELECT about FROM files WHERE id = ?", image)
        about = json.loads(row["about"]) if row else {}
        height, width = int(about.get("height") or 0), int(about.get("width") or 0)
        if not height:
            raise ConfigError(
                "this file is no picture", field="inputs.image", hint="upload PNG, JPEG or WebP"
            )
        scale = values.get("scale") or (4 if kind == "upscale" else 1)
        for side, pixels in re.findall(
            r"(left|right|top|bottom)\s*:\s*([0-9]{1,9})", str(values.get("extend") or "")
        ):
            height, width = (
                (height, width + int(pixels)) if side in ("left", "right") else (height + int(pixels), width)
            )
        return height * scale, width * scale

    def _check_room(self, n: int, size: tuple[int, int]) -> None:
        if n > self.settings.samples:
            raise ConfigError(
                f"n is {n}", field="settings.n", hint=f"at most {self.settings.samples} in one job"
            )
        if n * size[0] * size[1] > self.settings.pixels:
            raise ConfigError(
                f"{n} of {size[1]}x{size[0]} pixels",
                field="settings.size",
                hint=f"at most {self.settings.pixels:,} pixels in one job: fewer, or smaller ones",
            )


KINDS: dict[str, Callable[[Asks, Wish], Asked]] = {
    kind.__name__: kind
    for kind in (
        Asks.sample,
        Asks.edit,
        Asks.upscale,
        Asks.restore,
        Asks.plot,
        Asks.train,
        Asks.evaluate,
        Asks.data,
        Asks.explain,
    )
}


def _checked(verb: str, given: Mapping[str, Any], layers: Sequence[config.Layer] = ()) -> dict[str, Any]:
    """Settings of a verb as a tree: the server's layers, then what was given, of which nothing may name a file."""
    request = config.Layer("request", given)
    try:
        found = config.settings(verb, [*layers, request])
    except ConfigError as error:
        field = f"settings.{error.field}" if error.field else "settings"
        raise ConfigError(error.message, field=field, hint=error.hint) from None
    for path, source in found.sources.items():
        if source == request.source and f"{path}.".startswith(tuple(f"{word}." for word in HIDDEN[verb])):
            raise ConfigError(f"{path} is not set over HTTP", field=f"settings.{path}", hint="leave it out")
    weaker = (found.values.get("sampling") or {}).get("weaker")
    if weaker is not None and not WEAKER.fullmatch(weaker):
        raise ConfigError(
            f"weaker is {weaker!r}",
            field="settings.sampling.weaker",
            hint="accepted here: unconditional, attention, layers, layers:1,2",
        )
    return found.values


def _source_layer(source: str) -> config.Layer:
    return config.Layer("server", {"data.source": source})


def _axis(axis: Any, field: str) -> tuple[str, list[Any]]:
    """(setting, values); ("", [None]) where there is no such axis."""
    if axis is None:
        return "", [None]
    setting, values = (axis.get("setting"), axis.get("values")) if isinstance(axis, Mapping) else (None, None)
    if not isinstance(setting, str) or not isinstance(values, list) or not values:
        raise ConfigError(
            "an axis needs a setting and values", field=field, hint='{"setting": "steps", "values": [5, 10]}'
        )
    return setting, values


def _mentions(tree: Any, names: Sequence[str]) -> bool:
    """Whether a component of one of these names is in it."""
    if isinstance(tree, Mapping):
        return tree.get("name") in names or any(_mentions(value, names) for value in tree.values())
    return isinstance(tree, (list, tuple)) and any(_mentions(value, names) for value in tree)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def public_schema(verb: str) -> Schema:
    """The schema of a verb's settings less what is hidden; for the page's forms."""
    document = json.loads(json.dumps(config.document(verb)))
    for path in HIDDEN[verb]:
        *groups, last = path.split(".")
        node = document
        for group in groups:
            node = node["properties"][group]
        node["properties"].pop(last, None)
        if last in node.get("required", ()):
            node["required"].remove(last)
    return document
