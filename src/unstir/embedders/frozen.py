"""What the text encoders share that come trained and stay as they are."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CheckpointError, ConfigError, IncompatibleError
from ..files import write_atomic
from ..tensors import load_tensors, nbytes, save_tensors
from .base import Encoded, TextEncoder, padded
from .tokenizer import Piece

__all__ = ["FrozenEncoder", "Network", "States", "digest_of"]

_log = logging.getLogger(__name__)

MEMORY = 2 * 2**30
"""Bytes of states that an encoder remembers: 190,000 captions of 14 tokens of 384 numbers."""
KEPT = torch.float16
"""Of states of unit mean square it keeps 11 bits; so they are the same whether computed or read from a file."""


BATCH = 64  # texts of one length that are read together


class States(NamedTuple):
    """What a network makes of texts of one length, tokens (B, L, width) and pooled (B, width), or of one of them."""

    tokens: Tensor
    pooled: Tensor


class Network(Protocol):
    """A trained network and where it is."""

    def to(self, device: torch.device) -> object:
        """Moves it there."""

    def __call__(self, ids: Tensor) -> States:
        """The states of texts, ids (B, L) int64, in units of its own."""

    def weights(self) -> Mapping[str, Tensor]:
        """What it has learned."""


class FrozenEncoder(TextEncoder):
    """z = rms(network(ids)), one text at a time; rms(x) = x / sqrt(mean(x^2)), over the channels.

    A text on its own needs no padding and has no neighbours, and it is read once, as long as there is room to
    remember its states; only `remember` reads several of one length together. The network is no part of this
    module, neither of `parameters()` nor of `state_dict()`: copies of the module, such as an average of weights,
    share it. It follows the module to its device and computes in float32 in any case.

    Args:
        name: what it is called in messages.
        network: the network.
        width: channels of its states.
        length: the most tokens of a text, its first and last ones included.
        tokenizer: of the `tokenizers` library.
        digest: what the network's must be where it is not "".

    Raises:
        ConfigError: the length has no room for a word.
        IncompatibleError: the digest is another.
    """

    here: Tensor

    def __init__(
        self, name: str, network: Network, width: int, length: int, tokenizer: Any, digest: str = ""
    ) -> None:
        super().__init__()
        self.name = name
        self.width, self.length = width, length
        self.digest = digest_of(network.weights())
        if digest and digest != self.digest:
            raise IncompatibleError(
                f"{name} has the digest {self.digest}, the model was trained with {digest}",
                field="path",
                hint="give the files that it was trained with",
            )
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.before, self.after = _frame(tokenizer)
        if length <= len(self.before) + len(self.after):
            raise ConfigError(
                f"length={length} has no room for a word between the tokens that begin and end a text",
                field="length",
                hint="take 64",
            )
        self._shared = _Shared(network, tokenizer)
        self.register_buffer("here", torch.empty(0), persistent=False)  # knows the device

    def split(self, text: str) -> Iterable[Piece]:
        found = self._shared.tokenizer.encode(text, add_special_tokens=False)
        return [Piece(token, *place) for token, place in zip(found.ids, found.offsets, strict=True)]

    def encode(self, rows: Sequence[tuple[int, ...]]) -> Encoded:
        states = [self._shared(row, self.here.device) for row in rows]
        length = max(map(len, rows), default=1) if self.training else self.length
        tokens = torch.zeros(len(rows), length, self.width, dtype=KEPT)
        for k, state in enumerate(states):
            tokens[k, : len(state.tokens)] = state.tokens
        pooled = torch.stack([state.pooled for state in states]) if states else tokens[:, 0]
        _, mask = padded(rows, length, self.here.device)
        return Encoded(tokens.to(self.here), mask, pooled.to(self.here))

    def remember(self, captions: Iterable[str], folder: Path | None = None) -> None:
        """Computes the states of all captions now, as training reads them; kept in a file of the folder, if given.

        Where they are too many to be remembered, or the folder cannot be used, the log says so.
        """
        different = {self.read(caption, literal=True).ids for caption in captions}
        rows = sorted(different, key=lambda row: (len(row), row))
        if all(row in self._shared.kept for row in rows):
            return
        name = hashlib.sha256(repr((self.digest, rows)).encode()).hexdigest()[:32]
        path = None if folder is None else folder / f"{name}.safetensors"
        states = None if path is None or not path.exists() else _read(path, rows, self.width)
        done = 0
        for batch in _batches(rows):
            until = done + len(batch)
            found = states[done:until] if states else self._shared.read(batch, self.here.device)
            for row, state in zip(batch, found, strict=True):
                self._shared.keep(row, state)
            done = until
            if self._shared.full and done < len(rows):
                words = "%s remembers what it made of %d of %d captions; for more there is no room"
                _log.warning(words, self.name, done, len(rows))
                return
        if path is not None and states is None:
            _write(path, [self._shared.kept[row] for row in rows])


class _Shared:
    """A network and the states it gave, those unused for the longest first; one for all copies of an encoder."""

    def __init__(self, network: Network, tokenizer: Any) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.kept: OrderedDict[tuple[int, ...], States] = OrderedDict()
        self._size = 0

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __call__(self, row: tuple[int, ...], device: torch.device) -> States:
        if row not in self.kept:
            self.keep(row, *self.read([row], device))
        self.kept.move_to_end(row)
        return self.kept[row]

    def read(self, rows: Sequence[tuple[int, ...]], device: torch.device) -> list[States]:
        """The states of rows of one length, in main memory."""
        self.network.to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            states = self.network(torch.tensor(rows, device=device))
        tokens, pooled = (F.rms_norm(x.float(), x.shape[-1:], eps=1e-12).to("cpu", KEPT) for x in states)
        return [States(*parts) for parts in zip(tokens, pooled, strict=True)]

    @property
    def full(self) -> bool:
        return self._size > 0.95 * MEMORY

    def keep(self, row: tuple[int, ...], states: States) -> None:
        if row in self.kept:
            return
        self.kept[row] = states
        self._size += nbytes(states)
        while self._size > MEMORY and len(self.kept) > 1:
            self._size -= nbytes(self.kept.popitem(last=False)[1])


def _batches(rows: Iterable[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Rows, the shorter ones first, in parts of one length."""
    for _, same in groupby(rows, len):
        while batch := list(islice(same, BATCH)):
            yield batch


def _read(path: Path, rows: Sequence[tuple[int, ...]], width: int) -> list[States] | None:
    """The states of these rows; None, and a line in the log, where the file is damaged."""
    lengths = [len(row) for row in rows]
    sizes = {"tokens": sum(lengths), "pooled": len(rows)}
    expected = {name: torch.empty(size, width, dtype=KEPT) for name, size in sizes.items()}
    try:
        found = load_tensors(path, expected)
    except CheckpointError as error:
        _log.warning("what was kept of the captions is made again: %s", error)
        return None
    return [States(*parts) for parts in zip(found["tokens"].split(lengths), found["pooled"], strict=True)]


def _write(path: Path, states: Sequence[States]) -> None:
    tensors = {
        "tokens": torch.cat([state.tokens for state in states]),
        "pooled": torch.stack([state.pooled for state in states]),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: save_tensors(file, tensors))
    except (OSError, CheckpointError) as error:
        _log.warning("what the text encoder made of the captions is not kept: %s", error)


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """12 hexadecimal digits of the names, shapes and some thousand values of each tensor."""
    seal = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        flat = tensor.detach().flatten()
        some = flat[:: max(1, len(flat) // 4096)].float().cpu().contiguous()
        seal.update(f"{name} {list(tensor.shape)}".encode())
        seal.update(some.numpy().tobytes())
    return seal.hexdigest()[:12]


def _frame(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that begin and that end every text."""
    whole = tokenizer.encode("a").ids
    inner = tokenizer.encode("a", add_special_tokens=False).ids
    start = next(k for k in range(len(whole)) if whole[k : k + len(inner)] == inner)
    return tuple(whole[:start]), tuple(whole[start + len(inner) :])
