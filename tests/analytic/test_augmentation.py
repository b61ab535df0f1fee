"""Augmentation against closed forms: what is done is what is told, and nothing of it is in the samples."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import pipeline
from unstir import Condition, Rng
from unstir.denoiser import positions
from unstir.embedders import Augmentation, Patches
from unstir.errors import ConfigError, IncompatibleError

MIRROR, UPSIDE_DOWN, SHIFT, SCALE, TURN, STRETCH, MOVE = range(7)
COLUMNS = ([0], [1], [2, 3], [4], [5, 6], [7, 8], [9, 10])
"""Which parameters belong to each kind."""


def parameters(n: int = 1, **values: float) -> Tensor:
    """(n, 11), zeros but for the columns named c0, c1, ..."""
    told = torch.zeros(n, 11, dtype=torch.float64)
    for name, value in values.items():
        told[:, int(name[1:])] = value
    return told


def smooth(n: int = 2, height: int = 24, width: int = 24) -> Tensor:
    """A broad blob off the centre, so that interpolation errs little: (n, 1, H, W)."""
    y, x = torch.arange(height)[:, None] - height * 0.45, torch.arange(width) - width * 0.55
    blob = torch.exp(-(((y + 0.3 * x) / 5) ** 2) - (x / 3.5) ** 2)
    return blob.expand(n, 1, height, width).clone()


def only(kind: int, **changes: Any) -> Augmentation:
    """Of probability 1, with every other kind switched off."""
    fields = ("mirror", "upside_down", "shift", "scale", "rotation", "stretch", "move")
    off = {name: False if k < 2 else 0.0 for k, name in enumerate(fields) if k != kind}
    return Augmentation(**{"probability": 1.0} | off | changes)


# -- what is done ------------------------------------------------------------------------------------------


def test_nothing_told_is_nothing_done() -> None:
    x = Rng.of(0, 5).normal((5, 3, 9, 14))
    assert torch.equal(Augmentation().apply(x, parameters(5)), x)
    done, told = Augmentation(probability=0.0)(x, Rng.of(0, 5))
    assert torch.equal(done, x)
    assert torch.equal(told, torch.zeros(5, 11))


def test_rows_that_are_told_nothing_are_the_picture_bit_for_bit() -> None:
    x = Rng.of(0, 400).normal((400, 1, 8, 8))
    done, told = Augmentation(probability=0.2)(x, Rng.of(1, 400))
    untouched = (told == 0).all(1)
    assert untouched.float().mean() == pytest.approx(0.8**7, abs=4 * (0.2 / 400) ** 0.5)
    assert torch.equal(done[untouched], x[untouched])
    same = (done == x).flatten(1).all(1)
    assert same[~untouched].float().mean() < 0.02, (
        "all others were changed, but for moves of less than a pixel"
    )


@pytest.mark.parametrize("size", [(8, 8), (6, 11)])
def test_mirrored_and_moved_pictures_keep_their_pixels(size: tuple[int, int]) -> None:
    x = Rng.of(0, 2).normal((2, 3, *size))
    a = Augmentation(shift=0.5)
    assert torch.equal(a.apply(x, parameters(2, c0=1)), x.flip(3))
    assert torch.equal(a.apply(x, parameters(2, c1=1)), x.flip(2))
    assert torch.equal(a.apply(x, parameters(2, c0=1, c1=1)), x.flip(2, 3))
    height, width = size
    right = a.apply(x, parameters(2, c2=2 / (0.5 * width)))
    assert torch.equal(right[..., 2:], x[..., :-2])
    assert torch.equal(right[..., :2], x[..., :2].flip(3)), "reflected beyond the border"
    up = a.apply(x, parameters(2, c3=-1 / (0.5 * height)))
    assert torch.equal(up[..., :-1, :], x[..., 1:, :])
    assert torch.equal(up[..., -1, :], x[..., -1, :])


def test_a_quarter_turn_is_exact_and_turns_the_same_way_whatever_the_shape() -> None:
    x = smooth()
    quarter = Augmentation().apply(x, parameters(2, c5=-1, c6=1))
    torch.testing.assert_close(quarter, x.rot90(-1, (2, 3)), rtol=0, atol=1e-5)
    half = Augmentation().apply(smooth(2, 12, 20), parameters(2, c5=-2))
    torch.testing.assert_close(half, smooth(2, 12, 20).flip(2, 3), rtol=0, atol=1e-5)


def test_a_picture_made_twice_as_large_has_each_second_pixel_of_it() -> None:
    a, x = Augmentation(scale=1.0), smooth(1, 25, 25)
    large = a.apply(x, parameters(c4=1))
    torch.testing.assert_close(large[..., ::2, ::2], x[..., 6:19, 6:19], rtol=0, atol=1e-5)


def test_a_stretch_is_along_its_direction_and_keeps_areas() -> None:
    a, x = Augmentation(stretch=1.0), smooth(1, 33, 33)
    wide = a.apply(x, parameters(c7=1))  # twice as wide, half as high
    torch.testing.assert_close(
        wide[..., 8:25:1, ::2][..., 4:13, :], x[..., ::2, 8:25][..., 4:13, :], atol=1e-5, rtol=0
    )
    for angle in (0.3, 1.2, 2.5):
        done = Augmentation().apply(x, parameters(c7=math.cos(angle), c8=math.sin(angle)))
        assert float(done.sum()) == pytest.approx(float(x.sum()), rel=2e-2)
        assert not torch.allclose(done, x, atol=0.05)


def test_a_move_is_by_that_share_of_the_side() -> None:
    x = smooth(1, 16, 32)
    by_four = Augmentation(move=0.125).apply(x, parameters(c9=1))
    torch.testing.assert_close(by_four[..., 4:], x[..., :-4], atol=1e-5, rtol=0)
    down = Augmentation(move=0.125).apply(x, parameters(c10=1))
    torch.testing.assert_close(down[..., 2:, :], x[..., :-2, :], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ({"c4": 0.7}, {"c4": -0.7}),
        ({"c5": math.cos(0.6) - 1, "c6": math.sin(0.6)}, {"c5": math.cos(0.6) - 1, "c6": -math.sin(0.6)}),
        ({"c7": 0.8, "c8": 0.5}, {"c7": -0.5, "c8": 0.8}),
        ({"c9": 0.4, "c10": -0.3}, {"c9": -0.4, "c10": 0.3}),
    ],
    ids=["scale", "turn", "stretch", "move"],
)
def test_what_is_done_can_be_undone_within_interpolation(
    there: dict[str, float], back: dict[str, float]
) -> None:
    a, x = Augmentation(), smooth(1)
    changed = a.apply(x, parameters(**there))
    assert (changed - x).abs().max() > 0.05, "nothing was done"
    error = (a.apply(changed, parameters(**back)) - x).abs()[..., 3:-3, 3:-3]
    assert error.max() < 0.03


def test_all_at_once_is_one_after_the_other() -> None:
    """Scaled, turned, stretched and moved, in this order; one interpolation in place of four."""
    a, x = Augmentation(), smooth(1, 32, 32)
    steps = [
        {"c4": -0.5},
        {"c5": math.cos(0.5) - 1, "c6": math.sin(0.5)},
        {"c7": 0.6, "c8": -0.7},
        {"c9": 0.5},
    ]
    whole = a.apply(x, parameters(**{k: v for step in steps for k, v in step.items()}))
    parts = x
    for step in steps:
        parts = a.apply(parts, parameters(**step))
    torch.testing.assert_close(whole, parts, rtol=0, atol=0.03)
    backwards = x
    for step in reversed(steps):
        backwards = a.apply(backwards, parameters(**step))
    assert (whole - backwards).abs().max() > 0.05, "the order does not matter here"


# -- how often and how far ---------------------------------------------------------------------------------


def test_every_kind_comes_as_often_as_it_says_and_on_its_own() -> None:
    n, p = 20_000, 0.3
    told = Augmentation(probability=p).draw(Rng.of(0, n))
    on = torch.stack([(told[:, c] != 0).any(1) for c in COLUMNS], 1).double()
    assert (on.mean(0) - p).abs().max() < 4 * (p * (1 - p) / n) ** 0.5
    correlation = torch.corrcoef(on.T) - torch.eye(7)
    assert correlation.abs().max() < 4.5 / n**0.5


def test_draws_have_the_laws_that_the_formula_says() -> None:
    n = 20_000
    told = Augmentation(probability=1.0, rotation=0.5).draw(Rng.of(0, n))
    assert (told[:, :2] == 1).all()
    normal = told[:, [4, 9, 10]]
    assert (normal.mean(0).abs() < 4 / n**0.5).all()
    assert ((normal.std(0) - 1).abs() < 4 / (2 * n) ** 0.5).all()
    assert told[:, 2:4].abs().max() < 1
    assert (told[:, 2:4].var(0) - 1 / 3).abs().max() < 0.01
    angle = torch.atan2(told[:, 6], told[:, 5] + 1)
    assert angle.abs().max() < math.pi / 2
    assert angle.var() == pytest.approx(math.pi**2 / 12, rel=0.03)
    torch.testing.assert_close((told[:, 5] + 1) ** 2 + told[:, 6] ** 2, torch.ones(n).double())
    along = told[:, 7:9]
    assert along.norm(dim=1).square().mean() == pytest.approx(1, abs=0.05)
    assert (along.T @ along / n - torch.eye(2) / 2).abs().max() < 0.03, "every direction alike"


@pytest.mark.parametrize("kind", range(7))
def test_a_kind_that_is_switched_off_is_never_told(kind: int) -> None:
    told = only(kind).draw(Rng.of(0, 50))
    for k, columns in enumerate(COLUMNS):
        assert (told[:, columns] != 0).any(1).all() == (k == kind)


def test_a_sample_depends_on_its_own_generator_alone() -> None:
    x, rng, a = Rng.of(9, 40).normal((40, 1, 12, 10)), Rng.of(0, 40), Augmentation(probability=0.5)
    done, told = a(x, rng)
    for i in range(40):
        one, alone = a(x[i : i + 1], rng[i : i + 1])
        assert torch.equal(one[0], done[i])
        assert torch.equal(alone[0], told[i])
    assert torch.equal(a.apply(x[7:19], a.draw(rng)[7:19]), done[7:19])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="probability"):
        Augmentation(probability=1.5)
    with pytest.raises(IncompatibleError, match="pictures are augmented"):
        Augmentation().check((2,))
    with pytest.raises(ConfigError, match="whole"):
        Patches(whole=0.2)
    with pytest.raises(IncompatibleError, match="8x8"):
        Patches().check((1, 4, 4))


# -- what the network is told --------------------------------------------------------------------------------


class Seen(torch.nn.Module):
    """Remembers what the network was told."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.inner, self.cond_dim, self.told = network, network.cond_dim, []

    def forward(self, x: Tensor, noise: Tensor, cond: Condition | None = None) -> Tensor:
        self.told.append(cond)
        return self.inner(x, noise, cond)


@pytest.mark.parametrize("classes", [(), ("ant", "bee", "cat")], ids=["unlabelled", "labelled"])
@pytest.mark.parametrize("patches", [None, Patches()], ids=["whole", "patches"])
def test_samples_are_told_that_nothing_was_done(classes: tuple[str, ...], patches: Patches | None) -> None:
    """By any caller: sampled plainly, guided, asked for its moments."""
    unet = pipeline().config.network
    network = replace(unet, spatial_channels=2 if patches else 0)  # type: ignore[type-var]
    pipe = pipeline(classes, augment=Augmentation(), patches=patches, network=network)
    seen = pipe.denoiser.network = Seen(pipe.denoiser.network)
    images = pipe.sample(n=3, steps=2, guidance=2.0 if classes else 1.0).images
    assert len(seen.told) >= 2
    for cond in seen.told:
        assert cond.vector.shape[1] == 64 * bool(classes) + 11
        assert (cond.vector[:, -11:] == 0).all()
        assert (cond.vector[:, :-11] != 0).all()
        if patches:
            assert torch.equal(cond.spatial[0], positions(torch.zeros(1, 1, 8, 8))[0])
    assert images.std() > 0


def test_what_is_told_matters_and_zeros_are_what_is_meant_without() -> None:
    pipe = pipeline((), augment=Augmentation())
    x_t, t = Rng.of(0, 4).normal((4, 1, 8, 8)), torch.tensor(0.5)
    plain = pipe.denoiser(x_t, t)
    assert torch.equal(pipe.denoiser(x_t, t, Condition(vector=torch.zeros(4, 11))), plain)
    assert not torch.allclose(pipe.denoiser(x_t, t, Condition(vector=torch.ones(4, 11))), plain, atol=1e-3)


def test_a_label_that_is_left_out_is_not_made_up() -> None:
    pipe = pipeline(augment=Augmentation())
    with pytest.raises(IncompatibleError, match=r"cond\.vector"):
        pipe.denoiser(torch.zeros(2, 1, 8, 8), torch.tensor(0.5))


# -- parts of pictures ---------------------------------------------------------------------------------------


def test_a_part_is_where_its_coordinates_say() -> None:
    """The picture is its own coordinates, so a part of it must equal what is told."""
    x = positions(torch.zeros(60, 1, 17, 24)).clone()
    sizes = set()
    for k in range(12):
        part, told = Patches()(x, Rng.of(k, 1), Rng.of(100 * k, 60))
        assert torch.equal(part, told)
        sizes.add(tuple(part.shape[2:]))
    assert sizes == {(17, 24), (8, 12), (4, 6)}
    places = told[:, :, 0, 0].unique(dim=0)
    assert len(places) > 30 or told.shape[2] == 17, "they lie in many places"


def test_parts_come_as_often_as_the_paper_says() -> None:
    divisors = [Patches(whole=0.5).divisor(Rng.of(k, 1)) for k in range(800)]
    for divisor, share in ((1, 0.5), (2, 0.3), (4, 0.2)):
        assert divisors.count(divisor) / 800 == pytest.approx(share, abs=4 * (0.25 / 800) ** 0.5)
    assert {Patches(whole=1.0).divisor(Rng.of(k, 1)) for k in range(50)} == {1}


def test_a_part_depends_on_its_own_generator_alone() -> None:
    x, step = Rng.of(0, 16).normal((16, 3, 16, 16)), Rng.of(0, 1)
    while Patches().divisor(step) == 1:
        step = step.fork("next")
    part, told = Patches()(x, step, Rng.of(0, 16))
    for i in range(16):
        one, place = Patches()(x[i : i + 1], step, Rng.of(i, 1))
        assert torch.equal(one[0], part[i])
        assert torch.equal(place[0], told[i])
