"""Distances between samples and real items, against closed forms and independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from unstir.data import Dataset
from unstir.data.items import Items, content_keys
from unstir.errors import ConfigError, NumericError
from unstir.evaluate import (
    CMMD,
    FID,
    KID,
    Drawn,
    Encoder,
    Evidence,
    InceptionScore,
    Metric,
    Number,
    Raw,
    SlicedWasserstein,
    mmd,
)
from unstir.evaluate.cmmd import cmmd
from unstir.evaluate.fid import Moments, frechet, moments
from unstir.evaluate.inception_score import inception_score
from unstir.evaluate.kid import kid
from unstir.evaluate.sliced_wasserstein import pyramid, sliced_wasserstein, wasserstein


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def dataset(pixels: np.ndarray, **more: object) -> Dataset:
    keys, names = content_keys(pixels), [str(k) for k in range(len(pixels))]
    return Dataset("test", Items(pixels=pixels, keys=keys, names=names, **more))  # type: ignore[arg-type]


def points(x: np.ndarray, y: np.ndarray | Dataset) -> Evidence:
    """Samples x against real ones y, (n, D), by themselves."""
    real = y if isinstance(y, Dataset) else dataset(y.astype(np.float32))
    return Evidence(real, Dataset("none", real.items, np.arange(0)), Raw(), Drawn(x.astype(np.float32)))


def measured(metric: Metric, evidence: Evidence) -> dict[str, Number]:
    assert metric.lacks(evidence) is None
    return {number.name: number for number in metric.measure(evidence).numbers}


def coverage(numbers: list[Number], truth: float) -> float:
    return float(np.mean([n.low < truth < n.high for n in numbers]))  # type: ignore[operator]


# -- Frechet -----------------------------------------------------------------------------------------------


def by_square_root(x: np.ndarray, y: np.ndarray) -> float:
    """The published program's way: the matrix square root of the product."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root))


@pytest.mark.parametrize(("n", "m", "width"), [(300, 500, 40), (2000, 700, 128), (64, 90, 3)])
def test_fid_is_that_of_the_matrix_square_root(n: int, m: int, width: int) -> None:
    """Within 1e-3, as features of any classifier are: correlated, not centred, of very different spread."""
    mix = normal(width, width, seed=1) * np.geomspace(1, 1e-2, width)
    x, y = np.maximum(normal(n, width) @ mix, 0), np.maximum(0.3 + normal(m, width, seed=2) @ mix, 0)
    truth = by_square_root(x, y)
    assert truth > 0.1
    found = frechet(moments(x), moments(y))
    assert found == pytest.approx(truth, rel=1e-6)
    assert frechet(moments(y), moments(x)) == pytest.approx(found, rel=1e-9)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_fid_of_singular_covariances() -> None:
    """Fewer samples than features, and features that are constant. sqrtm loses digits on a singular product:
    about the root of its own rounding, so that it is given 1e-3 of the traces."""
    mix = normal(60, 60, seed=1)
    x, y = normal(25, 60) @ mix, normal(40, 60, seed=2) @ mix
    x[:, 7], y[:, 7], y[:, 9] = 1, 1, 0
    found = frechet(moments(x), moments(y))
    assert found == pytest.approx(by_square_root(x, y), abs=1e-3 * np.trace(np.cov(x.T)), rel=1e-3)
    flat = np.zeros((5, 60))
    assert frechet(moments(flat), moments(y)) == pytest.approx(y.mean(0) @ y.mean(0) + np.trace(np.cov(y.T)))
    assert frechet(moments(flat), moments(flat + 2)) == pytest.approx(4 * 60)


def test_fid_of_known_laws() -> None:
    """Where the axes are shared: |m_a - m_b|^2 + sum (s_a - s_b)^2; in one dimension too."""
    axes = scipy.stats.ortho_group.rvs(5, random_state=0)
    s, r = np.array([1.0, 2, 0, 3, 0.5]), np.array([2.0, 2, 1, 0.1, 0.5])
    a = Moments(9, np.arange(5.0), axes * s**2 @ axes.T)
    b = Moments(9, np.ones(5), axes * r**2 @ axes.T)
    assert frechet(a, b) == pytest.approx(((np.arange(5) - 1) ** 2).sum() + ((s - r) ** 2).sum())
    line = [Moments(9, np.array([m]), np.array([[s**2]])) for m, s in ((1.0, 2.0), (4.0, 0.5))]
    assert frechet(*line) == pytest.approx(3**2 + 1.5**2)


def test_moments_are_those_of_all_rows() -> None:
    """Also where they are summed in several parts, and of numbers far from 0."""
    x = (100 + normal(9000, 3)).astype(np.float32)
    found = moments(x)
    assert found.mean == pytest.approx(x.astype(float).mean(0))
    assert np.allclose(found.cov, np.cov(x.astype(float).T), rtol=1e-9)


def test_what_has_no_covariance() -> None:
    with pytest.raises(ConfigError, match="1 items have no covariance") as error:
        moments(normal(1, 4))
    assert error.value.field == "n"
    with pytest.raises(NumericError, match="not finite"):
        moments(np.array([[1.0], [math.nan]]))
    with pytest.raises(ConfigError, match="no pairs"):
        kid(normal(1, 4), normal(9, 4))


def test_fid_falls_with_n_and_its_limit_does_not() -> None:
    """E[FID(n)] - FID = c/n: half as many samples have twice the bias. The line through 1/n has almost none, and
    the truth is in 95% of its intervals, of which the plain distance's miss half."""
    width, draws = 24, 50
    scale = np.geomspace(1, 0.1, width)
    law = Moments(0, np.full(width, 0.1), np.diag((1.1 * scale) ** 2))
    truth = frechet(Moments(0, np.zeros(width), np.diag(scale**2)), law)
    real = dataset((law.mean + normal(20_000, width, seed=1) * 1.1 * scale).astype(np.float32))
    bias, plain, limit = {}, [], []
    for n in (200, 400):
        of = []
        for seed in range(draws):
            found = measured(FID(), points(normal(n, width, seed=100 + seed) * scale, real))
            of.append(found["fid"].value - truth)
            if n == 400:
                plain.append(found["fid"])
                limit.append(found["fid_infinity"])
        bias[n] = np.mean(of)
    assert bias[200] > bias[400] > 0.2 * truth
    assert bias[200] / bias[400] == pytest.approx(2, rel=0.1)
    assert abs(np.mean([x.value for x in limit]) - truth) < 0.1 * bias[400]
    assert coverage(plain, truth) < 0.5
    assert coverage(limit, truth) > 0.88


def test_the_interval_of_fid_is_that_of_repeated_draws() -> None:
    """95% of the intervals hold the mean distance at this n; where the laws are equal, at least as many."""
    for shift, least, most in ((0.3, 0.90, 0.99), (0.0, 0.93, 1.0)):
        found = [
            measured(FID(), points(normal(300, 5, seed=k), shift + normal(400, 5, seed=500 + k)))["fid"]
            for k in range(90)
        ]
        assert least <= coverage(found, np.mean([x.value for x in found])) <= most


def test_fid_says_what_it_lacks() -> None:
    metric, evidence = FID(), points(normal(30, 40), normal(50, 40, seed=1))
    finding = metric.measure(evidence)
    (number,) = finding.numbers
    assert "30 items for 40 features" in number.note
    assert (number.n, number.against, number.features) == (30, 50, "raw")
    assert -math.inf < number.low < number.value < number.high < math.inf  # type: ignore[operator, arg-type]
    assert "160 samples" in finding.words[0]
    flat = FID().measure(points(np.ones((9, 3)), normal(50, 3, seed=1))).numbers
    assert all(math.isfinite(x) for number in flat for x in (number.value, number.low, number.high))  # type: ignore[arg-type]


# -- kernels -----------------------------------------------------------------------------------------------


def by_pairs(x: np.ndarray, y: np.ndarray, kernel: object) -> float:
    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return float(np.mean([kernel(a[i], b[j]) for i, j in pairs]))  # type: ignore[operator]

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def test_kernel_distances_are_those_of_a_loop_over_pairs() -> None:
    x, y = normal(17, 6), 0.3 + normal(11, 6, seed=1)
    assert kid(x, y)[0] == pytest.approx(by_pairs(x, y, lambda a, b: (a @ b / 6 + 1) ** 3))

    def gauss(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        return 1000 * float(np.exp(-((a - b) ** 2).sum() / 200))

    assert cmmd(x, y)[0] == pytest.approx(by_pairs(x, y, gauss))
    assert cmmd(x.astype(np.float32), y.astype(np.float32))[0] == pytest.approx(cmmd(x, y)[0], rel=1e-4)
    assert math.isfinite(cmmd(np.zeros((4, 6)), y)[0])


def test_kernel_distances_over_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than one product takes change nothing."""
    x, y = normal(50, 3), 1 + normal(37, 3, seed=1)
    whole = kid(x, y)
    monkeypatch.setattr(mmd, "CHUNK", 8)
    assert kid(x, y) == pytest.approx(whole)


@pytest.mark.parametrize("distance", [kid, cmmd])
def test_kernel_distances_are_unbiased(distance: object) -> None:
    """Of one law with itself the mean is 0 within its error, of few draws as of many; intervals hold 0."""
    for n in (5, 60):
        found = [
            distance(normal(n, 8, seed=k), normal(2 * n, 8, seed=10_000 + k))  # type: ignore[operator]
            for k in range(400)
        ]
        values, errors = np.array(found).T
        assert abs(values.mean()) < 3 * values.std() / 20
        assert (np.abs(values) < 1.96 * errors).mean() > 0.93


@pytest.mark.parametrize("distance", [kid, cmmd])
def test_the_interval_of_kernel_distances_is_that_of_repeated_draws(distance: object) -> None:
    found = [distance(normal(200, 8, seed=k), 0.5 + normal(300, 8, seed=1000 + k)) for k in range(150)]  # type: ignore[operator]
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)
    assert 0.9 <= (np.abs(values - values.mean()) < 1.96 * errors).mean() <= 0.99


def test_kid_of_a_known_shift() -> None:
    """In one dimension, x ~ N(0, 1) and y ~ N(s, 1): E (x x' + 1)^3 and so on by the moments of the normal law."""
    s = 1.5
    m = {"x": [1, 0, 1, 0], "y": [1, s, s**2 + 1, s**3 + 3 * s]}
    mean = {a + b: sum(math.comb(3, k) * m[a][k] * m[b][k] for k in range(4)) for a in "xy" for b in "xy"}
    value, error = kid(normal(2000, 1), s + normal(2000, 1, seed=1))
    truth = mean["xx"] + mean["yy"] - 2 * mean["xy"]
    assert abs(value - truth) < 3 * error < 0.45 * truth


# -- sliced Wasserstein ------------------------------------------------------------------------------------


def test_wasserstein_on_a_line() -> None:
    """That of scipy for any n and m; of a shift the shift; and it is the mean of its potential, a less b."""
    a, b = normal(31), 0.2 + 2 * normal(47, seed=1)
    distance, at_a, _ = wasserstein(a, b)
    assert distance == pytest.approx(scipy.stats.wasserstein_distance(a, b))
    assert wasserstein(a, a + 3)[0] == pytest.approx(3)
    assert wasserstein(a, a)[0] == pytest.approx(0, abs=1e-12)
    # one number more or less changes the distance by what it adds
    grown = wasserstein(np.concatenate([np.repeat(a, 1000), a[4:5]]), b)[0]
    assert (grown - distance) * (31 * 1000 + 1) == pytest.approx(at_a[4], rel=0.02)


def test_sliced_wasserstein_of_shifted_laws() -> None:
    """E |d.s| over unit vectors d: |s| 2/pi in the plane, |s|/2 in space; all of it on a line."""
    for width, share in ((1, 1.0), (2, 2 / math.pi), (3, 0.5)):
        x, shift = normal(200, width), np.zeros(width)
        shift[0] = 4.0
        value, _ = sliced_wasserstein(x, x + shift, directions=1000)
        assert value == pytest.approx(4 * share, rel=0.05 if width > 1 else 1e-9)


def test_the_interval_of_sliced_wasserstein_is_that_of_repeated_draws() -> None:
    """Rows of one item are not independent: five copies of each make nothing surer."""
    found = [
        sliced_wasserstein(normal(200, 4, seed=k), 0.5 + normal(300, 4, seed=1000 + k), directions=16)
        for k in range(100)
    ]
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.2)
    x, y = normal(200, 4), 0.5 + normal(300, 4, seed=1000)
    fivefold = [np.repeat(a[:, None], 5, axis=1) for a in (x, y)]
    assert sliced_wasserstein(*fivefold, directions=16) == pytest.approx(
        sliced_wasserstein(x, y, directions=16), rel=1e-2
    )


def test_the_pyramid_takes_a_picture_apart() -> None:
    """Its parts have the expected sizes, a flat picture has nothing but its last level, and waves fall where
    they belong."""
    x = torch.from_numpy(normal(2, 3, 29, 33))
    assert [tuple(level.shape[2:]) for level in pyramid(x)] == [(29, 33), (15, 17), (8, 9)]
    *fine, last = pyramid(torch.full((1, 1, 28, 28), 0.7, dtype=torch.float64))
    assert all(level.abs().max() < 1e-12 for level in fine)
    assert torch.allclose(last, torch.full_like(last, 0.7))
    stripes = torch.tensor([1.0, -1.0]).repeat(14).expand(1, 1, 28, 28)
    wave = torch.cos(torch.arange(28) * 2 * math.pi / 28).expand(1, 1, 28, 28)
    energy = {
        k: [level.square().mean().item() for level in pyramid(p)] for k, p in enumerate((stripes, wave))
    }
    assert energy[0][0] > 100 * energy[0][2]
    assert energy[1][2] > 100 * energy[1][0]


def test_sliced_wasserstein_of_pictures() -> None:
    """Blur is seen in the finest level, light in the coarsest, and neither in the same law drawn again."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 40, (600, 14, 14, 1)) + rng.normal(0, 30, (600, 1, 1, 1)) + 120
    x = noise.clip(0, 255).astype(np.uint8)
    real, again = dataset(x[:300]), x[300:]
    blurred = (sum(np.roll(again.astype(int), k, 2) for k in (-1, 0, 1)) // 3).astype(np.uint8)
    light = (again.astype(int) + 40).clip(0, 255).astype(np.uint8)

    def levels(drawn: np.ndarray) -> list[float]:
        finding = SlicedWasserstein(directions=16).measure(
            Evidence(real, dataset(x[:0]), Raw(), Drawn(drawn))
        )
        (number,) = finding.numbers
        found = [float(row["sliced_wasserstein"]) for row in finding.rows]  # type: ignore[arg-type]
        assert number.value == pytest.approx(np.mean(found))
        assert (number.n, number.against, number.features) == (300, 300, "")
        assert [row["pixels"] for row in finding.rows] == [14, 7]
        return found

    floor, blur, lit = levels(again), levels(blurred), levels(light)
    assert blur[0] > 3 * floor[0]
    assert lit[1] > 3 * floor[1]
    assert lit[0] < 2 * floor[0]


# -- Inception score ---------------------------------------------------------------------------------------


def test_inception_score_at_its_ends() -> None:
    even = np.eye(7)[np.arange(700) % 7]
    assert inception_score(np.full((50, 7), 1 / 7))[0] == pytest.approx(1)
    assert inception_score(np.eye(7)[np.full(50, 3)])[0] == pytest.approx(1)
    assert inception_score(even) == pytest.approx((7, 0))
    # the mutual information of a symmetric channel of two letters
    p = np.repeat([[0.9, 0.1], [0.1, 0.9]], 200, axis=0)
    assert inception_score(p)[0] == pytest.approx(2 * 0.9**0.9 * 0.1**0.1)


def test_the_interval_of_inception_score_is_that_of_repeated_draws() -> None:
    logs, errors = [], []
    for k in range(150):
        logits = 2 * normal(400, 5, seed=k) + np.array([1, 0, 0, 0, -1])
        value, error = inception_score(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
        logs.append(math.log(value))
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(logs), rel=0.2)


# -- on evidence -------------------------------------------------------------------------------------------


class Corners(Encoder):
    """The mean of each quarter of a picture; the brightest is its class."""

    digest, about, classes = "0123456789ab", "the mean of each quarter", ("a", "b", "c", "d")

    def embed(self, x: np.ndarray) -> np.ndarray:
        parts = x.reshape(len(x), 2, x.shape[1] // 2, 2, -1).mean((2, 4))
        return (parts.reshape(len(x), 4) / 255).astype(np.float32)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        logits = 10 * self.embed(x).astype(np.float64)
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.fixture
def pictures() -> np.ndarray:
    """Grey noise with one bright quarter, each as often."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (400, 8, 8, 1))
    for k in range(4):
        x[k::4, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] += 120
    return x.astype(np.uint8)


@pytest.mark.parametrize("metric", [FID(), KID(), CMMD(), SlicedWasserstein(), InceptionScore()], ids=repr)
def test_every_distance_notices_a_missing_class(metric: Metric, pictures: np.ndarray) -> None:
    """Of the same law: near its floor. Without one class of four: worse, by more than both are unsure."""
    real, none = dataset(pictures[:200]), dataset(pictures[:0])
    rest = pictures[200:]
    fewer = np.delete(rest, np.arange(3, 200, 4), axis=0)
    (same, *_), (lacking, *_) = (
        metric.measure(Evidence(real, none, Corners(), Drawn(x))).numbers for x in (rest, fewer)
    )
    assert (same.n, lacking.n) == (200, 150)
    assert same.features in ("0123456789ab", "")
    assert same.low <= same.value <= same.high  # type: ignore[operator]
    if same.better == "high":
        assert lacking.high < same.low  # type: ignore[operator]
    else:
        assert lacking.low > same.high  # type: ignore[operator]


def test_what_inception_score_needs(pictures: np.ndarray) -> None:
    evidence = Evidence(dataset(pictures), dataset(pictures[:0]), Raw(), Drawn(pictures))
    assert InceptionScore().lacks(evidence) == "the encoder knows no classes"
    nothing = Evidence(dataset(pictures), dataset(pictures[:0]), Corners())
    assert [type(m)().lacks(nothing) for m in (FID(), KID(), CMMD(), SlicedWasserstein())] == [
        "there are no samples"
    ] * 4
