"""A part put into a picture: nothing else is touched, and no jump is left at its border."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unstir.errors import ConfigError
from unstir.rng import Rng
from unstir.seam import blend

H, W = 24, 31
PICTURE = Rng.of(0, 1).uniform((1, 3, H, W)) * 2 - 1


def kept(*holes: tuple[slice, slice]) -> Tensor:
    keep = torch.ones(H, W)
    for hole in holes:
        keep[hole] = 0
    return keep


MASKS = {
    "a hole": kept((slice(5, 17), slice(8, 22))),
    "three": kept((slice(1, 6), slice(2, 7)), (slice(9, 20), slice(12, 13)), (slice(4, 9), slice(20, 29))),
    "one pixel": kept((slice(7, 8), slice(9, 10))),
    "at the edge": kept((slice(0, 10), slice(20, W))),
    "all but one pixel": 1 - kept((slice(3, 4), slice(4, 5))),
    "every other": (torch.arange(H)[:, None] + torch.arange(W)) % 2.0,
}
every_mask = pytest.mark.parametrize("keep", MASKS.values(), ids=MASKS)


@every_mask
@pytest.mark.parametrize("feather", [None, 3.0])
def test_what_is_kept_stays_bit_for_bit(keep: Tensor, feather: float | None) -> None:
    sample = Rng.of(5, 2).normal((2, 3, H, W))
    found = blend(PICTURE, sample, keep, feather)
    held = (keep > 0).expand_as(sample)
    assert torch.equal(found[held], PICTURE.expand_as(sample)[held])
    assert bool(found.isfinite().all())
    assert not torch.equal(found[~held], PICTURE.expand_as(sample)[~held])


@every_mask
def test_a_shift_of_colour_is_removed(keep: Tensor) -> None:
    """A constant is the membrane of a constant border: what comes back is the picture itself."""
    shift = torch.tensor([0.3, -0.2, 0.05]).reshape(3, 1, 1)
    assert torch.allclose(blend(PICTURE, PICTURE + shift, keep), PICTURE, rtol=0, atol=1e-4)


def test_a_gradual_shift_is_removed() -> None:
    """So does whatever is harmonic: 0.3 + 0.01 a b."""
    shift = 0.3 + 0.01 * torch.arange(H)[:, None] * torch.arange(W) / 5
    found = blend(PICTURE, PICTURE + shift, MASKS["three"])
    assert torch.allclose(found, PICTURE, rtol=0, atol=1e-4)


@every_mask
@pytest.mark.parametrize("feather", [None, 3.0])
def test_a_sample_that_agrees_is_left_alone(keep: Tensor, feather: float | None) -> None:
    sample = torch.where(keep > 0, PICTURE, Rng.of(5, 1).normal((1, 3, H, W)))
    assert torch.equal(blend(PICTURE, sample, keep, feather), sample)


def test_one_pixel_moves_by_the_mean_of_its_neighbours() -> None:
    sample = Rng.of(5, 1).normal((1, 3, H, W))
    jump = (PICTURE - sample)[0, :, [6, 8, 7, 7], [9, 9, 8, 10]].mean(1)
    found = blend(PICTURE, sample, MASKS["one pixel"])
    assert torch.allclose(found[0, :, 7, 9], sample[0, :, 7, 9] + jump, rtol=0, atol=1e-5)


def test_everything_or_nothing_is_repainted() -> None:
    sample = Rng.of(5, 2).normal((2, 3, H, W))
    assert torch.equal(blend(PICTURE, sample, torch.zeros(H, W)), sample)
    assert torch.equal(blend(PICTURE, sample, torch.ones(H, W)), PICTURE.expand_as(sample))


@pytest.mark.parametrize("feather", [2.0, 5.0])
def test_a_feather_ends(feather: float) -> None:
    """In a half-plane a constant jump decays as r^k, r the root below 1 of r + 1/r = 2 + feather^-2."""
    keep = torch.zeros(3, 120)
    keep[:, 0] = 1
    sample = torch.zeros(1, 1, 3, 120)
    bend = 2 + feather**-2
    r = (bend - (bend**2 - 4) ** 0.5) / 2
    found = blend(torch.ones(1, 1, 3, 120), sample, keep, feather)
    assert torch.allclose(found[0, 0, 1], r ** torch.arange(120), rtol=0, atol=1e-4)


def test_every_row_on_its_own() -> None:
    sample = Rng.of(5, 3).normal((3, 3, H, W))
    found = blend(PICTURE, sample, MASKS["three"])
    for row in range(3):
        assert torch.allclose(
            found[row], blend(PICTURE, sample[row : row + 1], MASKS["three"])[0], rtol=0, atol=1e-6
        )


def test_refuses_a_feather_of_nothing() -> None:
    with pytest.raises(ConfigError, match="feather"):
        blend(PICTURE, PICTURE, MASKS["a hole"], 0)
