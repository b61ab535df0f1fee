"""Write the table of known cases of docs/evaluation.md: `python tools/make_evaluation.py`.

Held-out pictures of Fashion-MNIST take the place of samples: as they are, which is the floor, and spoilt in ways that
are known. Each case is measured by every metric that needs no model, and a cell is bold where it notices: where its
95% interval and the floor's do not meet. What was measured is kept in runs/known-cases.json, so that the script may be
stopped and started again. About ten minutes on two cores, the encoder's training apart, which is done once.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv2d

from unstir.data import Dataset, open_data
from unstir.evaluate import Drawn, Evidence, Metric, embedded, encoder_for
from unstir.files import write_atomic
from unstir.spec import choices

ROOT = Path(__file__).parents[1]
PAGE, KEPT = ROOT / "docs" / "evaluation.md", ROOT / "runs" / "known-cases.json"
SOURCE, MISSING = "fashion-mnist", 6  # the class of shirts
POOL = 1.2  # held-out items that cases are made of, in units of n; the others are the yardstick of copies


def blurred(x: np.ndarray) -> np.ndarray:
    """A Gaussian of one pixel."""
    taps = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / 2)
    kernel = (taps / taps.sum()).outer(taps / taps.sum())[None, None]
    images = torch.from_numpy(x).movedim(-1, 1).float()
    return conv2d(images, kernel, padding=3).round().clamp(0, 255).byte().movedim(1, -1).numpy()


def noisy(x: np.ndarray, std: float = 16.0) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, std, x.shape)
    return (x + noise).round().clip(0, 255).astype(np.uint8)


def cases(train: Dataset, pool: Dataset, n: int) -> dict[str, Callable[[], Drawn]]:
    """By what is wrong with them."""
    x, y = np.asarray(pool.x), pool.y
    assert y is not None
    assert train.y is not None
    first, half, rng = slice(0, n), n // 2, np.random.default_rng(1)
    others = np.flatnonzero(y != MISSING)[:n]
    learned = rng.choice(len(train), n - half, replace=False)
    copies = np.asarray(train.x[learned]), train.y[learned]
    return {
        "nothing": lambda: Drawn(x[first], y[first]),
        "blurred": lambda: Drawn(blurred(x[first]), y[first]),
        "noise of 16 levels": lambda: Drawn(noisy(x[first]), y[first]),
        "a class missing": lambda: Drawn(x[others], y[others]),
        "half are duplicates": lambda: Drawn(np.tile(x[:half], (2, 1, 1, 1)), np.tile(y[:half], 2)),
        "half are training pictures": lambda: Drawn(
            np.concatenate([x[:half], copies[0]]), np.concatenate([y[:half], copies[1]])
        ),
        "labels shuffled": lambda: Drawn(x[first], rng.permutation(y[first])),
    }


def measure(n: int) -> dict[str, dict[str, dict[str, Any]]]:
    """{case: {number: value, low, high, better}}, from the disk where it was measured before."""
    train, heldout = open_data(SOURCE)
    encoder = encoder_for(None, train, heldout, say=print)
    count = round(POOL * n)
    pool = Dataset(SOURCE, heldout.items, heldout.rows[:count])
    yardstick = Dataset(SOURCE, heldout.items, heldout.rows[count:])
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    found = kept.setdefault(f"{n} {encoder.digest}", {})
    memory: dict[tuple[str, ...], Any] = {}
    for case, make in cases(train, pool, n).items():
        evidence = Evidence(train, yardstick, encoder, make(), embed=embedded, memory=memory)
        numbers = found.setdefault(case, {})
        for name, kind in choices(Metric).items():
            metric = kind()
            if metric.dear or metric.lacks(evidence) or name in numbers:
                continue
            print(f"{case}: {name}", flush=True)
            numbers[name] = [
                {"name": k.name, "value": k.value, "low": k.low, "high": k.high}
                for k in metric.measure(evidence).numbers
            ]
            KEPT.parent.mkdir(exist_ok=True)
            write_atomic(KEPT, json.dumps(kept, indent=1).encode())
    return {
        case: {number["name"]: number for numbers in by_metric.values() for number in numbers}
        for case, by_metric in found.items()
    }


def notices(number: Mapping[str, Any], floor: Mapping[str, Any]) -> bool:
    """Whether the two intervals do not meet."""
    if None in (number["low"], floor["low"]):
        return False
    return bool(number["low"] > floor["high"] or number["high"] < floor["low"])


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    floor = found["nothing"]
    rows = [["what is wrong", *found], ["---"] * (len(found) + 1)]
    for name, real in floor.items():
        half = None if real["low"] is None else (real["high"] - real["low"]) / 2
        cells = [f"{real['value']:.3g}" + (f" ± {half:.2g}" if half else "")]
        for case in list(found)[1:]:
            number = found[case].get(name)
            text = "-" if number is None else f"{number['value']:.3g}"
            cells.append(f"**{text}**" if number is not None and notices(number, real) else text)
        rows.append([f"`{name}`", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=5000, help="pictures in each case")
    n = parser.parse_args().n
    made = table(measure(n))
    page, places = re.subn(
        r"(<!-- table: known cases -->\n)(?:\|.*\n)*", lambda m: f"{m[1]}{made}\n", PAGE.read_text()
    )
    assert places == 1, f"{PAGE} has {places} places marked: <!-- table: known cases -->"
    PAGE.write_text(page)
    print(made)


if __name__ == "__main__":
    main()
