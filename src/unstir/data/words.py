"""The captions of a data set in numbers: how many, how long, which words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from unstir.data.items import Caption, printable

__all__ = ["caption_lines", "common_words", "describe_captions"]

SMALL = re.compile(r"(a|an|and|at|by|for|from|in|is|it|of|on|or|the|to|with)")
"""Words that say nothing of a picture."""

_WORDS, _SHOWN = 10, 3


def common_words(texts: Iterable[str], most: int) -> list[tuple[str, int]]:
    """The words that the most texts have, in lower case, and how many have them; small words are left out."""
    found = Counter(
        word
        for text in texts
        for word in dict.fromkeys(re.findall(r"\w+", text.lower()))
        if not SMALL.fullmatch(word)
    )
    return found.most_common(most)


def describe_captions(captions: Sequence[tuple[Caption, ...]]) -> dict[str, Any]:
    """Counts, JSON-able.

    Keys: `items` that have a caption and `without`; `captions` in all, `fewest` and `most` of one item that has some;
    `length` in words: shortest, median, longest; `words`: the commonest with the number of items that have them;
    `shared`: texts that more than one item has, `shared_by` how many items, `shared_texts` the commonest of them.
    """
    counts = [len(some) for some in captions if some]
    lengths = [len(caption.text.split()) for some in captions for caption in some]
    items_of = Counter(caption.text for some in captions for caption in some)
    shared = [(text, count) for text, count in items_of.most_common() if count > 1]
    texts = {text for text, _ in shared}
    return {
        "items": len(counts),
        "without": len(captions) - len(counts),
        "captions": sum(counts),
        "fewest": min(counts, default=0),
        "most": max(counts, default=0),
        "length": [min(lengths), median(lengths), max(lengths)] if lengths else [],
        "words": common_words((" ".join(caption.text for caption in some) for some in captions), _WORDS),
        "shared": len(shared),
        "shared_by": sum(any(caption.text in texts for caption in some) for some in captions),
        "shared_texts": shared[:_SHOWN],
    }


def caption_lines(told: dict[str, Any]) -> list[str]:
    """The same in sentences."""
    total, n = told["items"] + told["without"], told["items"]
    each = f"{told['fewest']}" if told["fewest"] == told["most"] else f"{told['fewest']} to {told['most']}"
    without = f", {told['without']:,} without" if told["without"] else ""
    low, middle, high = told["length"]
    long = f"{low} words" if low == high else f"{low} to {high:,} words, in the middle {middle:g}"
    lines = [f"{told['captions']:,} for {n:,} of {total:,} items{without}; {each} each, of {long}"]
    if told["words"]:
        named = ", ".join(f"{printable(word)} {count / n:.1%}" for word, count in told["words"])
        lines.append(f"commonest words, with the share of the items: {named}")
    if told["shared"]:
        named = ", ".join(f'"{printable(text)}" {count:,}' for text, count in told["shared_texts"])
        more = ", ..." if told["shared"] > len(told["shared_texts"]) else ""
        lines.append(
            f"{told['shared']:,} captions belong to several items, {told['shared_by']:,} in all: {named}{more}"
        )
    return lines
