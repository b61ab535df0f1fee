"""Measures of restored pictures: how close, how seamless, and whether their spread is honest."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import t as student
from torch import Tensor

from unstir.errors import ConfigError
from unstir.evaluate import coverage, interval, psnr, seam_ratio, ssim
from unstir.evaluate.calibration import t_quantile
from unstir.rng import Rng


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Rng.of(seed, shape[0]).normal(shape, torch.float64)


# -- closeness ---------------------------------------------------------------------------------------------


def test_psnr_of_a_known_error() -> None:
    """An error of 0.02 everywhere of a span of 2 is 40 dB, of half of that 6.02 dB more; every row on its own."""
    x = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    error = torch.tensor([0.02, 0.01], dtype=torch.float64).reshape(2, 1, 1, 1).expand_as(x)
    assert psnr(x, x + error).tolist() == pytest.approx([40, 40 + 20 * math.log10(2)])
    assert psnr(127.5 * (x + 1), 127.5 * (x + error + 1), (0, 255)).tolist() == pytest.approx(
        psnr(x, x + error).tolist()
    )
    assert psnr(x, x).tolist() == [math.inf] * 2


@pytest.mark.parametrize("shape", [(3, 20, 13), (1, 28), (1, 12, 11, 12), (1, 4, 30), (1, 1, 1)])
def test_ssim_of_pictures_of_any_shape(shape: tuple[int, ...]) -> None:
    x = normal(3, *shape) / 2
    y = x + normal(3, *shape, seed=9) * torch.tensor([0.0, 0.1, 0.5]).reshape(3, *([1] * len(shape)))
    found, axes = ssim(x, y), tuple(range(2, x.ndim))
    assert found[0] == pytest.approx(1, abs=1e-12)
    assert 1 > found[1] > found[2] > -1
    assert torch.allclose(found, ssim(y, x), rtol=0, atol=1e-12)
    assert torch.allclose(found, ssim(x.flip(axes), y.flip(axes)), rtol=0, atol=1e-12)
    assert torch.allclose(found[1:2], ssim(x[1:2], y[1:2]), rtol=0, atol=1e-12)


def test_ssim_of_flat_pictures() -> None:
    """Grey a against grey b: the light alone counts, (2 a b + c)/(a^2 + b^2 + c) with a and b from black = 0."""
    x = torch.full((1, 1, 5, 30), -0.5, dtype=torch.float64)
    a, b, c = 0.5, 0.8, (0.01 * 2) ** 2
    assert float(ssim(x, x + 0.3)) == pytest.approx((2 * a * b + c) / (a * a + b * b + c), rel=1e-12)


def test_ssim_of_a_picture_as_large_as_the_window() -> None:
    """One place: the formula itself, with weights exp(-r^2/(2 1.5^2))."""
    x, y = normal(1, 1, 11, 11) / 3, normal(1, 1, 11, 11, seed=1) / 3
    place = torch.arange(-5, 6, dtype=torch.float64)
    w = torch.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    w = w / w.sum()
    a, b = x[0, 0] + 1, y[0, 0] + 1
    m_a, m_b = (w * a).sum(), (w * b).sum()
    v_a, v_b = (w * (a - m_a) ** 2).sum(), (w * (b - m_b) ** 2).sum()
    v_ab = (w * (a - m_a) * (b - m_b)).sum()
    c_1, c_2 = 0.02**2, 0.06**2
    expected = (2 * m_a * m_b + c_1) * (2 * v_ab + c_2) / ((m_a**2 + m_b**2 + c_1) * (v_a + v_b + c_2))
    assert float(ssim(x, y)) == pytest.approx(float(expected), rel=1e-10)


# -- seams -------------------------------------------------------------------------------------------------


def test_seams_are_found_where_they_are() -> None:
    """A ramp of slope g has ratio 1, a step of h planted on its borders (g + h)/g."""
    g, h = 0.01, 0.05
    ramp = g * torch.arange(32, dtype=torch.float64)
    x = (ramp[:, None] + ramp).expand(2, 3, 32, 32).clone()
    x[1, :, 20:] += h
    x[1, :, :, 8:] -= 2 * g + h  # downward as visible as upward
    x[1, :, :, 16:] += h
    assert seam_ratio(x, [[20], [8, 16]]).tolist() == pytest.approx([1, (g + h) / g])
    assert seam_ratio(x, [[], [8, 16]]).tolist() == pytest.approx([1, (g + h) / g])
    assert float(seam_ratio(x, [[19], [7, 15]])[1]) < 1  # not where they are


# -- calibration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 8, 31, 200])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_quantiles_of_student(level: float, freedom: int) -> None:
    assert t_quantile(level, freedom) == pytest.approx(student.ppf((1 + level) / 2, freedom), rel=1e-10)


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("K", [2, 4, 8, 32])
def test_coverage_of_normal_laws_is_the_level(K: int, level: float) -> None:
    """Whatever their means and widths; over n = 40,000 the share has a standard error below 0.0025."""
    n = 40_000
    mean, width = normal(1, n, seed=1)[0], normal(1, n, seed=2)[0].exp()
    draws = mean + width * normal(K + 1, n, seed=10)
    error = math.sqrt(level * (1 - level) / n)
    assert coverage(draws[:K], draws[K], level) == pytest.approx(level, abs=4 * error)


def test_samples_that_are_too_alike_cover_less() -> None:
    """Half of the true width: P(|T| < t/2) for Student's T."""
    n, K = 40_000, 8
    expected = (
        2 * student.cdf(t_quantile(0.9, K - 1) * math.sqrt(1 + 1 / K) / math.sqrt(4 + 1 / K), K - 1) - 1
    )
    found = coverage(normal(K, n) / 2, normal(1, n, seed=K)[0], 0.9)
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))


def test_the_grain_counts() -> None:
    """Samples that are all alike know the truth to half a step of the bytes."""
    low, high = interval(torch.full((4, 3), 0.5), grain=2 / 255)
    assert low.tolist() == pytest.approx([0.5 - 1 / 255] * 3)
    assert high.tolist() == pytest.approx([0.5 + 1 / 255] * 3)
    assert coverage(
        torch.full((4, 3), 0.5), torch.tensor([0.5, 0.503, 0.505]), grain=2 / 255
    ) == pytest.approx(2 / 3)


def test_refuses_what_has_no_interval() -> None:
    with pytest.raises(ConfigError, match="1 samples"):
        interval(torch.zeros(1, 3))
    for level in (0.0, 1.0):
        with pytest.raises(ConfigError, match="level"):
            interval(torch.zeros(2, 3), level)
