"""Write the model that comes with the package: one run's average, in half precision, with the sampling it is best with.

    python tools/ship_emoji.py runs/emoji-text [solver steps guidance ...as KEY=VALUE]

docs/models/emoji.md says how the run came to be.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import unstir
from unstir.model import SHIPPED

LIMIT = 25 * 10**6  # bytes


def ship(run: str, **settings: str) -> Path:
    pipe = unstir.load(run)
    numbers = {key: int(value) if key == "steps" else value for key, value in settings.items()}
    defaults = pipe.chosen(numbers)
    pipe.config = replace(pipe.config, source="emoji", defaults=defaults)
    pipe.name = "emoji"
    SHIPPED.mkdir(exist_ok=True)
    path = pipe.save(SHIPPED / "emoji.safetensors", half=True)
    if path.stat().st_size > LIMIT:
        raise SystemExit(f"{path} has {path.stat().st_size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}")
    return path


if __name__ == "__main__":
    path = ship(sys.argv[1], **dict(pair.split("=", 1) for pair in sys.argv[2:]))
    print(path, f"{path.stat().st_size / 1e6:.1f} MB")
