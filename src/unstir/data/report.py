"""What a data set is, for people: lines of text and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unstir.data.dataset import Dataset, spread
from unstir.data.duplicates import Duplicate, duplicates
from unstir.data.items import printable
from unstir.data.words import caption_lines, describe_captions
from unstir.modalities.image import to_grid
from unstir.modalities.points import to_picture

__all__ = ["Repeats", "contact_sheet", "describe", "describe_lines", "find_repeats"]

_CLASSES_SHOWN, _PAIRS_SHOWN = 12, 3
_RARE = 0.25  # of the share a class would have if all had the same
_FEW = 20  # items from which nothing general is learned


@dataclass(frozen=True)
class Repeats:
    """Items that repeat an earlier one, of both parts of a data set together."""

    x: np.ndarray = field(repr=False)
    """All items: in the order of the source, or those to train on before the source's own held-out items."""
    names: Sequence[str]
    heldout: np.ndarray
    """bool (N,): which of them are held out."""
    pairs: Sequence[Duplicate]

    @property
    def leaked(self) -> int:
        """How many held-out items training sees as well."""
        mixed = [pair for pair in self.pairs if self.heldout[pair.item] != self.heldout[pair.of]]
        return len({pair.item if self.heldout[pair.item] else pair.of for pair in mixed})

    def rows(self) -> list[dict[str, Any]]:
        """Each pair: the files, whether they are `equal` or `alike`, their distance in grey levels."""
        return [
            {
                "path": self.names[pair.item],
                "code": "alike" if pair.distance else "equal",
                "of": self.names[pair.of],
                "distance": round(pair.distance, 2),
                "heldout": [bool(self.heldout[pair.item]), bool(self.heldout[pair.of])],
            }
            for pair in self.pairs
        ]

    def to_dict(self) -> dict[str, Any]:
        """The form written by `--json`."""
        equal = sum(not pair.distance for pair in self.pairs)
        return {
            "equal": equal,
            "alike": len(self.pairs) - equal,
            "of": len({pair.of for pair in self.pairs}),
            "leaked": self.leaked,
            "pairs": self.rows(),
        }

    def sheet(self, most: int = 100) -> np.ndarray:
        """The pairs that differ most, each side by side: uint8 (H, W, C)."""
        shown = sorted(self.pairs, key=lambda pair: -pair.distance)[:most]
        both = [np.concatenate([self.x[pair.of], self.x[pair.item]], axis=1) for pair in shown]
        return to_grid(np.stack(both))


def find_repeats(train: Dataset, heldout: Dataset) -> Repeats:
    """What `duplicates` finds among the items of both parts."""
    if heldout.items is train.items:
        items, out = train.items, np.zeros(len(train.items), bool)
        out[heldout.rows] = True
        return Repeats(items.pixels, items.names, out, duplicates(items.pixels, items.keys))
    parts = (train, heldout)
    x = np.concatenate([part.x for part in parts])
    keys = np.concatenate([part.items.keys[part.rows] for part in parts])
    names = [*train.names, *(f"held out: {name}" for name in heldout.names)]
    return Repeats(x, names, np.arange(len(x)) >= len(train), duplicates(x, keys))


def describe(train: Dataset, heldout: Dataset, repeats: Repeats | None = None) -> dict[str, Any]:
    """The `Info` of the training part, the number of items held out, the bad files by reason, the captions, what is
    wrong.

    Args:
        train: what training would see.
        heldout: what it would not.
        repeats: what `find_repeats` found, where it was asked.
    """
    codes = [fault.code for fault in train.items.bad]
    captions = train.captions if train.info.captions else None
    return {
        **train.info.to_dict(),
        "heldout": len(heldout),
        "bad_codes": {code: codes.count(code) for code in sorted(set(codes))},
        "bad_captions": len(train.items.bad_captions),
        **({"told": describe_captions(captions)} if captions else {}),
        "warnings": _unbalanced(train, heldout),
        **({"repeats": repeats.to_dict()} if repeats else {}),
    }


def _unbalanced(train: Dataset, heldout: Dataset) -> list[str]:
    """Sentences about classes of which there are few items, or far fewer than of others."""
    counts = np.array(train.info.class_counts, np.int64)
    if len(heldout.info.class_counts) == len(counts):
        counts = counts + np.array(heldout.info.class_counts, np.int64)
    total = counts.sum()
    if len(counts) < 2 or not total:
        return []
    words, names = [], [printable(name) for name in train.info.classes]
    rare = [k for k in np.argsort(counts, kind="stable").tolist() if counts[k] < _RARE * total / len(counts)]
    if rare:
        few = ", ".join(
            f"{names[k]} has {counts[k] / total:.1%} of the items, {counts[k]:,} of {total:,}"
            for k in rare[:_PAIRS_SHOWN]
        )
        more = f", {len(rare) - _PAIRS_SHOWN:,} more classes are as rare" if len(rare) > _PAIRS_SHOWN else ""
        top = int(counts.argmax())
        words.append(f"unbalanced: {few}{more}; the commonest class, {names[top]}, {counts[top] / total:.0%}")
    short = [
        f"{names[k]} {counts[k]:,}" for k in np.argsort(counts, kind="stable").tolist() if counts[k] < _FEW
    ]
    if short:
        more = f" and {len(short) - _CLASSES_SHOWN:,} more" if len(short) > _CLASSES_SHOWN else ""
        words.append(f"too few items to learn a class from: {', '.join(short[:_CLASSES_SHOWN])}{more}")
    return words


def describe_lines(description: dict[str, Any]) -> list[str]:
    """A description in aligned lines: one word, then what there is to say."""
    what = "points in the plane"
    if description["kind"] == "image":
        channels, height, width = description["shape"]
        what = f"images, {width}x{height} {'grey' if channels == 1 else 'RGB'}"
    lines = [("data", f"{printable(description['source'])}  {description['count']:,} {what}")]
    if description["buckets"]:
        lines.append(("buckets", _buckets(description["buckets"])))
    lines.append(("heldout", f"{description['heldout']:,} more, for the held-out loss"))
    if description["classes"]:
        lines.append(("classes", _classes(description["classes"], description["class_counts"])))
    if "told" in description:
        lines += [("captions", text) for text in caption_lines(description["told"])]
    lines.append(("values", f"mean {description['mean']:.3f}, standard deviation {description['std']:.3f}"))
    if description["bad"]:
        codes = ", ".join(f"{code} {count:,}" for code, count in description["bad_codes"].items())
        lines.append(("bad", f"{description['bad']:,} files skipped: {codes}"))
    lines += [("repeats", text) for text in _repeats(description.get("repeats"))]
    lines += [("warning", warning) for warning in description["warnings"]]
    lines += [("note", note) for note in description["notes"]]
    return [f"{word:<9}{text}" for word, text in lines]


def _repeats(found: dict[str, Any] | None) -> list[str]:
    """What was found, in sentences."""
    if not found or not found["pairs"]:
        return []
    words = []
    for code, what in (("equal", "duplicate"), ("alike", "near-duplicate")):
        pairs = [row for row in found["pairs"] if row["code"] == code]
        if pairs:
            shown = ", ".join(
                f"{printable(row['of'])} ~ {printable(row['path'])}" for row in pairs[:_PAIRS_SHOWN]
            )
            more = ", ..." if len(pairs) > _PAIRS_SHOWN else ""
            words.append(f"{len(pairs):,} {what}{'s' * (len(pairs) != 1)}: {shown}{more}")
    if found["leaked"]:
        words.append(
            f"{found['leaked']:,} held-out items are in the training part as well: losses on them say little"
        )
    return words


def _classes(classes: tuple[str, ...], counts: tuple[int, ...]) -> str:
    shown = zip(classes[:_CLASSES_SHOWN], counts, strict=False)
    names = ", ".join(f"{printable(name)} {count:,}" for name, count in shown)
    return f"{len(classes):,}: {names}{', ...' if len(classes) > _CLASSES_SHOWN else ''}"


def _buckets(buckets: Sequence[tuple[int, int, int]]) -> str:
    """The shapes that training sees, as width x height, and how many items have each."""
    return ", ".join(f"{width}x{height} {count:,}" for height, width, count in buckets)


def contact_sheet(dataset: Dataset, n: int = 64) -> np.ndarray:
    """Up to n items, spread evenly, on one sheet: uint8 (H, W, C). Points: their density."""
    if dataset.info.kind == "points":
        return to_picture(dataset.x)[0]
    rows = dataset.rows[spread(len(dataset), n)]
    return to_grid(dataset.items.pixels[rows])
