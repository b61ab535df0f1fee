"""Models that are told of a picture: what they are told in training, what they make of it, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tiny import outcome, records, resume, train
from unstir import config, recipes
from unstir.cli import main
from unstir.data import Dataset, open_data
from unstir.embedders import LowResolution, Masked, Spatial
from unstir.embedders.base import noisy
from unstir.embedders.low_resolution import scales
from unstir.embedders.masked import KINDS, random_masks
from unstir.errors import ConfigError, IncompatibleError
from unstir.operators import Downsample
from unstir.pipeline import Pipeline, load
from unstir.recipes import Recipe
from unstir.recipes.families import FAMILIES
from unstir.rng import Rng
from unstir.spec import dump, load as read_settings

KINDS_OF_SPATIAL = (LowResolution(scale=2), LowResolution(scale=2, kernel="box"), Masked())


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data("digits")[0]


@pytest.fixture(scope="module")
def x_0(digits: Dataset) -> Tensor:
    """Eight digits, (8, 1, 8, 8) from -1 to 1."""
    return encoded(digits, 8)


def encoded(data: Dataset, n: int) -> Tensor:
    return torch.from_numpy(data.x[:n]).movedim(-1, 1) / 127.5 - 1


@pytest.fixture(scope="module", params=["upscale", "inpaint"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits of either task."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    words = ["task=upscale", "scale=2"] if request.param == "upscale" else ["task=inpaint"]
    more = (
        "steps=60",
        "batch=32",
        "widths=32",
        "checkpoint_every=30",
        "preview_every=30",
        "heldout_every=30",
    )
    assert train("digits", run, *words, *more) == 0
    return run


def resolved(data: Dataset, **settings: Any) -> Recipe:
    given = {"data.source": data.info.source} | {k.replace("__", "."): v for k, v in settings.items()}
    values = config.settings("train", [config.Layer("call", given)]).values
    return recipes.resolve(config.build("train", values), data, torch.device("cpu"))


# -- what is told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", KINDS_OF_SPATIAL, ids=str)
def test_a_sample_is_told_the_same_in_any_batch(spatial: Spatial, x_0: Tensor) -> None:
    rng = Rng.of(3, len(x_0))
    told = spatial.training(x_0, rng)
    assert told.shape == (8, spatial.channels(1), 8, 8)
    for i in range(len(x_0)):
        assert torch.equal(spatial.training(x_0[i : i + 1], rng[i : i + 1])[0], told[i])
    assert read_settings(dump(spatial), Spatial) == spatial


@pytest.mark.parametrize("spatial", KINDS_OF_SPATIAL, ids=str)
def test_levels_reach_up_to_the_augmentation_and_half_are_below_its_quarter(spatial: Spatial) -> None:
    n, x = 4000, torch.zeros(4000, 1, 4, 4)
    s = spatial.levels(Rng.of(0, n), x)
    assert 0 < s.min() < s.max() < spatial.augmentation
    assert s.max() > 0.99 * spatial.augmentation
    assert (s < spatial.augmentation / 4).float().mean() == pytest.approx(0.5, abs=3 * 0.5 / n**0.5)
    planes = spatial.training(x, Rng.of(0, n))[:, -1]
    assert torch.equal(planes, s[:, None, None].expand(n, 4, 4))


def test_the_noise_is_as_strong_as_told_and_new_for_every_sample() -> None:
    std = torch.linspace(0, 0.5, 6)
    y = noisy(torch.ones(6, 3, 50, 50), std, Rng.of(0, 6)) - 1
    assert torch.allclose(y.flatten(1).std(1), std, rtol=3 / 7500**0.5 * 2, atol=0)
    correlation = torch.corrcoef(y[1:].flatten(1)) - torch.eye(5)
    assert correlation.abs().max() < 4.5 / 7500**0.5


def test_known_pixels_are_noisy_and_unknown_ones_are_zero() -> None:
    told = Masked(augmentation=0.4).training(torch.zeros(500, 2, 12, 12), Rng.of(0, 500))
    known, mask, s = told[:, :2], told[:, 2:3].expand(-1, 2, -1, -1) == 1, told[:, 3:].expand(-1, 2, -1, -1)
    assert (known[~mask] == 0).all()
    assert (known[mask] / s[mask]).std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
def test_the_small_picture_is_that_of_the_operator(kernel: Any, size: tuple[int, int]) -> None:
    x = Rng.of(0, 3).normal((3, 2, *size))
    spatial = LowResolution(scale=4, kernel=kernel)
    torch.testing.assert_close(spatial.shrink(x), Downsample(4, kernel).forward(x), rtol=0, atol=1e-6)
    clean = replace(spatial, augmentation=0.0)
    assert torch.equal(clean.training(x, Rng.of(0, 3)), clean.condition(spatial.shrink(x)))


def test_the_small_picture_is_made_large_where_it_was(x_0: Tensor) -> None:
    """Interpolation keeps what is even or rises evenly, up to the border."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    large = LowResolution(scale=4, kernel="box").condition(LowResolution(scale=4, kernel="box").shrink(ramp))
    assert torch.allclose(large[..., 8:-8][:, 0], ramp[..., 8:-8][:, 0], atol=1e-4)
    assert (large[:, 1] == 0).all()


# -- masks -------------------------------------------------------------------------------------------------


def test_every_kind_of_mask_comes_as_often_as_it_says() -> None:
    n, size = 4000, (16, 24)
    masks = random_masks(Rng.of(0, n), size)
    assert masks.unique().tolist() == [0, 1]
    shares = [share for share, _ in KINDS]
    assert sum(shares) == pytest.approx(1)
    nothing = (masks == 0).flatten(1).all(1).float().mean().item()
    assert nothing == pytest.approx(shares[-1], abs=3 * (shares[-1] / n) ** 0.5)
    window = torch.stack([fills_its_box(mask[0]) for mask in masks]).float().mean().item()
    # a straight side leaves a box as well, at an edge
    assert shares[1] - 0.03 < window < shares[1] + shares[2] / 2 + 0.03
    everywhere = masks.mean(0)
    assert 0.35 < everywhere.min() < everywhere.max() < 0.75, "some pixels are nearly always known"


def fills_its_box(known: Tensor) -> Tensor:
    """Whether what is known is one box, and not everything or nothing."""
    rows, columns = known.any(1).sum(), known.any(0).sum()
    return (known.sum() == rows * columns) & (known.sum() > 0) & (known.sum() < known.numel())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1].__name__)
def test_a_kind_of_mask_leaves_something_to_fill_in(kind: Any) -> None:
    draw = kind[1]
    y, x = (torch.arange(10) + 0.5) / 10, (torch.arange(15) + 0.5) / 10
    known = draw(Rng.of(0, 200), y, x)
    unknown_share = (~known).flatten(1).float().mean(1)
    assert unknown_share.min() > 0 or draw.__name__ == "_scattered"
    if draw.__name__ == "_window":
        assert all(fills_its_box(mask) for mask in known)
    if draw.__name__ == "_boxes":
        assert 0.15 * 0.15 / 2 < unknown_share.min() < 0.1
        assert 0.5 < unknown_share.max() < 3 * 0.6**2
    if draw.__name__ == "_side":  # a line has the same side on all rows, or the other one on all
        steps = known.float().diff(dim=2)
        assert ((steps >= 0).flatten(1).all(1) | (steps <= 0).flatten(1).all(1)).all()
    if draw.__name__ == "_strokes":
        assert 0.02 < unknown_share.mean() < 0.4
    if draw.__name__ == "_scattered":
        assert unknown_share.mean() == pytest.approx(0.5, abs=0.06)
        assert unknown_share.std() == pytest.approx(12**-0.5, abs=0.04)
    twins = draw(Rng.of(7, 1), y, x)
    assert torch.equal(twins[0], known[7]), "a mask depends on its own generator alone"


# -- runs --------------------------------------------------------------------------------------------------


def told_of(pipe: Pipeline, x_0: Tensor) -> Tensor:
    assert pipe.config.spatial is not None
    return pipe.config.spatial.training(x_0, Rng.of(0, len(x_0)))


def test_a_run_shows_what_was_given_beside_what_became_of_it(run: Path) -> None:
    shots = sorted((run / "samples").iterdir())
    assert [shot.name for shot in shots] == ["step-000030.png", "step-000060.png"]
    sheets = [Image.open(shot) for shot in shots]
    assert len({sheet.size for sheet in sheets}) == 1
    width, height = sheets[0].size
    assert height == 3 * (40 + 4), "three rows of 8x8 pixels, enlarged five times"
    assert width > 12 * 42, "twelve pictures, and names"
    assert shots[0].read_bytes() != shots[1].read_bytes()
    losses = [r["heldout_loss"] for r in records(run) if "heldout_loss" in r]
    assert losses[1] < losses[0]


def test_the_model_uses_what_it_is_told(run: Path, digits: Dataset) -> None:
    """From pure noise on it knows its own picture from that of the neighbour."""
    pipe, x_0 = load(run), encoded(digits, 64)
    told = told_of(pipe, x_0)
    x_1, one = Rng.of(5, 64).normal(tuple(x_0.shape)), torch.tensor(1.0, dtype=torch.float64)
    nothing = torch.full((64,), len(pipe.config.classes))
    with torch.no_grad():
        own, other = (pipe.denoiser(x_1, one, pipe.condition(nothing, c)) for c in (told, told.roll(1, 0)))
    assert (own - x_0).square().mean() < 0.7 * (other - x_0).square().mean()


def test_the_file_holds_the_task(run: Path, x_0: Tensor, tmp_path: Path) -> None:
    pipe = load(run)
    again = Pipeline.load(pipe.save(tmp_path / "copy.safetensors"))
    assert again.config == pipe.config
    assert isinstance(pipe.config.spatial, LowResolution if "upscale" in str(run) else Masked)
    assert pipe.config.network.spatial_channels == pipe.config.spatial.channels(1)
    told, t = told_of(pipe, x_0), torch.tensor(0.5, dtype=torch.float64)
    first, second = (p.denoiser(x_0, t, p.condition(torch.arange(8), told)) for p in (pipe, again))
    assert torch.equal(first, second)


def test_an_interrupted_run_goes_on_bit_for_bit(run: Path, tmp_path: Path) -> None:
    cut = tmp_path / "run"
    shutil.copytree(run, cut, symlinks=True)
    shutil.rmtree(cut / "checkpoints/step-60")
    (cut / "checkpoints/last").unlink()
    (cut / "checkpoints/last").symlink_to("step-30")
    (cut / "samples/step-000060.png").unlink()
    assert resume(cut) == 0
    assert outcome(cut) == outcome(run)


def test_guidance_by_a_label_keeps_the_picture(run: Path, x_0: Tensor) -> None:
    """D = D(no label) + w (D(label) - D(no label)), both told of the same picture."""
    pipe = load(run)
    told, t, labels = told_of(pipe, x_0), torch.tensor(0.7, dtype=torch.float64), torch.arange(8)
    denoiser, cond = pipe.guided(pipe.chosen({"guidance": 3.0}), labels, None, told)
    x_t = pipe.denoiser.process.corrupt(x_0, t, Rng.of(5, 8))
    with torch.no_grad():
        strong = pipe.denoiser(x_t, t, pipe.condition(labels, told))
        weak = pipe.denoiser(x_t, t, pipe.condition(torch.full((8,), 10), told))
        assert (strong - weak).abs().max() > 1e-4
        torch.testing.assert_close(denoiser(x_t, t, cond), weak + 3 * (strong - weak), rtol=1e-5, atol=1e-5)


def test_what_needs_no_picture_says_which_command_does(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = f"unstir upscale {run}" if "upscale" in str(run) else f"unstir edit {run}"
    for command in (
        ["sample", str(run)],
        ["tune", str(run), "budget=4", "--dry-run"],
        ["likelihood", str(run)],
    ):
        assert main(command) == 2
        assert wanted in capsys.readouterr().err
    with pytest.raises(IncompatibleError, match="there is none"):
        load(run).sample(1)


# -- recipes -----------------------------------------------------------------------------------------------


def test_the_first_lines_say_what_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "task=upscale", "scale=4", "--dry-run"]) == 0
    assert "task     upscaling 4x, 2x2 -> 8x8" in capsys.readouterr().err
    assert main(["train", "digits", "task=inpaint", "augmentation=0.1", "--dry-run", "--json"]) == 0
    said = capsys.readouterr()
    assert "task     inpainting" in said.err
    planned = json.loads(said.out)["recipe"]
    assert planned["spatial"] == {"name": "Masked", "augmentation": 0.1}
    assert planned["network"]["spatial_channels"] == 3


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_restores(name: str, digits: Dataset) -> None:
    recipe, plain = (resolved(digits, task=task, process=name) for task in ("upscale", "generate"))
    assert recipe.spatial == LowResolution(scale=4)
    assert (recipe.schedule, recipe.parameterization) == (plain.schedule, plain.parameterization)
    assert (recipe.objective, recipe.sampling.solver) == (plain.objective, plain.sampling.solver)


def test_a_network_of_ones_own_is_told_too(digits: Dataset) -> None:
    recipe = resolved(digits, task="inpaint", network="dit", network__width=96, drop=0.2)
    assert recipe.network.spatial_channels == 3
    assert recipe.training.drop == 0.2
    assert resolved(digits, task="inpaint").training.drop == 0.5
    assert resolved(digits).training.drop == 0.1
    assert resolved(digits, task="inpaint", sampling__guidance=2.0).sampling.guidance == 2.0
    assert resolved(digits, task="upscale", kernel="box", scale=2).spatial == LowResolution(2, "box")


REFUSED = [
    ({"scale": 4}, "LowResolution is not made for task=generate", "use task=upscale"),
    ({"task": "inpaint", "scale": 4}, "LowResolution is not made for task=inpaint", "use task=upscale"),
    ({"task": "inpaint", "spatial": "LowResolution"}, "not made for task=inpaint", "use task=upscale"),
    ({"task": "upscale", "spatial": "masked"}, "Masked is not made for task=upscale", "leave spatial out"),
    ({"task": "classifier", "spatial": "masked"}, "not made for task=classifier", "use task=inpaint"),
    ({"task": "upscale", "scale": 3}, "scale=3 does not divide pictures of 8x8", "use scale=4 or scale=2"),
    ({"task": "inpaint", "network.spatial_channels": 2}, "task=inpaint has 3", "leave it out"),
    ({"network": "unet", "network.spatial_channels": 2}, "task=generate has 0", "leave it out"),
    ({"task": "upscale", "scale": 1}, "scale", ">= 2"),
]


@pytest.mark.parametrize(("settings", "message", "hint"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_does_not_fit_is_refused(
    settings: dict[str, Any], message: str, hint: str, digits: Dataset
) -> None:
    with pytest.raises((ConfigError, IncompatibleError)) as refused:
        resolved(digits, **settings)
    assert message in str(refused.value)
    assert hint in str(refused.value) or hint in (refused.value.hint or "")


@pytest.mark.parametrize("task", ["upscale", "inpaint"])
def test_points_have_no_resolution_and_no_masks(task: str) -> None:
    with pytest.raises(IncompatibleError, match="is of pictures") as refused:
        resolved(open_data("points:moons")[0], task=task)
    assert refused.value.field == "task"


def test_scales_divide_both_sides_and_the_nearest_comes_first() -> None:
    assert scales((1, 28, 28), 4) == [4, 7, 2, 14, 28]
    assert scales((3, 48, 36), 5) == [6, 4, 3, 12, 2]
    assert scales((1, 7, 8), 4) == []
