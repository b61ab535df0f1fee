"""Checking plain data against a JSON Schema, without torch.

The subset of draft 2020-12 that `spec.schema` writes: type, enum, const, minimum, maximum, exclusiveMinimum,
exclusiveMaximum, items, prefixItems, properties, required, anyOf, $ref. Values may arrive as text (from a
command line, or YAML's `1e-3`), so checking also converts: `check("10m", duration)` gives 600.0.

A *component* is an object whose `name` is constant; `anyOf` over components is a choice, and its value may be
written as the bare name, in any case ("cosine" for {"name": "Cosine"}).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, did_you_mean

__all__ = [
    "Problem",
    "Schema",
    "check",
    "components",
    "describe",
    "listed",
    "mismatch",
    "plain",
    "refuse",
    "resolve",
]

Schema = Mapping[str, Any]

TRUE, FALSE, NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null", "auto")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)(s|m|h|d|)", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one setting: where, what was got and what is accepted, what to try."""

    field: str
    message: str
    hint: str | None = None


def refuse(problems: list[Problem], hint: str | None = None) -> None:
    """Raise one `ConfigError` that lists every problem; return where there is none."""
    if not problems:
        return
    if len(problems) == 1:
        (only,) = problems
        raise ConfigError(only.message, field=only.field, hint=only.hint or hint)
    lines = [p.message + (f"; {p.hint}" if p.hint else "") for p in problems]
    raise ConfigError(
        f"{len(problems)} settings are wrong:\n" + "\n".join(f"  {line}" for line in lines),
        field=", ".join(dict.fromkeys(p.field for p in problems)),
        hint=hint,
    )


def resolve(schema: Schema, root: Schema) -> Schema:
    """The schema itself, or what its `$ref` points to in the `$defs` of `root`."""
    reference = schema.get("$ref")
    return root["$defs"][reference.removeprefix("#/$defs/")] if reference else schema


def components(schema: Schema, root: Schema) -> dict[str, Schema]:
    """The components a schema lets one choose from, by name; {} where it is no choice of components."""
    options = [resolve(option, root) for option in schema.get("anyOf", [schema])]
    named = [o for o in options if "const" in o.get("properties", {}).get("name", {})]
    return {o["properties"]["name"]["const"]: o for o in named}


def listed(schema: Schema, root: Schema) -> Schema | None:
    """The schema less its none, where what is left is a list of components."""
    options = [option for option in schema.get("anyOf", [schema]) if option != {"type": "null"}]
    return options[0] if len(options) == 1 and components(options[0].get("items", {}), root) else None


def _besides(schema: Schema, root: Schema) -> list[Schema]:
    """What a choice of components accepts besides them and none."""
    options = [resolve(option, root) for option in schema.get("anyOf", [])]
    return [o for o in options if not components(o, root) and o != {"type": "null"}]


def check(value: Any, schema: Schema, root: Schema, field: str = "") -> tuple[Any, list[Problem]]:
    """(the value in its declared type, everything that is wrong with it)."""
    if choice := components(schema, root):
        others = _besides(schema, root)
        for option in others:
            result, problems = check(value, option, root, field)
            if not problems:
                return result, []
        if others and isinstance(value, str) and plain(value) not in map(plain, choice):
            return value, [mismatch(value, schema, root, field)]
        return _component(value, schema, choice, root, field)
    if (entries := listed(schema, root)) and not (value is None or _is_none(value)):
        return _array(value, entries, root, field)
    if options := schema.get("anyOf"):
        if isinstance(value, str) and "," in value:  # a list before the text it might also be
            options = sorted(options, key=lambda option: resolve(option, root).get("type") != "array")
        for option in options:
            result, problems = check(value, option, root, field)
            if not problems:
                return result, []
        return value, [mismatch(value, schema, root, field)]
    target = resolve(schema, root)
    if target.get("type") == "object":
        return _object(value, target, root, field)
    if target.get("type") == "array":
        return _array(value, target, root, field)
    try:
        return _scalar(value, target), []
    except (ValueError, OverflowError):
        return value, [mismatch(value, target, root, field)]


def _component(
    value: Any, schema: Schema, choice: dict[str, Schema], root: Schema, field: str
) -> tuple[Any, list[Problem]]:
    optional = {"type": "null"} in schema.get("anyOf", [])
    if value is None or _is_none(value):
        return None, [] if optional else [mismatch(value, schema, root, field)]
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        return value, [mismatch(value, schema, root, field)]
    fields = {k: v for k, v in given.items() if k != "name"}
    wanted = given.get("name")
    if wanted is None:
        kind = _having(fields, choice)
        result, problems = _object(fields, choice[kind], root, field)
        # where it may be none, its kind is left open as well
        return result if optional else {"name": kind} | result, problems
    name = next((n for n in choice if plain(n) == plain(str(wanted))), None)
    if name is None:
        word, listed, _ = field.rpartition(".")[2].partition("[")
        what = (word.removesuffix("s") if listed else word) or "name"
        hint = did_you_mean(str(wanted), (n.lower() for n in choice), what)
        return value, [Problem(field, f"{field}: {wanted!r} is not known", hint)]
    result, problems = _object(fields, choice[name], root, field)
    return {"name": name} | result, problems


def _is_none(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in NONE


def plain(name: str) -> str:
    """A component's name as it is compared: BetaLinear, beta_linear and betalinear are the same."""
    return name.lower().replace("_", "").replace("-", "")


def _having(fields: Mapping[str, Any], choice: Mapping[str, Schema]) -> str:
    """The first component that has all the fields, else the first."""
    return next((n for n, s in choice.items() if fields.keys() <= s["properties"].keys()), next(iter(choice)))


def _object(value: Any, schema: Schema, root: Schema, field: str) -> tuple[Any, list[Problem]]:
    if not isinstance(value, Mapping):
        return value, [mismatch(value, schema, root, field)]
    properties, result, problems = schema["properties"], {}, []
    prefix = f"{field}." if field else ""
    for key, item in value.items():
        if key in properties:
            result[key], wrong = check(item, properties[key], root, prefix + key)
            problems += wrong
        else:
            hint = did_you_mean(str(key), properties.keys() - {"name"}, "setting")
            problems.append(Problem(f"{prefix}{key}", f"unknown setting '{prefix}{key}'", hint))
    for key in schema.get("required", []):
        if key not in value and key != "name":
            problems.append(Problem(prefix + key, f"{prefix}{key} is missing: give {prefix}{key}=..."))
    return result, problems


def _array(value: Any, schema: Schema, root: Schema, field: str) -> tuple[Any, list[Problem]]:
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[]()").split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        value = [value]
    fixed = schema.get("prefixItems")
    if fixed is not None and len(value) != len(fixed):
        return value, [mismatch(value, schema, root, field)]
    result, problems = [], []
    for i, item in enumerate(value):
        one, wrong = check(item, fixed[i] if fixed is not None else schema["items"], root, f"{field}[{i}]")
        result.append(one)
        problems += wrong
    return result, problems


def _scalar(value: Any, schema: Schema) -> Any:
    """The value as the schema's type; ValueError where it is not one."""
    text = value.strip().lower() if isinstance(value, str) else None
    match schema.get("type"):
        case "null":
            if value is None or text in NONE:
                return None
        case "boolean":
            if isinstance(value, bool):
                return value
            if text in TRUE or text in FALSE:
                return text in TRUE
        case "integer":
            return _within(_integer(value), schema)
        case "number":
            return _within(_number(value, duration=schema.get("x-unit") == "s"), schema)
        case "string":
            if isinstance(value, str):
                return _one_of(value, schema)
        case _:
            return _one_of(value, schema)
    raise ValueError


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    if not number.is_integer() or abs(number) >= 2**53:
        return int(value) if isinstance(value, str) else _not_a_number()
    return int(number)


def _number(value: Any, duration: bool = False) -> float:
    if isinstance(value, str) and duration and (match := DURATION.fullmatch(value.strip())):
        value = float(match[1]) * SECONDS[match[2].lower()]
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        _not_a_number()
    number = float(value)
    return number if math.isfinite(number) else _not_a_number()


def _not_a_number() -> Any:
    raise ValueError


def _within(number: float, schema: Schema) -> float:
    inside = (
        number >= schema.get("minimum", -math.inf)
        and number <= schema.get("maximum", math.inf)
        and number > schema.get("exclusiveMinimum", -math.inf)
        and number < schema.get("exclusiveMaximum", math.inf)
    )
    return number if inside else _not_a_number()


def _one_of(value: Any, schema: Schema) -> Any:
    if "enum" not in schema:
        return value
    return next((o for o in schema["enum"] if str(o).lower() == str(value).lower()), None) or _not_a_number()


def mismatch(value: Any, schema: Schema, root: Schema, field: str) -> Problem:
    """The problem with a value that the schema does not accept, and what it does."""
    hint = None
    if isinstance(value, str) and (known := list(_words(schema, root))):
        hint = did_you_mean(value, known)
    got = "nothing" if value is None else repr(value)
    return Problem(
        field,
        f"{field}: got {got if len(got) < 60 else got[:57] + '...'}, accepted is {describe(schema, root)}",
        hint,
    )


def _words(schema: Schema, root: Schema) -> Iterator[str]:
    yield from (str(o) for o in schema.get("enum", []))
    if "anyOf" not in schema:
        yield from map(str.lower, components(schema, root))
    for option in schema.get("anyOf", []):
        yield from _words(resolve(option, root), root)


def describe(schema: Schema, root: Schema) -> str:
    """What a schema accepts, in words: "an integer >= 1 or none"."""
    if choice := components(schema, root):
        words = [describe(option, root) for option in _besides(schema, root)] + [", ".join(choice)]
        return " or ".join(words + ["none"] * ({"type": "null"} in schema.get("anyOf", [])))
    if options := schema.get("anyOf"):
        return " or ".join(describe(option, root) for option in options)
    target = resolve(schema, root)
    if "enum" in target:
        return "one of " + ", ".join(str(o) for o in target["enum"])
    match target.get("type"):
        case "null":
            return "none"
        case "boolean":
            return "true or false"
        case "integer":
            return "an integer" + _range(target)
        case "number" if target.get("x-unit") == "s":
            return "a time (90s, 10m, 1.5h or seconds)" + _range(target)
        case "number":
            return "a number" + _range(target)
        case "array" if "prefixItems" in target:
            each = dict.fromkeys(describe(item, root) for item in target["prefixItems"])
            return f"{len(target['prefixItems'])} values, comma between, each {' or '.join(each)}"
        case "array":
            return f"a list (comma between) of: {describe(target['items'], root)}"
        case "object":
            return "a group of settings: " + ", ".join(target["properties"])
        case _:
            return "text"


def _range(schema: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {_limit(schema[key])}" for key, sign in signs.items() if key in schema]
    return " " + " and ".join(limits) if limits else ""


def _limit(number: float) -> str:
    return f"2^{round(math.log2(number))}" if number >= 2**31 else f"{number:.12g}"
