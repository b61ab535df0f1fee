"""What `unstir data` finds wrong with data: planted duplicates, leaks, rare classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unstir.cli import main
from unstir.data import describe, describe_lines, find_repeats, open_data


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNSTIR_CACHE", str(tmp_path / "cache"))


def shapes(n: int, seed: int = 0, side: int = 24) -> np.ndarray:
    """Pictures of ellipses and bars on a gradient, in colour: uint8 (n, side, side, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    out = np.empty((n, side, side, 3), np.float32)
    for picture in out:
        picture[:] = rng.uniform(40, 215, 3) + rng.uniform(-60, 60) * x[..., None]
        for _ in range(4):
            (a, b), (c, d), turn = rng.uniform(0.1, 0.9, 2), rng.uniform(0.06, 0.35, 2), rng.uniform(0, 3.2)
            u, v = (
                (x - a) * np.cos(turn) + (y - b) * np.sin(turn),
                (y - b) * np.cos(turn) - (x - a) * np.sin(turn),
            )
            inside = (u / c) ** 2 + (v / d) ** 2 < 1 if rng.random() < 0.5 else (abs(u) < c) & (abs(v) < d)
            picture[inside] = rng.uniform(0, 255, 3)
    return out.clip(0, 255).astype(np.uint8)


def audited(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["data", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_thirty_duplicates_among_three_thousand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Half of them equal, half encoded again."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, picture in enumerate(shapes(2970)):
        Image.fromarray(picture).save(folder / f"{i:04}.png", compress_level=1)
    for k in range(30):
        source = Image.open(folder / f"{97 * k:04}.png")
        copy = folder / (f"copy-{k:02}.png" if k % 2 else f"copy-{k:02}.jpg")
        source.save(copy, **({} if k % 2 else {"quality": 80}))
    (folder / "broken.png").touch()
    planted = {(f"copy-{k:02}.{'png' if k % 2 else 'jpg'}", f"{97 * k:04}.png") for k in range(30)}

    found = audited(capsys, "photos/", "report=report.jsonl", "duplicates=pairs.png")
    repeats = found["repeats"]
    pairs = {(row["path"], row["of"]) for row in repeats["pairs"]}
    assert len(pairs & planted) >= 29
    assert len(pairs - planted) <= 1
    assert repeats["equal"] == 15
    assert all((row["code"] == "equal") == row["path"].endswith(".png") for row in repeats["pairs"])
    sides = {row["path"]: row["heldout"] for row in repeats["pairs"]}
    assert repeats["leaked"] == sum(a != b for a, b in sides.values())
    assert repeats["leaked"] >= 1

    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert lines[0]["path"] == "broken.png"
    assert lines[0]["code"] == "empty"
    assert lines[1:] == repeats["pairs"]
    with Image.open(tmp_path / "pairs.png") as sheet:
        assert sheet.width > 2 * 24

    assert main(["data", "photos/"]) == 0
    text = capsys.readouterr().out
    assert "15 duplicates: 0097.png ~ copy-01.png, " in text
    assert "near-duplicates: " in text
    assert "0000.png ~ copy-00.jpg" in text
    assert f"{repeats['leaked']} held-out items" in text


def test_a_rare_class_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    counts = {"bag": 30, "coat": 360, "boot": 330, "dress": 330, "shirt": 330}
    counts |= {f"other {k}": 324 for k in range(5)}
    y = np.repeat(list(counts), list(counts.values()))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (3000, 8, 8), dtype=np.uint8), y=y)
    found = audited(capsys, "a.npz")
    assert found["warnings"] == [
        "unbalanced: bag has 1.0% of the items, 30 of 3,000; the commonest class, coat, 12%"
    ]
    assert found["repeats"]["pairs"] == []
    assert main(["data", "a.npz"]) == 0
    assert "warning  unbalanced: bag has 1.0%" in capsys.readouterr().out


def test_too_few_items_of_a_class(tmp_path: Path) -> None:
    y = np.repeat(["a", "b", "c", "d", "e", "f"], [500, 3, 4, 5, 6, 400])
    x = np.random.default_rng(0).integers(0, 256, (len(y), 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    rare, few = describe(*open_data(tmp_path / "a.npz"))["warnings"]
    assert rare.startswith("unbalanced: b has 0.3% of the items, 3 of 918, c has")
    assert "1 more" in rare
    assert few == "too few items to learn a class from: b 3, c 4, d 5, e 6"


@pytest.mark.parametrize("name", ["digits", "points:moons"])
def test_nothing_is_wrong_with_these(name: str) -> None:
    parts = open_data(name)
    description = describe(*parts, find_repeats(*parts))
    assert description["warnings"] == []
    assert description["repeats"]["pairs"] == []
    assert not any(line.startswith(("repeats", "warning")) for line in describe_lines(description))


def test_a_leak_into_a_held_out_part_of_its_own() -> None:
    """Where a set brings its own held-out items, nothing keeps equal items on one side."""
    from unstir.data import Dataset
    from unstir.data.items import Items, content_keys

    x = shapes(300)
    parts = []
    for some in (x[:200], np.concatenate([x[200:], x[:7]])):
        names = [str(i) for i in range(len(some))]
        parts.append(Dataset("test", Items(pixels=some, keys=content_keys(some), names=names)))
    repeats = find_repeats(*parts)
    assert repeats.leaked == 7
    assert [repeats.names[pair.item] for pair in repeats.pairs] == [f"held out: {100 + k}" for k in range(7)]
    assert repeats.sheet().shape[2] == 3
