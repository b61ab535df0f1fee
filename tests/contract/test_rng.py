"""Random numbers: the published generator, sound statistics, and a sample that depends on its own seed alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import stats
from torch import Tensor

from unstir.errors import ConfigError
from unstir.rng import Rng, _mix, _philox, permutation_index

MASK = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox-4x32-10 in Python's exact integers, written from Salmon et al. 2011, section 3.3."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high_0, low_0 = divmod(0xD2511F53 * c[0], 1 << 32)
        high_1, low_1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high_1 ^ c[1] ^ k[0], low_1, high_0 ^ c[3] ^ k[1], low_0]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return tuple(c)


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(
    ("counter", "key", "output"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (" ".join(["ffffffff"] * 4), "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_the_reference_gives_the_published_answers(counter: str, key: str, output: str) -> None:
    """The known answers of Random123, which ask for counters that `Rng` never reaches."""
    assert philox(words(counter), words(key)) == words(output)


def test_the_tensor_version_gives_the_published_answer() -> None:
    assert tuple(_philox(torch.zeros(1, dtype=torch.int64), 1)[0].tolist()) == words(
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8"
    )


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=4), st.integers(1, 9))
def test_the_tensor_version_equals_the_reference(keys: list[int], blocks: int) -> None:
    """Products of 32-bit words overflow a signed 64-bit integer: every key and carry must come out right."""
    made = _philox(torch.tensor(keys), blocks).tolist()
    for key, row in zip(keys, made, strict=True):
        unsigned = key % (1 << 64)
        halves = unsigned & MASK, unsigned >> 32
        assert row == [w for block in range(blocks) for w in philox((block, 0, 0, 0), halves)]


def test_mix_is_splitmix64() -> None:
    """The first outputs of SplitMix64 from seed 1234567, a known answer of its own."""
    state = torch.tensor(
        [(1234567 + i * 0x9E3779B97F4A7C15) % (1 << 64) for i in (1, 2, 3)], dtype=torch.uint64
    )
    mixed = [x % (1 << 64) for x in _mix(state.view(torch.int64)).tolist()]
    assert mixed == [6457827717110365317, 3203168211198807973, 9817491932198370423]


# -- statistics --------------------------------------------------------------------------------------------


def streams() -> dict[str, Tensor]:
    """The same count of numbers along each direction in which numbers could turn out to be related."""
    return {
        "along a sample": Rng.of(0, 1).uniform((1, 20_000), torch.float64)[0],
        "along the seeds": Rng.of(0, 20_000).uniform((20_000, 1), torch.float64)[:, 0],
        "along a counter": Rng([0] * 20_000)
        .fork("a", torch.arange(20_000))
        .uniform((20_000, 1), torch.float64)[:, 0],
        "along forks": torch.cat(
            [Rng.of(0, 20).fork(i).uniform((20, 10), torch.float64).flatten() for i in range(100)]
        ),
        "along times": torch.cat(
            [
                Rng.of(0, 20).fork(torch.tensor(i / 100)).uniform((20, 10), torch.float64).flatten()
                for i in range(100)
            ]
        ),
    }


@pytest.mark.parametrize("direction", streams())
def test_uniform_and_uncorrelated(direction: str) -> None:
    u = streams()[direction]
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    for lag in (1, 2, 7, 10):
        r = float(torch.corrcoef(torch.stack([u[:-lag], u[lag:]]))[0, 1])
        assert abs(r) < 4 / math.sqrt(len(u))


def test_normal() -> None:
    z = Rng.of(3, 40).normal((40, 501), torch.float64)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    # the two halves of a Box-Muller pair share a radius: also their squares must be uncorrelated
    pairs = z[:, :500].reshape(-1, 2)
    for f in (torch.abs, torch.square, torch.sin):
        assert abs(float(torch.corrcoef(f(pairs).T)[0, 1])) < 4 / math.sqrt(len(pairs))
    assert z.abs().max() < math.sqrt(-2 * math.log(2.0**-33)), "32 bits reach to 6.8 standard deviations"


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers(high: int) -> None:
    k = Rng.of(0, 10).integers(high, (10, 1000))
    assert k.dtype == torch.int64
    assert k.min() >= 0
    assert k.max() < high
    if high > 1:
        assert stats.chisquare(np.bincount(k.flatten().numpy(), minlength=high)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_uniform_is_open(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extreme words too: log(u) and log(1 - u) are taken of these numbers."""
    extremes = torch.tensor([[0, MASK, MASK - 1, 1]])
    monkeypatch.setattr("unstir.rng._philox", lambda keys, blocks: extremes)
    u = Rng.of(0, 1).uniform((1, 4), dtype)
    assert (u > 0).all()
    assert (u < 1).all()
    assert Rng.of(0, 1).normal((1, 4), dtype).isfinite().all()
    assert Rng.of(0, 1).integers(1 << 31, (1, 4)).max() == (1 << 31) - 1


# -- a sample depends on its own seed ------------------------------------------------------------------------

KINDS = {
    "normal": lambda rng, shape: rng.normal(shape),
    "uniform": lambda rng, shape: rng.uniform(shape),
    "integers": lambda rng, shape: rng.integers(1000, shape),
    "forked": lambda rng, shape: rng.fork("a", 3).normal(shape),
}


@pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)
def test_batch_and_position_do_not_matter(draw: object) -> None:
    many = draw(Rng.of(7, 16), (16, 3, 5))
    assert torch.equal(many[5], draw(Rng.of(12, 1), (1, 3, 5))[0])
    assert torch.equal(many[4:9], draw(Rng.of(7, 16)[4:9], (5, 3, 5)))
    assert torch.equal(many.flip(0), draw(Rng(range(22, 6, -1)), (16, 3, 5)))
    assert torch.equal(many, draw(Rng(torch.arange(7, 23)), (16, 3, 5)))


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15])
def test_fewer_numbers_are_a_prefix(kind: str, n: int) -> None:
    draw = KINDS[kind]
    assert torch.equal(draw(Rng.of(0, 2), (2, n)), draw(Rng.of(0, 2), (2, 16))[:, :n])


def test_a_generator_has_no_state() -> None:
    rng = Rng.of(0, 2)
    first = rng.normal((2, 4))
    rng.fork("other").uniform((2, 9))
    assert torch.equal(first, rng.normal((2, 4)))


def test_forks_are_independent() -> None:
    labels = ["a", "b", "", 0, 1, -1, 1.0, 0.5, 2, "1", ("a", "b"), ("b", "a"), torch.tensor(0.25)]
    rng = Rng.of(0, 2)
    drawn = [rng.normal((2, 200))]
    drawn += [rng.fork(*(x if isinstance(x, tuple) else (x,))).normal((2, 200)) for x in labels]
    for one, two in itertools.combinations(drawn, 2):
        assert abs(float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])) < 0.2
    assert torch.equal(rng.fork("a", "b").keys, rng.fork("a").fork("b").keys)


def test_a_label_per_sample_is_that_label() -> None:
    """The sample counter of training: element i of a tensor label counts for sample i alone."""
    counters = torch.tensor([4, 9])
    both = Rng([3, 3]).fork("train", counters).normal((2, 5))
    assert torch.equal(both[1], Rng([3]).fork("train", 9).normal((1, 5))[0])
    assert torch.equal(Rng([3]).fork(torch.tensor(0.25, dtype=torch.float64)).keys, Rng([3]).fork(0.25).keys)


def test_keys_do_not_collide() -> None:
    """Neighbouring seeds, streams and counters are where a weak mix would repeat itself."""
    keys = torch.cat(
        [Rng.of(0, 300).fork(name, i).keys for name in ("noise", "time", "x") for i in range(100)]
        + [Rng.of(0, 300).keys]
    )
    assert len(keys.unique()) == len(keys)


@pytest.mark.parametrize("seeds", [[-1], [0, -5], [1 << 63], [1 << 64], torch.tensor([3, -1])], ids=str)
def test_seeds_out_of_range_are_refused(seeds: object) -> None:
    with pytest.raises(ConfigError) as error:
        Rng(seeds)
    assert error.value.field == "seed"
    assert "0 to 2^63 - 1" in error.value.hint


def test_the_largest_seed_is_fine() -> None:
    assert Rng([(1 << 63) - 1]).normal((1, 2)).isfinite().all()


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_wrong_number_of_samples_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="asked for 3 samples from 2 generators"):
        KINDS[kind](Rng.of(0, 2), (3, 4))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Rng.of(0, 4).fork("x").normal((4, 4))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)
def test_every_device_draws_the_same(draw: object) -> None:
    here, there = draw(Rng.of(0, 8), (8, 1000)), draw(Rng.of(0, 8).to("cuda"), (8, 1000)).cpu()
    assert (here - there).abs().max() <= (1e-6 if here.is_floating_point() else 0)


# -- orders of the data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 16, 17, 31, 63, 64, 65, 97, 255, 257, 1000, 1797, 4099])
def test_an_epoch_visits_every_item_once(n: int) -> None:
    for seed in (0, 1, 12345):
        order = permutation_index(seed, np.arange(3 * n), n).reshape(3, n)
        assert (np.sort(order, axis=1) == np.arange(n)).all()


def test_an_epoch_is_found_anywhere() -> None:
    """A pure function of the counter: one number alone, and one far along, equal those of the whole sequence."""
    n, far = 97, 97 * 10**9
    whole = permutation_index(5, np.arange(far, far + n), n)
    assert sorted(whole) == list(range(n))
    assert [int(permutation_index(5, far + i, n)) for i in (0, 50, 96)] == whole[[0, 50, 96]].tolist()


def test_epochs_and_seeds_differ() -> None:
    n = 1000
    orders = [permutation_index(s, np.arange(e * n, (e + 1) * n), n) for s in (0, 1, 2) for e in (0, 1, 2)]
    for one, two in itertools.combinations(orders, 2):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.13
        assert (one == two).sum() < 12


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_every_item_comes_equally_often_at_every_place(n: int) -> None:
    epochs = 3000
    order = permutation_index(0, np.arange(epochs * n), n).reshape(epochs, n)
    for place in {0, 1, n - 1}:
        assert stats.chisquare(np.bincount(order[:, place], minlength=n)).pvalue > 1e-3


def test_every_order_of_three_items_comes_equally_often() -> None:
    order = permutation_index(0, np.arange(6000 * 3), 3).reshape(6000, 3)
    _, counts = np.unique(order, axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("n", [0, -3, 1 << 40])
def test_nothing_cannot_be_ordered(n: int) -> None:
    with pytest.raises(ConfigError):
        permutation_index(0, 0, n)
