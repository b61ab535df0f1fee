"""What does small_data=on change? Trained on 100 to 60,000 pictures of Fashion-MNIST, with it and without.

    python benchmarks/small_data.py [--out runs/small-data] [--only on-100 off-100] [--threads 1] [--report]

Each of the eight models is trained and sampled with the command line; 2,000 samples of each are compared with all
60,000 training pictures, and for copies with those that it was trained on. A finished row is kept as JSON under
--out; started again, the script goes on where it was stopped, and --report writes docs/small-data.md's table and
plot from the rows there are, and trains nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from unstir.data import Dataset, open_data
from unstir.evaluate import FID, PRDC, Drawn, Encoder, Evidence, Memorisation, embedded, encoder_for
from unstir.files import write_atomic

SIZES = (100, 1_000, 10_000, 60_000)
MODES = ("off", "on")
SEEN = 150_000
"""Samples that a model sees in training at most, whatever the number of pictures."""
BATCH = 64
N = 2_000
COLUMNS = ("fid", "coverage", "memorised", "memorised_features", "copied", "copied_features")
ROOT = Path(__file__).parents[1]
PAGE, PLOT = ROOT / "docs/small-data.md", ROOT / "docs/images/small-data.svg"


def unstir(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "unstir", *arguments], check=True)


def subsets(out: Path, whole: Dataset) -> dict[int, Path]:
    """The first n pictures of one random order, so that each set holds the smaller ones."""
    x, y = np.asarray(whole.x), np.asarray(whole.y)
    order = np.random.default_rng(0).permutation(len(x))
    files = {n: out / f"fashion-{n}.npz" for n in SIZES if n < len(x)}
    for n, path in files.items():
        if not path.exists():
            buffer = io.BytesIO()
            np.savez(buffer, x=x[order[:n]], y=y[order[:n]])
            write_atomic(path, buffer.getvalue())
    return files


def train(run: Path, source: str, mode: str, threads: int) -> None:
    """The run, trained to its end, from wherever it is."""
    if (run / "checkpoints/last").exists():
        unstir("train", "--resume", str(run), f"threads={threads}")
        return
    own = mode == "on" and source.endswith(
        "-100.npz"
    )  # then the length is the mode's own choice, and no longer
    length = [] if own else [f"steps={-(-SEEN // BATCH)}", f"batch={BATCH}"]
    settings = [f"small_data={mode}", f"threads={threads}", "preview_every=1000", *length]
    unstir("train", source, *settings, f"out={run}", "--overwrite")


def row(name: str, run: Path, source: str, whole: Dataset, test: Dataset, encoder: Encoder) -> dict[str, Any]:
    """A model's samples, against all pictures and against those that it was trained on."""
    samples = run / f"samples-{N}.npz"
    if not samples.exists():
        unstir("sample", str(run), f"n={N}", "seed=0", f"out={samples}")
    arrays = np.load(samples)
    trained_on, _ = open_data(source)
    return {"name": name} | measured(
        Drawn(arrays["x"], arrays["y"], (0, N - 1)), trained_on, whole, test, encoder
    )


def measured(
    drawn: Drawn, trained_on: Dataset, whole: Dataset, test: Dataset, encoder: Encoder
) -> dict[str, Any]:
    evidence = Evidence(trained_on, test, encoder, drawn, real=whole, embed=embedded)
    numbers = [x for metric in (FID(), PRDC(), Memorisation()) for x in metric.measure(evidence).numbers]
    return {
        "pictures": len(trained_on),
        "features": encoder.about,
        "numbers": {x.name: {"value": x.value, "low": x.low, "high": x.high} for x in numbers},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/small-data"))
    parser.add_argument("--only", nargs="*", default=[f"{mode}-{n}" for n in SIZES for mode in MODES])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="write the table and the plot, train nothing")
    options = parser.parse_args()
    if not options.report:
        study(options.out, options.only, options.threads)
    report(options.out)


def study(out: Path, only: list[str], threads: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    whole, test = open_data("fashion-mnist")
    files = subsets(out, whole)
    encoder = encoder_for("auto", whole, test, say=print)
    for n in SIZES:
        source = str(files.get(n, "fashion-mnist"))
        copies = out / f"copies-{n}.json"
        if n in files and not copies.exists():
            part, _ = open_data(source)
            repeated = np.arange(N) % len(part)
            drawn = Drawn(part.x[repeated], None if part.y is None else part.y[repeated])
            keep(copies, {"name": f"copies-{n}"} | measured(drawn, part, whole, test, encoder))
        for name in (f"{mode}-{n}" for mode in MODES):
            run, path = out / name, out / f"{name}.json"
            if name not in only or path.exists():
                continue
            train(run, source, name.partition("-")[0], threads)
            keep(path, row(name, run, source, whole, test, encoder))


def keep(path: Path, found: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(found, indent=1).encode())
    print(
        json.dumps({"name": found["name"]} | {k: round(v["value"], 4) for k, v in found["numbers"].items()})
    )


# -- the page ------------------------------------------------------------------------------------------------


def report(out: Path) -> None:
    """The rows there are, into the page and its plot."""
    rows = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    lines = [
        "| pictures | small_data | " + " | ".join(words(name) for name in COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for n in SIZES:
        for mode in (*MODES, "copies"):
            if found := rows.get(f"{mode}-{n}"):
                cells = " | ".join(cell(found["numbers"], name) for name in COLUMNS)
                word = "the pictures themselves" if mode == "copies" else mode
                lines.append(f"| {n:,} | {word} | {cells} |")
    table = "\n".join(lines)
    print(table)
    plot(rows)
    if PAGE.exists():
        page = re.sub(
            r"(<!-- table -->\n).*?(<!-- /table -->)", rf"\1\n{table}\n\n\2", PAGE.read_text(), flags=re.S
        )
        write_atomic(PAGE, page.encode())


def words(name: str) -> str:
    return name.replace("fid", "FID").replace("_", ", in ")


def cell(numbers: dict[str, Any], name: str) -> str:
    if name not in numbers:
        return ""
    value, low, high = (numbers[name][key] for key in ("value", "low", "high"))
    if name == "fid":
        return f"{value:.1f}" + ("" if low is None else f" ± {(high - low) / 2:.1f}")
    return f"{value:.1%}"


def plot(rows: dict[str, Any]) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "unstir"  # the same file every time
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axis, name in zip(axes, ("fid", "coverage", "memorised"), strict=True):
        for mode, colour in (("copies", "0.6"), ("off", "#c44e52"), ("on", "#4c72b0")):
            there = [n for n in SIZES if name in rows.get(f"{mode}-{n}", {"numbers": {}})["numbers"]]
            values = [rows[f"{mode}-{n}"]["numbers"][name] for n in there]
            label = "the pictures themselves" if mode == "copies" else f"small_data={mode}"
            style = ":" if mode == "copies" else "o-"
            axis.plot(there, [v["value"] for v in values], style, color=colour, label=label)
            if mode != "copies" and all(v["low"] is not None for v in values):
                axis.fill_between(
                    there,
                    [v["low"] for v in values],
                    [v["high"] for v in values],
                    color=colour,
                    alpha=0.2,
                    lw=0,
                )
        axis.set(xscale="log", xlabel="pictures", ylabel=words(name))
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    main()
