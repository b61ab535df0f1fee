"""Windows over data larger than the model, against laws for which they are exact and laws for which they are not."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from truth import Counting, double
from unstir import times
from unstir.condition import Condition
from unstir.denoiser import Denoiser, Moments
from unstir.errors import ConfigError, IncompatibleError
from unstir.evaluate import seam_ratio
from unstir.guidance import ClassifierFree, Tiled
from unstir.guidance.tiled import starts
from unstir.process import Cosine, Gaussian
from unstir.process.base import unsqueeze_like
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DPMpp2M

T = double(0.6)


class Coins(Denoiser):
    """Blocks of `side` pixels along every axis show m + 1 or m - 1, alike within, independent between them:

    E[x_0 | x_t] = m + tanh(alpha sum (x_t - alpha m)/sigma^2), the sum over the block; m of the condition's
    vector plus its spatial, or 0.
    """

    def __init__(self, side: int = 1) -> None:
        super().__init__()
        self.process, self.side = Gaussian(Cosine()), side

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.moments(x_t, t, cond).mean

    def moments(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Moments:
        m = torch.zeros_like(x_t)
        if cond is not None:
            m = m + unsqueeze_like(cond.vector[:, 0], x_t) if cond.vector is not None else m
            m = m + cond.spatial if cond.spatial is not None else m
        alpha, sigma = self.process.scales(t, x_t)
        hint = alpha * (x_t - alpha * m) / sigma**2
        for axis in range(2, x_t.ndim):
            hint = hint.unflatten(axis, (-1, self.side)).sum(axis + 1).repeat_interleave(self.side, axis)
        return Moments(m + hint.tanh(), 1 - hint.tanh() ** 2)


class Field(Denoiser):
    """x_0 (B, 1, N) ~ N(0, C), C_ij = exp(-(i - j)^2/(2 width^2)), for any N: a smooth curve."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.process, self.width = Gaussian(Cosine()), width

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        place = torch.arange(x_t.shape[2], dtype=x_t.dtype)
        C = torch.exp(-((place[:, None] - place) ** 2) / (2 * self.width**2))
        alpha, sigma = self.process.scales(t, x_t)
        return alpha * x_t @ torch.linalg.solve(alpha**2 * C + sigma**2 * torch.eye(len(C)).to(C), C)


def normal(*shape: int) -> Tensor:
    return Rng.of(0, shape[0]).normal(shape, torch.float64)


@pytest.mark.parametrize(
    ("length", "size", "overlap"), [(28, 28, 8), (29, 28, 8), (64, 28, 14), (100, 7, 6), (9, 3, 0)]
)
def test_windows_cover_an_axis(length: int, size: int, overlap: int) -> None:
    """From end to end, sharing what is asked for, and with no window more than that takes."""
    first = starts(length, size, overlap)
    steps = [b - a for a, b in pairwise(first)]
    assert first[0] == 0
    assert first[-1] + size == length
    assert all(1 <= step <= size - overlap for step in steps)
    assert len(first) == -(-(length - overlap) // (size - overlap))
    assert max(steps, default=0) - min(steps, default=0) <= 1


@pytest.mark.parametrize("shape", [(40,), (16, 21), (8, 11, 9)], ids=["1-d", "2-d", "3-d"])
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_exact_for_independent_pixels(shape: tuple[int, ...], rows: int) -> None:
    x, t = normal(3, 2, *shape), double(0.3, 0.6, 0.9)
    tiled = Tiled(Coins(), 8, 3, rows)
    exact = Coins().moments(x, t)
    assert torch.allclose(tiled(x, t), exact.mean, rtol=0, atol=1e-12)
    found = tiled.moments(x, t)
    assert torch.allclose(found.mean, exact.mean, rtol=0, atol=1e-12)
    assert torch.allclose(found.variance, exact.variance, rtol=0, atol=1e-12)


def test_exact_for_independent_blocks_that_no_window_cuts() -> None:
    x = normal(2, 1, 24, 40)
    tiled = Tiled(Coins(4), (16, 8), 4)
    assert tiled.windows((24, 40)) == [
        (slice(a, a + 16), slice(b, b + 8)) for a in (0, 8) for b in range(0, 36, 4)
    ]
    assert torch.allclose(tiled(x, T), Coins(4)(x, T), rtol=0, atol=1e-12)


def test_one_window_is_the_model_itself() -> None:
    x = normal(2, 1, 30)
    assert torch.equal(Tiled(Field(3.0), 30, 10)(x, T), Field(3.0)(x, T))


def test_weights_sum_to_one() -> None:
    """What every window agrees on stays."""

    class One(Coins):
        def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
            return torch.ones_like(x_t)

    found = Tiled(One(), 7, 2)(normal(1, 1, 23, 50), T)
    assert torch.allclose(found, torch.ones_like(found), rtol=0, atol=1e-14)


def test_calls_and_rows() -> None:
    """The windows of a call are bounded by `rows`, and no window is evaluated twice."""

    class Rows(Coins):
        seen: list[int] = []  # noqa: RUF012

        def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
            self.seen.append(len(x_t))
            return super().forward(x_t, t, cond)

    Tiled(Rows(), 8, 2, 12)(normal(4, 1, 26, 26), T)  # 4 x 4 windows of 4 rows
    assert Rows.seen == [12] * 5 + [4]
    counted = Counting(Coins())
    Tiled(counted, 8, 2, 1)(normal(4, 1, 26, 26), T)
    assert counted.calls == 16


def test_conditions_reach_every_window() -> None:
    """`spatial` is cut like the data, the rest is told to all; guidance goes around."""
    x, t = normal(3, 2, 20, 17), double(0.3, 0.6, 0.9)
    cond = Condition(vector=normal(3, 1), spatial=0.3 * normal(3, 2, 20, 17))
    none = Condition(vector=torch.zeros(3, 1).to(x), spatial=cond.spatial)
    for denoiser, tiled in (
        (Coins(), Tiled(Coins(), 8, 3, 7)),
        (ClassifierFree(Coins(), 2.0, none), ClassifierFree(Tiled(Coins(), 8, 3, 7), 2.0, none)),
    ):
        assert torch.allclose(tiled(x, t, cond), denoiser(x, t, cond), rtol=0, atol=1e-12)


def test_differentiable() -> None:
    """For independent pixels dD/dx_t is diagonal: alpha/sigma^2 (1 - tanh^2)."""
    x = normal(1, 1, 20, 13).requires_grad_()
    (slope,) = torch.autograd.grad(Tiled(Coins(), 8, 3, 2)(x, T).sum(), x)
    alpha, sigma = Coins().process.scales(T, x)
    assert torch.allclose(
        slope, alpha / sigma**2 * Coins().moments(x.detach(), T).variance, rtol=0, atol=1e-12
    )


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    x, t = normal(3, 1, 40), double(0.3, 0.6, 0.9)
    tiled = Tiled(Field(2.0), 16, 8)
    for row in range(3):
        assert torch.allclose(tiled(x, t)[row], tiled(x[row : row + 1], t[row])[0], rtol=0, atol=1e-12)


def test_more_overlap_is_nearer_the_truth() -> None:
    """What reaches beyond a window is lost to it: the error falls as windows share more."""
    x = normal(200, 1, 64)
    exact = Field(3.0)(x, T)
    errors = [float((Tiled(Field(3.0), 16, o)(x, T) - exact).square().mean().sqrt()) for o in (0, 4, 8, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0] / 2


def test_no_seams() -> None:
    """Samples of a smooth curve: at windows that share half of themselves it is as smooth as elsewhere."""
    grid, x = times.uniform(20), normal(300, 1, 64)

    def ratio(overlap: int) -> float:
        tiled = Tiled(Field(3.0), 16, overlap)
        found = sample(tiled, DPMpp2M(), grid, x, rng=Rng.of(0, len(x)))
        edges = {end for (cut,) in tiled.windows((64,)) for end in (cut.start, cut.stop)} - {0, 64}
        return float(seam_ratio(found, [sorted(edges)]).mean())

    assert ratio(0) > 2
    assert ratio(8) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("size", "shape"), [(8, (7, 20)), ((8, 8), (20,)), ((8, 9), (20, 8))])
def test_refuses_data_that_windows_do_not_fit(size: int | tuple[int, ...], shape: tuple[int, ...]) -> None:
    with pytest.raises(IncompatibleError) as caught:
        Tiled(Coins(), size, 2)(normal(1, 1, *shape), T)
    assert caught.value.field == "size"


def test_refuses_settings() -> None:
    for overlap in (-1, 8):
        with pytest.raises(ConfigError, match=str(overlap)):
            Tiled(Coins(), (8, 12), overlap)
    with pytest.raises(ConfigError, match="rows"):
        Tiled(Coins(), 8, 2, 0)
    with pytest.raises(IncompatibleError, match="ClassifierFree"):
        Tiled(ClassifierFree(Coins(), 2.0), 8, 2)
    with pytest.raises(IncompatibleError) as caught:
        Tiled(Coins(), 8, 2)(normal(1, 1, 20), T, Condition(spatial=normal(1, 1, 10)))
    assert caught.value.field == "spatial"
