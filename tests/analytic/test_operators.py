"""Operators, their noise and their inverses against closed forms, dense matrices, scipy and Pillow."""

from __future__ import annotations

import io
from dataclasses import FrozenInstanceError, is_dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import fft, ndimage, stats
from torch import Tensor
from torch.nn.functional import avg_pool2d

from truth import exported, label
from unstir import operators, spec
from unstir.errors import ConfigError, IncompatibleError
from unstir.operators import (
    HDR,
    JPEG,
    Blur,
    Clip,
    Colour,
    Crop,
    Decoded,
    Downsample,
    GaussianNoise,
    Grayscale,
    Kernel,
    Mask,
    Matrix,
    Measurement,
    MotionBlur,
    Operator,
    Phase,
    PoissonNoise,
    RandomPixels,
    Sensing,
)
from unstir.operators.solve import conjugate_gradients
from unstir.rng import Rng

SHAPE = (3, 12, 16)
NUMBERS = 3 * 12 * 16


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Rng.of(seed, shape[0]).normal(shape, torch.float64)


def sharp() -> Tensor:
    """A lopsided kernel whose convolution is far from singular."""
    kernel = 0.05 * normal(1, 3, 4, seed=5)[0].abs()
    kernel[1, 2] = 1.0
    return kernel / kernel.sum()


def deficient(rows: int, columns: int, rank: int) -> Tensor:
    return normal(rows, rank, seed=6) @ normal(rank, columns, seed=7) / columns**0.5


SETTINGS = tuple(exported(operators, Operator))
OPERATORS: tuple[Operator, ...] = (
    *SETTINGS,
    Downsample(2),
    Blur(0.6),
    MotionBlur(4, 30.0),
    Colour((0.3, -0.2, 0.9), (1.0, 0.5, 0.0), (0.0, 0.1, 0.2)),
    Mask(normal(1, 12, 16)[0] > 0),
    Mask(normal(*SHAPE) > 0),
    Kernel(sharp()),
    Matrix(normal(40, NUMBERS, seed=1) / NUMBERS**0.5),
    Matrix(deficient(30, NUMBERS, 7)),
    Matrix(deficient(NUMBERS + 20, NUMBERS, 9)),
    Decoded(Blur(0.6), lambda z: torch.tanh(z + 0.1 * z.flip(3))),
)
LINEAR = tuple(a for a in OPERATORS if a.linear)
NONLINEAR = tuple(a for a in OPERATORS if not a.linear)
DECOMPOSED = tuple(a for a in LINEAR if a.svd(torch.zeros(1, *SHAPE)) is not None)


def name(operator: Operator) -> str:
    """With its settings, or the shape of the tensor that it is made of, if of one."""
    if is_dataclass(operator):
        return label(operator)
    tensor = next(iter(vars(operator).values()))
    return f"{type(operator).__name__}{tuple(getattr(tensor, 'shape', ()))}"


over = lambda parts: pytest.mark.parametrize("operator", parts, ids=name)  # noqa: E731


def pictures(rows: int = 3, seed: int = 0) -> Tensor:
    return normal(rows, *SHAPE, seed=seed)


def dense(operator: Operator) -> Tensor:
    """A (M, N), by its unit vectors."""
    return operator.forward(torch.eye(NUMBERS, dtype=torch.float64).reshape(-1, *SHAPE)).flatten(1).T


# -- every operator ----------------------------------------------------------------------------------------


def test_every_exported_operator_is_in_the_tests() -> None:
    kinds = {w for w in operators.__all__ if issubclass(getattr(operators, w), Operator)} - {"Operator"}
    assert {type(a).__name__ for a in OPERATORS} == kinds


@over(OPERATORS)
def test_linear_as_declared(operator: Operator) -> None:
    x, z = pictures(), pictures(seed=9)
    whole = operator.forward(2 * x - 3 * z)
    parts = 2 * operator.forward(x) - 3 * operator.forward(z)
    assert torch.allclose(whole, parts, rtol=0, atol=1e-12) is operator.linear


@over(LINEAR)
def test_adjoint(operator: Operator) -> None:
    x = pictures()
    y = operator.forward(x)
    v = normal(*y.shape, seed=3)
    inside = (x * operator.adjoint(v, x[:1])).flatten(1).sum(1)
    torch.testing.assert_close((y * v).flatten(1).sum(1), inside, rtol=1e-11, atol=1e-11)


@over(OPERATORS)
def test_products_with_the_jacobian_are_those_of_autograd(operator: Operator) -> None:
    x, u = pictures(), pictures(seed=4)
    y, pull = torch.func.vjp(operator.forward, x)
    v = normal(*y.shape, seed=3)
    torch.testing.assert_close(operator.vjp(x, v), pull(v)[0], rtol=0, atol=1e-11)
    pushed = operator.jvp(x, u)
    torch.testing.assert_close(pushed, torch.func.jvp(operator.forward, (x,), (u,))[1], rtol=0, atol=1e-11)
    torch.testing.assert_close((pushed * v).sum(), (u * operator.vjp(x, v)).sum(), rtol=1e-10, atol=1e-10)


@over([a for a in NONLINEAR if not isinstance(a, JPEG)])
def test_derivatives_are_those_of_differences(operator: Operator) -> None:
    x, u, h = pictures(), pictures(seed=4), 1e-6
    slope = (operator.forward(x + h * u) - operator.forward(x - h * u)) / (2 * h)
    torch.testing.assert_close(operator.jvp(x, u), slope, rtol=1e-6, atol=1e-6)


@over(OPERATORS)
@pytest.mark.parametrize("level", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_derivatives_are_finite_everywhere(operator: Operator, level: float) -> None:
    """Also where the modulus has a corner and where all is cut off."""
    x = torch.full((1, *SHAPE), level, dtype=torch.float64)
    y = operator.forward(x)
    assert operator.vjp(x, torch.ones_like(y)).isfinite().all()
    assert operator.jvp(x, torch.ones_like(x)).isfinite().all()


@over(OPERATORS)
def test_rows_do_not_see_each_other(operator: Operator) -> None:
    x = pictures()
    y = operator.forward(x)
    v = normal(*y.shape, seed=3)
    for i in range(len(x)):
        row = slice(i, i + 1)
        torch.testing.assert_close(operator.forward(x[row]), y[row], rtol=0, atol=1e-13)
        torch.testing.assert_close(operator.vjp(x[row], v[row]), operator.vjp(x, v)[row], rtol=0, atol=1e-12)


@over(OPERATORS)
def test_single_precision(operator: Operator) -> None:
    x = pictures() / 4
    exact, single = operator.forward(x), operator.forward(x.float())
    assert single.dtype == torch.float32
    if isinstance(operator, JPEG):  # a coefficient half-way between two levels may go either way
        assert (single - exact).abs().gt(1e-4).double().mean() < 0.02
    else:
        torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5)


@over(OPERATORS)
def test_source_is_the_shape_it_was_made_from(operator: Operator) -> None:
    y = operator.forward(pictures(1))
    assert operator.source(tuple(y.shape[1:])) in (SHAPE, None)
    assert (operator.source(tuple(y.shape[1:])) is None) == isinstance(operator, (Decoded, Matrix, Sensing))


@over([a for a in OPERATORS if isinstance(a, (Blur, Clip, Downsample, HDR, Phase, RandomPixels, Sensing))])
@pytest.mark.parametrize("shape", [(2, 24), (1, 4, 8, 4)], ids=["sound", "video"])
def test_any_number_of_axes(operator: Operator, shape: tuple[int, ...]) -> None:
    x = normal(2, *shape)
    y = operator.forward(x)
    assert operator.source(tuple(y.shape[1:])) in (shape, None)
    if operator.linear:
        v = normal(*y.shape, seed=3)
        torch.testing.assert_close((y * v).sum(), (x * operator.adjoint(v, x)).sum())


# -- singular values ---------------------------------------------------------------------------------------


def test_which_have_a_cheap_svd() -> None:
    assert {type(a) for a in LINEAR} - {type(a) for a in DECOMPOSED} == {Kernel, MotionBlur}


@over(DECOMPOSED)
def test_svd(operator: Operator) -> None:
    x = pictures()
    y, svd = operator.forward(x), operator.svd(x)
    c, v = normal(*svd.right(x).shape, seed=2), normal(*y.shape, seed=3)

    def same(a: Tensor, b: Tensor) -> None:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)

    assert svd.s.shape == c.shape[1:]
    assert (svd.s >= 0).all()
    same(svd.back(svd.right(x)), x)
    same(svd.right(svd.back(c)), c)
    same(svd.right(x).flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    same(svd.out(svd.s * svd.right(x)), y)
    same(svd.back(svd.s * svd.left(v)), operator.adjoint(v, x))
    same(svd.left(svd.out(c)), torch.where(svd.s > 0, c, 0))
    rank = torch.linalg.matrix_rank(dense(operator))
    assert (svd.s > 1e-10 * svd.s.max()).sum() == rank or isinstance(operator, Blur)


# -- inverses ----------------------------------------------------------------------------------------------

SPREAD = torch.tensor([0.7, 0.0, 2.0], dtype=torch.float64)


def solved(operator: Operator, v: Tensor, spread: Tensor, variance: Tensor) -> Tensor:
    """(spread A A^T + diag variance)^-1 v by a dense solve for each row."""
    A = dense(operator)
    rows = []
    for i, row in enumerate(v.flatten(1)):
        total = spread.expand(len(v))[i] * A @ A.T + torch.diag(variance.expand(v.shape)[i].flatten())
        rows.append(torch.linalg.solve(total, row))
    return torch.stack(rows).reshape(v.shape)


def distance(found: Tensor, exact: Tensor) -> float:
    """The largest |found - exact|/|exact| of a row that is not all 0."""
    gap, size = (found - exact).flatten(1).norm(dim=1), exact.flatten(1).norm(dim=1)
    return float((gap / size.where(size > 0, torch.ones_like(size))).max())


@over(LINEAR)
@pytest.mark.parametrize("spread", [SPREAD, SPREAD[2]], ids=["rows", "one"])
def test_resolvent_with_gaussian_noise(operator: Operator, spread: Tensor) -> None:
    x = pictures()
    y = operator.forward(x)
    v = normal(*y.shape, seed=3)
    measurement = Measurement(operator, y[:1], GaussianNoise(0.2))
    exact = solved(operator, v, spread, measurement.variance)
    bound = 1e-10 if operator in DECOMPOSED else 1e-5
    assert distance(measurement.resolvent(v, spread, x), exact) < bound


@over(LINEAR)
@pytest.mark.parametrize("rows", [1, 3])
def test_resolvent_with_counts(operator: Operator, rows: int) -> None:
    """A variance of its own for every number of y; y has one row or one per row of x."""
    x = pictures()
    y = operator.forward(x).clamp(-1, 1)
    v = normal(*y.shape, seed=3)
    measurement = Measurement(operator, y[:rows], PoissonNoise(30.0))
    exact = solved(operator, v, SPREAD, measurement.variance)
    assert distance(measurement.resolvent(v, SPREAD, x), exact) < 1e-5


@over(LINEAR)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 1e-3)], ids=str)
def test_resolvent_without_noise_is_the_pseudo_inverse(
    operator: Operator, dtype: torch.dtype, bound: float
) -> None:
    """A^T (A A^T)^-1 A x lies in the range of A^T and has the same A x: the projection of x, never longer than x."""
    x = pictures().to(dtype)
    y = operator.forward(x)
    measurement = Measurement(operator, y, GaussianNoise())
    found = operator.adjoint(measurement.resolvent(y, torch.ones((), dtype=dtype), x), x)
    bound = (
        0.02 if isinstance(operator, MotionBlur) else bound
    )  # nearly singular: as far as iteration reaches
    assert distance(operator.forward(found), y) < bound
    assert (found.flatten(1).norm(dim=1) < 1.001 * x.flatten(1).norm(dim=1)).all()
    assert (measurement.resolvent(y, torch.zeros(3, dtype=dtype), x) == 0).all()


@over(LINEAR)
def test_resolvent_row_by_row(operator: Operator) -> None:
    x = pictures()
    y = operator.forward(x).clamp(-1, 1)
    for noise in (GaussianNoise(), GaussianNoise(0.2), PoissonNoise(30.0)):
        measurement, row = Measurement(operator, y, noise), slice(2, 3)
        together = measurement.resolvent(y, SPREAD, x)
        alone = measurement[row].resolvent(y[row], SPREAD[row], x[row])
        torch.testing.assert_close(together[row], alone, rtol=1e-6, atol=1e-6)


@over(NONLINEAR)
def test_what_is_not_linear_has_no_resolvent(operator: Operator) -> None:
    y = operator.forward(pictures())
    with pytest.raises(IncompatibleError, match="not linear") as error:
        Measurement(operator, y, GaussianNoise(0.1)).resolvent(y, SPREAD, pictures())
    assert error.value.hint


def test_conjugate_gradients() -> None:
    """In as many iterations as there are different eigenvalues; each row is its own problem."""
    values = torch.tensor([[1.0, 2, 3, 3, 3], [5, 5, 5, 5, 5], [1, 0, 0, 2, 2]], dtype=torch.float64)
    b = torch.tensor([[1.0, 2, 3, 4, 5], [1, 2, 3, 4, 5], [7, 0, 0, 2, 1]], dtype=torch.float64)
    found = conjugate_gradients(lambda u: values * u, b, iterations=3)
    torch.testing.assert_close(found, torch.where(values > 0, b / values, 0), rtol=1e-10, atol=1e-10)
    assert (conjugate_gradients(lambda u: values * u, torch.zeros_like(b)) == 0).all()


# -- what each of them does --------------------------------------------------------------------------------


def bytes_of(x: Tensor) -> np.ndarray:
    return (127.5 * (x + 1)).clamp(0, 255).round().to(torch.uint8).numpy()


def photo(height: int = 40, width: int = 48) -> Tensor:
    """A smooth picture with an edge, (1, 3, H, W), of whole bytes."""
    rows, columns = torch.linspace(0, 3, height)[:, None], torch.linspace(0, 4, width)
    planes = [torch.sin(rows * a + columns * b) * 0.8 for a, b in ((1, 2), (2, -1), (0.5, 3))]
    x = torch.stack(planes).double()[None]
    x[..., 10:25, 12:30] *= -0.5
    return torch.from_numpy(bytes_of(x)).double() / 127.5 - 1


def interleaved(x: Tensor) -> np.ndarray:
    return bytes_of(x)[0].transpose(1, 2, 0)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_downsample_is_pillows_bicubic(scale: int) -> None:
    x = photo(48, 48)
    small = Image.fromarray(interleaved(x)).resize((48 // scale, 48 // scale), Image.Resampling.BICUBIC)
    ours = interleaved(Downsample(scale).forward(x))
    assert np.abs(ours.astype(int) - np.asarray(small, dtype=int)).max() <= 1


def test_downsample_by_boxes_is_their_mean() -> None:
    x = pictures()
    torch.testing.assert_close(Downsample(4, "box").forward(x), avg_pool2d(x, 4))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 9.0])
def test_blur_is_scipys(sigma: float) -> None:
    """Also where the kernel is wider than the picture."""
    x = pictures(1)
    theirs = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma))
    np.testing.assert_allclose(Blur(sigma).forward(x).numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (4, 4), (1, 6), (12, 16)])
def test_kernel_is_scipys(shape: tuple[int, int]) -> None:
    x, kernel = pictures(1), normal(1, *shape)[0]
    theirs = ndimage.convolve(x.numpy(), kernel[None, None].numpy())
    np.testing.assert_allclose(Kernel(kernel).forward(x).numpy(), theirs, atol=1e-12)


def test_motion_blur_along_the_axes_is_a_running_mean() -> None:
    x = pictures(1)
    for angle, axis in ((0.0, 3), (180.0, 3), (90.0, 2)):
        theirs = ndimage.uniform_filter1d(x.numpy(), 5, axis)
        np.testing.assert_allclose(MotionBlur(5, angle).forward(x).numpy(), theirs, atol=1e-12)


def test_motion_blur_goes_up_to_the_right_at_45_degrees() -> None:
    """Places 0 and +-(1, 1)/sqrt(2): bilinear weights 1, and (1 - c)^2, c (1 - c), c^2 with c = 1/sqrt(2)."""
    c = 0.5**0.5
    kernel = torch.tensor(
        [[0, c - c * c, c * c], [c - c * c, 1 + 2 * (1 - c) ** 2, c - c * c], [c * c, c - c * c, 0]]
    )
    torch.testing.assert_close(MotionBlur(3, 45.0).kernel_for(kernel.double()), kernel.double() / 3)
    for angle in range(0, 180, 7):
        assert float(MotionBlur(6, angle).kernel_for(normal(1)).sum()) == pytest.approx(1, abs=1e-12)


def test_grayscale_is_pillows() -> None:
    x = photo()
    theirs = np.asarray(Image.fromarray(interleaved(x)).convert("L"), dtype=int)
    assert np.abs(interleaved(Grayscale().forward(x))[..., 0].astype(int) - theirs).max() <= 1


def test_colour_mixes_channels() -> None:
    rows = (0.3, -0.2, 0.9), (1.0, 0.5, 0.0), (0.0, 0.1, 0.2)
    x = pictures()
    expected = torch.einsum("ij,bjhw->bihw", torch.tensor(rows, dtype=torch.float64), x)
    torch.testing.assert_close(Colour(*rows).forward(x), expected)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
def test_random_pixels_keep_their_share(share: float) -> None:
    y = RandomPixels(share, seed=3).forward(torch.ones(2, 3, 20, 30))
    assert y[0, 0].sum() == round(share * 600)
    assert (y == y[0, 0]).all()
    assert not torch.equal(y, RandomPixels(share, seed=4).forward(torch.ones_like(y))) or share == 1


def test_random_pixels_keep_at_least_one() -> None:
    assert RandomPixels(1e-6).forward(torch.ones(1, 1, 4, 4)).sum() == 1


def test_masks_take_nothing_from_unknown_pixels() -> None:
    x, keep = pictures(), normal(1, 12, 16)[0] > 0
    for operator in (Mask(keep), Mask(keep[None]), Mask(keep.double().expand(SHAPE))):
        assert torch.equal(operator.measured(x), torch.where(keep, x, 0))
        assert torch.equal(operator.forward(x), torch.where(keep, x, 0))


def test_crop_is_a_window() -> None:
    x = pictures()
    assert torch.equal(Crop(1, 2, 3, 4).forward(x), x[..., 3:8, 1:14])
    assert torch.equal(Crop(0, 0, 0, 0).forward(x), x)


def test_sensing_has_orthonormal_rows_spread_over_all_of_x() -> None:
    A = dense(Sensing(0.25))
    assert A.shape == (NUMBERS // 4, NUMBERS)
    torch.testing.assert_close(A @ A.T, torch.eye(len(A), dtype=A.dtype))
    assert A.abs().max() < (8 / NUMBERS) ** 0.5 * 1.5  # no entry beyond the largest of products of cosines
    assert not torch.equal(A, dense(Sensing(0.25, seed=1)))


def test_sensing_keeps_its_share_of_any_picture() -> None:
    """|y|^2/|x|^2 is M/N on average, for a flat picture as for noise: the signs make it so."""
    for x in (torch.ones(1, *SHAPE, dtype=torch.float64), pictures(1)):
        kept = [Sensing(0.25, seed=s).forward(x).square().sum() / x.square().sum() for s in range(100)]
        assert abs(float(torch.stack(kept).mean()) - 0.25) < 0.01


def saved(picture: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(stream), dtype=float)


def decided(levels: np.ndarray, steps: np.ndarray, slack: float) -> np.ndarray:
    """Whether all DCT coefficients of each 8 x 8 block (H, W) are further than `slack` from where rounding changes."""
    height, width = levels.shape
    padded = np.pad(levels, ((0, -height % 8), (0, -width % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8)
    coefficients = fft.dctn(blocks, axes=(1, 3), norm="ortho") / steps[:, None, :]
    distance = np.abs(np.abs(coefficients) % 1 - 0.5) * steps[:, None, :]
    return (distance > slack).all((1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]


@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize("size", [(40, 48), (37, 45)], ids=["blocks", "cut"])
def test_jpeg_of_grey_is_pillows(quality: int, size: tuple[int, int]) -> None:
    """Within rounding to bytes, unless libjpeg's whole numbers break a tie the other way."""
    x = photo(*size)[:, :1]
    grey = bytes_of(x)[0, 0]
    theirs, ours = saved(grey, quality), 127.5 * (JPEG(quality).forward(x)[0, 0].numpy() + 1)
    clear = decided(grey - 128.0, JPEG(quality).tables()[0].numpy(), slack=0.1)
    assert clear.mean() > 0.2
    assert np.abs(ours - theirs)[clear].max() < 0.6
    assert np.abs(ours - theirs).mean() < 0.5


@pytest.mark.parametrize("quality", [5, 10])
@pytest.mark.parametrize("size", [(40, 48), (37, 45)], ids=["blocks", "cut"])
def test_jpeg_of_colours_is_pillows(quality: int, size: tuple[int, int]) -> None:
    """libjpeg rounds luma and chroma to bytes before and after: four roundings instead of one."""
    x = photo(*size)
    picture = interleaved(x)
    theirs = saved(picture, quality)
    ours = 127.5 * (JPEG(quality).forward(x)[0].numpy().transpose(1, 2, 0) + 1)
    red, green, blue = np.moveaxis(picture.astype(float), 2, 0)
    luma, steps = 0.299 * red + 0.587 * green + 0.114 * blue, JPEG(quality).tables().numpy()
    planes = (luma - 128, steps[0]), ((blue - luma) / 1.772, steps[1]), ((red - luma) / 1.402, steps[1])
    clear = np.all([decided(levels, step, slack=3) for levels, step in planes], 0)
    assert clear.mean() > 0.15
    assert np.abs(ours - theirs)[clear].max() < 2


def test_jpeg_of_a_jpeg_is_the_same() -> None:
    once = JPEG(50).forward(photo() / 2)
    torch.testing.assert_close(JPEG(50).forward(once), once, rtol=0, atol=1e-12)


def test_jpeg_derivatives_are_the_identitys() -> None:
    x, u = pictures(), pictures(seed=4)
    assert torch.equal(JPEG().vjp(x, u), u)
    assert torch.equal(JPEG().jvp(x, u), u)


def test_clip_and_hdr() -> None:
    x = torch.tensor([-2.0, -0.6, -0.2, 0.2, 0.6, 2.0]).reshape(1, 1, 6)
    assert Clip(-0.5, 1.0).forward(x).flatten().tolist() == pytest.approx([-0.5, -0.5, -0.2, 0.2, 0.6, 1.0])
    assert HDR(2.0).forward(x).flatten().tolist() == pytest.approx([-1, -1, -0.4, 0.4, 1, 1])
    assert HDR(2.0).vjp(x, torch.ones_like(x)).flatten().tolist() == [0, 0, 2, 2, 0, 0]


def test_phase_is_the_modulus_of_the_spectrum() -> None:
    x = pictures(1)
    z = np.pad((x.numpy() + 1) / 2, ((0, 0), (0, 0), (0, 12), (0, 16)))
    y = Phase(2).forward(x)
    np.testing.assert_allclose(y.numpy(), np.abs(np.fft.fft2(z, norm="ortho")), atol=1e-12)
    torch.testing.assert_close(Phase(2).forward(x.flip(2, 3)), y)  # what it cannot tell apart
    torch.testing.assert_close(y.square().sum(), ((x + 1) / 2).square().sum())


# -- noise -------------------------------------------------------------------------------------------------


def test_gaussian_noise() -> None:
    clean = torch.full((400, 100), 0.3, dtype=torch.float64)
    noise = GaussianNoise(0.2)
    y = noise.corrupt(clean, Rng.of(0, 400))
    assert float(y.mean()) == pytest.approx(0.3, abs=4 * 0.2 / 200)
    assert float(y.var()) == pytest.approx(float(noise.variance(y)), rel=4 * (2 / 40_000) ** 0.5)
    expected = stats.norm(0.3, 0.2).logpdf(y.numpy()).sum(1)
    ours = noise.log_likelihood(y, clean).numpy()
    np.testing.assert_allclose(ours - ours[0], expected - expected[0], atol=1e-9)


@pytest.mark.parametrize("peak", [0.5, 4.0, 30.0, 2000.0, 1e6])
def test_counts_are_the_quantiles_of_their_law(peak: float) -> None:
    clean = torch.linspace(-1.2, 1.5, 300, dtype=torch.float64).expand(3, 300)
    rng = Rng.of(5, 3)
    y = PoissonNoise(peak).corrupt(clean, rng)
    rate = (peak * (clean.numpy() + 1) / 2).clip(0)
    expected = stats.poisson.ppf(rng.uniform((3, 300), torch.float64).numpy(), rate)
    np.testing.assert_allclose(peak * (y.numpy() + 1) / 2, expected, rtol=1e-9, atol=1e-9)
    alone = PoissonNoise(peak).corrupt(clean[1:2, :100], rng[1:2])
    assert torch.equal(alone, y[1:2, :100])


@pytest.mark.parametrize("peak", [2.0, 30.0, 5000.0])
def test_poisson_noise_has_the_mean_and_the_variance_of_its_law(peak: float) -> None:
    clean = torch.full((300, 100), 0.3, dtype=torch.float64)
    noise, n = PoissonNoise(peak), 30_000
    y = noise.corrupt(clean, Rng.of(0, 300))
    variance = 2 * 1.3 / peak
    assert float(noise.variance(clean[:1, :1])) == pytest.approx(variance)
    assert float(y.mean()) == pytest.approx(0.3, abs=4 * (variance / n) ** 0.5)
    rate = 0.65 * peak
    assert float(y.var()) == pytest.approx(variance, rel=4 * ((2 + 1 / rate) / n) ** 0.5)
    if peak < 2000:
        counts = (peak * (y + 1) / 2).round().numpy()
        expected = stats.poisson(rate).logpmf(counts).sum(1)
        other = stats.poisson(0.8 * rate).logpmf(counts).sum(1)
        shifted = 0.8 * (clean + 1) - 1
        ours = noise.log_likelihood(y, clean) - noise.log_likelihood(y, shifted)
        np.testing.assert_allclose(ours.numpy(), expected - other, rtol=1e-9)


def test_a_measurement_with_one_row_serves_many() -> None:
    x = pictures()
    operator = Downsample(2)
    measurement = Measurement(operator, operator.forward(x[:1]), GaussianNoise(0.1))
    assert measurement.residual(x).shape == (3, 3, 6, 8)
    assert (measurement.residual(x)[0] == 0).all()
    assert measurement.log_likelihood(x).shape == (3,)
    assert measurement[slice(1, 2)] is measurement


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Blur, {"sigma": 0.0}),
        (Blur, {"sigma": float("nan")}),
        (Clip, {"high": -0.5}),
        (Colour, {"red": (0.0, 0.0, 0.0)}),
        (Colour, {"blue": (1.0, float("inf"), 0.0)}),
        (Crop, {"top": -1}),
        (Downsample, {"scale": 1}),
        (Downsample, {"scale": 2.5}),
        (Downsample, {"kernel": "lanczos"}),
        (HDR, {"gain": 1.0}),
        (JPEG, {"quality": 0}),
        (JPEG, {"quality": 101}),
        (MotionBlur, {"length": 1}),
        (MotionBlur, {"angle": float("inf")}),
        (Phase, {"oversample": 0}),
        (RandomPixels, {"share": 0.0}),
        (RandomPixels, {"share": 1.5}),
        (RandomPixels, {"seed": -1}),
        (Sensing, {"share": 0.0}),
        (Sensing, {"seed": 1 << 63}),
    ],
    ids=str,
)
def test_a_bad_setting_is_refused(kind: type, settings: dict[str, object]) -> None:
    (field,) = settings
    with pytest.raises(ConfigError) as error:
        kind(**settings)
    assert error.value.field == f"operator.{field}"
    assert error.value.hint
    assert error.value.hint.startswith("accepted: ")


@pytest.mark.parametrize(
    "kernel", [torch.zeros(3, 3), torch.tensor(1.0), torch.full((3, 3), torch.nan)], ids=str
)
def test_a_bad_kernel_is_refused(kernel: Tensor) -> None:
    with pytest.raises(ConfigError) as error:
        Kernel(kernel)
    assert error.value.field == "operator.kernel"
    assert error.value.hint


@pytest.mark.parametrize(
    ("operator", "shape", "field"),
    [
        (Downsample(5), (3, 12, 15), "operator.scale"),
        (Grayscale(), (1, 8, 8), "operator"),
        (Colour(), (4, 8, 8), "operator"),
        (JPEG(), (2, 8, 8), "operator"),
        (JPEG(), (1, 8), "operator"),
        (Crop(), (3, 8, 20), "operator"),
        (Kernel(torch.ones(9, 3)), (3, 8, 8), "operator.kernel"),
        (Kernel(torch.ones(3)), (3, 8, 8), "operator.kernel"),
        (MotionBlur(9), (3, 8, 8), "operator.length"),
        (Mask(torch.ones(8, 9)), (3, 8, 8), "mask"),
        (Mask(torch.ones(2, 8, 8)), (3, 8, 8), "mask"),
        (Matrix(torch.ones(4, 9)), (1, 8), "operator"),
    ],
    ids=lambda case: name(case) if isinstance(case, Operator) else str(case),
)
def test_data_that_does_not_fit_is_refused(operator: Operator, shape: tuple[int, ...], field: str) -> None:
    with pytest.raises(IncompatibleError) as error:
        operator.forward(torch.zeros(1, *shape))
    assert error.value.field == field
    assert error.value.hint


@pytest.mark.parametrize(
    ("operator", "shape", "field"),
    [(Grayscale(), (3, 8, 8), "y"), (Phase(2), (1, 9, 8), "operator.oversample")],
    ids=lambda case: name(case) if isinstance(case, Operator) else str(case),
)
def test_a_y_that_it_cannot_have_given_is_refused(
    operator: Operator, shape: tuple[int, ...], field: str
) -> None:
    with pytest.raises(IncompatibleError) as error:
        operator.source(shape)
    assert error.value.field == field
    assert error.value.hint


# -- as settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "operator"),
    [
        ({"name": "blur", "sigma": "2"}, Blur(2.0)),
        ({"name": "downsample", "scale": "2", "kernel": "box"}, Downsample(2, "box")),
        ({"name": "random_pixels", "share": "0.5"}, RandomPixels(0.5)),
        ({"name": "motion_blur", "length": "5", "angle": "30"}, MotionBlur(5, 30.0)),
        ({"name": "colour", "red": "1,0,0"}, Colour(red=(1.0, 0.0, 0.0))),
        ("grayscale", Grayscale()),
        ("hdr", HDR()),
    ],
    ids=str,
)
def test_settings_as_text(written: object, operator: Operator) -> None:
    assert spec.load(written, Operator) == operator


@over(SETTINGS)
def test_settings_survive_a_round_trip(operator: Operator) -> None:
    assert spec.load(spec.dump(operator), Operator) == operator
    with pytest.raises(FrozenInstanceError):
        operator.anything = 1
