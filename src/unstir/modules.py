"""Copies of modules that share every weight and differ in some of their parts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from torch import nn

__all__ = ["Divisible", "Part", "replaced", "twin"]

M = TypeVar("M", bound=nn.Module)

Part = Literal["attention", "blocks"]
"""What a network can be run without: the attention between positions in some of its blocks, or the blocks."""


@runtime_checkable
class Divisible(Protocol):
    """A network that can be run without some of its parts."""

    def without(self, part: Part, blocks: tuple[int, ...] | None = None) -> nn.Module:
        """The same network, weights shared, with parts of it switched off; None = those in the middle."""


def twin(module: M, **changes: Any) -> M:
    """A copy of the module with some attributes changed; all others, weights and hooks included, are shared."""
    copied = copy.copy(module)
    copied.__dict__["_modules"] = dict(module._modules)
    for name, value in changes.items():
        setattr(copied, name, value)
    return copied


def replaced(module: M, parts: Mapping[nn.Module, nn.Module]) -> M:
    """The module with some of its parts exchanged, at any depth; everything else is shared, nothing is changed."""
    changes: dict[str, nn.Module] = {}
    for name, part in module.named_children():
        new = parts[part] if part in parts else replaced(part, parts)
        if new is not part:
            changes[name] = new
    return twin(module, **changes) if changes else module
