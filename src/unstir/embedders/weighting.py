"""How strongly each part of a prompt counts: `a (red:1.3) heart`."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import ConfigError

__all__ = ["Weighted", "escape", "parse"]

HEAVIEST = 10.0
NUMBER = re.compile(r":\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*$", re.IGNORECASE)
NO_NUMBER = re.compile(r":\s*([+-]?(?:nan|inf|[0-9]+,[0-9]+))\s*$", re.IGNORECASE)
TAIL = 24  # characters in which a colon and a number are looked for


class Weighted(NamedTuple):
    """A text, and the weight of each of its characters; 1 = as it is."""

    text: str
    weights: tuple[float, ...]

    @classmethod
    def plain(cls, text: str) -> Weighted:
        """The text itself, parentheses included."""
        return cls(text, (1.0,) * len(text))


def parse(prompt: str) -> Weighted:
    r"""The text that a prompt means, with `(words:1.3)` taken for words of weight 1.3.

    Groups may hold groups, whose weights then multiply. `\(` and `\)` are the characters, and so are parentheses
    without a partner or without `:number` before the closing one.

    Raises ConfigError for a weight outside 0..10, alone or multiplied, and for `1,3`.

    >>> parse("(ab:1.5)c")
    Weighted(text='abc', weights=(1.5, 1.5, 1.0))
    """
    characters: list[str] = []
    weights: list[float] = []
    opened: list[int] = []  # where in `characters` each open parenthesis is
    k = 0
    while k < len(prompt):
        character = prompt[k]
        if character == "\\" and prompt[k + 1 : k + 2] in ("(", ")"):
            character, k = prompt[k + 1], k + 1
        elif character == "(":
            opened.append(len(characters))
        elif character == ")" and opened:
            start = opened.pop()
            tail = "".join(characters[max(start + 2, len(characters) - TAIL) :])
            if wrong := NO_NUMBER.search(tail):
                raise _refused(f"weight {wrong[1]}", prompt, "is no number")
            found = NUMBER.search(tail)
            if found:  # at least one character before the colon: (:3) is a cat
                weight, end = _checked(float(found[1]), prompt), len(characters) - len(found[0])
                characters[start:] = characters[start + 1 : end]
                weights[start:] = [_checked(weight * w, prompt) for w in weights[start + 1 : end]]
                k += 1
                continue
        characters.append(character)
        weights.append(1.0)
        k += 1
    return Weighted("".join(characters), tuple(weights))


def escape(text: str) -> str:
    r"""The prompt that means this text, with its parentheses: `parse(escape(text)).text == text`."""
    return text.replace("(", r"\(").replace(")", r"\)")


def _checked(weight: float, prompt: str) -> float:
    if not 0 <= weight <= HEAVIEST:
        raise _refused(f"weight {weight:g}", prompt, f"is outside 0..{HEAVIEST:g}")
    return weight


def _refused(what: str, prompt: str, why: str) -> ConfigError:
    shown = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    hint = r"write (word:1.3), or \( and \) for parentheses that are text"
    return ConfigError(f"{what} in {shown!r} {why}", field="prompt", hint=hint)
