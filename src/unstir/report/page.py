"""The page about a run."""

from __future__ import annotations

import html
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import config
from ..assessment import assess
from ..codecs import LatentConfig
from ..data import Dataset, describe, describe_lines, open_data
from ..errors import ConfigError, DataError, UnstirError
from ..evaluate import Drawn, Evidence, Memorisation, Raw
from ..files import read_json, write_atomic
from ..modalities.image import encode_png
from ..networks import ClassifierConfig
from ..pipeline import Pipeline, Samples, load
from ..runs import NEXT
from ..train.checkpoint import best_step
from ..train.progress import duration
from ..watch import Judge, judged, read_metrics
from .parts import figure, pairs
from .plot import Curve, plot
from .results import results

__all__ = ["write_report"]

_log = logging.getLogger(__name__)

YARDSTICK = 500  # held-out pictures that say how near is near

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #656d76; --line: #d8dee4; --paper: #fff; --card: #f6f8fa }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #8d96a0; --line: #30363d; --paper: #0d1117; --card: #161b22 }
}
body { font: 16px/1.55 system-ui, sans-serif; max-width: 64rem; margin: 2.5rem auto; padding: 0 1.2rem;
  color: var(--ink); background: var(--paper) }
h1 { font-size: 1.8rem; margin-bottom: .2rem } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem }
h2 { font-size: 1.2rem; margin-top: 2.6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line) }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums }
td, th { padding: .18rem 1.1rem .18rem 0; text-align: left; vertical-align: top } thead th { color: var(--soft) }
tbody tr + tr > * { border-top: 1px solid var(--line) } .number { text-align: right }
thead + tbody td:not(:last-child) { white-space: nowrap }
svg { max-width: 100%; height: auto } .plots { display: flex; flex-wrap: wrap; gap: 1rem }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; max-width: 100% }
img { image-rendering: pixelated; max-width: 100% } figcaption, .note, .lead { color: var(--soft); font-size: .92rem }
code { background: var(--card); border: 1px solid var(--line); border-radius: 4px; padding: .08rem .35rem }
details { border: 1px solid var(--line); border-radius: 8px; padding: .5rem 1rem; margin: .7rem 0 }
summary { cursor: pointer; font-weight: 600 } .warn { border-left: 3px solid #d97706; padding-left: .8rem }
tr.best > * { font-weight: 700 }
"""

TOGETHER = (
    ("fid", "fid_infinity"),
    ("precision", "recall", "density", "coverage"),
    ("copied", "memorised", "copied_features", "memorised_features"),
)
"""Numbers that are shown in one plot; every other has its own."""


def write_report(run: Path, extra: Mapping[str, Path] | None = None, samples: int | None = None) -> Path:
    """Write RUN/report.html: the data, losses and numbers over the steps, evaluations, pictures, neighbours, what next.

    Args:
        run: a run directory with a checkpoint, of any task.
        extra: further pictures of the run, {caption: path}.
        samples: how many samples are drawn and compared with the training data, where the model makes any; None: 12
            to 64, as many as take a few seconds.
    """
    values = config.read_file(run / "config.yaml").values
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = load(run, device)
    records = read_metrics(run)
    sets = _opened(values.get("data") or {})
    judge = judged(values.get("training") or {}, records)
    fixed = isinstance(pipe.config.network, (ClassifierConfig, LatentConfig))
    free = pipe.config.spatial is None and not fixed
    if isinstance(pipe.config.network, LatentConfig) and sets:
        _judge(run, pipe)
    trained_on = str((values.get("training") or {}).get("device"))
    speed = next((r["per_second"] for r in reversed(records) if r.get("per_second")), 0.0)
    n = samples or _affordable(pipe, speed if trained_on.startswith(device) else 0.0)
    drawn = pipe.sample(n=n, seed=1000, exact=False) if free else None
    parts = [
        _head(run, pipe, records, judge),
        _pictures(run, extra or {}),
        _data(sets),
        _losses(records, judge),
        _levels(records),
        _measured(records, judge),
        _fidelity(records),
        results(run / "eval"),
        _neighbours(drawn, *sets) if drawn and sets and pipe.config.kind == "image" else "",
        _timings(pipe, records, drawn),
        _next(run, pipe, str(values.get("task") or "generate")),
    ]
    name = html.escape(run.name)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    write_atomic(run / "report.html", page.encode())
    return run / "report.html"


def _opened(settings: Mapping[str, Any]) -> tuple[Dataset, Dataset] | None:
    """The training and the held-out items; None, and a page without them, where the data has gone."""
    given = {
        key: settings[key] for key in ("size", "channels", "labels", "max_bad", "heldout") if key in settings
    }
    try:
        return open_data(settings.get("source", ""), **given)
    except (DataError, ConfigError) as error:
        _log.warning("the report is without the data: %s", error.message)
        return None


def _affordable(pipe: Pipeline, speed: float, seconds: float = 5.0) -> int:
    """How many samples take so long: `speed` is that of training, where each took about three calls of the network."""
    calls = pipe.config.defaults.steps * (1 if pipe.config.defaults.guidance == 1 else 2)
    return int(min(max(3 * speed * seconds / calls, 12), 64))


# -- sections ----------------------------------------------------------------------------------------------
def _head(run: Path, pipe: Pipeline, records: Sequence[Mapping[str, Any]], judge: Judge) -> str:
    network = type(pipe.config.network).__name__.removesuffix("Config")
    lead = f"{network} of {pipe.describe()['parameters'] / 1e6:.2f} M parameters, trained on {pipe.config.source}"
    parts = [f'<h1>{html.escape(run.name)}</h1><p class="lead">{html.escape(lead)}</p>']
    rows: dict[str, str] = {}
    if steps := [r for r in records if "per_second" in r]:
        last = steps[-1]
        rows["trained"] = f"{last['step']:,} steps, {last['samples']:,} samples, {duration(last['seconds'])}"
    if best := judge.best:
        address = f" ({run}@best)" if best_step(run) == best.step else ""
        rows["best"] = (
            f"step {best.step:,}: {judge.number} {best.value:.4g}, the best that was measured{address}"
        )
    if records and (reason := records[-1].get("stopped")):
        rows["ended early"] = str(reason)
    return "".join([*parts, pairs(rows)])


def _data(sets: tuple[Dataset, Dataset] | None) -> str:
    if sets is None:
        return '<h2>Data</h2><p class="note">It is no longer where it was.</p>'
    lines = (line.partition(" ") for line in describe_lines(describe(*sets)))
    rows = [(word, text.strip()) for word, _, text in lines]
    return "<h2>Data</h2>" + pairs(rows)


def _losses(records: Sequence[Mapping[str, Any]], judge: Judge) -> str:
    train = [(r["step"], r["loss"]) for r in records if r.get("loss") is not None]
    held = [(r["step"], r["heldout_loss"]) for r in records if r.get("heldout_loss") is not None]
    smooth: list[tuple[float, float]] = []
    width = max(1, len(train) // 200)
    for k in range(0, len(train), width):
        part = train[k : k + width]
        smooth.append((part[-1][0], sum(loss for _, loss in part) / len(part)))
    skip = len(smooth) // 50  # the first steps fall from 1 and would flatten the rest
    curves = [Curve("training", *_columns(smooth[skip:])), Curve("held out", *_columns(held))]
    return "<h2>Loss</h2>" + plot(curves, "step", "loss", mark=judge.best.step if judge.best else None)


def _columns(rows: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in rows], [y for _, y in rows]


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


def _measured(records: Sequence[Mapping[str, Any]], judge: Judge) -> str:
    """The numbers of samples over the steps, with their 95% intervals."""
    rows = [r for r in records if "evaluated" in r]
    if not rows:
        return ""
    names = list(dict.fromkeys(key.removesuffix("_low") for r in rows for key in r if key.endswith("_low")))
    groups = [[name for name in group if name in names] for group in TOGETHER]
    groups += [[name] for name in names if not any(name in group for group in groups)]
    mark = judge.best.step if judge.best else None
    plots = []
    for group in filter(None, groups):
        curves = [_over_steps(name, rows) for name in group]
        values = [y for curve in curves for y in curve.y]
        shares = group[0] in ("precision", "copied")
        log = not shares and bool(values) and min(values) > 0 and max(values) > 20 * min(values)
        label = "share" if shares else group[0]
        plots.append(plot(curves, "step", label, width=480, height=230, log=log, mark=mark))
    note = (
        f"{rows[-1]['evaluated']} samples of the same seeds each time, 95% intervals shaded; the dashed line is the "
        f"best step. Features {rows[-1].get('features') or 'none'}; more samples give surer numbers: unstir evaluate."
    )
    return f'<h2>Samples while it trained</h2><div class="plots">{"".join(plots)}</div><p class="note">{note}</p>'


def _judge(run: Path, pipe: Pipeline) -> None:
    """Measure an autoencoder, where its present weights were not yet: the page shows what is in RUN/eval."""
    known = (read_json(path) for path in (run / "eval").glob("*.json"))
    try:
        if not any(document.get("sha256") == pipe.digest for document in known):
            assess(str(run)).save(run / "eval")
    except UnstirError as error:
        _log.warning("the report is without numbers of the autoencoder: %s", error.message)


def _fidelity(records: Sequence[Mapping[str, Any]]) -> str:
    """How near decoded pictures came over the steps."""
    rows = [r for r in records if r.get("psnr") is not None]
    if not rows:
        return ""
    names = {"psnr": "PSNR in dB", "ssim": "SSIM"}
    steps = [r["step"] for r in rows]
    curves = (
        plot([Curve(text, steps, [r[name] for r in rows])], "step", text, width=480, height=230)
        for name, text in names.items()
    )
    note = '<p class="note">Of held-out items, encoded and decoded.</p>'
    return f'<h2>Decoded while it trained</h2><div class="plots">{"".join(curves)}</div>{note}'


def _over_steps(name: str, rows: Sequence[Mapping[str, Any]]) -> Curve:
    known = [r for r in rows if r.get(name) is not None]
    ends = ([r.get(f"{name}_{end}") for r in known] for end in ("low", "high"))
    return Curve(name, [r["step"] for r in known], [r[name] for r in known], *ends)


def _pictures(run: Path, extra: Mapping[str, Path]) -> str:
    previews = sorted((run / "samples").glob("step-*.png"))
    shown = dict(extra)
    for path in dict.fromkeys(previews[:1] + previews[len(previews) // 2 :][:1] + previews[-1:]):
        shown[f"step {int(path.stem.removeprefix('step-')):,}"] = path
    figures = "".join(figure(path.read_bytes(), caption, path.suffix[1:]) for caption, path in shown.items())
    note = '<p class="note">The same seeds at every step.</p>' if previews else ""
    return f"<h2>Pictures</h2>{figures}{note}" if figures else ""


def _neighbours(drawn: Samples, train_set: Dataset, heldout: Dataset) -> str:
    """The samples nearest to training pictures, and how many are too near: 500 held-out pictures are the yardstick."""
    some = Dataset(heldout.info.source, heldout.items, heldout.rows[:YARDSTICK])
    seeds = drawn.seeds[0], drawn.seeds[-1]
    evidence, audit = Evidence(train_set, some, Raw(), Drawn(drawn.images, None, seeds)), Memorisation()
    if audit.lacks(evidence):
        return ""
    finding = audit.measure(evidence)
    sheets = "".join(figure(encode_png(sheet[None]), text) for text, sheet in finding.sheets.items())
    said = "; ".join(f"{number.name} {number.value:.0%}, {number.note}" for number in finding.numbers)
    note = f"Of {len(drawn)} samples: {said}. unstir evaluate looks at more of them, and at features."
    return f'<h2>Nearest training pictures</h2>{sheets}<p class="note">{html.escape(note)}</p>'


def _timings(pipe: Pipeline, records: Sequence[Mapping[str, Any]], drawn: Samples | None) -> str:
    rows: dict[str, str] = {}
    if steps := [r for r in records if "per_second" in r]:
        rows["training"] = f"{steps[-1]['samples'] / max(steps[-1]['seconds'], 1e-9):,.0f} samples/s"
    if drawn is not None:
        rows["sampling"] = (
            f"{len(drawn)} samples in {drawn.seconds:.2f} s, {drawn.evaluations} evaluations each"
        )
    return "<h2>Speed</h2>" + pairs(rows) if rows else ""


def _next(run: Path, pipe: Pipeline, task: str) -> str:
    label = f" {shlex.quote(f'label={pipe.config.classes[-1]}')}" if pipe.config.classes else ""
    name = shlex.quote(str(run))
    commands = [NEXT[task].format(name)]
    if task == "generate":
        commands = [
            f"sample {name} n=16 seed=7{label} out=grid.png",
            f"sample {name} n=9 movie=1 out=movie.gif",
            f"evaluate {name} n=1000",
        ]
    commands += [f"train --resume {name} steps=...", f"inspect {name}", f"report {name}"]
    items = "".join(f"<li><code>unstir {html.escape(c)}</code></li>" for c in commands)
    return f"<h2>Next</h2><ul>{items}</ul>"
