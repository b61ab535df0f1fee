"""Line plots as SVG, in the colours of the page around them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["COLOURS", "Curve", "plot"]

COLOURS = ("#2b6cb0", "#d97706", "#2f855a", "#b83280", "#6b46c1", "#c53030", "#0891b2", "#8a6d3b")
DASHES = ("", "6 3", "2 3")
"""Curves beyond the colours take these in turn."""
DOTS = 60
"""Curves of no more points show them, each with its numbers where the pointer rests."""
LETTER = 6.6
"""The width of a letter, about, in a 12 pixel font."""


@dataclass(frozen=True)
class Curve:
    """A line of a plot; where `low` and `high` are given, with the interval around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()

    def band(self) -> list[tuple[float, float, float]]:
        """(x, low, high) where both ends are known."""
        rows = zip(self.x, self.low, self.high, strict=False)
        return [(x, a, b) for x, a, b in rows if a is not None and b is not None]


def plot(
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    width: int = 640,
    height: int = 260,
    log: bool = False,
    mark: float | None = None,
    log_x: bool = False,
) -> str:
    """An SVG line plot with labelled axes that start at the data.

    Args:
        curves: any number; those without points are left out.
        log: a logarithmic y axis, where all values are above 0; log_x: the same for x.
        mark: an x that a dashed upright line points out.
    """
    curves = [c for c in curves if len(c.x)]
    if not curves:
        return '<p class="note">Nothing was measured yet.</p>'
    xs = [v for c in curves for v in c.x]
    ys = [v for c in curves for v in (*c.y, *(end for row in c.band() for end in row[1:]))]
    log = log and min(v for c in curves for v in c.y) > 0
    if log:  # an interval that reaches 0 must not stretch the axis without end
        floor = min(v for c in curves for v in c.y) / 10
        ys = [max(v, floor) for v in ys]
    log_x = log_x and min(xs) > 0
    x_ticks = _decades(min(xs), max(xs)) if log_x else _ticks(min(xs), max(xs))
    y_ticks = _decades(min(ys), max(ys)) if log else _ticks(min(ys), max(ys))
    low, high = (min(xs), min(*ys, y_ticks[0])), (max(xs), max(*ys, y_ticks[-1]))
    left, right, top, bottom = 62, width - 14, 14, height - 40

    def across(x: float) -> float:
        a, b, v = (math.log(w) for w in (low[0], high[0], x)) if log_x else (low[0], high[0], x)
        return left + (v - a) / ((b - a) or 1) * (right - left)

    def up(y: float) -> float:
        a, b, v = low[1], high[1], y
        if log:
            a, b, v = math.log(a), math.log(b), math.log(max(y, a))
        return bottom - (v - a) / ((b - a) or 1) * (bottom - top)

    legend, deep = _legend(curves, left, right, height) if len(curves) > 1 else ([], 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + deep}" width="{width}" '
        f'height="{height + deep}" font-family="system-ui, sans-serif" font-size="12" fill="currentColor" role="img">'
    ]
    for tick in y_ticks:
        y = up(tick)
        parts.append(_line(left, right, y, y, "currentColor", 'stroke-opacity="0.15"'))
        parts.append(_text(f"{tick:g}", f'x="{left - 6}" y="{y + 4:.1f}"', "end"))
    for tick in x_ticks:
        parts.append(_text(f"{tick:g}", f'x="{across(tick):.1f}" y="{bottom + 16}"'))
    if mark is not None and low[0] <= mark <= high[0]:
        x = across(mark)
        parts.append(_line(x, x, top, bottom, "currentColor", 'stroke-dasharray="3 3" stroke-opacity="0.6"'))
    for k, curve in enumerate(curves):
        colour, dash = _ink(k)
        if len(band := curve.band()) > 1:
            edge = [(x, b) for x, _, b in band] + [(x, a) for x, a, _ in reversed(band)]
            points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in edge)
            parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.15"/>')
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(curve.x, curve.y, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        for x, y in zip(curve.x, curve.y, strict=True) if len(curve.x) <= DOTS else ():
            title = html.escape(f"{curve.name}: {y:.4g} at {x:g}")
            parts.append(
                f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.6" fill="{colour}"><title>{title}</title></circle>'
            )
    middle = (left + right) / 2
    parts.append(_text(x_label, f'x="{middle:g}" y="{height - 6}"'))
    parts.append(_text(y_label, f'transform="translate(13 {(top + bottom) / 2:g}) rotate(-90)"'))
    return "".join([*parts, *legend, "</svg>"])


def _legend(curves: Sequence[Curve], left: float, right: float, height: float) -> tuple[list[str], int]:
    """A row of names below the plot, or several, and how deep they are."""
    parts, x, row = [], left, 0
    for k, curve in enumerate(curves):
        wide = 26 + LETTER * len(curve.name) + 14
        if x + wide > right and x > left:
            x, row = left, row + 1
        y, (colour, dash) = height + 12 + 18 * row, _ink(k)
        parts.append(_line(x, x + 18, y - 4, y - 4, colour, f'stroke-width="2.4"{dash}'))
        parts.append(_text(curve.name, f'x="{x + 24:.1f}" y="{y}"', "start"))
        x += wide
    return parts, 18 * (row + 1) + 2


def _ink(k: int) -> tuple[str, str]:
    dash = DASHES[k // len(COLOURS) % len(DASHES)]
    return COLOURS[k % len(COLOURS)], f' stroke-dasharray="{dash}"' if dash else ""


def _line(x1: float, x2: float, y1: float, y2: float, colour: str, more: str) -> str:
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _text(text: str, attributes: str, anchor: str = "middle") -> str:
    return f'<text {attributes} text-anchor="{anchor}">{html.escape(text)}</text>'


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between low and high."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(k for k in (1, 2, 5, 10) if span / (step * k) <= count)
    first = math.ceil(low / step) * step
    return [round(first + k * step, 12) for k in range(int((high - first) / step + 1e-9) + 1)] or [low]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of 10 between low and high; of many, the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [v for p in powers for k in factors if low <= (v := k * 10.0**p) <= high]
        if 2 <= len(found) <= 9:
            return found
    return found[:: math.ceil(len(found) / 9)] if len(found) > 9 else [low, high]
