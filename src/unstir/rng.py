"""Random numbers as a pure function of (seed, stream, element): counter-based, one key per sample.

An `Rng` holds one 64-bit key per sample and no state. The same call on the same `Rng` returns the same
numbers; other numbers come from `fork`, which derives an independent stream. Element j of sample i is
word j of the Philox-4x32-10 sequence of key i (Salmon et al. 2011, "Parallel Random Numbers: As Easy as
1, 2, 3"), so batch size, position in the batch and device never change a sample.

>>> a, b = Rng.of(7, 16), Rng.of(12, 1)
>>> bool((a.normal((16, 3))[5] == b.normal((1, 3))[0]).all())
True
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from .errors import ConfigError

__all__ = ["Rng", "permutation_index"]

_LOW = 0xFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PHILOX_M = (0xD2511F53, 0xCD9E8D57)
_PHILOX_W = (0x9E3779B9, 0xBB67AE85)


def _signed(word: int) -> int:
    """The int64 with the same bits as this unsigned 64-bit word."""
    word &= 0xFFFFFFFFFFFFFFFF
    return word - (1 << 64) if word >> 63 else word


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64: a bijection of 64-bit words that changes half the bits (Steele 2014)."""
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def _philox(keys: Tensor, blocks: int) -> Tensor:
    """Philox-4x32-10 for counters 0..blocks-1 of every key: (B,) -> (B, 4*blocks) of 32-bit words in int64."""
    k0, k1 = (keys & _LOW)[:, None], _shift_right(keys, 32)[:, None]
    c0 = torch.arange(blocks, device=keys.device)[None].expand(len(keys), blocks)
    c1 = c2 = c3 = torch.zeros_like(c0)
    for _ in range(10):
        p0, p1 = c0 * _PHILOX_M[0], c2 * _PHILOX_M[1]
        c0, c1, c2, c3 = _shift_right(p1, 32) ^ c1 ^ k0, p1 & _LOW, _shift_right(p0, 32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _PHILOX_W[0]) & _LOW, (k1 + _PHILOX_W[1]) & _LOW
    return torch.stack((c0, c1, c2, c3), dim=-1).flatten(1)


class Rng:
    """One counter-based generator per sample; sample i depends on `seeds[i]` and the fork labels alone.

    Args:
        seeds: one integer in [0, 2^63) per sample.

    Raises:
        ConfigError: a seed is negative or does not fit in 63 bits.
    """

    def __init__(self, seeds: Iterable[int] | Tensor) -> None:
        if not isinstance(seeds, Tensor):
            seeds = [int(s) for s in seeds]
            _check_seeds(seeds)
            seeds = torch.tensor(seeds, dtype=torch.int64)
        elif len(seeds):
            _check_seeds([int(seeds.min())])
        self.keys = _mix(seeds.to(torch.int64) + _signed(_GOLDEN))

    @classmethod
    def of(cls, seed: int, n: int) -> Rng:
        """The generators of seeds seed, seed + 1, ..., seed + n - 1."""
        return cls(range(seed, seed + n))

    def _with(self, keys: Tensor) -> Rng:
        rng = object.__new__(Rng)
        rng.keys = keys
        return rng

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: slice | Tensor) -> Rng:
        return self._with(self.keys[index])

    def to(self, device: torch.device | str) -> Rng:
        """The same generators with their keys on another device: the same numbers, made there."""
        return self._with(self.keys.to(device))

    def fork(self, *labels: str | int | float | Tensor) -> Rng:
        """An independent stream per label: a name, a number, or a (B,) tensor with one number per sample."""
        keys = self.keys
        for label in labels:
            keys = _mix(keys * _signed(_GOLDEN) + _mix(_word(label, keys.device)))
        return self._with(keys)

    def uniform(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform on the open interval (0, 1) with 32 random bits; shape[0] must equal len(self)."""
        dtype = dtype or torch.get_default_dtype()
        # the cast may round up to 1
        return self._uniform(shape, device).to(dtype).clamp(max=1 - torch.finfo(dtype).eps / 2)

    def normal(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Standard normal by Box-Muller, computed in float64 so that every device rounds to the same value."""
        n = math.prod(shape[1:])
        u = self._uniform((len(self), 2 * ((n + 1) // 2)), device, rows=shape[0]).unflatten(1, (-1, 2))
        radius, angle = torch.sqrt(-2 * torch.log(u[..., 0])), 2 * math.pi * u[..., 1]
        z = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten(1)
        return z[:, :n].to(dtype or torch.get_default_dtype()).reshape(shape)

    def integers(self, high: int, shape: tuple[int, ...], device: torch.device | str | None = None) -> Tensor:
        """Integers 0..high-1 (int64), for high <= 2^31."""
        return (self._uniform(shape, device) * high).long()

    def _uniform(
        self, shape: tuple[int, ...], device: torch.device | str | None, rows: int | None = None
    ) -> Tensor:
        if (rows or shape[0]) != len(self):
            raise ConfigError(
                f"asked for {rows or shape[0]} samples from {len(self)} generators",
                field="seed",
                hint="the first dimension of the shape is the number of seeds",
            )
        keys = self.keys if device is None else self.keys.to(device)
        n = math.prod(shape[1:])
        words = _philox(keys, (n + 3) // 4)[:, :n]
        return ((words.double() + 0.5) * 2.0**-32).reshape(shape)


def _check_seeds(seeds: list[int]) -> None:
    for s in seeds:
        if not 0 <= s < 1 << 63:
            raise ConfigError(
                f"seed {s} is out of range", field="seed", hint="use an integer from 0 to 2^63 - 1"
            )


def _word(label: str | int | float | Tensor, device: torch.device) -> Tensor:
    if isinstance(label, Tensor):
        label = label.to(device)
        return label.double().view(torch.int64) if label.is_floating_point() else label.to(torch.int64)
    if isinstance(label, str):
        word = int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), "little")
    elif isinstance(label, float):
        word = int.from_bytes(struct.pack("<d", label), "little")
    else:
        word = int(label)
    return torch.tensor(_signed(word), device=device)


def permutation_index(seed: int, counter: int | np.ndarray, n: int) -> np.ndarray:
    """pi_e(counter mod n) with e = counter // n: the item of the counter-th draw, a new order every epoch.

    A keyed bijection of [0, n) (eight-round Feistel network with cycle walking), so that any position of
    any epoch is found in O(1) time and memory.

    Args:
        seed: the seed of the order.
        counter: draws so far, any shape, int64.
        n: number of items, 1 <= n < 2^40.

    Raises:
        ConfigError: n is out of range.
    """
    if not 1 <= n < 1 << 40:
        raise ConfigError(f"cannot order {n} items", field="data", hint="accepted: 1 to 2^40 - 1 items")
    counter = np.asarray(counter, dtype=np.uint64)
    epoch, position = counter // np.uint64(n), counter % np.uint64(n)
    half = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    with np.errstate(over="ignore"):
        key = _mix_np(np.uint64(seed) * np.uint64(_GOLDEN) + _mix_np(epoch + np.uint64(1)))
        x, outside = position.copy(), np.ones(position.shape, bool)
        while outside.any():
            left, right = x >> half, x & mask
            for r in range(8):  # with four, small sets show their first item too often at some places
                left, right = right, left ^ (_mix_np(right + key + np.uint64(r * 0x1F83D9ABFB41BD6B)) & mask)
            x = np.where(outside, (left << half) | right, x)
            outside = x >= n
    return x.astype(np.int64)


def _mix_np(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return x ^ (x >> np.uint64(31))
