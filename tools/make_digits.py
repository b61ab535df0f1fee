"""Make src/unstir/data/embedded/digits.npz from the UCI digits as scikit-learn ships them.

    pip download --no-deps scikit-learn && unzip scikit_learn-*.whl sklearn/datasets/data/digits.csv.gz
    python tools/make_digits.py sklearn/datasets/data/digits.csv.gz

Each line of the file holds 64 counts of dark pixels (0..16) in 4x4 blocks of a scan, then the digit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).parents[1] / "src/unstir/data/embedded/digits.npz"


def main(source: str) -> None:
    table = np.loadtxt(source, delimiter=",")
    x = np.rint(table[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    np.savez_compressed(OUT, x=x, y=table[:, 64].astype(np.int64))
    print(f"{OUT}: {len(x):,} images, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
