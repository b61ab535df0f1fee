"""report.html: a run on one page that opens anywhere, without scripts and without a network."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import config
from .data import Dataset, open_data
from .evaluate import nearest
from .files import write_atomic
from .modalities.image import encode_png
from .pipeline import Pipeline, load
from .runs import read_metrics
from .train.progress import duration

__all__ = ["Curve", "plot", "write_report"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top }
img { image-rendering: pixelated; max-width: 100%; margin: .4rem 1rem .4rem 0 }
figure { display: inline-block; margin: 0 1rem 1rem 0 }
figcaption, .note { color: #666; font-size: .9rem } code { background: #f3f3f3; padding: .1rem .3rem }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd } code { background: #2a2a2a } h2 { border-color: #444 }
  svg { background: #fff }
}
"""
COLOURS = ("#2b6cb0", "#c05621", "#2f855a")


class Curve(NamedTuple):
    """A line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def plot(curves: Sequence[Curve], x_label: str, y_label: str, width: int = 640, height: int = 260) -> str:
    """An SVG line plot with labelled axes that start at the data."""
    curves = [c for c in curves if len(c.x)]
    if not curves:
        return '<p class="note">Nothing was measured yet.</p>'
    xs, ys = [v for c in curves for v in c.x], [v for c in curves for v in c.y]
    x_ticks, y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
    low, high = (min(xs), min(*ys, y_ticks[0])), (max(xs), max(*ys, y_ticks[-1]))
    left, right, top, bottom = 62, width - 14, 14, height - 40

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low[0]) / ((high[0] - low[0]) or 1)
        up = (y - low[1]) / ((high[1] - low[1]) or 1)
        return left + across * (right - left), bottom - up * (bottom - top)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-size="12" role="img">'
    ]
    for tick in y_ticks:
        _, y = place(low[0], tick)
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        parts.append(_text(f"{tick:g}", f'x="{left - 6}" y="{y + 4:.1f}"', "end"))
    for tick in x_ticks:
        x, _ = place(tick, low[1])
        parts.append(_text(f"{tick:g}", f'x="{x:.1f}" y="{bottom + 16}"'))
    for curve, colour in zip(curves, COLOURS, strict=False):
        points = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in zip(curve.x, curve.y, strict=True))
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    for k, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        parts.append(_text(curve.name, f'x="{right - 4}" y="{top + 12 + 16 * k}" fill="{colour}"', "end"))
    middle = (left + right) / 2
    parts.append(_text(x_label, f'x="{middle}" y="{height - 6}"'))
    parts.append(_text(y_label, f'transform="translate(13 {(top + bottom) / 2}) rotate(-90)"'))
    return "".join([*parts, "</svg>"])


def _text(text: str, attributes: str, anchor: str = "middle") -> str:
    return f'<text {attributes} text-anchor="{anchor}">{html.escape(text)}</text>'


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between low and high."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(k for k in (1, 2, 5, 10) if span / (step * k) <= count)
    first = math.ceil(low / step) * step
    return [round(first + k * step, 12) for k in range(int((high - first) / step + 1e-9) + 1)] or [low]


def write_report(run: Path, extra: Mapping[str, Path] | None = None, samples: int = 64) -> Path:
    """Write RUN/report.html: data, curves, samples, held-out loss per noise level, neighbours, timings, what next.

    Args:
        run: a run directory with a checkpoint.
        extra: further pictures of the run, {caption: path}.
        samples: how many samples are drawn and compared with the training data.
    """
    settings = config.read_file(run / "config.yaml").values
    pipe = load(run)
    train_set, heldout = open_data(
        settings["data"]["source"],
        **{key: settings["data"][key] for key in ("size", "channels", "labels", "max_bad", "heldout")},
    )
    records = read_metrics(run)
    parts = [
        f"<h1>{html.escape(run.name)}</h1>",
        _data(train_set, heldout),
        _curves(records),
        _levels(records),
        _pictures(run, extra or {}),
        _neighbours(pipe, train_set, heldout, samples) if pipe.config.kind == "image" else "",
        _timings(pipe, records),
        _next(run, pipe),
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(run.name)}</title>'
        f"<style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    write_atomic(run / "report.html", page.encode())
    return run / "report.html"


def _data(train_set: Dataset, heldout: Dataset) -> str:
    info = train_set.info
    rows = {
        "source": info.source,
        "items": f"{info.count:,} to learn from, {len(heldout):,} more held out",
        "shape": "x".join(map(str, info.shape)) + " (channels first)",
        "values": f"mean {info.mean:.3f}, standard deviation {info.std:.3f}, in [-1, 1]",
        "classes": ", ".join(f"{c} ({k})" for c, k in zip(info.classes, info.class_counts, strict=True))
        or "none",
        "unreadable": str(info.bad),
        "notes": "; ".join(info.notes) or "none",
    }
    return "<h2>Data</h2>" + _table(rows)


def _table(rows: Mapping[str, str]) -> str:
    cells = (f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _curves(records: Sequence[Mapping[str, Any]]) -> str:
    train = [(r["step"], r["loss"]) for r in records if r.get("loss") is not None]
    held = [(r["step"], r["heldout_loss"]) for r in records if r.get("heldout_loss") is not None]
    smooth: list[tuple[float, float]] = []
    width = max(1, len(train) // 200)
    for k in range(0, len(train), width):
        part = train[k : k + width]
        smooth.append((part[-1][0], sum(loss for _, loss in part) / len(part)))
    skip = len(smooth) // 50  # the first steps fall from 1 and would flatten the rest
    curves = [Curve("training", *_columns(smooth[skip:])), Curve("held out", *_columns(held))]
    return "<h2>Loss</h2>" + plot(curves, "step", "loss")


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _levels(records: Sequence[Mapping[str, Any]]) -> str:
    measured = [r for r in records if r.get("heldout_levels")]
    if not measured:
        return ""
    curves = []
    for record in {r["step"]: r for r in (measured[-1], measured[0])}.values():
        levels = record["heldout_levels"]
        times = [(k + 0.5) / len(levels) for k in range(len(levels))]
        curves.append(Curve(f"step {record['step']}", times, levels))
    note = (
        '<p class="note">Always the same held-out items, noise and times: t = 0 is data, t = 1 is noise.</p>'
    )
    return "<h2>Held-out loss per noise level</h2>" + plot(curves, "time t", "loss") + note


def _pictures(run: Path, extra: Mapping[str, Path]) -> str:
    previews = sorted((run / "samples").glob("step-*.png"))
    shown = dict(extra)
    for path in dict.fromkeys(previews[:1] + previews[-1:]):
        shown[f"{path.stem.replace('step-', 'step ')}, seeds 0 to 15"] = path
    figures = (_figure(path.read_bytes(), caption, path.suffix[1:]) for caption, path in shown.items())
    return "<h2>Pictures</h2>" + "".join(figures)


def _figure(data: bytes, caption: str, kind: str = "png") -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    text = html.escape(caption)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _neighbours(pipe: Pipeline, train_set: Dataset, heldout: Dataset, n: int) -> str:
    """Samples above their nearest training pictures, and how near is near: held-out pictures as the yardstick."""
    drawn = pipe.sample(n=n, seed=1000)
    train = np.asarray(train_set.x)
    found = nearest(drawn.images, train)
    shown = min(12, n)
    pairs = np.concatenate([drawn.images[:shown], train[found.rows[:shown]]])
    text = (
        "Distance to the nearest training picture, in grey levels (root mean square): "
        f"samples {np.median(found.distance):.1f}"
    )
    if len(heldout):
        unseen = nearest(np.asarray(heldout.x[:500]), train).distance
        copies = float((found.distance < np.quantile(unseen, 0.01)).mean())
        text += (
            f", held-out pictures {np.median(unseen):.1f} (medians). {copies:.0%} of the samples are nearer to a "
            "training picture than 99% of the held-out pictures are; a model that does not copy has about 1%."
        )
    sheet = encode_png(pairs, columns=shown)
    return (
        "<h2>Nearest training pictures</h2>"
        + _figure(sheet, "above: samples; below: the training picture nearest to each")
        + f'<p class="note">{html.escape(text)}</p>'
    )


def _timings(pipe: Pipeline, records: Sequence[Mapping[str, Any]]) -> str:
    steps = [r for r in records if "per_second" in r]
    drawn = pipe.sample(n=16, seed=0)
    rows = {
        "parameters": f"{pipe.describe()['parameters'] / 1e6:.2f} M",
        "training": f"{steps[-1]['step']:,} steps, {steps[-1]['samples']:,} samples, {duration(steps[-1]['seconds'])}",
        "speed": f"{steps[-1]['samples'] / max(steps[-1]['seconds'], 1e-9):.0f} samples/s in training",
        "sampling": f"16 samples in {drawn.seconds:.2f} s, {drawn.evaluations} evaluations each",
    }
    return "<h2>Timings</h2>" + _table(rows if steps else {"parameters": rows["parameters"]})


def _next(run: Path, pipe: Pipeline) -> str:
    label = f" label={pipe.config.classes[-1]}" if pipe.config.classes else ""
    commands = [
        f"unstir sample {run} n=16 seed=7{label} out=grid.png",
        f"unstir sample {run} n=9 movie=1 out=movie.gif",
        f"unstir train --resume {run} steps=...",
        f"unstir inspect {run}",
    ]
    items = "".join(f"<li><code>{html.escape(c)}</code></li>" for c in commands)
    return f"<h2>Next</h2><ul>{items}</ul>"
