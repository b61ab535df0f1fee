"""Do models that read draw what they are asked for? How well, how fast, and what does guidance change?

    python benchmarks/text_to_image.py MODEL... [--out runs/text-to-image] [--n 1000] [--scales 1,2,4] [--only PART]
    python benchmarks/text_to_image.py --report [--plot docs/images/guidance-agreement.svg]

MODEL is a run or a model's file, as NAME=MODEL where the tables should call it otherwise. Of each is measured:

training       100 captions of the data: is the caption's own picture among the five that are nearest to the sample, of
               all pictures, in the features of a classifier and of an encoder trained without labels?
compositional  150 prompts whose pair of a colour and an object was never trained on, docs/models/emoji-prompts.json:
               does the asked colour dominate, by the judge of tools/emoji_colour.py?
quality        Frechet distance, agreement of training captions and of held-out ones, seconds per picture
guidance       the same distance and agreement over guidance scales

A finished row is kept as JSON under --out; started again, the script goes on where it was stopped. --report prints the
tables of the rows that are there as Markdown, draws the curves of guidance, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unstir import Pipeline, load
from unstir.assessment import assess, draw, sweep
from unstir.data import Dataset, open_data
from unstir.embedders.weighting import escape
from unstir.evaluate import Encoder, encoder_for
from unstir.evaluate.retrieval import places
from unstir.evaluate.shares import wilson
from unstir.files import write_atomic

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from emoji_colour import colour_of  # noqa: E402

PROMPTS = ROOT / "docs/models/emoji-prompts.json"
PLOT = ROOT / "docs/images/guidance-agreement.svg"
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
FIRST = 5
SEED = 10_000
"""Of the first sample: those of previews and tests have others."""


# -- what is measured --------------------------------------------------------------------------------------
def share(hits: np.ndarray) -> dict[str, Any]:
    """A share with its interval."""
    low, high = wilson(hits.mean(), len(hits))
    return {"value": float(hits.mean()), "low": float(low), "high": float(high), "n": len(hits)}


def training(
    pipe: Pipeline, everything: Dataset, encoders: Mapping[str, Encoder], n: int = 100
) -> dict[str, Any]:
    """Whether a caption's own picture is among the first five, of all of `everything`, by each encoder."""
    texts = everything.texts or []
    captioned = np.flatnonzero([bool(text) for text in texts])
    chosen = np.sort(np.random.default_rng(0).choice(captioned, min(n, len(captioned)), replace=False))
    asked = [texts[row] for row in chosen]
    x = draw(pipe, len(asked), seed=SEED, prompts=[escape(text) for text in asked]).x
    owners: dict[str, list[int]] = {text: [] for text in asked}
    for row, captions in enumerate(everything.captions or []):
        for caption in captions:
            if caption.text in owners:
                owners[caption.text].append(row)
    found: dict[str, Any] = {}
    for name, encoder in encoders.items():
        rank = places(encoder.embed(x), asked, encoder.embed(everything.x), owners)
        found[name] = share(rank <= FIRST) | {"digest": encoder.digest, "about": encoder.about}
        found[name]["missed"] = [asked[i] for i in np.argsort(-rank, kind="stable") if rank[i] > FIRST]
    return found | {"pictures": len(everything)}


def compositional(pipe: Pipeline, prompts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Whether the asked colour dominates; and of each colour how often, and what came in its place."""
    x = draw(pipe, len(prompts), seed=SEED, prompts=[escape(each["prompt"]) for each in prompts]).x
    seen = [colour_of(picture) for picture in x]
    hits = np.array([colour == each["colour"] for colour, each in zip(seen, prompts, strict=True)])
    colours: dict[str, dict[str, int]] = {}
    for each, colour in zip(prompts, seen, strict=True):
        row = colours.setdefault(each["colour"], {})
        row[colour or "nothing"] = row.get(colour or "nothing", 0) + 1
    return share(hits) | {"colours": colours}


def quality(model: str, data: str, n: int) -> dict[str, Any]:
    """Numbers of `unstir evaluate`, and seconds per picture, one alone and of 16 at once."""
    pipe = load(model)
    captions = assess(model, data, n=n, seed=SEED, metrics=["fid", "agreement", "retrieval"])
    numbers = {name: _number(number) for name, number in captions.numbers.items()}
    heldout = assess(model, data, n=min(n, 500), seed=SEED, metrics=["agreement"], prompts="heldout")
    numbers |= {f"{name} held out": _number(number) for name, number in heldout.numbers.items()}
    for count in (1, 16):
        pipe.sample(n=count, seed=SEED, exact=False)  # the first warms up
        best = min(pipe.sample(n=count, seed=SEED, exact=False).seconds for _ in range(3)) / count
        numbers[f"seconds, {count} at once"] = {"value": best, "n": count}
    weights = sum(p.numel() for p in pipe.module.parameters())
    return {"numbers": numbers, "parameters": weights, "encoder": captions.encoder}


def guidance(model: str, data: str, n: int, scales: Sequence[float]) -> dict[str, Any]:
    """Distance and agreement over guidance scales, of the same seeds and prompts."""
    found = sweep(model, "guidance", data, n=n, seed=SEED, metrics=["fid", "agreement"], values=list(scales))
    scaled = {
        scale: {name: _number(number) for name, number in each.numbers.items()}
        for scale, each in found.variants.items()
    }
    return {"default": found.default, "failed": dict(found.failed), "scales": scaled}


def _number(number: Any) -> dict[str, Any]:
    return {"value": number.value, "low": number.low, "high": number.high, "n": number.n}


# -- what is written ---------------------------------------------------------------------------------------
def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(number: Mapping[str, Any] | None, percent: bool = False) -> str:
    """The value and half of its interval."""
    if number is None:
        return "-"
    low, high = number.get("low"), number.get("high")
    if percent:
        return f"{number['value']:.1%}" + (f" ({low:.0%} to {high:.0%})" if low is not None else "")
    return f"{number['value']:.3g}" + (f" ± {(high - low) / 2:.2g}" if low is not None else "")


def report(rows: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    """The tables of rows {model: {part: row}} as Markdown; the curves of guidance go to the path."""
    tables = []
    if found := {name: parts["training"] for name, parts in rows.items() if "training" in parts}:
        encoders = [word for word, value in next(iter(found.values())).items() if isinstance(value, dict)]
        body = [[name, *(cell(row[word], percent=True) for word in encoders)] for name, row in found.items()]
        tables.append(table(["own picture in the first five", *encoders], body))
    if found := {name: parts["compositional"] for name, parts in rows.items() if "compositional" in parts}:
        for name, row in found.items():
            body = []
            for colour, seen in row["colours"].items():
                named = ", ".join(f"{word} {count}" for word, count in Counter(seen).most_common())
                body.append([colour, f"{seen.get(colour, 0)} of {sum(seen.values())}", named])
            tables.append(f"{name}: the asked colour dominates in {cell(row, percent=True)} of {row['n']}")
            tables.append(table(["asked", "right", "seen"], body))
    if found := {name: parts["quality"] for name, parts in rows.items() if "quality" in parts}:
        names = list(next(iter(found.values()))["numbers"])
        body = [
            [name, f"{row['parameters'] / 1e6:.1f} M"]
            + [cell(row["numbers"].get(word), percent="top" in word) for word in names]
            for name, row in found.items()
        ]
        tables.append(table(["model", "parameters", *names], body))
    if found := {name: parts["guidance"] for name, parts in rows.items() if "guidance" in parts}:
        for name, row in found.items():
            body = [
                [scale, *(cell(numbers.get(word), percent="top" in word) for word in CURVE)]
                for scale, numbers in row["scales"].items()
            ]
            tables.append(f"{name}\n\n" + table(["guidance", *CURVE], body))
        plot(found, path)
    return "\n\n".join(tables)


CURVE = ("fid", "agreement", "agreement_top5")


def plot(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """FID and agreement over the scale, and one against the other, a line a model."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "unstir"  # the same file every time
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for name, row in found.items():
        scales = [float(scale) for scale in row["scales"]]
        numbers = list(row["scales"].values())
        fid, agreement = ([each[word]["value"] for each in numbers] for word in ("fid", "agreement"))
        for axis, word, values in ((axes[0], "fid", fid), (axes[1], "agreement", agreement)):
            (line,) = axis.plot(scales, values, "o-", ms=4, label=name)
            ends = [[each[word][end] for each in numbers] for end in ("low", "high")]
            if all(end is not None for side in ends for end in side):
                axis.fill_between(scales, *ends, color=line.get_color(), alpha=0.2, lw=0)
        axes[2].plot(agreement, fid, "o-", ms=4, label=name)
        for scale, x, y in zip(scales, agreement, fid, strict=True):
            axes[2].annotate(f"{scale:g}", (x, y), (3, 3), textcoords="offset points", fontsize=7)
    axes[0].set(xlabel="guidance", ylabel="FID")
    axes[1].set(xlabel="guidance", ylabel="agreement")
    axes[2].set(xlabel="agreement", ylabel="FID")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row in the file, made where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(make(), indent=1).encode())
    row: dict[str, Any] = json.loads(path.read_text())
    return row


def measure(name: str, model: str, options: argparse.Namespace) -> None:
    pipe = load(model)
    if pipe.config.prompt is None:
        raise SystemExit(f"{model} was trained without captions")
    size, data = pipe.config.size[-1], options.data

    def own_picture() -> dict[str, Any]:
        everything = open_data(data, size=size, heldout=0)[0]
        sets = (open_data(data, size=size, labels=labels) for labels in (True, False))
        encoders = {
            word: encoder_for(None, *both, say=print)
            for word, both in zip(("classifier", "without labels"), sets, strict=True)
        }
        return training(pipe, everything, encoders)

    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "training": own_picture,
        "compositional": lambda: compositional(pipe, json.loads(PROMPTS.read_text())["compositional"]),
        "quality": partial(quality, model, data, options.n),
        "guidance": partial(guidance, model, data, options.n, options.scales),
    }
    for part, make in parts.items():
        if options.only in (None, part):
            print(f"{name}: {part}", flush=True)
            kept(options.out / f"{name}-{part}.json", make)


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    """{model: {part: row}} of the files in the folder."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*-*.json")):
        name, _, part = path.stem.rpartition("-")
        found.setdefault(name, {})[part] = json.loads(path.read_text())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="[NAME=]MODEL")
    parser.add_argument("--data", default="emoji", help="what samples are compared with")
    parser.add_argument("--out", type=Path, default=Path("runs/text-to-image"))
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--scales", type=lambda text: [float(x) for x in text.split(",")], default=SCALES)
    parser.add_argument("--only", choices=("training", "compositional", "quality", "guidance"))
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args(arguments)
    for given in options.models:
        name, sign, model = given.partition("=")
        measure(Path(name).name.removesuffix(".safetensors"), model if sign else given, options)
    if options.report or options.models:
        print(report(rows_of(options.out), options.plot if options.report else options.out / "guidance.svg"))


if __name__ == "__main__":
    main()
