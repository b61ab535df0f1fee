"""Explanations on one page that plays by itself: no network, no server."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..explain import Explanation
from ..explain.drawing import COLOURS, encode_movie, scatter
from ..files import write_atomic
from ..modalities.image import encode_png
from .page import STYLE
from .parts import pairs, table
from .plot import Curve, plot

__all__ = ["explained", "write_explanations"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

HERE = Path(__file__).parent


def write_explanations(explanations: Sequence[Explanation], out: Path) -> list[Path]:
    """Writes OUT/index.html, and beside it pictures as PNG, movies and moving points as GIF; the files, page first."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "index.html"]
    write_atomic(files[0], explained(explanations).encode())
    for one in explanations:
        stills = [encode_png(picture.pixels[None]) for picture in one.pictures]
        moving = [encode_movie(movie.frames, movie.fps) for movie in one.movies]
        moving += [
            encode_movie([scatter(f.points, c.reach, c.groups, f.arrows) for f in c.frames], c.fps)
            for c in one.clouds
        ]
        for ending, contents in ((".png", stills), (".gif", moving)):
            for k, content in enumerate(contents):
                files.append(out / (one.what + (f"-{k + 1}" if k else "") + ending))
                write_atomic(files[-1], content)
    return files


def explained(explanations: Sequence[Explanation]) -> str:
    """The page of some explanations."""
    shown = [one.to_dict() for one in explanations]
    title = shown[0]["title"] if len(shown) == 1 else "How diffusion models work"
    links = "".join(f'<a href="#{one["what"]}">{html.escape(one["title"])}</a>' for one in shown)
    movies = [moving for one in shown for moving in (*one["movies"], *one["clouds"])]
    data = json.dumps({"movies": movies, "colours": COLOURS}, ensure_ascii=False).replace("</", "<\\/")
    style, script = ((HERE / name).read_text("utf-8") for name in ("player.css", "player.js"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{style}</style></head><body>"
        + (f"<h1>{html.escape(title)}</h1><nav>{links}</nav>" if len(shown) > 1 else "")
        + "".join(map(_section, shown))
        + f'<script type="application/json" id="movies">{data}</script><script>{script}</script></body></html>\n'
    )


def _section(one: dict[str, Any]) -> str:
    parts = [
        f'<section id="{one["what"]}"><h2>{html.escape(one["title"])}</h2><p>{html.escape(one["text"])}</p>'
    ]
    parts.append('<div class="plots">')
    parts += [_player(movie, '<img alt="">', wide=True) for movie in one["movies"]]
    parts += [_player(cloud, '<canvas width="720" height="720"></canvas>') for cloud in one["clouds"]]
    parts.append("</div>")
    for still in one["pictures"]:
        text = html.escape(still["title"])
        parts.append(
            f'<figure><img src="{still["src"]}" alt="{text}"><figcaption>{text}</figcaption></figure>'
        )
    parts += ['<div class="plots">', *map(_chart, one["charts"]), "</div>"]
    if one["table"]:
        parts.append(f'<div class="scroll">{table(one["table"]["head"], one["table"]["rows"])}</div>')
    settings = {key: _setting(value) for key, value in one["settings"].items()}
    return "".join([*parts, f"<details><summary>Settings</summary>{pairs(settings)}</details></section>"])


def _player(movie: dict[str, Any], screen: str, wide: bool = False) -> str:
    title = html.escape(movie["title"])
    return (
        f'<figure class="player{" wide" * wide}">{screen}<div class="bar"><button type="button"></button>'
        f'<input type="range" min="0" value="0" aria-label="{title}"></div><output></output>'
        f"<figcaption>{title}</figcaption></figure>"
    )


def _chart(chart: dict[str, Any]) -> str:
    curves = []
    for curve in chart["curves"]:
        known = [(x, y) for x, y in zip(chart["x"]["values"], curve["values"], strict=True) if y is not None]
        curves.append(Curve(curve["name"], [x for x, _ in known], [y for _, y in known]))
    drawn = plot(
        curves,
        chart["x"]["label"],
        chart["y"]["label"],
        width=480,
        height=260,
        log=chart["y"]["log"],
        log_x=chart["x"]["log"],
    )
    return f"<figure>{drawn}<figcaption>{html.escape(chart['title'])}</figcaption></figure>"


def _setting(value: Any) -> str:
    """A setting as the command line takes it."""
    if isinstance(value, dict):
        fields = ",".join(f"{key}={_setting(item)}" for key, item in value.items() if key != "name")
        return value["name"].lower() + (f":{fields}" if fields else "")
    if isinstance(value, list):
        return ",".join(map(_setting, value))
    return "none" if value is None else str(value)
