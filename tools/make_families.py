"""Train every family on the digits with the same updates and write the table of docs/families.md.

    python tools/make_families.py [--steps 1000] [--runs runs/families] [--n 500] [--only ve ncsn]

A run that is already there goes on from its last checkpoint, and one that has been judged is not trained again; the
table is written once all of them are. About half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "families.md"
sys.path.insert(0, str(ROOT / "benchmarks"))

from judge import Judge, frechet, recall  # noqa: E402

from unstir import load, runs  # noqa: E402
from unstir.data import open_data  # noqa: E402
from unstir.pipeline import Samples  # noqa: E402
from unstir.recipes.families import FAMILIES  # noqa: E402
from unstir.solvers import DPMpp2M  # noqa: E402

ROWS: dict[str, dict[str, str]] = {
    **{name: {"process": name} for name in FAMILIES},
    # the linear beta with all else as in the cosine family
    "linear beta, v": {"process": "ddpm", "parameterization": "v"},
}
COMMON = 20
"""Steps of DPM-Solver++ 2M at which all are compared, however they are meant to be sampled."""


def trained(name: str, run: Path, steps: int) -> Path:
    if (run / "config.yaml").exists():
        return runs.resume(run, progress=False)
    pace = {"checkpoint_every": 200, "heldout_every": 10**6, "preview_every": 10**6}
    return runs.fit("digits", out=run, steps=steps, threads=1, **pace, **ROWS[name])


def judged(run: Path, n: int) -> dict[str, Any]:
    """The quality of n samples drawn in both ways."""
    pipe = load(run)
    return {
        "solver": type(pipe.config.defaults.solver).__name__,
        "own": quality(pipe.sample(n=n, exact=False)),
        "common": quality(pipe.sample(n=n, solver=DPMpp2M(), steps=COMMON, grid="uniform", exact=False)),
    }


def quality(drawn: Samples) -> dict[str, float]:
    train, test = open_data("digits")
    judge = Judge.train_on(train.x, train.y, epochs=40, cache=ROOT / "runs/judges/digits.safetensors")
    features = judge.embed(drawn.images)
    return {
        "agreement": float((judge.predict(drawn.images) == np.asarray(drawn.labels)).mean()),
        "frechet": frechet(judge.embed(np.concatenate([train.x, test.x])), features),
        "recall": recall(judge.embed(test.x), features),
        "calls": drawn.evaluations,
    }


def picture(runs_: Path) -> None:
    """Twenty digits of each family, from the same seeds, as docs/images/families.png."""
    side, left = 34, 70
    sheet = Image.new("L", (left + 20 * side, len(FAMILIES) * side), 255)
    for row, name in enumerate(FAMILIES):
        drawn = load(runs_ / name).sample(n=20, label=[k % 10 for k in range(20)], seed=1)
        ImageDraw.Draw(sheet).text((4, row * side + 10), name, fill=0)
        for k, digit in enumerate(drawn.images[..., 0]):
            enlarged = Image.fromarray(digit).resize((32, 32), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left + k * side, row * side + 1))
    sheet.save(PAGE.parent / "images" / "families.png", optimize=True)


def table(results: dict[str, dict[str, Any]]) -> str:
    def cells(found: dict[str, float]) -> list[str]:
        return [f"{found['agreement']:.1%}", f"{found['recall']:.1%}", f"{found['frechet']:.1f}"]

    head = ["family", "sampled by", "calls", *["label", "recall", "distance"] * 2]
    rows = [
        [
            f"`{name}`" if name in FAMILIES else name,
            f"`{found['solver']}`",
            str(found["own"]["calls"]),
            *cells(found["own"]),
            *cells(found["common"]),
        ]
        for name, found in results.items()
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", type=Path, default=Path("runs/families"))
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--only", nargs="*", choices=[*ROWS], help="these alone, and leave the page as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in options.only or ROWS:
        run = options.runs / name.replace(", ", "-").replace(" ", "-")
        found = run / "judged.json"
        if not found.exists():
            found.write_text(json.dumps(judged(trained(name, run, options.steps), options.n), indent=1))
        results[name] = json.loads(found.read_text())
        print(name, json.dumps(results[name]), flush=True)
    if options.only:
        return 0
    page, count = re.subn(
        r"(<!-- families -->\n).*?(<!-- end -->)",
        lambda m: f"{m[1]}{table(results)}\n{m[2]}",
        PAGE.read_text(),
        flags=re.S,
    )
    assert count == 1, f"{PAGE} has {count} places marked families"
    PAGE.write_text(page)
    picture(options.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
