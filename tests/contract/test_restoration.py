"""What edit, upscale and restore promise, with any model: sizes, bytes that stay, seeds, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tiny import pipeline
from unstir.embedders import LowResolution, Masked
from unstir.errors import ConfigError, IncompatibleError
from unstir.guidance import DDNM, DPS
from unstir.networks import ClassifierConfig, UNetConfig
from unstir.operators import Blur, Downsample, Grayscale, Operator, RandomPixels
from unstir.pipeline import Pipeline
from unstir.rng import Rng


def picture(height: int, width: int, channels: int = 1) -> np.ndarray:
    """Smooth, with every grey level in reach."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return (127.5 + 90 * np.sin(0.9 * x + c) * np.cos(0.7 * y)).astype(np.uint8)


def half(height: int, width: int) -> np.ndarray:
    """White on the right."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 255
    return mask


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return pipeline()


@pytest.fixture(scope="module")
def colour() -> Pipeline:
    return pipeline(classes=(), shape=(3, 8, 8))


# -- edit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (5, 13), (20, 9)])
@pytest.mark.parametrize("method", ["auto", "ddnm", "dps"])
def test_pixels_outside_the_mask_keep_their_bytes(
    colour: Pipeline, size: tuple[int, int], method: str
) -> None:
    image, mask = picture(*size, 3), half(*size)
    edited = colour.edit(image, mask, n=3, steps=3, method=method)
    assert edited.images.shape == (3, *size, 3)
    for result in edited.images:
        np.testing.assert_array_equal(result[mask == 0], image[mask == 0])
    assert len(np.unique(edited.images, axis=0)) == 3
    assert edited.consistency == [0.0] * 3


def test_a_mask_is_a_picture_or_truth_values(pipe: Pipeline) -> None:
    image, mask = picture(8, 8), half(8, 8)
    first = pipe.edit(image, mask, steps=2)
    for same in (mask > 127, mask[..., None]):
        np.testing.assert_array_equal(pipe.edit(image, same, steps=2).images, first.images)


def test_a_picture_is_extended(pipe: Pipeline) -> None:
    image = picture(8, 8)
    wide = pipe.edit(image, extend="right:5,top:2", steps=2).images[0]
    assert wide.shape == (10, 13, 1)
    np.testing.assert_array_equal(wide[2:, :8], image)
    np.testing.assert_array_equal(pipe.edit(image, extend={"right": 5, "top": 2}, steps=2).images[0], wide)


def test_a_mask_counts_beside_an_extension(pipe: Pipeline) -> None:
    image, mask = picture(8, 8), half(8, 8)
    wide = pipe.edit(image, mask, extend="left:3", steps=2).images[0]
    np.testing.assert_array_equal(wide[:, 3:7], image[:, :4])


def test_strength_is_how_much_is_given_up(pipe: Pipeline) -> None:
    """A random network changes pictures; the later it is asked, the less."""
    image = picture(8, 8)
    distance = [
        float(np.abs(pipe.edit(image, strength=s, steps=10).images[0].astype(int) - image).mean())
        for s in (0.02, 0.3, 1.0)
    ]
    assert distance == sorted(distance)
    assert distance[0] < 8 < distance[2]


def test_fewer_steps_are_taken_from_a_later_start(pipe: Pipeline) -> None:
    image = picture(8, 8)
    calls = [pipe.edit(image, strength=s, steps=10, solver="ddim").evaluations for s in (1.0, 0.5, 0.25)]
    assert calls == [10, 5, 3]


def test_strength_with_a_mask_starts_from_the_picture(pipe: Pipeline) -> None:
    image, mask = picture(8, 8), half(8, 8)
    near, far = (pipe.edit(image, mask, strength=s, steps=8).images[0].astype(int) for s in (0.02, 1.0))
    np.testing.assert_array_equal(near[mask == 0], image[mask == 0])
    assert np.abs(near - image).sum() < np.abs(far - image).sum()


def test_a_label_is_heeded_and_its_absence_too(pipe: Pipeline) -> None:
    image, mask = picture(8, 8), half(8, 8)
    told = {
        k: pipe.edit(image, mask, steps=3, label=k, guidance=3.0).images.tobytes() for k in ("ant", "bee")
    }
    assert len({*told.values(), pipe.edit(image, mask, steps=3).images.tobytes()}) == 3


def test_a_model_trained_to_inpaint_needs_no_method(pipe: Pipeline) -> None:
    network = UNetConfig(widths=(8, 16), blocks=1, spatial_channels=Masked().channels(1))
    trained = pipeline(spatial=Masked(), network=network)
    image, mask = picture(11, 14), half(11, 14)
    edited = trained.edit(image, mask, steps=3)
    np.testing.assert_array_equal(edited.images[0][mask == 0], image[mask == 0])
    assert edited.method == "none"
    assert "trained" in edited.reason
    asked = trained.edit(image, mask, steps=3, method="ddnm")
    assert asked.method.startswith("ddnm")


# -- upscale -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (5, 9)])
@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_upscaling_gives_scale_times_the_input(pipe: Pipeline, size: tuple[int, int], kernel: Any) -> None:
    small = picture(*size)
    large = pipe.upscale(small, 2, kernel=kernel, method="ddnm", steps=3)
    assert large.images.shape == (1, 2 * size[0], 2 * size[1], 1)
    again = pipe.upscale(small, 2, kernel=kernel, method="ddnm", steps=3)
    np.testing.assert_array_equal(large.images, again.images)


def test_upscaled_pictures_made_small_are_the_input(pipe: Pipeline) -> None:
    """As far as bytes and clipping allow: the input is not near the ends."""
    large = pipe.upscale((picture(6, 7) // 4 + 96), 2, kernel="box", method="ddnm", steps=8)
    small = large.images[0].reshape(6, 2, 7, 2).mean((1, 3))
    expected = picture(6, 7)[..., 0] // 4 + 96
    inside = ((large.images[0] > 0) & (large.images[0] < 255)).reshape(6, 2, 7, 2).all((1, 3))
    assert inside.any()
    np.testing.assert_allclose(small[inside], expected[inside], atol=1)


def test_a_model_trained_to_upscale(pipe: Pipeline) -> None:
    config = LowResolution(scale=2)
    network = UNetConfig(widths=(8, 16), blocks=1, spatial_channels=config.channels(1))
    trained = pipeline(spatial=config, network=network)
    large = trained.upscale(picture(7, 5), steps=3)
    assert large.images.shape == (1, 14, 10, 1)
    assert (large.method, large.recipe["scale"]) == ("none", 2)
    with pytest.raises(IncompatibleError, match="trained to upscale 2 times"):
        trained.upscale(picture(7, 5), 4)
    with pytest.raises(IncompatibleError) as caught:
        trained.sample(n=1)
    assert "unstir upscale" in (caught.value.hint or "")


# -- restore -----------------------------------------------------------------------------------------------


def test_restoring_agrees_with_what_was_measured(pipe: Pipeline) -> None:
    clean, operator = picture(8, 8), RandomPixels(share=0.5)
    x = torch.from_numpy(clean).movedim(-1, 0)[None] / 127.5 - 1
    y = operator.forward(x)[0]
    restored = pipe.restore(y, operator, method="ddnm", steps=3, reference=clean, n=4)
    seen = operator.forward(torch.ones_like(x))[0, 0].numpy() > 0
    for image in restored.images:
        np.testing.assert_array_equal(image[seen], clean[seen])
    assert restored.psnr is not None
    assert restored.ssim is not None
    error = ((restored.images[0].astype(float) - clean) ** 2).mean()
    assert restored.psnr[0] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-4)
    assert restored.uncertainty is not None
    assert restored.uncertainty.shape == (8, 8)
    assert (restored.uncertainty[seen] == 0).all()
    assert restored.uncertainty[~seen].mean() > 1


@pytest.mark.parametrize("method", ["auto", "mmps", "dps", "replacement"])
def test_known_pixels_without_noise_keep_their_bytes(pipe: Pipeline, method: str) -> None:
    """However little the method cares, in however few steps."""
    y, operator = picture(8, 8), RandomPixels(share=0.4)
    restored = pipe.restore(y, operator, method=method, steps=2)
    seen = operator.forward(torch.ones(1, 1, 8, 8))[0, 0].numpy() > 0
    np.testing.assert_array_equal(restored.images[0][seen], y[seen])
    assert restored.consistency == [0.0]


def test_bytes_are_bytes_in_arrays_and_tensors(pipe: Pipeline) -> None:
    y = picture(8, 8)
    from_array = pipe.restore(y, Blur(1.0), steps=2)
    from_tensor = pipe.restore(torch.from_numpy(y).movedim(-1, 0), Blur(1.0), steps=2)
    np.testing.assert_array_equal(from_array.images, from_tensor.images)


def test_times_may_be_given(pipe: Pipeline) -> None:
    edited = pipe.edit(picture(8, 8), half(8, 8), times=(1, 0.6, 0.2, 0))
    assert (edited.recipe["steps"], edited.recipe["times"]) == (3, [1.0, 0.6, 0.2, 0.0])


def test_a_plan_says_what_would_be_done(pipe: Pipeline) -> None:
    from unstir.pipeline.restoration import Wish, edit

    drawing = edit(pipe, picture(12, 8), half(12, 8), None, None, Wish.of({"steps": 5}))
    words = drawing.words()
    assert (words["method"], words["size"], words["steps"]) == ("mmps iterations=4", [12, 8], 5)
    assert words["windows"] == 2
    assert drawing.draw().images.shape == (1, 12, 8, 1)


def test_consistency_is_the_gap_to_y_in_grey_levels(pipe: Pipeline) -> None:
    y = picture(8, 8)
    restored = pipe.restore(y, Blur(sigma=1.0), method="ddnm", std=0.1, steps=3)
    x = torch.from_numpy(restored.images).movedim(-1, 1) / 127.5 - 1
    gap = Blur(sigma=1.0).forward(x)[0, 0].numpy() * 127.5 + 127.5 - y[..., 0]
    assert restored.consistency[0] == pytest.approx(float(np.sqrt((gap**2).mean())), rel=1e-3)


def test_a_sample_depends_on_its_seed_alone(pipe: Pipeline) -> None:
    image, mask = picture(8, 8), half(8, 8)
    many = pipe.edit(image, mask, n=3, seed=5, steps=3).images.astype(int)
    for i in range(3):
        one = pipe.edit(image, mask, n=1, seed=5 + i, steps=3).images.astype(int)
        np.testing.assert_allclose(one[0], many[i], atol=1)


def test_poisson_noise_and_operators_that_are_not_linear(pipe: Pipeline) -> None:
    y = picture(8, 8)
    assert pipe.restore(y, Blur(), peak=30.0, steps=3).images.shape == (1, 8, 8, 1)


def test_every_operator_has_a_default_method(pipe: Pipeline, colour: Pipeline) -> None:
    """Chosen, run and explained, with noise and without."""
    from unstir.spec import choices

    for name, kind in choices(Operator).items():
        operator = kind()
        model = colour if name in ("Grayscale", "Colour", "JPEG") else pipe
        try:
            y = operator.forward(0.5 * Rng.of(0, 1).normal((1, *model.config.shape)))[0]
        except ConfigError:  # made for larger pictures than these
            continue
        for std in (0.0, 0.05):
            restored = model.restore(y, operator, std=std, steps=2)
            assert restored.images.shape[1:3] == (8, 8), name
            assert restored.reason, name


def test_grey_pictures_are_coloured(colour: Pipeline) -> None:
    restored = colour.restore(picture(8, 8), Grayscale(), method="ddnm", steps=3)
    assert restored.images.shape == (1, 8, 8, 3)


def test_the_recipe_says_it_all(pipe: Pipeline) -> None:
    restored = pipe.restore(picture(4, 4), Downsample(2), method=DPS(), steps=2, seed=3)
    recipe = restored.recipe
    assert (recipe["verb"], recipe["seed"], recipe["n"], recipe["steps"]) == ("restore", 3, 1, 2)
    assert recipe["operator"]["scale"] == 2
    assert recipe["method"]["name"] == "DPS"
    assert len(recipe["input_sha256"]) == 64


# -- refusals ----------------------------------------------------------------------------------------------

IMAGE = picture(8, 8)
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("edit", {}, "mask"),
    ("edit", {"mask": half(8, 9)}, "mask"),
    ("edit", {"mask": np.zeros((8, 8), np.uint8)}, "mask"),
    ("edit", {"extend": "sideways:3"}, "extend"),
    ("edit", {"extend": "right:0"}, "extend"),
    ("edit", {"extend": "right"}, "extend"),
    ("edit", {"extend": "right:4,right:8"}, "extend"),
    ("edit", {"extend": {"right": True}}, "extend"),
    ("edit", {"extend": {"right": -1}}, "extend"),
    ("edit", {"extend": 16}, "extend"),
    ("edit", {"mask": "mask.png"}, "mask"),
    ("edit", {"mask": np.zeros((8, 8, 3), np.uint8)}, "mask"),
    ("edit", {"strength": 0.5, "method": "ddnm"}, "method"),
    ("edit", {"strength": "half"}, "strength"),
    ("edit", {"mask": half(8, 8), "feather": "3"}, "feather"),
    ("edit", {"mask": half(8, 8), "feather": 0}, "feather"),
    ("edit", {"mask": half(8, 8), "method": DDNM}, "method"),
    ("edit", {"mask": half(8, 8), "n": True}, "n"),
    ("edit", {"mask": half(8, 8), "n": "2"}, "n"),
    ("edit", {"mask": half(8, 8), "seed": 1.5}, "seed"),
    ("edit", {"mask": half(8, 8), "tile": 4.0}, "tile"),
    ("edit", {"mask": half(8, 8), "on_step": 3}, "on_step"),
    ("edit", {"extend": "right:100000000"}, "extend"),
    ("edit", {"strength": 0.0}, "strength"),
    ("edit", {"strength": 1.2}, "strength"),
    ("edit", {"mask": half(8, 8), "n": 0}, "n"),
    ("edit", {"mask": half(8, 8), "method": "magic"}, "method"),
    ("edit", {"mask": half(8, 8), "tile": 9}, "tile"),
    ("edit", {"mask": half(8, 8), "tile": 4, "overlap": 4}, "overlap"),
    ("edit", {"mask": half(8, 8), "guidance": 3.0}, "guidance"),
    ("edit", {"mask": half(8, 8), "wings": 2}, "wings"),
    ("upscale", {"scale": 1}, "scale"),
    ("upscale", {"scale": 1.5}, "scale"),
    ("upscale", {"scale": 10_000}, "scale"),
    ("upscale", {"scale": 2, "reference": picture(8, 8)}, "reference"),
    ("restore", {"operator": Grayscale()}, "operator"),
    ("restore", {"operator": "blur"}, "operator"),
    ("restore", {"operator": Blur}, "operator"),
    ("restore", {"operator": Blur(), "std": "a"}, "std"),
    ("restore", {"operator": Blur(), "peak": "a"}, "peak"),
    ("restore", {"operator": Blur(), "reference": picture(9, 8)}, "reference"),
    ("restore", {"operator": Blur(), "std": -1.0}, "std"),
    ("restore", {"operator": Blur(), "std": 0.1, "peak": 30.0}, "std"),
    ("restore", {"operator": Blur(), "peak": 0.0}, "peak"),
]


@pytest.mark.parametrize(
    ("verb", "settings", "field"),
    REFUSED,
    ids=[f"{k} {verb} {'-'.join(settings)}" for k, (verb, settings, _) in enumerate(REFUSED)],
)
def test_what_cannot_be_is_refused(pipe: Pipeline, verb: str, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        getattr(pipe, verb)(IMAGE, **settings)
    assert (caught.value.field or "").rpartition(".")[2] == field
    assert caught.value.hint


@pytest.mark.parametrize(
    "image",
    [
        picture(8, 8).astype(float),
        picture(8, 8, 3),
        picture(8, 8)[None],
        picture(8, 0),
        np.zeros(8, np.uint8),
    ],
    ids=["floats", "colour", "four axes", "empty", "one axis"],
)
def test_what_is_no_picture_for_this_model_is_refused(pipe: Pipeline, image: np.ndarray) -> None:
    with pytest.raises(IncompatibleError) as caught:
        pipe.edit(image, half(8, 8))
    assert caught.value.field == "image"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("y", "field"),
    [
        (np.full((1, 8, 8), 200.0), "y"),
        (np.full((1, 8, 8), np.nan), "y"),
        (np.zeros((1, 0, 0)), "y"),
        (np.zeros((1, 8, 8), int), "y"),
        (torch.zeros(1, 1, 8, 8), "operator"),
    ],
    ids=["bytes as floats", "NaN", "empty", "integers", "a batch"],
)
def test_what_is_no_measurement_is_refused(pipe: Pipeline, y: Any, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pipe.restore(y, Blur(1.0), steps=2)
    assert caught.value.field == field
    assert caught.value.hint


def test_a_method_that_does_not_take_the_operator_is_refused(pipe: Pipeline) -> None:
    from unstir.operators import Clip

    with pytest.raises(IncompatibleError) as caught:
        pipe.restore(IMAGE, Clip(), method=DDNM())
    assert caught.value.field == "method"
    assert "dps" in (caught.value.hint or "")


def test_what_edits_nothing_is_refused() -> None:
    classifier = pipeline(network=ClassifierConfig(), embedder=None)
    with pytest.raises(IncompatibleError, match="classifier"):
        classifier.edit(IMAGE, half(8, 8))
    points = pipeline(kind="points")
    with pytest.raises(IncompatibleError, match="points"):
        points.edit(IMAGE, half(8, 8))
