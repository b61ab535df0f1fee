"""The captions of a folder's images: texts beside them, and tables of many.

`name.txt` beside `name.png` holds one caption a line. A table lies in the folder of its files or above it and names
them relative to itself: `captions` or `metadata` with the ending `.jsonl` (one object a line), `.csv` (the first line
names the columns) or `.parquet`. A row has a file (`file_name`, `file`, `image`), a text or, except in CSV, a list of
them (`text`, `caption`, `prompt`) and, where it is wanted, a weight for all or each of them (`weight`, `weights`).

Whatever is told of an image counts: its rows, and its tables, add up. Texts and file names are compared and kept in
Unicode's composed form (NFC), with single spaces.
"""

from __future__ import annotations

import csv
import json
import math
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from unstir.data.items import FILE, TEXT, WEIGHT, Caption, Fault, printable
from unstir.data.parquet import rows_of
from unstir.data.scan import Listing
from unstir.errors import DataError

__all__ = ["Found", "composed", "read_captions", "text_beside"]

LONGEST_LINE = 2**20
"""Bytes of one line of a table or of a text."""
LONGEST = 10_000
"""Characters that are kept of one caption."""

_SHOWN = 5

Row: TypeAlias = "tuple[int, Mapping[str, Any] | str]"
"""(number of the line or row, what it holds or what is wrong with it)"""


@dataclass
class Found:
    """What is told of the images of a folder."""

    captions: list[tuple[Caption, ...]] | None
    """Of each image, () for none; None where no image has one."""
    bad: tuple[Fault, ...] = ()
    """Lines that cannot be read; the path has their number: captions.jsonl:12."""
    notes: tuple[str, ...] = ()


@dataclass
class _Told:
    """What the sources tell, while they are read."""

    index: Mapping[str, int]
    """The number of each image, by its name in composed form."""
    known: frozenset[str]
    """Every image of the folder, the unreadable ones as well."""
    by_source: list[dict[str, dict[str, float]]]
    """Of each image {source: {text: weight}}."""
    bad: list[Fault] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    """Tables that are not of captions, in words."""
    empty: int = 0
    cut: int = 0

    def add(self, source: str, file: str, captions: Sequence[Caption]) -> None:
        k = self.index.get(file)
        if k is None:
            if file not in self.known:
                self.missing.append(file)
            return
        texts = self.by_source[k].setdefault(source, {})
        for text, weight in captions:
            texts[text] = texts.get(text, 0.0) + weight

    def clean(self, texts: Sequence[str], weights: Sequence[float]) -> list[Caption]:
        """The captions that say something."""
        found = []
        for text, weight in zip(texts, weights, strict=True):
            text = " ".join(composed(text).split())
            self.empty += not text
            self.cut += len(text) > LONGEST
            if text and weight:
                found.append(Caption(text[:LONGEST].rstrip(), weight))
        return found


class _Wrong(Exception):
    """What is wrong with a row, in words."""


def read_captions(root: Path, names: Sequence[str], listing: Listing) -> Found:
    """What the texts and tables in `listing` tell of the images `names`, and what is to be said aloud.

    Raises `DataError` when a table cannot be read at all.
    """
    told = _Told(
        index={composed(name): k for k, name in reversed(list(enumerate(names)))},
        known=frozenset(map(composed, listing.images)),
        by_source=[{} for _ in names],
    )
    _read_beside(root, names, listing, told)
    for table in listing.tables:
        _read_table(root, table, told)
    captions = [_merged(sources) for sources in told.by_source]
    return Found(captions if any(captions) else None, tuple(told.bad), tuple(_notes(told, captions)))


def text_beside(name: str) -> str:
    """The name of the text of an image."""
    return os.path.splitext(name)[0] + ".txt"


def composed(text: str) -> str:
    """The text in composed form; what is no Unicode is kept."""
    return unicodedata.normalize("NFC", text)


def _merged(sources: Mapping[str, Mapping[str, float]]) -> tuple[Caption, ...]:
    """Each text once, the weights of its mentions added."""
    weights: dict[str, float] = {}
    for texts in sources.values():
        for text, weight in texts.items():
            weights[text] = weights.get(text, 0.0) + weight
    return tuple(Caption(text, weight) for text, weight in weights.items())


def _notes(told: _Told, captions: Sequence[tuple[Caption, ...]]) -> Iterator[str]:
    if told.bad:
        shown = ", ".join(f"{printable(fault.path)} ({fault.detail})" for fault in told.bad[:_SHOWN])
        more = ", ..." if len(told.bad) > _SHOWN else ""
        yield f"{len(told.bad):,} lines of captions cannot be read: {shown}{more}"
    found, total = sum(map(bool, captions)), sum(map(len, captions))
    if found:
        several = f", {total / found:.1f} each" if total > found else ""
        yield f"captions for {found:,} of {len(captions):,} images{several}"
    if told.missing:
        shown = ", ".join(map(printable, told.missing[:_SHOWN])) + (
            ", ..." if len(told.missing) > _SHOWN else ""
        )
        yield f"{len(told.missing):,} captions are of files that are not there: {shown}"
    yield from told.unused
    if told.empty:
        yield f"{told.empty:,} captions are empty and left out"
    if told.cut:
        yield f"{told.cut:,} captions are cut to {LONGEST:,} characters"
    differ = [
        sources for sources in told.by_source if len({frozenset(texts) for texts in sources.values()}) > 1
    ]
    if differ:
        shown = " and ".join(printable(source) for source in list(differ[0])[:2])
        yield f"{len(differ):,} images have different captions in two sources, such as {shown}: all of them count"


# -- texts beside images ----------------------------------------------------------------------------------
def _read_beside(root: Path, names: Sequence[str], listing: Listing, told: _Told) -> None:
    texts = {composed(name): name for name in reversed(listing.texts)}
    read: dict[str, list[Caption]] = {}  # one text may lie beside two images, a.png and a.jpg
    for name in names:
        text = texts.get(composed(text_beside(name)))
        if text is not None:
            if text not in read:
                read[text] = _read_text(root, text, told)
            told.add(text, composed(name), read[text])


def _read_text(root: Path, text: str, told: _Told) -> list[Caption]:
    """A caption a line."""
    found, before = list[str](), len(told.bad)
    try:
        for number, line in _lines(root / text):
            if isinstance(line, _Wrong):
                told.bad.append(Fault(f"{text}:{number}", "caption", str(line)))
            elif line.strip():
                found.append(line)
    except OSError as error:
        told.bad.append(Fault(text, "caption", error.strerror or str(error)))
    told.empty += not found and len(told.bad) == before
    return told.clean(found, [1.0] * len(found))


def _lines(path: Path) -> Iterator[tuple[int, str | _Wrong]]:
    """(number, text) of each line, whatever it ends with; no more than `LONGEST_LINE` of it is in memory."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(data) > LONGEST_LINE:
                while data and not data.endswith(b"\n"):
                    data = file.readline(LONGEST_LINE)
                yield number, _Wrong(f"a line of more than {LONGEST_LINE:,} bytes")
                continue
            try:
                yield number, data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield number, _Wrong(f"no UTF-8 at byte {error.start:,}")


# -- tables -----------------------------------------------------------------------------------------------
def _read_table(root: Path, table: str, told: _Told) -> None:
    """All rows of a table; faults where a row is wrong."""
    folder, columns, before = posixpath.dirname(table), set[str](), len(told.bad)
    try:
        for number, record in _READERS[os.path.splitext(table)[1].lower()](root / table):
            try:
                if isinstance(record, str):
                    raise _Wrong(record)
                columns.update(record)
                row = _row(record)
                captions = told.clean(row.texts, row.weights)
            except _Wrong as wrong:
                told.bad.append(Fault(f"{table}:{number}", "caption", str(wrong)))
                continue
            told.add(table, composed(posixpath.normpath(posixpath.join(folder, row.file))), captions)
    except OSError as error:
        what = f"cannot read {printable(table)}: {error.strerror or error}"
        raise DataError(what, field="data.source", hint="repair it or move it away") from error
    if columns and not (columns & {*FILE} and columns & {*TEXT}):
        del told.bad[before:]
        needs = f"needs {', '.join(FILE)} and {', '.join(TEXT)}; its columns are "
        needs += ", ".join(map(printable, sorted(columns)[:_SHOWN]))
        if posixpath.basename(table).lower().startswith("captions"):
            told.bad.append(Fault(table, "caption", needs))
        else:  # a table of something else
            told.unused.append(f"{printable(table)} is not used for captions: {needs}")


class _Row(NamedTuple):
    file: str
    texts: Sequence[str]
    weights: Sequence[float]


def _row(record: Mapping[str, Any]) -> _Row:
    """What a row says. Raises `_Wrong`."""
    file = _first(record, FILE)
    if isinstance(file, Mapping):  # {"bytes", "path"}, as Hugging Face keeps images in parquet
        file = file.get("path")
    if not isinstance(file, str) or not file.strip():
        raise _Wrong(f"no file: needs {', '.join(FILE)}" + _but(record))
    texts = _first(record, TEXT)
    texts = [texts or ""] if texts is None or isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _Wrong(f"the caption is {_short(texts)}, not a text or a list of texts")
    if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
        raise _Wrong("the caption has half of a surrogate pair, which is no Unicode text")
    return _Row(file.strip().replace("\\", "/"), texts, _weights(_first(record, WEIGHT), len(texts)))


def _weights(given: Any, count: int) -> list[float]:
    if given is None or given == "":
        return [1.0] * count
    each = given if isinstance(given, list) else [given] * count
    if len(each) != count:
        raise _Wrong(f"{len(each)} weights for {count} captions")
    try:
        weights = [math.nan if isinstance(weight, bool) else float(weight) for weight in each]
    except (TypeError, ValueError, OverflowError):
        weights = [math.nan]
    if not (all(0 <= weight < math.inf for weight in weights) and sum(weights) < math.inf):
        raise _Wrong(f"the weight is {_short(given)}, not a number from 0 up")
    if weights and not any(weights):
        raise _Wrong(f"the weight is {_short(given)}, so that no caption is ever drawn")
    return weights


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _but(record: Mapping[str, Any]) -> str:
    return f", has {', '.join(map(printable, list(record)[:_SHOWN]))}" if record else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if isinstance(line, _Wrong):
            yield number, str(line)
        elif line.strip():
            try:
                record = json.loads(line.strip())
            except json.JSONDecodeError as error:  # it counts lines from this one
                yield number, f"no JSON: {error.msg} (character {error.pos + 1})"
                continue
            except (ValueError, RecursionError) as error:
                yield number, f"no JSON: {error}"
                continue
            yield number, record if isinstance(record, dict) else f"{_short(record)} is no object"


def _csv(path: Path) -> Iterator[Row]:
    wrong: list[tuple[int, str]] = []

    def lines() -> Iterator[str]:
        for number, line in _lines(path):
            if isinstance(line, _Wrong):
                wrong.append((number, str(line)))
                yield "\n"  # keeps the count of the lines
            else:
                yield line

    reader = csv.reader(lines(), strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:  # a quote that is never closed takes many lines with it
            yield from ((number, f"no CSV: {error}") for number in range(start, reader.line_num + 1))
            continue
        if not any(fields):
            continue
        if header is None:
            header = [name.strip() for name in fields]
        elif len(fields) != len(header):
            counts = f"{len(fields)} fields, the first line names {len(header)}"
            yield start, f"{counts}; put texts with commas in quotes"
        else:
            yield start, dict(zip(header, fields, strict=True))
    yield from wrong


def _parquet(path: Path) -> Iterator[Row]:
    # of an image that is kept in the table only its name is needed
    columns = [*FILE[:2], "image.path", *TEXT, *WEIGHT]
    yield from enumerate(rows_of(path, columns), 1)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
