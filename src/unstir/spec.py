"""Components as plain data: how a setting is declared, written, read back and described.

A component is a frozen dataclass; as data it is the mapping of its fields, with its class under `name` where
the annotation leaves a choice:

    Shifted(Cosine(), shift=3.0)   <->   {"name": "Shifted", "schedule": {"name": "Cosine"}, "shift": 3.0}

An annotation that is an abstract class means "any concrete class of that folder's `__all__`", so exporting a
class is what registers it. Ranges are part of the annotation, `Annotated[float, Range(gt=0)]`, and the string
under a field, or its entry under "Args:" in the class docstring, is its help text. Nothing is declared twice:
the command line, YAML files, the model file's header and the studio's forms all read the schema made here.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError
from .schema import Problem, check, mismatch, refuse

__all__ = [
    "Count",
    "Fraction",
    "Positive",
    "Range",
    "Seconds",
    "choices",
    "dump",
    "load",
    "name",
    "schema",
    "validate",
]

# "    name: text" with its deeper-indented continuation lines
ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)
PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", NoneType: "null"}


@dataclass(frozen=True, kw_only=True)
class Range:
    """The legal range of a number; `unit="s"` marks a duration, which may be written as '90s' or '10m'."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    unit: str | None = None

    def keywords(self) -> dict[str, Any]:
        """The same in JSON Schema's words."""
        words = {
            "minimum": self.ge,
            "exclusiveMinimum": self.gt,
            "maximum": self.le,
            "exclusiveMaximum": self.lt,
            "x-unit": self.unit,
        }
        return {key: value for key, value in words.items() if value is not None}


Count = Annotated[int, Range(ge=1)]
Positive = Annotated[float, Range(gt=0)]
Fraction = Annotated[float, Range(ge=0, le=1)]
Seconds = Annotated[float, Range(gt=0, unit="s")]


def name(component: type) -> str:
    """The word a component is chosen by: its class name, less a closing "Config"."""
    return component.__name__.removesuffix("Config")


@dataclass(frozen=True)
class Partial:
    """Fields given for a component whose kind was left open, as `optimizer.lr=1e-3` leaves the optimizer.

    `kinds` are the components that have them all, at least one.
    """

    fields: Mapping[str, Any]
    kinds: tuple[type, ...]


def complete(given: Any, measured: Any) -> Any:
    """The component given, or else the measured one, with the given fields in place of its own.

    Where the measured kind has no such fields, the first kind like it that has them all is taken with its defaults.

    Raises:
        ConfigError: there is none.
    """
    if given is None:
        return measured
    if not isinstance(given, Partial):
        return given
    if type(measured) in given.kinds:
        return replace(measured, **given.fields)
    alike = type(measured).__bases__ if measured is not None else (object,)
    for kind in given.kinds:
        if issubclass(kind, alike):
            return kind(**given.fields)
    known = ", ".join(f.name for f in _fields(type(measured)))
    raise ConfigError(
        f"{', '.join(given.fields)} is no setting of {name(type(measured))}",
        field=next(iter(given.fields)),
        hint=f"its settings: {known}",
    )


def choices(declared: type | ModuleType | Mapping[str, type]) -> dict[str, type]:
    """The concrete components an annotation allows, by name.

    A dataclass allows itself; an abstract class, its concrete subclasses in the `__all__` of its folder; a
    module, all of its components.
    """
    if isinstance(declared, Mapping):
        return dict(declared)
    if isinstance(declared, ModuleType):
        exported = [getattr(declared, word) for word in declared.__all__]
        return {name(c): c for c in exported if _is_component(c)}
    if _is_component(declared):
        return {name(declared): declared}
    folder = import_module(".".join(declared.__module__.split(".")[:2]))
    return {n: c for n, c in choices(folder).items() if issubclass(c, declared)}


def _is_component(value: Any) -> bool:
    return isinstance(value, type) and is_dataclass(value) and not inspect.isabstract(value)


def dump(component: Any, declared: type | None = None) -> dict[str, Any]:
    """The component as JSON-able data; `name` is left out where `declared` is already its class."""
    if not is_dataclass(component) or isinstance(component, type):
        raise TypeError(f"cannot write {component!r} as settings: it is no dataclass instance")
    hints = _hints(type(component))
    data = {} if type(component) is declared else {"name": name(type(component))}
    return data | {f.name: _dump(getattr(component, f.name), hints[f.name]) for f in _fields(type(component))}


def _dump(value: Any, declared: Any) -> Any:
    if is_dataclass(value):
        return dump(value, declared)
    if isinstance(value, (list, tuple)):
        return [_dump(item, None) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot write {value!r} as a setting")


def load(data: Any, declared: Any) -> Any:
    """The component that `dump` wrote, or that a user's settings describe.

    An optional component whose `name` is left out becomes a `Partial`. Raises a `ConfigError` of all faults.
    `declared` is what `choices` takes: a component class, an abstract class, a folder's module or a mapping.
    """
    document = schema(declared)
    checked, problems = check(data, document, document)
    refuse(problems)
    known = choices(declared)
    component = known[checked["name"]] if "name" in checked else next(iter(known.values()))
    built = _build(component, checked, problems)
    refuse(problems)
    return built


def validate(component: Any) -> None:
    """Raise `ConfigError` naming each field of a component that is outside its annotated type or range."""
    document, data = schema(type(component)), dump(component, type(component))
    checked, problems = check(data, document, document)
    if not problems:  # text that could be read as the right type is still no such value
        problems = [
            mismatch(v, document["properties"][k], document, k) for k, v in data.items() if checked[k] != v
        ]
    refuse(problems)


def _build(component: type, data: Mapping[str, Any], problems: list[Problem]) -> Any:
    """The component from checked data; what it or its parts object to joins the problems."""
    known, hints = len(problems), _hints(component)
    values = {k: _construct(v, hints[k], problems) for k, v in data.items() if k in hints}
    if len(problems) > known:
        return None
    try:
        return component(**values)
    except ConfigError as error:
        problems.append(Problem(error.field or name(component), error.message, error.hint))
        return None


def _construct(data: Any, annotation: Any, problems: list[Problem]) -> Any:
    """Checked data -> the value that the annotation describes."""
    if isinstance(data, Mapping):
        options = _options(annotation)
        known = [c for option in options if isinstance(option, type) for c in _classes(option)]
        if "name" not in data and NoneType in options:
            kinds = tuple(kind for kind in known if data.keys() <= {f.name for f in _fields(kind)})
            return Partial({k: _construct(v, _hints(kinds[0])[k], problems) for k, v in data.items()}, kinds)
        component = next((c for c in known if name(c) == data.get("name")), known[0])
        return _build(component, data, problems)
    if isinstance(data, list):
        inner = next((get_args(o) for o in _options(annotation) if get_origin(o) is tuple), ())
        return tuple(_construct(item, inner[0] if inner else None, problems) for item in data)
    return data


def _classes(option: type) -> list[type]:
    return [] if option in PLAIN else list(choices(option).values())


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


# -- schema ------------------------------------------------------------------------------------------------


def schema(declared: Any) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a component or of a choice of components."""
    return _schema(declared) if isinstance(declared, type) else _document(declared)


@cache
def _schema(declared: type) -> dict[str, Any]:
    return _document(declared)


def _document(declared: Any) -> dict[str, Any]:
    defs: dict[str, Any] = {}
    if _is_component(declared):
        return _object(declared, defs, named=False) | {"$defs": defs}
    return {"anyOf": [_reference(c, defs) for c in choices(declared).values()], "$defs": defs}


def _object(component: type, defs: dict[str, Any], named: bool) -> dict[str, Any]:
    hints, help_texts = _hints(component), _help(component)
    properties: dict[str, Any] = {"name": {"const": name(component)}} if named else {}
    for f in _fields(component):
        properties[f.name] = _annotated(hints[f.name], defs) | _default(f, hints[f.name])
        if f.name in help_texts:
            properties[f.name]["description"] = help_texts[f.name]
    required = [f.name for f in _fields(component) if f.default is MISSING and f.default_factory is MISSING]
    summary = (inspect.getdoc(component) or "").partition("\n")[0]
    return {
        "type": "object",
        "description": summary,
        "properties": properties,
        "required": ["name"] * named + required,
        "additionalProperties": False,
    }


def _reference(component: type, defs: dict[str, Any]) -> dict[str, Any]:
    key = f"{component.__module__.split('.')[1]}.{name(component)}"  # process.EDM, parameterization.EDM
    if key not in defs:
        defs[key] = {}  # taken before the fields are walked: a component may contain its own kind
        defs[key] = _object(component, defs, named=True)
    return {"$ref": f"#/$defs/{key}"}


def _annotated(annotation: Any, defs: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        ranges = [extra.keywords() for extra in arguments[1:] if isinstance(extra, Range)]
        return _annotated(arguments[0], defs) | {k: v for words in ranges for k, v in words.items()}
    if origin in (Union, UnionType):
        groups = [_choice(o, defs) or [_annotated(o, defs)] for o in arguments]
        options = [option for group in groups for option in group]
        return {"anyOf": [o for i, o in enumerate(options) if o not in options[:i]]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _annotated(arguments[0], defs)}
    if origin is tuple:
        return {"type": "array", "prefixItems": [_annotated(a, defs) for a in arguments]}
    if annotation in PLAIN:
        return {"type": PLAIN[annotation]}
    if _is_component(annotation):
        return _object(annotation, defs, named=False)
    if options := _choice(annotation, defs):
        return {"anyOf": options}
    raise TypeError(f"a setting cannot be annotated {annotation!r}")


def _choice(annotation: Any, defs: dict[str, Any]) -> list[dict[str, Any]]:
    """References to the components that a class allows, [] where it is no component."""
    if isinstance(annotation, type) and get_origin(annotation) is None and annotation not in PLAIN:
        return [_reference(c, defs) for c in choices(annotation).values()]
    return []


def _default(f: Field[Any], annotation: Any) -> dict[str, Any]:
    if f.default is not MISSING:
        return {"default": _dump(f.default, annotation)}
    if f.default_factory is not MISSING:
        return {"default": _dump(f.default_factory(), annotation)}
    return {}


@cache
def _hints(component: type) -> dict[str, Any]:
    return get_type_hints(component, include_extras=True)


def _fields(component: type) -> tuple[Field[Any], ...]:
    return tuple(f for f in fields(component) if f.init)


def _help(component: type) -> dict[str, str]:
    """{field: its help}: the string literal under it, or its entry under "Args:" in the class docstring."""
    texts: dict[str, str] = {}
    for kind in (kind for kind in reversed(component.__mro__) if is_dataclass(kind)):
        _, _, entries = (inspect.getdoc(kind) or "").partition("Args:\n")
        texts |= {field: " ".join(text.split()) for field, text in ARGUMENT.findall(entries)}
        try:
            source = inspect.getsource(kind)
        except OSError:  # defined where there is no file, as in a notebook
            continue
        body = ast.parse(textwrap.dedent(source)).body[0].body  # type: ignore[attr-defined]
        for line, below in pairwise(body):
            match line, below:
                case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[field] = " ".join(text.split())
    return texts
