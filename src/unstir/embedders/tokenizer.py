"""Text as tokens: byte-level byte-pair encoding, learned from the captions of a data set."""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple, TypeVar

from ..errors import ConfigError

__all__ = ["Piece", "Tokenizer", "learn", "normalise"]

BYTES = 256
LONGEST = 64
"""Characters of a chunk: a page without a space costs no more than its length."""
PUNCTUATION = r"!-/:-@\[-`{-~"
CHUNK = re.compile(rf"[{PUNCTUATION}]{{1,{LONGEST}}}|[^{PUNCTUATION}]{{1,{LONGEST}}}")
WORD = re.compile(r"\S+")
KEPT = 2**16  # words whose tokens are remembered

T = TypeVar("T", int, bytes)


class Piece(NamedTuple):
    """A token, and the characters start..end of the text that it was made for."""

    id: int
    start: int
    end: int


def normalise(text: str) -> str:
    """Lower-case NFC, every run of white space one space, none at the ends: what a prompt means by its letters.

    >>> normalise("  Red\\tHEART ")
    'red heart'
    """
    return " ".join(_folded(word) for word in text.split())


def _folded(word: str) -> str:
    composed = unicodedata.normalize("NFC", word).lower()
    return unicodedata.normalize("NFC", composed)


def _chunks(word: str) -> list[str]:
    """A folded word in parts that no token crosses, ["red", ","]."""
    return CHUNK.findall(word)


class Tokenizer:
    """Text <-> tokens: a word, with the space before it, is its bytes, neighbours joined in the order learned.

    Ids 0..255 are the bytes, the following ones what the merges make, in their order. Punctuation is no part of a
    word's tokens. Every text has tokens: unknown letters and emoji are their bytes. Sennrich et al. 2016, "Neural
    Machine Translation of Rare Words with Subword Units", algorithm 1, on bytes as in Radford et al. 2019,
    "Language Models are Unsupervised Multitask Learners", section 2.2.

    Args:
        merges: "left right" each, both a byte or what an earlier one makes, with bytes that cannot be seen written
            as letters of their own (a space is Ġ); () = bytes.

    Raises:
        ConfigError: a merge joins what there is not.

    >>> tokenizer = Tokenizer(("r e", "re d", "Ġ red"))
    >>> tokenizer.encode("Red")
    [258]
    >>> tokenizer.decode([258, 258])
    'red red'
    """

    def __init__(self, merges: tuple[str, ...] = ()) -> None:
        self.merges = merges
        self._tokens = [bytes([byte]) for byte in range(BYTES)]
        ids = {token: k for k, token in enumerate(self._tokens)}
        self._joins: dict[tuple[int, int], tuple[int, int]] = {}  # (left, right) -> (rank, what they make)
        for rank, merge in enumerate(merges):
            try:
                left, right = (_hidden(part) for part in merge.split(" "))
                pair = ids[left], ids[right]
            except (KeyError, ValueError):
                raise ConfigError(
                    f"merge {rank}, {merge!r}, joins no two tokens that there are",
                    field="merges",
                    hint="give what `learn` gave: 'left right', each a byte or what an earlier merge makes",
                ) from None
            joined = left + right
            if joined not in ids:  # two merges may make the same token
                ids[joined] = len(self._tokens)
                self._tokens.append(joined)
            self._joins.setdefault(pair, (rank, ids[joined]))
        self._kept: dict[str, list[Piece]] = {}

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self._tokens)

    def pieces(self, text: str) -> Iterator[Piece]:
        """The tokens of a text and where in it, as it is given, they come from: to the chunk, or to the word."""
        for match in WORD.finditer(text):
            start = match.start()
            for token, begin, end in self._word(match.group()):
                yield Piece(token, start + begin, start + end)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; [] of an empty one."""
        return [piece.id for piece in self.pieces(text)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens: `normalise(text)` of those of a text. What is no UTF-8 becomes U+FFFD."""
        data = b"".join(self._tokens[token] for token in tokens)
        return data.decode("utf-8", "replace").removeprefix(" ")

    def _word(self, text: str) -> list[Piece]:
        """The tokens of a word as it is written."""
        if text in self._kept:
            return self._kept[text]
        word, pieces, start, space = _folded(text), [], 0, " "
        whole = len(word) != len(text)  # then it is not known which letter became which
        for chunk in _chunks(word):
            end = start + len(chunk)
            place = (0, len(text)) if whole else (start, end)
            pieces += [Piece(token, *place) for token in self._joined(_bytes(space + chunk))]
            start, space = end, ""
        if len(text) <= LONGEST:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[text] = pieces
        return pieces

    def _joined(self, data: bytes) -> list[int]:
        """Bytes -> tokens: the pair that was learned first is joined everywhere, as long as there is one."""
        tokens = list(data)
        while known := [pair for pair in pairwise(tokens) if pair in self._joins]:
            pair = min(known, key=lambda pair: self._joins[pair][0])
            tokens = _replaced(tokens, pair, self._joins[pair][1])
        return tokens


def learn(texts: Iterable[str], size: int) -> tuple[str, ...]:
    """The merges of a `Tokenizer` with `size` tokens: again and again, the pair that is most frequent.

    Of pairs that are equally frequent the one comes first whose bytes do, so that the same texts, in any order,
    give the same merges. It ends early where no pair comes twice. Time grows with the different words.

    Raises ConfigError for a size below 256, the bytes.
    """
    if size < BYTES:
        raise ConfigError(
            f"{size} tokens are fewer than the {BYTES} bytes", field="vocabulary", hint="take 2048"
        )
    counts = Counter(chunk for text in texts for chunk in _spaced(text))
    words = [([bytes([byte]) for byte in _bytes(chunk)], count) for chunk, count in sorted(counts.items())]
    frequency: Counter[tuple[bytes, bytes]] = Counter()
    holders: dict[tuple[bytes, bytes], set[int]] = defaultdict(set)
    for k, (word, count) in enumerate(words):
        for pair in pairwise(word):
            frequency[pair] += count
            holders[pair].add(k)
    queue = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(queue)
    tokens, merges = {bytes([byte]) for byte in range(BYTES)}, []
    while queue and len(tokens) < size:
        negative, pair = heapq.heappop(queue)
        if -negative != frequency[pair]:  # an old count; the new one is in the queue too
            continue
        if -negative < 2:
            break
        tokens.add(pair[0] + pair[1])
        merges.append(" ".join(_shown(part) for part in pair))
        changed: set[tuple[bytes, bytes]] = set()
        for k in sorted(holders.pop(pair)):
            word, count = words[k]
            joined = _replaced(word, pair, pair[0] + pair[1])
            words[k] = (joined, count)
            for old in pairwise(word):
                frequency[old] -= count
                changed.add(old)
            for new in pairwise(joined):
                frequency[new] += count
                holders[new].add(k)
                changed.add(new)
        for other in changed - {pair}:
            if frequency[other] > 0:
                heapq.heappush(queue, (-frequency[other], other))
            else:
                holders.pop(other, None)
    return tuple(merges)


def _spaced(text: str) -> Iterator[str]:
    """The chunks of a text, those that begin a word with a space."""
    for word in text.split():
        first, *rest = _chunks(_folded(word))
        yield " " + first
        yield from rest


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # half a surrogate pair is no character


def _replaced(tokens: list[T], pair: tuple[T, T], joined: T) -> list[T]:
    """The tokens with the pair joined wherever it is, from the left."""
    out: list[T] = []
    k = 0
    while k < len(tokens):
        if k + 1 < len(tokens) and (tokens[k], tokens[k + 1]) == pair:
            out.append(joined)
            k += 2
        else:
            out.append(tokens[k])
            k += 1
    return out


def _alphabet() -> dict[int, str]:
    """A visible letter for each byte: itself where it has one in Latin-1, else one from U+0100 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in visible}
    missing = [byte for byte in range(BYTES) if byte not in letters]
    return letters | {byte: chr(BYTES + k) for k, byte in enumerate(missing)}


LETTERS = _alphabet()
VALUES = {letter: byte for byte, letter in LETTERS.items()}


def _shown(token: bytes) -> str:
    return "".join(LETTERS[byte] for byte in token)


def _hidden(text: str) -> bytes:
    if not text:
        raise ValueError("a token has a byte at least")
    return bytes(VALUES[letter] for letter in text)
