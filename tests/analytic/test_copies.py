"""Copies: planted ones are found, fresh draws of the same law are not taken for them."""

from __future__ import annotations

import io
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from unstir.data import Dataset, duplicates, thumbnails
from unstir.data.items import Items, content_keys
from unstir.errors import ConfigError
from unstir.evaluate import (
    Drawn,
    Evidence,
    Finding,
    Memorisation,
    Number,
    Raw,
    Repetition,
    nearest,
    neighbours,
)
from unstir.evaluate.encoder import Encoder

search = import_module("unstir.data.duplicates")  # which the function of that name hides


def pictures(n: int, seed: int = 0, side: int = 16, channels: int = 1) -> np.ndarray:
    """Smooth random pictures, uint8 (n, side, side, channels): 12 x 12 waves, the slow ones stronger."""
    rng = np.random.default_rng(seed)
    k, at = np.arange(12), (np.arange(side) + 0.5) / side
    waves = np.cos(np.pi * k[:, None] * at)
    weights = 1 / (1 + k[:, None] + k)
    values = np.einsum(
        "ncuv,uh,vw->nhwc", rng.normal(size=(n, channels, 12, 12)) * weights, waves, waves, optimize=True
    )
    return (128 + 30 * values).clip(0, 255).astype(np.uint8)


def dataset(x: np.ndarray) -> Dataset:
    names = [f"{i}.png" for i in range(len(x))]
    return Dataset("test", Items(pixels=x, keys=content_keys(x), names=names))


class Sketch(Encoder):
    """Pictures by their 4 x 4 means."""

    digest, about = "sketch", "means"

    def embed(self, x: np.ndarray) -> np.ndarray:
        return thumbnails(x, 4).reshape(len(x), -1)


def measured(
    train: np.ndarray, heldout: np.ndarray, drawn: np.ndarray, encoder: Encoder | None = None
) -> tuple[dict[str, Number], Finding]:
    evidence = Evidence(
        dataset(train), dataset(heldout), encoder or Sketch(), Drawn(drawn, seeds=(100, 99 + len(drawn)))
    )
    finding = Memorisation().measure(evidence)
    return {number.name: number for number in finding.numbers}, finding


# -- neighbours --------------------------------------------------------------------------------------------


def brute(queries: np.ndarray, items: np.ndarray, mirrored: bool) -> np.ndarray:
    """float64 (Q, N): all distances."""
    versions = [items, items[:, :, ::-1]] if mirrored else [items]
    q = queries.reshape(len(queries), 1, -1).astype(np.float64)
    return np.minimum.reduce([np.sqrt(((q - x.reshape(1, len(x), -1)) ** 2).mean(2)) for x in versions])


@pytest.mark.parametrize("side", [8, 7])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_distances_are_those_of_float64(
    side: int, mirrored: bool, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far from the origin too, where |q|^2 + |x|^2 - 2 q.x would cancel."""
    monkeypatch.setattr(neighbours, "CHUNK", 64)
    items = pictures(300, 1, side, 3).astype(np.float32) + np.float32(offset)
    queries = np.concatenate([items[:40] + np.float32(0.5), pictures(60, 2, side, 3) + np.float32(offset)])
    queries[20:40] = queries[20:40, :, ::-1]
    found, truth = nearest(queries, items, mirrored=mirrored), brute(queries, items, mirrored)
    rank = np.sort(truth, 1)
    np.testing.assert_allclose(found.distance, rank[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.second, rank[:, 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(truth[np.arange(100), found.rows], found.distance, rtol=1e-9, atol=1e-12)


def test_an_item_among_the_others() -> None:
    items = pictures(300, 3)
    found = nearest(items, items, own=np.arange(300))
    truth = brute(items, items, False)
    np.fill_diagonal(truth, np.inf)
    np.testing.assert_array_equal(found.rows, truth.argmin(1))
    np.testing.assert_allclose(found.distance, truth.min(1), rtol=1e-9)


def test_one_item_has_no_second() -> None:
    found = nearest(pictures(3), pictures(1))
    assert found.rows.tolist() == [0, 0, 0]
    assert np.isinf(found.second).all()


# -- memorisation ------------------------------------------------------------------------------------------


def test_fresh_draws_are_no_copies() -> None:
    """A perfect model: samples of the same law. About 1% lie below the 1% quantile, whichever yardstick it is."""
    x = pictures(5000, 4, 8)
    for heldout in (x[1000:3000], x[:0]):
        numbers, finding = measured(x[:1000], heldout, x[3000:])
        for name in ("copied", "copied_features"):
            assert 0.001 < numbers[name].value < 0.03
            assert numbers[name].better == "low"
            assert ("held-out" if len(heldout) else "training") in numbers[name].note
        assert numbers["memorised"].value < 0.001
        assert numbers["copied_features"].features == "sketch"
        assert numbers["copied"].features == ""
        assert finding.words == ()


@pytest.mark.parametrize(("held", "expected"), [(99, 1 / 100), (0, 1 / 50.5)])
def test_the_expected_share_is_that_of_a_rank(held: int, expected: float) -> None:
    """The k-th smallest of m distances has k / (m + 1) of all others below it, on average over many sets; among the
    training items the smallest distance occurs twice."""
    shares = []
    for seed in range(80):
        x = np.random.default_rng(seed).normal(size=(1200, 2)).astype(np.float32)
        numbers, _ = measured(x[:99], x[99 : 99 + held], x[198:], Raw())
        assert f": {expected:.1%}," in numbers["copied"].note
        shares.append(numbers["copied"].value)
    assert abs(np.mean(shares) - expected) < 3 * np.std(shares) / 80**0.5


@pytest.mark.parametrize("kind", ["equal", "noise", "mirrored", "lighter"])
def test_planted_copies_are_found(kind: str) -> None:
    x, rng = pictures(3000, 5), np.random.default_rng(0)
    train, heldout, drawn = x[:1000], x[1000:2000], x[2000:].copy()
    copies = train[:120].astype(np.float64)
    if kind == "noise":
        copies += rng.normal(0, 4, copies.shape)
    elif kind == "mirrored":
        copies = copies[:, :, ::-1]
    elif kind == "lighter":
        copies = copies * 1.02 + 3
    drawn[:120] = copies.clip(0, 255).round()
    numbers, finding = measured(train, heldout, drawn)
    for name in ("copied", "memorised"):
        low, high = numbers[name].low, numbers[name].high
        assert low is not None
        assert high is not None
        assert 0.11 < numbers[name].value < 0.15
        assert low < 0.12 < high
    assert any("copy a training item" in words for words in finding.words)
    assert any("memorised" in words for words in finding.words)
    rows = [row for row in finding.rows if row["space"] == "values"]
    assert all(row["nearest"] == f"{row['sample']}.png" for row in rows)
    assert all(row["seed"] == 100 + int(str(row["sample"])) for row in rows)
    if kind != "mirrored":  # the encoder tells them apart
        assert numbers["copied_features"].value > 0.11


def test_empty_samples_are_no_copies() -> None:
    """In noise of many dimensions the mean is nearer to every item than the items are to one another."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (140, 12, 12, 1)).astype(np.uint8)
    empty = (x[:100].mean(0) + rng.normal(0, 2, (40, 12, 12, 1))).round().astype(np.uint8)
    numbers, finding = measured(x[:100], x[100:], empty)
    assert nearest(empty, x[:100]).distance.max() < nearest(x[100:], x[:100]).distance.min()
    assert numbers["copied"].value == 0
    assert not any("copy" in words for words in finding.words)


def test_the_sheet_shows_samples_above_their_sources() -> None:
    x = pictures(1600, 6, 40)
    drawn = x[1000:].copy()
    drawn[50] = x[7]
    _, finding = measured(x[:500], x[500:1000], drawn)
    sheet = next(iter(finding.sheets.values()))
    assert len(finding.sheets) == 2
    assert sheet.dtype == np.uint8
    pad = 2
    np.testing.assert_array_equal(sheet[pad : pad + 40, pad : pad + 40], x[7])
    np.testing.assert_array_equal(sheet[2 * pad + 40 : 2 * pad + 80, pad : pad + 40], x[7])


def test_repeats_hide_no_copies() -> None:
    """d_1 / d_2 would be 1 where the training data holds an item twice."""
    x = pictures(2000, 7)
    train = np.concatenate([x[:500], x[:500]])
    numbers, _ = measured(train, x[500:1000], x[:500])
    assert numbers["memorised"].value == 1
    assert numbers["memorised"].against == 500


def test_held_out_items_that_leaked_do_not_move_the_yardstick() -> None:
    x = pictures(3000, 8)
    heldout = x[1000:2000].copy()
    heldout[:50] = x[:50]
    drawn = x[2000:].copy()
    drawn[:100] = (x[:100] * 0.98).round()
    numbers, _ = measured(x[:1000], heldout, drawn)
    assert numbers["copied"].value > 0.09


def test_points_are_compared_as_they_are() -> None:
    x = np.random.default_rng(9).normal(size=(3000, 2)).astype(np.float32)
    numbers, finding = measured(x[:1000], x[1000:2000], np.concatenate([x[:500], x[2000:2500]]), Raw())
    assert set(numbers) == {"copied", "memorised"}
    assert numbers["copied"].value > 0.49
    assert not finding.sheets
    assert any("memorised" in words for words in finding.words)


def test_what_it_needs() -> None:
    x = pictures(10)
    assert Memorisation().lacks(Evidence(dataset(x[:2]), dataset(x[2:]), Sketch(), Drawn(x))) is not None
    assert Memorisation().lacks(Evidence(dataset(x), dataset(x[:0]), Sketch())) is not None
    assert Memorisation().lacks(Evidence(dataset(x), dataset(x[:0]), Sketch(), Drawn(x))) is None
    with pytest.raises(ConfigError):
        Memorisation(quantile=1.5)


def repeated(drawn: np.ndarray) -> Finding:
    return Repetition().measure(Evidence(dataset(pictures(300)), dataset(drawn[:0]), Raw(), Drawn(drawn)))


def test_samples_that_are_drawn_twice() -> None:
    """200 samples, 80 of which repeat another one, half of these a little lighter."""
    x = pictures(120, seed=1)
    lighter = (x[40:80].astype(int) + 4).clip(0, 255).astype(np.uint8)
    finding = repeated(np.concatenate([x, x[:40], lighter]))
    (number,) = finding.numbers
    assert number.value == pytest.approx(80 / 200, abs=0.015)
    assert number.low is not None
    assert number.high is not None
    assert number.low < 0.4 < number.high
    assert "40%" in finding.words[0] or "39%" in finding.words[0]
    assert len(finding.sheets) == 1


def test_samples_that_differ_repeat_nothing() -> None:
    finding = repeated(pictures(200, seed=2))
    assert finding.numbers[0].value < 0.01
    assert not finding.words


# -- duplicates --------------------------------------------------------------------------------------------


def encoded(x: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(x.squeeze()).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(x.shape)


def resized(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[:2]
    large = Image.fromarray(x.squeeze()).resize((3 * width // 2, 3 * height // 2), Image.Resampling.BICUBIC)
    return np.asarray(large.resize((width, height), Image.Resampling.BICUBIC)).reshape(x.shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: encoded(x, 90),
        lambda x: encoded(x, 75),
        resized,
        lambda x: (x * 1.1).clip(0, 255).astype(np.uint8),
        lambda x: (x * 0.85 + 10).astype(np.uint8),
    ],
    ids=["jpeg 90", "jpeg 75", "resized", "lighter", "flatter"],
)
def test_the_same_picture_saved_in_another_way(change: object, channels: int) -> None:
    x = pictures(800, 10, 28, channels)
    copies = np.stack([change(picture) for picture in x[::40]])  # type: ignore[operator]
    assert (copies != x[::40]).any(axis=(1, 2, 3)).all()
    found = duplicates(np.concatenate([x, copies]))
    planted = {(800 + k, 40 * k) for k in range(20)}
    pairs = {(pair.item, pair.of) for pair in found}
    assert len(pairs & planted) >= 19
    assert len(pairs - planted) == 0
    assert all(0 < pair.distance < 30 for pair in found)


def test_equal_items() -> None:
    x = pictures(100, 11)
    found = duplicates(np.concatenate([x, x[3:5], x[3:4]]))
    assert found == [(100, 3, 0), (101, 4, 0), (102, 3, 0)]
    points = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    assert duplicates(np.concatenate([points, points[:1], points[1:2] + 1e-6])) == [(50, 0, 0)]


def test_another_colour_is_another_picture() -> None:
    shape = np.zeros((32, 32), bool)
    shape[8:24, 8:24] = True
    reds = [(220, 30, 30), (30, 60, 220), (40, 160, 40), (120, 120, 120), (250, 200, 0)]
    x = np.stack([np.where(shape[..., None], colour, 255) for colour in reds]).astype(np.uint8)
    assert duplicates(np.concatenate([x, pictures(200, 12, 32, 3)])) == []


def test_many_alike_do_not_fill_the_memory() -> None:
    x = np.full((3000, 8, 8, 1), 128, np.uint8)
    x[np.arange(3000), np.arange(3000) // 8 % 8, np.arange(3000) % 8] += (1 + np.arange(3000) // 64).astype(
        np.uint8
    )[:, None]
    assert len(np.unique(content_keys(x))) == 3000
    assert len(duplicates(x)) > 2000


def test_pairs_stay_together_however_the_points_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LEAF", 32)
    x = np.random.default_rng(13).normal(size=(1000, 4)).astype(np.float32)
    i, j = np.nonzero(np.triu(np.linalg.norm(x[:, None] - x, axis=2) <= 0.4, 1))
    assert len(i) > 200
    np.testing.assert_array_equal(search._within(x, 0.4), np.stack([i, j], 1))
