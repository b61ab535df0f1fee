"""Bytes to numbers around zero and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Codec

__all__ = ["Identity", "IdentityConfig", "Scale", "ScaleConfig"]


@dataclass(frozen=True)
class ScaleConfig:
    """The settings of `Scale`: none."""

    def build(self) -> Scale:
        return Scale()


class Scale(Codec):
    """x_0 = byte / 127.5 - 1 in [-1, 1]; back by rounding to the nearest byte, clipped to 0..255."""

    levels = 256

    def encode(self, data: Tensor) -> Tensor:
        return data.to(torch.float32) / 127.5 - 1

    def decode(self, x_0: Tensor) -> Tensor:
        return ((x_0.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class IdentityConfig:
    """The settings of `Identity`: none."""

    def build(self) -> Identity:
        return Identity()


class Identity(Codec):
    """x_0 is the data: for points, which come normalised."""

    def encode(self, data: Tensor) -> Tensor:
        return data.to(torch.float32)

    def decode(self, x_0: Tensor) -> Tensor:
        return x_0.float()
