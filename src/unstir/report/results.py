"""What `unstir evaluate` has found, for the page: RUN/eval/*.json and the sheets beside them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import read_json
from .parts import figure, pairs, table, value
from .plot import Curve, plot

__all__ = ["results"]

AGREEMENT = "agreement"
ROWS = 24
"""Of a finding's table, at most."""


def results(folder: Path) -> str:
    """A section with the newest evaluation open and earlier ones folded; "" where there is none."""
    found = []
    for path in folder.glob("*.json"):
        try:
            document = read_json(path)
        except CheckpointError:  # half a file says nothing, and takes nothing from the others
            continue
        if isinstance(document, dict) and isinstance(document.get("numbers"), list):
            found.append((str(document.get("date", "")), path.name, document))
    found.sort(key=lambda item: item[:2], reverse=True)
    shown = (_one(folder, document, opened=k == 0) for k, (_, _, document) in enumerate(found))
    return f"<h2>Evaluations</h2>{''.join(shown)}" if found else ""


def _one(folder: Path, document: Mapping[str, Any], opened: bool) -> str:
    sweep = document.get("sweep")
    title = " · ".join(
        [
            str(document.get("model", "model")),
            *([f"{document['n']:,} samples"] if document.get("n") else []),
            *([f"sweep over {sweep['over']}"] if sweep else []),
            str(document.get("date", ""))[:16].replace("T", " "),
        ]
    )
    words = [*document.get("notes", ()), *(sweep.get("words", ()) if sweep else ())]
    parts = [_facts(document), _numbers(document["numbers"]), _sentences(words)]
    if sweep:
        parts.append(_sweep(sweep))
    for metric, finding in (document.get("findings") or {}).items():
        body = _finding(folder, finding)
        parts.append(f"<h3>{html.escape(metric)}</h3>{body}" if body else "")
    if skipped := document.get("skipped"):
        text = "; ".join(f"{metric}: {why}" for metric, why in skipped.items())
        parts.append(f'<p class="note">Not measured: {html.escape(text)}.</p>')
    return f"<details{' open' if opened else ''}><summary>{html.escape(title)}</summary>{''.join(parts)}</details>"


def _facts(document: Mapping[str, Any]) -> str:
    seeds = document.get("seeds")
    rows = {
        "step": value(document.get("step")),
        "seeds": f"{seeds[0]} to {seeds[1]}" if seeds else "-",
        "compared with": str(document.get("real", "-")),
        "features": f"{document.get('features') or '-'}  {document.get('encoder', '')}".strip(),
    }
    return pairs({word: text for word, text in rows.items() if text != "-"})


def _numbers(numbers: list[Mapping[str, Any]]) -> str:
    def interval(number: Mapping[str, Any]) -> str:
        low, high = number.get("low"), number.get("high")
        return f"{value(low)} to {value(high)}" if low is not None and high is not None else "-"

    better = {"low": "lower is better", "high": "higher is better"}
    rows = [
        (
            str(number.get("name")),
            number.get("value"),
            interval(number),
            number.get("n"),
            number.get("against") or None,
            " · ".join(filter(None, (better.get(number.get("better", ""), ""), number.get("note")))),
        )
        for number in numbers
    ]
    return table(("number", "value", "95% interval", "n", "against", ""), rows)


def _sweep(sweep: Mapping[str, Any]) -> str:
    """A row per variant, the best in bold, and the number that decides over the variants."""
    rows, over = sweep.get("rows") or [], str(sweep.get("over"))
    if not rows:
        return ""
    values = [row.get(over) for row in rows]
    best = values.index(sweep["best"]) if sweep.get("best") in values else None
    by = sweep.get("by")
    known = [(row[over], row[by]) for row in rows if row.get(by) is not None]
    curve = Curve(str(by), [x for x, _ in known], [y for _, y in known])
    head = list(rows[0])
    page = table(head, ([row.get(word) for word in head] for row in rows), best) + plot(
        [curve], over, str(by)
    )
    both = [
        (row[AGREEMENT], row[by])
        for row in rows
        if row.get(by) is not None and row.get(AGREEMENT) is not None
    ]
    if both and by != AGREEMENT:  # what agreement costs, the curve of papers on text to image
        page += plot([Curve(str(by), [x for x, _ in both], [y for _, y in both])], AGREEMENT, str(by))
    return page


def _finding(folder: Path, finding: Mapping[str, Any]) -> str:
    parts = [_sentences(finding.get("words", ()))]
    for caption, name in (finding.get("sheets") or {}).items():
        path = folder / Path(str(name)).name  # never outside of the folder
        if path.is_file():
            parts.append(figure(path.read_bytes(), caption))
    if rows := finding.get("rows"):
        head = list(rows[0])
        parts.append(table(head, ([row.get(word) for word in head] for row in rows[:ROWS])))
        if len(rows) > ROWS:
            parts.append(f'<p class="note">{len(rows) - ROWS:,} more rows are in the file.</p>')
    curves = [Curve(name, *_known(points)) for name, points in (finding.get("curves") or {}).items()]
    if curves:
        parts.append(plot(curves, "", ""))
    return "".join(parts)


def _known(points: Any) -> tuple[list[float], list[float]]:
    """The points of a curve, less those that are not finite: JSON has null for them."""
    pairs = [(x, y) for x, y in zip(*points, strict=True) if x is not None and y is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _sentences(words: Any) -> str:
    return "".join(f'<p class="warn">{html.escape(str(text))}</p>' for text in words)
