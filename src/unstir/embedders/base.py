"""What the kinds of conditions share: pictures that are restored, and texts."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from ..errors import IncompatibleError
from ..rng import Rng
from ..spec import Fraction, validate
from .tokenizer import Piece
from .weighting import Weighted, parse

__all__ = ["Encoded", "Reading", "Spatial", "TextEncoder", "TextEncoderConfig", "padded"]

_log = logging.getLogger(__name__)

NAMED = 20
"""Texts that are cut and named, by one encoder; where a set of captions is evaluated there may be thousands."""


class Spatial(ABC):
    """A measurement y = A x_0 + s n as channels beside x_t, `Condition.spatial`; the last one holds s everywhere.

    The network learns p(x_0 | y, s) for every s up to `augmentation`: for clean y, for y as noisy as is told, and
    so for y that another A made, once noise has hidden the difference. This is the conditioning augmentation of
    Ho et al. 2021, "Cascaded Diffusion Models", section 4.2. They also shrink y, to alpha y + sigma n; here it
    keeps its size, so that s is the noise of a measurement.

    Each is a frozen dataclass.
    """

    augmentation: float

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    @abstractmethod
    def channels(self, channels: int) -> int:
        """How many channels the condition of pictures with `channels` has."""

    @abstractmethod
    def training(self, x_0: Tensor, rng: Rng) -> Tensor:
        """The condition of x_0 (B, C, H, W) at random levels; sample i depends on x_0[i] and generator i alone."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises where x_0 of this shape (C, *S) has no such condition."""
        if len(shape) != 3:
            raise IncompatibleError(
                f"{type(self).__name__} is of pictures, the data has shape {shape}",
                field="task",
                hint="use task=generate, or data with pictures",
            )

    def levels(self, rng: Rng, like: Tensor) -> Tensor:
        """s = augmentation u^2, (B,): half of them in the lowest quarter, since most pictures are hardly noisy."""
        u = rng.fork("level").uniform((len(rng), 1), like.dtype, like.device)[:, 0]
        return self.augmentation * u**2


def noisy(y: Tensor, std: Tensor, rng: Rng) -> Tensor:
    """y + s n with s of shape (B,)."""
    return y + std[:, None, None, None] * rng.fork("noise").normal(tuple(y.shape), y.dtype, y.device)


def plane(std: float | Tensor, like: Tensor) -> Tensor:
    """(B, 1, H, W), the level s everywhere."""
    level = torch.as_tensor(std, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)
    return level.expand(len(like), 1, *like.shape[2:])


# -- texts -------------------------------------------------------------------------------------------------


class Encoded(NamedTuple):
    """What an encoder makes of B texts: states of unit mean square, and one vector for the whole.

    tokens (B, L, width), zeros where the mask (B, L) is False; at least one token counts. pooled (B, width).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class Reading(NamedTuple):
    """A text as tokens, those that begin and end every text included, and the weight of each."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


class TextEncoderConfig(ABC):
    """The settings of a text encoder: a frozen dataclass."""

    drop: Fraction
    """Share of the texts hidden from it alone in training, a field of every kind."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    @abstractmethod
    def build(self, merges: tuple[str, ...] = ()) -> TextEncoder:
        """The encoder; one that is trained splits texts by these merges of a `Tokenizer`."""

    def sealed(self) -> Self:
        """The same with what identifies the files that it reads: with others it is refused."""
        return self


class TextEncoder(nn.Module, ABC):
    """Texts -> `Encoded`; row i depends on text i alone.

    A prompt may weight its words, `(word:1.3)`; in training a text is a caption, and means its parentheses. With
    z_i the state of token i and w_i its weight, e the mean state of the empty prompt, p and p_0 the pooled vectors of
    the prompt and of the empty one,

        z_i' = e + w_i (z_i - e)
        p' = p_0 + mean(w) (p - p_0) + mean((w_i - mean(w)) (z_i - mean(z)))

    which for p = mean(z) is p' = mean(z'). Weights of 1 change no bit, with weights of 0 the pooled vector is that of
    the empty prompt. The tokens that begin and end a text weigh what its others weigh on average.

    In evaluation all texts are padded to `length` tokens, so that no neighbour changes a bit; in training, to the
    longest of the batch. What is longer than `length` is cut; in evaluation a warning says, once per text, which words.
    """

    name: str
    """What it is called in messages."""
    width: int
    length: int
    """The most tokens of a text, those that begin and end it included."""
    before: tuple[int, ...] = ()
    """The tokens that begin every text."""
    after: tuple[int, ...] = ()
    """The tokens that end every text."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    @abstractmethod
    def split(self, text: str) -> Iterable[Piece]:
        """The tokens of a text, without those that begin and end every text."""

    @abstractmethod
    def encode(self, rows: Sequence[tuple[int, ...]]) -> Encoded:
        """The states of texts given as tokens."""

    def forward(self, texts: Sequence[str]) -> Encoded:
        """Raises ConfigError for a weight outside 0..10."""
        readings = [self.read(text, literal=self.training) for text in texts]
        encoded = self.encode([reading.ids for reading in readings])
        if all(weight == 1 for reading in readings for weight in reading.weights):
            return encoded
        empty = self.encode([self.before + self.after])
        return _emphasised(encoded, [reading.weights for reading in readings], empty)

    def read(self, text: str, *, literal: bool = False) -> Reading:
        """The tokens of a prompt and their weights, at most `length` of them; of a caption where it is literal."""
        # a command line may hold bytes that are no text
        text = text.encode("utf-8", "replace").decode()
        plain, weights = Weighted.plain(text) if literal else parse(text)
        pieces = list(self.split(plain))
        if len(pieces) > self.room and not literal:
            self._tell(text, plain[pieces[self.room].start :])
        pieces = pieces[: self.room]
        inner = [1.0 if literal else _weight(plain, weights, piece) for piece in pieces]
        rest = fmean(inner or (1.0,))
        ids = (*self.before, *(piece.id for piece in pieces), *self.after)
        return Reading(ids, (*[rest] * len(self.before), *inner, *[rest] * len(self.after)))

    @property
    def room(self) -> int:
        """The most tokens of a text's own."""
        return self.length - len(self.before) - len(self.after)

    def _tell(self, text: str, cut: str) -> None:
        if text in self._told or len(self._told) > NAMED:
            return
        self._told.add(text)
        if len(self._told) > NAMED:
            _log.warning("%s does not see the end of other texts either; they are not named", self.name)
            return
        words = cut.split()
        named = " ".join(words[:12]) + (f" ... ({len(words):,} words)" if len(words) > 12 else "")
        _log.warning(
            "%s reads %d tokens of a text; of %r it does not see: %s",
            self.name,
            self.room,
            text if len(text) <= 40 else text[:37] + "...",
            named if len(named) <= 200 else named[:197] + "...",
        )


def _weight(text: str, weights: tuple[float, ...], piece: Piece) -> float:
    """The mean over the characters of a token, less the white space that some tokens begin with."""
    own = [weights[k] for k in range(piece.start, piece.end) if not text[k].isspace()]
    return fmean(own or (1.0,))


def padded(rows: Sequence[tuple[int, ...]], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens (B, length) int64 with zeros at their ends, and the mask (B, length) of those that count."""
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], dtype=torch.int64)
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    mask = torch.arange(length) < counts[:, None]
    return ids.reshape(len(rows), length).to(device), mask.to(device)


def mean(x: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D) -> (B, D), the mean over the tokens that count."""
    weight = mask[:, :, None].to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1)


def _emphasised(encoded: Encoded, weights: Sequence[tuple[float, ...]], empty: Encoded) -> Encoded:
    """See `TextEncoder`."""
    z, mask, p = encoded
    rows = [[*row, *[1.0] * (z.shape[1] - len(row))] for row in weights]
    w = torch.tensor(rows, dtype=z.dtype).to(z.device)[:, :, None]
    e, average = mean(empty.tokens, empty.mask), mean(w, mask)
    tokens = torch.where(w == 1, z, e + w * (z - e))
    towards = mean((w - average[:, None]) * (z - mean(z, mask)[:, None]), mask)
    pooled = empty.pooled + average * (p - empty.pooled) + towards
    plain = (w == 1).all(1)
    return Encoded(tokens.masked_fill(~mask[:, :, None], 0), mask, torch.where(plain, p, pooled))
