"""Write the model that comes with the package: one run's average, in half precision, with the sampling it is best with.

    python tools/ship_emoji.py runs/emoji-text [KEY=VALUE of the sampling ...]

It then draws the sheet of prompts, docs/images/emoji.png, and puts beside the model what a page shows of it: some
pictures, and the numbers that benchmarks/text_to_image.py measured, where there are any. docs/models/emoji.md says how
the run came to be. Without a run, only the latter is made again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

import unstir
from unstir.addresses import SHIPPED
from unstir.modalities.image import to_grid

ROOT = Path(__file__).parents[1]
PROMPTS = ROOT / "docs/models/emoji-prompts.json"
SHEET = ROOT / "docs/images/emoji.png"
LIMIT = 25 * 10**6  # bytes
MEASURED = ROOT / "runs/text-to-image/emoji-quality.json"
SHOWN = {"fid": "Frechet distance", "agreement": "agreement", "agreement_top5": "agreement, top 5"}


def ship(run: str, **settings: str) -> Path:
    pipe = unstir.load(run)
    numbers = {key: int(value) if key == "steps" else value for key, value in settings.items()}
    defaults = replace(pipe.chosen(numbers), micro_batch=4)  # one picture is what most ask for
    pipe.config = replace(pipe.config, source="emoji", defaults=defaults)
    pipe.name = "emoji"
    SHIPPED.mkdir(exist_ok=True)
    path = pipe.save(SHIPPED / "emoji.safetensors", half=True)
    if path.stat().st_size > LIMIT:
        raise SystemExit(f"{path} has {path.stat().st_size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}")
    return path


def sheet(seed: int = 0) -> Path:
    """64 prompts, one picture each, the first that their seed gives."""
    prompts = json.loads(PROMPTS.read_text())["sheet"]
    return unstir.load("emoji").sample(n=len(prompts), prompt=prompts, seed=seed).save(SHEET)


def cover(n: int = 16) -> Path:
    """The first n of them as one small picture, and the numbers, for whoever chooses among models."""
    path = SHIPPED / "emoji.webp"
    prompts = json.loads(PROMPTS.read_text())["sheet"][:n]
    grid = to_grid(unstir.load("emoji").sample(n=n, prompt=prompts, seed=0).images)
    Image.fromarray(grid).save(path, quality=85, method=6)
    if MEASURED.is_file():
        numbers = json.loads(MEASURED.read_text())["numbers"]
        found = [{"name": title, "value": round(numbers[name]["value"], 3)} for name, title in SHOWN.items()]
        path.with_suffix(".json").write_text(json.dumps({"numbers": found}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    if sys.argv[1:]:
        path = ship(sys.argv[1], **dict(pair.split("=", 1) for pair in sys.argv[2:]))
        print(path, f"{path.stat().st_size / 1e6:.1f} MB")
        print(sheet())
    print(cover())
