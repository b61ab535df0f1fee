"""What is made, of what, and how much of it: shares and spreads against closed forms and simulated laws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import cdist

from unstir.data import Caption, Dataset
from unstir.data.items import Items
from unstir.errors import ConfigError, IncompatibleError
from unstir.evaluate import (
    PRDC,
    Accuracy,
    Balance,
    BitsPerDim,
    Consistency,
    Drawn,
    Encoder,
    Evidence,
    Finding,
    HeldOutLoss,
    Metric,
    Number,
    Raw,
)
from unstir.evaluate.balance import expected
from unstir.evaluate.consistency import spread
from unstir.evaluate.prdc import balls, complete
from unstir.evaluate.shares import differ, quantile, wilson

CLASSES = ("ant", "bee", "cat", "dog")
FIVE = PRDC(k=5)


def dataset(x: np.ndarray, y: np.ndarray | None = None, captions: Sequence[str] | None = None) -> Dataset:
    """Points with labels of `CLASSES`."""
    keys, names = np.arange(len(x), dtype=np.uint64), [str(k) for k in range(len(x))]
    classes = () if y is None else CLASSES
    x = x.astype(np.float32)
    told = None if captions is None else [(Caption(text),) if text else () for text in captions]
    return Dataset("test", Items(pixels=x, keys=keys, names=names, labels=y, classes=classes, captions=told))


NOTHING = dataset(np.zeros((0, 2)))


class Oracle(Encoder):
    """Its features are x; it takes x for the class that x[0] is the number of."""

    digest, about, classes = "oracle", "an oracle", CLASSES

    def embed(self, x: np.ndarray) -> np.ndarray:
        return x.astype(np.float32)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return np.eye(len(self.classes))[x[:, 0].astype(int)]


def told(classes: np.ndarray) -> np.ndarray:
    """Points that the oracle takes for these classes."""
    return np.stack((classes, np.zeros(len(classes))), 1).astype(np.float32)


def measured(metric: Metric, evidence: Evidence) -> tuple[dict[str, Number], Finding]:
    assert metric.lacks(evidence) is None
    finding = metric.measure(evidence)
    return {number.name: number for number in finding.numbers}, finding


# -- shares ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (812, 1000)])
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int) -> None:
    truth = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert [float(v) for v in wilson(hits / n, n)] == pytest.approx([truth.low, truth.high], abs=1e-4)
    number = Number.share("hit", np.arange(n) < hits)
    assert (number.value, number.n) == (hits / n, n)
    assert [number.low, number.high] == pytest.approx([truth.low, truth.high], abs=1e-4)
    wider = Number.share("hit", np.arange(n) < hits, others=0.01)
    assert wider.low <= number.low <= number.value <= number.high <= wider.high  # type: ignore[operator]


def test_the_interval_of_a_share_holds_it_as_often_as_it_says() -> None:
    n = 50
    counts, ps = np.arange(n + 1), np.linspace(0.01, 0.99, 99)
    low, high = wilson(counts / n, n)
    holds = [scipy.stats.binom.pmf(counts, n, p)[(low <= p) & (p <= high)].sum() for p in ps]
    assert np.mean(holds) == pytest.approx(0.95, abs=0.01)
    assert min(holds) > 0.85


def test_the_difference_of_shares_is_pearsons() -> None:
    z = differ(0.3, 50, 0.5, 80)
    table = [[15, 35], [40, 40]]
    assert z < 0
    assert z**2 == pytest.approx(scipy.stats.chi2_contingency(table, correction=False).statistic)
    assert differ(0.0, 0, 0.5, 80) == differ(1.0, 5, 1.0, 5) == 0
    assert quantile() == pytest.approx(1.96, abs=1e-3)
    assert 2 * scipy.stats.norm.sf(quantile(40)) == pytest.approx(0.05 / 40)


# -- precision, recall, density, coverage ------------------------------------------------------------------
def prdc(real: np.ndarray, drawn: np.ndarray, metric: PRDC = FIVE) -> dict[str, Number]:
    return measured(metric, Evidence(dataset(real), NOTHING, Raw(), Drawn(drawn.astype(np.float32))))[0]


def values(numbers: dict[str, Number]) -> list[float]:
    return [numbers[name].value for name in ("precision", "recall", "density", "coverage")]


def test_the_same_set_twice_has_all_of_it_and_one_far_off_none() -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    assert values(prdc(x, x)) == [1, 1, 1, 1]
    assert values(prdc(x, x + 100)) == [0, 0, 0, 0]


@pytest.mark.parametrize("offset", [0, 1000])
def test_who_lies_in_which_ball_however_far_off_the_origin(offset: float) -> None:
    rng = np.random.default_rng(1)
    real, drawn = ((rng.normal(size=(n, 12)) + offset).astype(np.float32) for n in (300, 200))
    drawn[:40], real[250:] = real[:40], real[:50]
    real64, drawn64 = real.astype(np.float64), drawn.astype(np.float64)
    radii = np.sort(cdist(real64, real64), 1)[:, 3:4]
    inside = cdist(real64, drawn64) < radii
    found = balls(real, drawn, 3)
    assert (found.held == inside.sum(0)).all()
    assert (found.holds == inside.sum(1)).all()
    assert (found.alone == inside[:, inside.sum(0) == 1].sum(1)).all()
    assert (found.only == inside[inside.sum(1) == 1].sum(0)).all()
    if offset:  # where float32 alone fails
        squared = (real**2).sum(1)[:, None] + (drawn**2).sum(1)[None] - 2 * real @ drawn.T
        assert ((squared < radii**2) != inside).sum() > 100


@pytest.mark.parametrize(("n", "m", "k", "law"), [(40, 40, 5, "normal"), (40, 20, 3, "exponential")])
def test_coverage_and_density_of_two_sets_of_one_law(n: int, m: int, k: int, law: str) -> None:
    """Naeem et al. 2020, lemma 2; and P(a sample is nearer than the k-th of n - 1 others) = k / n."""
    rng, found = np.random.default_rng(2), []
    for _ in range(200):
        of_real = balls(getattr(rng, law)(size=(n, 3)), getattr(rng, law)(size=(m, 3)), k)
        found.append(((of_real.holds > 0).mean(), of_real.held.mean() / k))
    error = np.std(found, 0) / math.sqrt(len(found))
    assert (abs(np.mean(found, 0) - (complete(n, m, k), 1)) < 4 * error).all()


def test_the_intervals_hold_what_is_to_be_expected() -> None:
    rng = np.random.default_rng(3)
    runs = [prdc(rng.normal(size=(60, 2)), 0.7 * rng.normal(size=(60, 2)) + 0.5) for _ in range(120)]
    for name, least in {"precision": 0.93, "recall": 0.88, "density": 0.93, "coverage": 0.9}.items():
        truth = np.mean([run[name].value for run in runs])
        assert np.mean([run[name].low <= truth <= run[name].high for run in runs]) >= least, name  # type: ignore[operator]


def test_what_a_missing_mode_and_an_outlier_change() -> None:
    rng = np.random.default_rng(4)
    modes = np.array([[0, 0], [20, 0]])
    real = rng.normal(size=(400, 2)) + modes[np.arange(400) % 2]
    half = prdc(real, rng.normal(size=(400, 2)))
    assert half["precision"].value > 0.95
    assert half["recall"].value == pytest.approx(0.5, abs=0.03)
    assert half["coverage"].value == pytest.approx(complete(200, 400, 5) / 2, abs=0.03)
    assert half["coverage"].note == f"{complete(400, 400, 5):.3f} where both are of one law"
    real[0] = 0, 1000  # an outlier: its ball reaches over everything on the way
    far = prdc(real, rng.normal(size=(400, 2)) + np.array([10, 30]))
    assert far["precision"].value > 0.9
    assert far["density"].value < 0.5
    assert far["coverage"].value < 0.1


def test_neighbours_must_be_there_and_sides_be_even() -> None:
    x = np.random.default_rng(5).normal(size=(30, 2))
    with pytest.raises(ConfigError, match="k=5 neighbours among 5 items") as caught:
        prdc(x, x[:5])
    assert "prdc:k=4" in caught.value.hint  # type: ignore[operator]
    found = prdc(x, x[:6])
    assert {(number.n, number.against) for number in found.values()} == {(6, 6)}
    with pytest.raises(ConfigError, match="k"):
        PRDC(k=0)


# -- accuracy ----------------------------------------------------------------------------------------------
def mistaken(y: np.ndarray, rates: Sequence[float], seed: int) -> np.ndarray:
    """Classes, each taken for the next with the rate of its own."""
    rng = np.random.default_rng(seed)
    return (y + (rng.random(len(y)) < np.array(rates)[y])) % len(CLASSES)


def asked(made: Sequence[float], true: Sequence[float] | None, n: int = 800) -> Evidence:
    y = np.arange(n) % len(CLASSES)
    train = dataset(told(y), y)
    heldout = NOTHING if true is None else dataset(told(mistaken(y, true, 1)), y)
    return Evidence(train, heldout, Oracle(), Drawn(told(mistaken(y, made, 2)), y))


def test_the_share_that_shows_what_was_asked_for() -> None:
    numbers, finding = measured(Accuracy(), asked([0.1] * 4, [0.05] * 4))
    accuracy = numbers["accuracy"]
    assert accuracy.low < 0.9 < accuracy.high  # type: ignore[operator]
    assert accuracy.value == pytest.approx(np.mean([row["accuracy"] for row in finding.rows]))  # type: ignore[arg-type]
    assert finding.words == ()
    assert accuracy.note.endswith("% of 800 held-out items")
    assert [row["class"] for row in finding.rows] == list(CLASSES)


def test_the_class_that_is_clearly_worst_is_named_unless_real_ones_are_no_better() -> None:
    bad = [0.05, 0.05, 0.4, 0.05]
    [words] = measured(Accuracy(), asked(bad, [0.05] * 4))[1].words
    assert words.startswith("cat: ")
    assert "of held-out ones" in words
    assert measured(Accuracy(), asked(bad, None))[1].words[0].startswith("cat: ")
    assert measured(Accuracy(), asked(bad, bad))[1].words == ()


def test_what_the_encoder_must_know() -> None:
    class Narrow(Oracle):
        classes = CLASSES[:3]

    y = np.arange(8) % 4
    evidence = Evidence(dataset(told(y), y), NOTHING, Narrow(), Drawn(told(y), y))
    assert Accuracy().lacks(evidence) == "the encoder knows no 'dog'"
    assert (
        Accuracy().lacks(Evidence(evidence.train, NOTHING, Raw(), evidence.drawn))
        == "the encoder knows no classes"
    )
    assert Oracle().agrees(told(y), ["bee"] * 8).tolist() == (y == 1).tolist()
    with pytest.raises(IncompatibleError, match="knows no classes"):
        Raw().agrees(told(y), ["bee"] * 8)


# -- balance -----------------------------------------------------------------------------------------------
def drawn_with(shares: Sequence[float], n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(CLASSES), n, p=shares)


def test_a_planted_bias_is_named_with_its_numbers() -> None:
    rng = np.random.default_rng(6)
    y = np.arange(2000) % 4
    drawn = Drawn(told(drawn_with([0.25, 0.35, 0.3, 0.1], 2000, rng)))
    numbers, finding = measured(
        Balance(), Evidence(dataset(told(y), y), dataset(told(y), y), Oracle(), drawn)
    )
    assert finding.words[0].startswith("dog: 25.0% of the data, ")
    assert {words.split(":")[0] for words in finding.words} == {"dog", "bee", "cat"}
    assert numbers["balance"].low < 0.15 < numbers["balance"].high  # type: ignore[operator]
    dog = finding.rows[3]
    assert dog["low"] < 0.1 < dog["high"]  # type: ignore[operator]
    assert dog["labelled"] == 0.25
    assert dog["z"] < -10  # type: ignore[operator]


def test_where_there_is_no_bias_one_is_seldom_named() -> None:
    rng, shares, runs = np.random.default_rng(7), [0.5, 0.3, 0.195, 0.005], 300
    y = drawn_with(shares, 2000, rng)
    data = dataset(told(y), y)
    law = np.bincount(y, minlength=4) / len(y)
    metric, alarms, chance = Balance(), 0, []
    for _ in range(runs):
        drawn = Drawn(told(drawn_with(law.tolist(), 500, rng)))
        numbers, finding = measured(metric, Evidence(data, data, Oracle(), drawn))
        alarms += any(" of the samples " in words for words in finding.words)
        chance.append(numbers["balance"].value)
    assert alarms <= scipy.stats.binom.ppf(0.999, runs, 0.05)
    assert alarms >= 1
    assert numbers["balance"].note == f"{np.mean(chance):.3f} by chance alone" or float(
        numbers["balance"].note.split()[0]
    ) == pytest.approx(np.mean(chance), rel=0.1)


def test_mistakes_that_the_encoder_makes_on_unseen_items_alone_are_no_bias() -> None:
    """It was trained on the data, where it makes none."""
    rates, y = [0.3, 0.0, 0.0, 0.0], np.arange(4000) % 4
    data, heldout = dataset(told(y), y), dataset(told(mistaken(y, rates, 8)), y)
    drawn = Drawn(told(mistaken(y, rates, 9)))
    found = measured(Balance(), Evidence(data, heldout, Oracle(), drawn))[1]
    assert found.words == ()
    naive = measured(Balance(), Evidence(data, NOTHING, Oracle(), drawn))[1]
    assert {words.split(":")[0] for words in naive.words} == {"ant", "bee"}
    share, error = expected(Oracle(), data, heldout)
    assert (abs(share - [0.175, 0.325, 0.25, 0.25]) < 4 * error + 1e-3).all()


def test_the_error_of_what_is_expected() -> None:
    y = np.arange(400) % 4
    found = [
        expected(Oracle(), dataset(told(y), y), dataset(told(mistaken(y, [0.3] * 4, k)), y))
        for k in range(1000, 1300)
    ]
    assert np.mean([x.error for x in found], 0) == pytest.approx(np.std([x.share for x in found], 0), rel=0.2)


def test_classes_that_the_data_has_little_of_and_the_words_of_its_captions() -> None:
    y = np.repeat([0, 1, 2, 3], [600, 390, 390, 20])
    captions = ["A red ant" if c == 0 else "the Bee, red" if c == 1 else "" for c in y]
    data = dataset(told(y), y, captions)
    finding = measured(Balance(), Evidence(data, data, Oracle(), Drawn(told(y))))[1]
    assert finding.words == ("rare in the data: dog 1.4%; an even share is 25.0%",)
    rows = {row["what"]: row["labelled"] for row in finding.rows}
    assert rows == {"ant": 600 / 1400, "bee": 390 / 1400, "cat": 390 / 1400, "dog": 20 / 1400} | {
        '"red"': 1.0, '"ant"': 600 / 990, '"bee"': 390 / 990,
    }  # fmt: skip
    assert len({tuple(row) for row in finding.rows}) == 1
    captioned = Evidence(data, data, Raw(), None)
    assert [row["what"] for row in measured(Balance(), captioned)[1].rows] == ['"red"', '"ant"', '"bee"']


# -- consistency -------------------------------------------------------------------------------------------
def labelled(
    rng: np.random.Generator, counts: Sequence[int], stds: Sequence[float], between: float = 0.0
) -> Drawn:
    """Normal points, of so many of each label about a centre of its own."""
    y = np.repeat(np.arange(len(counts)), counts)
    centres = np.stack((10.0 * np.arange(len(counts)), np.zeros(len(counts))), 1)
    centres = centres + between * rng.normal(size=centres.shape)
    x = centres[y] + np.array(stds)[y, None] * rng.normal(size=(len(y), 2))
    return Drawn(x.astype(np.float32), y)


def test_spreads_are_unbiased_at_any_count_and_their_errors_true() -> None:
    rng, counts, stds = np.random.default_rng(10), [3, 4, 6, 12], [5.0, 2.0, 4.0, 3.0]
    runs = []
    for _ in range(400):
        x, y = (lambda d: (d.x, d.y))(labelled(rng, counts, stds))
        runs.append(spread(x, y, np.arange(4)))  # type: ignore[arg-type]
    within = np.array([run.within for run in runs])
    error = within.std(0) / math.sqrt(len(runs))
    assert (abs(within.mean(0) - 2 * np.square(stds)) < 4 * error).all()
    between = np.array([run.between for run in runs])
    truth = np.var([0, 10, 20, 30], ddof=1)
    assert abs(between.mean() - truth) < 4 * between.std() / math.sqrt(len(runs))
    seen = np.mean([run.within_error**2 for run in runs], 0)
    assert (seen / within.var(0) > 0.8).all()  # of a few items the jackknife's error is too large
    assert seen[-1] == pytest.approx(within.var(0)[-1], rel=0.3)
    ratio = np.mean([run.ratio_error**2 for run in runs]) / np.var([run.ratio for run in runs])
    assert 0.8 < ratio < 2.2


def test_the_jackknife_is_that_of_leaving_each_item_out() -> None:
    drawn = labelled(np.random.default_rng(11), [4, 5, 3 + 1], [3.0, 5.0, 2.0])
    x, y, among = drawn.x.astype(np.float64), drawn.y, np.arange(3)
    assert y is not None
    whole, variance = spread(x, y, among), 0.0
    for label in among:
        rest = [np.arange(len(y)) != i for i in np.flatnonzero(y == label)]
        ratios = [spread(x[keep], y[keep], among).ratio for keep in rest]
        variance += (len(ratios) - 1) * float(np.var(ratios))
    assert whole.ratio_error == pytest.approx(math.sqrt(variance))


def test_a_collapsed_class_is_named_and_an_honest_one_is_not() -> None:
    rng = np.random.default_rng(12)
    real = labelled(rng, [300] * 4, [1, 2, 3, 4])
    data = dataset(real.x, real.y)
    made = labelled(rng, [200] * 4, [1, 0.6, 3, 4])
    numbers, finding = measured(Consistency(), Evidence(data, NOTHING, Raw(), made))
    assert len(finding.words) == 1
    assert finding.words[0].startswith("bee: its samples vary 0.")
    assert finding.rows[1]["low"] < 0.09 < finding.rows[1]["high"]  # type: ignore[operator]
    assert numbers["within_spread"].low < 26.36 / 30 < numbers["within_spread"].high  # type: ignore[operator]
    assert numbers["consistency"].value < numbers["consistency_real"].value
    alike = [
        measured(Consistency(), Evidence(data, NOTHING, Raw(), labelled(rng, [5] * 4, [1, 2, 3, 4])))[1].words
        for _ in range(100)
    ]
    assert sum(map(bool, alike)) <= 5
    few = Evidence(data, NOTHING, Raw(), labelled(rng, [2, 5, 2, 2], [1] * 4))
    assert Consistency().lacks(few) == "no two labels have 3 samples each"


def test_samples_that_are_all_the_same_have_no_spread() -> None:
    y = np.arange(80) % 4
    real = labelled(np.random.default_rng(13), [100] * 4, [1] * 4)
    same = Drawn(np.ones((80, 2), np.float32), y)
    numbers, finding = measured(Consistency(), Evidence(dataset(real.x, real.y), NOTHING, Raw(), same))
    assert numbers["consistency"].value == numbers["within_spread"].value == 0
    assert len(finding.words) == 4


# -- losses ------------------------------------------------------------------------------------------------
def losses(gap: float, n: int, rng: np.random.Generator) -> Evidence:
    """Ten levels of very different size, that of held-out items larger by `gap` at each."""
    train, heldout = dataset(np.zeros((1000, 2))), dataset(np.zeros((500, 2)))
    levels = torch.logspace(-2, 1, 10, dtype=torch.float64)

    def found(data: Dataset, count: int) -> torch.Tensor:
        assert count == min(n, len(data))
        level = levels * (1 + gap if data is heldout else 1)
        return level * torch.from_numpy(rng.gamma(4, 0.25, size=(count, 10)))

    return Evidence(train, heldout, Raw(), losses=found)


def test_the_gap_of_the_loss() -> None:
    rng, metric = np.random.default_rng(14), HeldOutLoss(n=100)
    runs = [measured(metric, losses(0.3, 100, rng))[0] for _ in range(150)]
    held = np.mean([run["loss_gap"].low < 0.3 < run["loss_gap"].high for run in runs])  # type: ignore[operator]
    truth = 1.3 * float(torch.logspace(-2, 1, 10).mean())
    assert 0.89 <= held <= 0.99
    sure = np.mean([run["heldout_loss"].low < truth < run["heldout_loss"].high for run in runs])  # type: ignore[operator]
    assert 0.89 <= sure <= 0.99


def test_a_large_gap_is_a_warning_and_a_small_or_doubtful_one_is_not() -> None:
    rng = np.random.default_rng(15)
    numbers, finding = measured(HeldOutLoss(), losses(0.5, 1000, rng))
    assert (numbers["loss_gap"].n, numbers["loss_gap"].against) == (500, 1000)
    assert len(finding.words) == 1
    assert "above that on training items" in finding.words[0]
    assert finding.curves["train"][0] == pytest.approx([0.05 + 0.1 * k for k in range(10)])
    assert np.divide(finding.curves["held out"][1], finding.curves["train"][1]).mean() == pytest.approx(
        1 + numbers["loss_gap"].value
    )
    assert measured(HeldOutLoss(), losses(0.04, 1000, rng))[1].words == ()
    assert all(measured(HeldOutLoss(n=40), losses(0.0, 40, rng))[1].words == () for _ in range(5))
    assert HeldOutLoss(n=1).lacks(losses(0.0, 1, rng)) == "fewer than two items are held out"


def test_bits_per_dimension() -> None:
    bits = torch.tensor([2.0, 4.0, 3.0, 3.0])
    evidence = Evidence(
        NOTHING, dataset(np.zeros((4, 2))), Raw(), bits=lambda n: (bits[:n], torch.full((n,), 0.1))
    )
    number = measured(BitsPerDim(), evidence)[0]["bits_per_dim"]
    assert (number.value, number.n, number.better) == (3, 4, "low")
    assert number.high - 3 == pytest.approx(1.96 * float(bits.std()) / 2)  # type: ignore[operator]
    assert "0.0500 comes of the estimate" in number.note
    assert BitsPerDim.dear
    assert BitsPerDim().lacks(Evidence(NOTHING, evidence.heldout, Raw())) == "there is no likelihood"
