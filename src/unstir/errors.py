"""Every error a user can meet: what was got, what is accepted, what to do.

An error is one class with three fields: the message, the `field` (the setting, file or argument it is
about) and the `hint` (the next thing to try). The subclass fixes the machine-readable `code` and the
command line's `exit_code`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "IncompatibleError",
    "NumericError",
    "UnstirError",
    "did_you_mean",
]


class UnstirError(Exception):
    """Base of all errors raised on purpose; `str(error)` is one or more plain sentences."""

    code: str = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint

    def to_dict(self) -> dict[str, Any]:
        """The form written by `--json` and by the server."""
        return {"code": self.code, "message": self.message, "field": self.field, "hint": self.hint}

    @staticmethod
    def from_dict(told: Mapping[str, Any]) -> UnstirError:
        """The error that `to_dict` told of; where the code has no class here, one that bears the code."""
        kind = next((kind for kind in KINDS if kind.code == told["code"]), UnstirError)
        error = kind(told["message"], field=told.get("field"), hint=told.get("hint"))
        error.code = told["code"]
        return error


class ConfigError(UnstirError):
    """A setting is unknown, of the wrong type or out of range."""

    code = "config"
    exit_code = 2


class IncompatibleError(ConfigError):
    """Two parts that are each fine cannot work together."""

    code = "incompatible"


class DataError(UnstirError):
    """The training data or an input file cannot be used."""

    code = "data"
    exit_code = 3


class CheckpointError(UnstirError):
    """A model file, a run directory or the disk under it cannot be used."""

    code = "checkpoint"
    exit_code = 4


class NumericError(UnstirError):
    """A loss, a weight or a sample became NaN or infinite."""

    code = "numeric"
    exit_code = 5


class DeviceError(UnstirError):
    """The device is missing or has too little memory."""

    code = "device"
    exit_code = 6


KINDS = (ConfigError, IncompatibleError, DataError, CheckpointError, NumericError, DeviceError)


def did_you_mean(word: str, known: Iterable[str], what: str = "value") -> str:
    """A hint for an unknown word: the nearest known ones, else all of them.

    >>> did_you_mean("hein", ["heun", "euler"])
    "did you mean 'heun'?"
    """
    known = sorted(known)
    near = get_close_matches(word.lower(), known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"'{n}'" for n in near) + "?"
    return f"known {what}s: " + ", ".join(known)
