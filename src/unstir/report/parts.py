"""What pages are made of: tables and pictures as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["figure", "pairs", "table", "value"]


def pairs(rows: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """A table of a word and what there is to say of it."""
    items = rows.items() if isinstance(rows, Mapping) else rows
    cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in items)
    return f"<table><tbody>{cells}</tbody></table>" if cells else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]], best: int | None = None) -> str:
    """A table with a head; columns of numbers stand right. Row `best` is set in bold."""
    rows = [*rows]
    numeric = [any(isinstance(row[k], (int, float)) for row in rows) for k in range(len(head))]
    kinds = [" class='number'" if column else "" for column in numeric]
    lines = []
    for k, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{html.escape(value(x))}</td>" for kind, x in zip(kinds, row, strict=True))
        mark = " class='best'" if k == best else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    words = "".join(f"<th{kind}>{html.escape(word)}</th>" for kind, word in zip(kinds, head, strict=True))
    return f"<table><thead><tr>{words}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def value(x: object) -> str:
    """A value as people read it.

    >>> value(0.123456), value(3), value(12345.0), value(None), value(True), value("a")
    ('0.1235', '3', '1.234e+04', '-', 'yes', 'a')
    """
    if x is None:
        return "-"
    if isinstance(x, bool):
        return "yes" if x else "no"
    return f"{x:.4g}" if isinstance(x, float) else str(x)


def figure(data: bytes, caption: str, kind: str = "png") -> str:
    """A picture inside the page."""
    source, text = f"data:image/{kind};base64,{base64.b64encode(data).decode()}", html.escape(caption)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'
