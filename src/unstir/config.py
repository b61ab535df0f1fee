"""Settings of a command, from layers of text to one checked tree: defaults < preset < file < command line.

Everything here works on `schema.json`, which `generate` makes from the dataclasses; torch is imported by
nothing but `generate` and `build`. A setting is named by its path, `training.steps`, or by its last name
alone: in the command's own groups first (`steps` of `train` is `training.steps`), elsewhere where only one
path ends so: a solver may hold a solver, and then the outer one's is meant. A component and its fields may be
written in one word: `solver=ddim:eta=1` is `solver=ddim solver.eta=1`. `none` leaves out what can be left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .errors import ConfigError
from .schema import Problem, Schema, check, components, listed, plain, refuse, resolve

if TYPE_CHECKING:
    from .explain import Question
    from .recipes import Edit, Evaluation, Recipe, Request, Restore, Scoring, Upscale

__all__ = [
    "Layer",
    "Settings",
    "build",
    "document",
    "generate",
    "locate",
    "parse_pairs",
    "paths",
    "presets",
    "read_file",
    "read_preset",
    "settings",
    "subjects",
    "take",
    "to_yaml",
]

SCHEMA = Path(__file__).with_name("schema.json")
PRESETS = Path(__file__).parent / "recipes" / "presets"
OWN_GROUPS = {"train": ("training", "spatial"), "explain": ("what",)} | dict.fromkeys(
    ("sample", "edit", "upscale", "restore", "evaluate"), ("sampling",)
)
PROCESS = ("schedule", "parameterization", "objective", "sampling")
DECIDES = {"process": PROCESS, "system": (*PROCESS, "network", "text")}
"""What one setting chooses for others."""
OPTIONAL_TEXT = [{"type": "string"}, {"type": "null"}]
FIELD = re.compile(r",(?=\s*[A-Za-z_][\w.]*=)")
ENTRY = re.compile(r",(?!\s*[A-Za-z_][\w.]*=)")
MAX_FILE, MAX_DEPTH = 2**16, 20  # bytes and levels; a settings file is a page or two of groups


@dataclass(frozen=True)
class Layer:
    """Settings from one source: {path or name: value, as text or already typed}."""

    source: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """What the layers amount to: the checked tree, and for each path that was given, by which source."""

    values: dict[str, Any]
    sources: dict[str, str]


# -- the schema --------------------------------------------------------------------------------------------


def generate() -> dict[str, Any]:
    """The content of `schema.json`: {command: JSON Schema of its settings}."""
    from . import spec

    return {command: spec.schema(kind) for command, kind in _kinds().items()}


@overload
def build(command: Literal["train"], values: Mapping[str, Any]) -> Recipe: ...
@overload
def build(command: Literal["sample"], values: Mapping[str, Any]) -> Request: ...
@overload
def build(command: Literal["likelihood"], values: Mapping[str, Any]) -> Scoring: ...
@overload
def build(command: Literal["evaluate"], values: Mapping[str, Any]) -> Evaluation: ...
@overload
def build(command: Literal["edit"], values: Mapping[str, Any]) -> Edit: ...
@overload
def build(command: Literal["upscale"], values: Mapping[str, Any]) -> Upscale: ...
@overload
def build(command: Literal["restore"], values: Mapping[str, Any]) -> Restore: ...
@overload
def build(command: Literal["explain"], values: Mapping[str, Any]) -> Question: ...
def build(command: str, values: Mapping[str, Any]) -> Any:
    """The command's settings as the dataclass they describe; raises `ConfigError` for values out of range."""
    from . import spec

    return spec.load(values, _kinds()[command])


def _kinds() -> dict[str, type]:
    from .explain import Question
    from .recipes import Edit, Evaluation, Recipe, Request, Restore, Scoring, Upscale

    return {
        "train": Recipe,
        "sample": Request,
        "edit": Edit,
        "upscale": Upscale,
        "restore": Restore,
        "likelihood": Scoring,
        "evaluate": Evaluation,
        "explain": Question,
    }


@cache
def document(command: str) -> Schema:
    """The JSON Schema of a command's settings, as committed."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))[command]


def subjects() -> dict[str, Schema]:
    """{what: JSON Schema of its settings} of everything there is to explain."""
    root = document("explain")
    found: dict[str, Schema] = {}
    for name, schema in components(root["properties"]["what"], root).items():
        own = {field: setting for field, setting in schema["properties"].items() if field != "name"}
        found[name.lower()] = {**schema, "properties": own, "required": [], "$defs": root["$defs"]}
    return found


@cache
def paths(command: str) -> Mapping[str, Schema]:
    """Every setting of a command by its path, components and their fields included."""
    root = document(command)
    return dict(_walk(root, root, "", ()))


def _walk(schema: Schema, root: Schema, prefix: str, inside: tuple[Any, ...]) -> Iterator[tuple[str, Schema]]:
    for key, value in schema["properties"].items():
        if "const" in value:
            continue
        path, choice, group = prefix + key, components(value, root), resolve(value, root)
        if choice or group.get("type") != "object":
            yield path, value
        # a schedule may hold a schedule: the inner one's settings have to be written in full
        if choice.keys() not in inside:
            for kind in choice.values():
                yield from _walk(kind, root, path + ".", (*inside, choice.keys()))
        if not choice and group.get("type") == "object":
            yield from _walk(group, root, path + ".", inside)


def locate(key: str, command: str) -> str | Problem:
    """The path a key stands for."""
    head, _, rest = key.partition(".")
    known, root = paths(command), document(command)["properties"]
    own = [path for group in OWN_GROUPS.get(command, ()) if (path := f"{group}.{head}") in known]
    found = own or [p for p in known if p.rpartition(".")[2] == head]
    found = [p for p in found if not any(_deeper(p, q) for q in found)]
    if head in root or len(found) == 1:
        return ".".join(part for part in (head if head in root else found[0], rest) if part)
    if found:
        return Problem(key, f"'{key}' could be " + " or ".join(f"'{p}'" for p in found), "write it in full")
    near = get_close_matches(key, [*known, *(p.rpartition(".")[2] for p in known)], n=3)
    names = " or ".join(f"'{n}'" for n in dict.fromkeys(near))
    hint = f"did you mean {names}?" if near else f"all settings: unstir config {command}"
    return Problem(key, f"unknown setting '{key}'", hint)


def _deeper(path: str, other: str) -> bool:
    """Whether the path is the other one with more words in between: objective.simple.weight, objective.weight."""
    words = iter(path.split("."))
    return path != other and all(word in words for word in other.split("."))


# -- layers ------------------------------------------------------------------------------------------------


def settings(command: str, layers: Iterable[Layer]) -> Settings:
    """The layers merged, the later the stronger, and checked; raises one `ConfigError` naming every fault.

    Choosing another component (`network=dit`) drops what weaker layers said about the fields of the former, and
    another `process` what they said of that which it decides.
    """
    flat: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[Problem] = []
    for layer in layers:
        given, wrong = _located(layer, command)
        problems += wrong
        for path, value in given.items():
            if path in flat and plain(str(flat[path])) != plain(str(value)):
                dropped = (f"{path}.", *DECIDES.get(path, ()))
                flat = {p: v for p, v in flat.items() if not p.startswith(dropped)}
        flat |= given
        sources |= dict.fromkeys(given, layer.source)
    root = document(command)
    values, wrong = check(_nested(flat), root, root)
    refuse(problems + wrong, hint=f"all settings: unstir config {command}")
    return Settings(values, {path: source for path, source in sources.items() if path in flat})


def _located(layer: Layer, command: str) -> tuple[dict[str, Any], list[Problem]]:
    given: dict[str, Any] = {}
    problems = []
    for key, value in _flat(layer.values):
        path = locate(key, command)
        found = [path] if isinstance(path, Problem) else _spelled(path, value, command)
        for item in found:
            if isinstance(item, Problem):
                problems.append(item)
            elif item[0] in given:
                path = item[0]
                problems.append(
                    Problem(path, f"'{path}' is given twice ({layer.source})", "keep one of them")
                )
            else:
                given[item[0]] = item[1]
    return given, problems


def _spelled(path: str, value: Any, command: str) -> Iterator[tuple[str, Any] | Problem]:
    """("solver", "heun:churn=0.1,variable=sigma") -> itself as "heun", and its fields by their paths.

    A comma ends a field where another name= follows, so that lists need no brackets.
    """
    setting, root = paths(command).get(path, {}), document(command)
    if listed(setting, root):
        yield _entries(path, value)
        return
    name, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not (choice := components(setting, root)):
        yield path, None if str(value).lower() == "none" and setting.get("anyOf") == OPTIONAL_TEXT else value
        return
    yield path, name.strip()
    for field in FIELD.split(rest):
        word, sign, text = field.partition("=")
        if sign:
            yield from _spelled(f"{path}.{word.strip()}", text, command)
        else:
            fields = [
                word for n, c in choice.items() if plain(n) == plain(name.strip()) for word in c["properties"]
            ]
            hint = f"fields of {name}: {', '.join(fields[1:]) or 'none'}" if fields else None
            yield Problem(path, f"{path}={value}: '{field}' is no FIELD=VALUE", hint)


def _entries(path: str, value: Any) -> tuple[str, Any] | Problem:
    """A list of components: "fid,prdc:k=3" -> itself as ["fid", {"name": "prdc", "k": "3"}]."""
    if not isinstance(value, (str, list, tuple)):
        return path, value
    entries: list[Any] = []
    for entry in ENTRY.split(value) if isinstance(value, str) else value:
        name, colon, rest = entry.partition(":") if isinstance(entry, str) else ("", "", "")
        fields = [field.partition("=") for field in FIELD.split(rest)] if colon else []
        if wrong := next((word for word, sign, _ in fields if not sign), None):
            return Problem(path, f"{path}={entry}: '{wrong}' is no FIELD=VALUE")
        entries.append({"name": name.strip()} | {k.strip(): v for k, _, v in fields} if colon else entry)
    return path, value if entries == [value] else entries


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"network": {"name": "dit", "width": 96}} -> ("network", "dit"), ("network.width", 96)."""
    for key, value in tree.items():
        path = prefix.removesuffix(".") if key == "name" and prefix else f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        if any(other.startswith(f"{path}.") for other in flat):
            path += ".name"
        *groups, last = path.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return tree


def parse_pairs(arguments: Iterable[str]) -> dict[str, str]:
    """["steps=20", "solver=heun"] -> {"steps": "20", "solver": "heun"}."""
    pairs: dict[str, str] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in pairs:
            raise ConfigError(f"'{key}' is given twice", field=key, hint="keep one of them")
        pairs[key] = value
    return pairs


def take(pairs: dict[str, str], key: str) -> str | None:
    """Removes and returns a key that is the command's own and no setting, such as `out`."""
    return pairs.pop(key, None)


def presets() -> list[str]:
    """The names `preset=` takes."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name: str) -> Layer:
    """The layer of a preset; raises `ConfigError` where there is none of that name."""
    if name not in presets():
        near = get_close_matches(name, presets(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "presets: " + ", ".join(presets())
        raise ConfigError(f"there is no preset '{name}'", field="preset", hint=hint)
    return Layer(f"preset {name}", read_file(PRESETS / f"{name}.yaml").values)


# -- YAML --------------------------------------------------------------------------------------------------


def read_file(path: Path) -> Layer:
    """The layer of a YAML file: plain mappings, at most 64 KiB, no tags, aliases or repeated keys."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.check_event(yaml.AliasEvent) or self.depth > MAX_DEPTH:
                reason = "an alias" if self.depth <= MAX_DEPTH else "nested too deeply"
                raise yaml.MarkedYAMLError(reason, problem_mark=self.peek_event().start_mark)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            if twice := next((key for key, _ in node.value if keys.count(key.value) > 1), None):
                raise yaml.MarkedYAMLError(f"'{twice.value}' twice", problem_mark=twice.start_mark)
            return super().construct_mapping(node, deep)

    def refused(reason: str) -> ConfigError:
        return ConfigError(
            f"{path} is no settings file: {reason}", field=str(path), hint="write key: value lines, in YAML"
        )

    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}",
            field=str(path),
            hint="give a file of key: value lines, in YAML",
        ) from None
    if len(text) > MAX_FILE:
        raise refused("it is larger than 64 KiB")
    try:
        tree = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise refused(f"{error.problem or error.context}{line}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise refused(str(error).partition("\n")[0]) from None
    if not isinstance(tree or {}, Mapping) or not _only_text_keys(tree or {}):
        raise refused("it is not a mapping from names to values")
    return Layer(str(path), tree or {})


def _only_text_keys(tree: Any) -> bool:
    if not isinstance(tree, Mapping):
        return True
    return all(isinstance(key, str) and _only_text_keys(value) for key, value in tree.items())


def to_yaml(values: Mapping[str, Any], given: Mapping[str, str], command: str = "train") -> str:
    """The tree as YAML, each setting with its source behind it: a file that `--config` reads back.

    A setting that no source gave is "default" where it has the value of the schema, else "measured".
    """
    root = document(command)
    return "\n".join(_lines(values, root, root, given, "")) + "\n"


def _lines(
    tree: Mapping[str, Any], schema: Schema, root: Schema, given: Mapping[str, str], path: str
) -> Iterator[str]:
    indent = "  " * path.count(".")
    for key, value in tree.items():
        setting = schema["properties"][key]
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            # a component's fields are judged against its own defaults, its name against the choice's
            chosen = components(setting, root).get(value.get("name", ""), resolve(setting, root))
            default = {"const": value.get("name"), "default": (setting.get("default") or {}).get("name")}
            inner = {"properties": {**chosen["properties"], "name": default}}
            yield from _lines(value, inner, root, given, f"{path}{key}.")
        else:
            origin = "default" if value == setting.get("default") else "measured"
            source = given.get(path[:-1] if key == "name" and path else path + key, origin)
            yield f"{indent}{key}: {_scalar(value)}  # {source}"


def _scalar(value: Any) -> str:
    import yaml

    return yaml.safe_dump([value], default_flow_style=True, width=10**9, allow_unicode=True)[1:-2]
