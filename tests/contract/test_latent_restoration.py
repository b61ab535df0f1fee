"""What edit, upscale and restore promise of models in a latent space, and of models that read prompts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from tiny import pipeline
from unstir.cli import main
from unstir.codecs import ConsistencyConfig, Latent, VAEConfig
from unstir.command import remake
from unstir.embedders import PromptConfig, TransformerConfig
from unstir.errors import ConfigError, IncompatibleError
from unstir.modalities import read_recipe
from unstir.model import Defaults
from unstir.networks import UNetConfig
from unstir.operators import (
    JPEG,
    Blur,
    Crop,
    Decoded,
    Downsample,
    GaussianNoise,
    Grayscale,
    Mask,
    Measurement,
    Operator,
    PoissonNoise,
    RandomPixels,
)
from unstir.operators.decoded import Inexact, inexact
from unstir.pipeline import Pipeline
from unstir.pipeline.latents import ENOUGH, Told, mended, told
from unstir.rng import Rng

FACTOR = 2
SIDE = 8
"""Of the pictures that the models below were made for: 4 positions of their latents."""


class Blocks(nn.Module):
    """An encoder that loses nothing: the pixels of a block become channels, and there is no spread."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        z = self.gain * pixel_unshuffle(x, FACTOR)
        return torch.cat((z, torch.zeros_like(z)), 1)


class Unblocks(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return pixel_shuffle(z, FACTOR)


def latent(*, exact: bool = True, reads: bool = True, channels: int = 3) -> Pipeline:
    """A small model of latents with random weights; an exact codec loses nothing, any other is random, too."""
    codec = VAEConfig(
        widths=(8,), blocks=1, unshuffle=FACTOR, latent_channels=4 * channels, data_channels=channels
    )
    encoder = TransformerConfig(width=16, depth=1, heads=2, length=16, vocabulary=300)
    pipe = pipeline(
        classes=(),
        codec=codec,
        shape=(4 * channels, SIDE // FACTOR, SIDE // FACTOR),
        data_shape=(channels, SIDE, SIDE),
        prompt=PromptConfig(encoders=(encoder,), width=16) if reads else None,
        network=UNetConfig(widths=(8, 16), blocks=1, unshuffle=1, attention=1, head_width=8),
        defaults=Defaults(guidance=3.0 if reads else 1.0, steps=4),
    )
    if exact:
        assert isinstance(pipe.codec, Latent)
        pipe.codec.encoder, pipe.codec.decoder = Blocks(), Unblocks()  # type: ignore[assignment]
    return pipe


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return latent()


@pytest.fixture(scope="module")
def rough() -> Pipeline:
    return latent(exact=False)


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return (127.5 + 90 * np.sin(0.9 * x + c) * np.cos(0.7 * y)).astype(np.uint8)


def hole(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[height // 3 :, width // 2 :] = True
    return mask


def values(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).movedim(-1, 0)[None] / 127.5 - 1


# -- what is kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (5, 13), (17, 9)])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("strength", [None, 0.5])
def test_pixels_outside_the_mask_keep_their_bytes(
    pipe: Pipeline, rough: Pipeline, size: tuple[int, int], exact: bool, strength: float | None
) -> None:
    image, mask = picture(*size), hole(*size)
    edited = (pipe if exact else rough).edit(image, mask, n=2, steps=3, prompt="red", strength=strength)
    assert edited.images.shape == (2, *size, 3)
    for result in edited.images:
        np.testing.assert_array_equal(result[~mask], image[~mask])
        assert (result[mask] != image[mask]).any()
    assert edited.consistency == [0.0] * 2


def test_a_picture_is_extended_by_any_number_of_pixels(rough: Pipeline) -> None:
    image = picture(7, 8)
    wide = rough.edit(image, extend="right:5,top:1", steps=2).images[0]
    assert wide.shape == (8, 13, 3)
    np.testing.assert_array_equal(wide[1:, :8], image)


def test_strength_is_how_much_is_given_up(pipe: Pipeline) -> None:
    """What is encoded and decoded with little noise between stays nearly as it is."""
    image = picture(9, 12)
    far = [
        float(np.abs(pipe.edit(image, strength=s, steps=10).images[0].astype(int) - image).mean())
        for s in (0.01, 0.3, 1.0)
    ]
    assert far == sorted(far)
    assert far[0] < 8 < far[2]


def test_a_hole_does_not_show_what_was_in_it(rough: Pipeline) -> None:
    """Two pictures that differ within the mask alone have the same result, through any encoder."""
    image, mask = picture(8, 10), hole(8, 10)
    other = np.where(mask[..., None], 255 - image, image)
    first, second = (rough.edit(x, mask, steps=3).images for x in (image, other))
    np.testing.assert_array_equal(first, second)
    near = [rough.edit(x, mask, steps=3, strength=0.2).images for x in (image, other)]
    assert (near[0] != near[1]).any()


@pytest.mark.parametrize("operator", [RandomPixels(share=0.4), Crop(1, 2, 3, 0), Mask(torch.ones(8, 8))])
def test_what_is_measured_without_noise_keeps_its_bytes(rough: Pipeline, operator: Operator) -> None:
    image = picture(8, 8)
    restored = rough.restore(image, operator, steps=3)
    assert restored.consistency == [0.0]


# -- what the model is told --------------------------------------------------------------------------------


def measured(pipe: Pipeline, mask: np.ndarray, old: Tensor | None = None) -> Told:
    x = values(picture(*mask.shape))
    keep = torch.from_numpy(~mask)
    shape = tuple(x.shape[1:])
    return told(pipe, Measurement(Mask(keep), keep * x, GaussianNoise(0.0)), shape, shape, old)


def test_known_are_the_positions_whose_pixels_all_are(pipe: Pipeline) -> None:
    """By an encoder that sees no further than its block, exactly those, with the values of the whole picture."""
    mask = np.zeros((8, 12), bool)
    mask[3:6, 5:] = True
    seen = measured(pipe, mask)
    assert isinstance(seen.measurement.operator, Mask)
    keep = ~mask.reshape(4, 2, 6, 2).any((1, 3))
    np.testing.assert_array_equal(seen.measurement.operator.keep[0].numpy(), keep)
    z = pipe.space(values(picture(8, 12)))
    torch.testing.assert_close(seen.measurement.y, torch.from_numpy(keep) * z)
    assert seen.way == f"told of {keep.sum()} of {keep.size} positions in the latent space"


def test_what_an_encoder_sees_of_a_hole_is_not_known(rough: Pipeline) -> None:
    """The values of the known positions hardly depend on what is in the hole, however far the encoder sees."""
    mask = np.zeros((8, 40), bool)
    mask[:, :6] = True
    fills = [values(np.where(mask[..., None], fill, picture(8, 40)).astype(np.uint8)) for fill in (0, 200)]
    first, second = (measured(rough, mask, fill).measurement for fill in fills)
    assert isinstance(first.operator, Mask)
    assert isinstance(second.operator, Mask)
    assert torch.equal(first.operator.keep, second.operator.keep)
    assert not first.operator.keep[..., :3].any()
    assert (first.y - second.y).abs().max() < 0.3


def test_scattered_pixels_are_told_through_the_decoder(pipe: Pipeline) -> None:
    mask = np.indices((8, 8)).sum(0) % 2 == 0
    seen = measured(pipe, mask)
    assert isinstance(seen.measurement.operator, Decoded)
    assert 0 < ENOUGH < 1
    x = values(picture(8, 8))
    torch.testing.assert_close(seen.measurement.operator.forward(pipe.space(x)), seen.measurement.y)


@pytest.mark.parametrize("attention", [0, 1])
def test_any_decoder_has_derivatives_both_ways(attention: int) -> None:
    """<v, J u> = <J^T v, u> also through the attention of a network that decodes."""
    network = UNetConfig(widths=(8, 16), blocks=1, attention=attention, head_width=8)
    codec = ConsistencyConfig(widths=(8,), latent_channels=4, denoiser=network).build()
    operator, rng = Decoded(Downsample(2), codec.values), Rng.of(0, 1)
    z, u = (rng.fork(word).normal((1, 4, 4, 4)) for word in "zu")
    v = rng.fork("v").normal((1, 3, 4, 4))
    forward, back = (v * operator.jvp(z, u)).sum(), (operator.vjp(z, v) * u).sum()
    torch.testing.assert_close(forward, back, rtol=1e-3, atol=1e-4)


def test_of_noise_a_decoder_adds_what_it_loses() -> None:
    assert inexact(GaussianNoise(0.3), 0.4) == GaussianNoise(0.5)
    y = torch.tensor([[0.5, -1.0]])
    law = inexact(PoissonNoise(10.0), 0.2)
    assert isinstance(law, Inexact)
    torch.testing.assert_close(law.variance(y), PoissonNoise(10.0).variance(y) + 0.04)
    near, far = law.log_likelihood(y, y), law.log_likelihood(y, y + 0.3)
    assert near > far


def test_what_no_latent_says_is_put_back() -> None:
    """x + lost^2 A^T (lost^2 A A^T + std^2)^-1 (y - A x), in closed form for A = I."""
    rng = Rng.of(0, 1)
    x, y = (rng.fork(word).uniform((1, 1, 4, 4), torch.float64) for word in "xy")
    known = Measurement(Mask(torch.ones(4, 4)), y, GaussianNoise(0.3))
    torch.testing.assert_close(mended(Told(known, known, lost=0.4), x), x + 0.64 * (y - x))
    assert mended(Told(known, known), x) is x


def test_an_upscaled_picture_is_the_given_one_when_it_is_made_small(rough: Pipeline) -> None:
    """Also where the decoder could not have drawn it: a random one could not."""
    flat = (127 + 0.2 * (picture(5, 7).astype(float) - 127)).astype(np.uint8)
    for kernel in ("box", "bicubic"):
        large = rough.upscale(flat, 2, steps=3, kernel=kernel)
        assert large.images.shape == (1, 10, 14, 3)
        assert large.consistency[0] < 4
        assert large.reason.endswith("told through the decoder")


@pytest.mark.parametrize(
    ("operator", "noise"),
    [
        (Blur(1.0), {"std": 0.05}),
        (Blur(1.0), {"peak": 30.0}),
        (JPEG(20), {}),
        (Grayscale(), {}),
        (RandomPixels(share=0.5), {"std": 0.1}),
        (Downsample(2), {"std": 0.01}),
    ],
)
def test_every_operator_is_restored_from(
    rough: Pipeline, operator: Operator, noise: dict[str, float]
) -> None:
    y = operator.forward(values(picture(8, 10)))[0]
    restored = rough.restore(y, operator, n=2, steps=2, reference=picture(8, 10), **noise)
    assert restored.images.shape == (2, 8, 10, 3)
    assert restored.psnr is not None
    assert (restored.images[0] != restored.images[1]).any()


@pytest.mark.parametrize("method", ["dps", "mmps", "diffpir", "tds"])
def test_methods_for_what_is_not_linear_go_through_the_decoder(rough: Pipeline, method: str) -> None:
    assert rough.upscale(picture(4, 4), 2, steps=2, method=method).images.shape == (1, 8, 8, 3)


@pytest.mark.parametrize("method", ["ddnm", "ddrm", "replacement", "pigdm", "annealedlikelihood"])
def test_others_take_masks_of_positions_and_refuse_the_rest(pipe: Pipeline, method: str) -> None:
    image, mask = picture(8, 12), hole(8, 12)
    assert (pipe.edit(image, mask, steps=2, method=method).images[0] != image)[mask].any()
    with pytest.raises(IncompatibleError, match="Downsample of what is decoded") as caught:
        pipe.upscale(image, 2, steps=2, method=method)
    assert caught.value.hint


# -- larger than the model ---------------------------------------------------------------------------------


def test_windows_are_of_whole_positions(pipe: Pipeline) -> None:
    image = picture(8, 12)
    large = pipe.upscale(image, 2, steps=2, tile=6, overlap=2)
    assert large.images.shape == (1, 16, 24, 3)
    assert (large.recipe["tile"], large.recipe["overlap"]) == (6, 2)
    for setting in ({"tile": 7}, {"tile": 2}, {"tile": 10}, {"tile": 6, "overlap": 1}, {"overlap": 8}):
        with pytest.raises(ConfigError) as caught:
            pipe.upscale(image, 2, steps=2, **setting)
        assert caught.value.field in setting
        assert "in steps of 2" in str(caught.value.hint)


def test_another_decoder_draws_the_picture(rough: Pipeline, tmp_path: Path) -> None:
    assert isinstance(rough.codec, Latent)
    settings = {
        f: getattr(rough.codec.config, f) for f in ("widths", "unshuffle", "latent_channels", "data_channels")
    }
    network = UNetConfig(widths=(8,), blocks=1)
    config = ConsistencyConfig(**settings, blocks=1, encoded=24, denoiser=network)  # type: ignore[arg-type]
    other = pipeline(classes=(), network=config, shape=(3, SIDE, SIDE))
    other.module.adopt(rough.codec)  # type: ignore[operator, union-attr]
    path = str(other.save(tmp_path / "decoder.safetensors"))
    image, mask = picture(8, 8), hole(8, 8)
    plain, drawn = (rough.edit(image, mask, steps=2, decoder=word).images[0] for word in ("", path))
    assert (plain != drawn)[mask].any()
    np.testing.assert_array_equal(drawn[~mask], image[~mask])
    with pytest.raises(IncompatibleError) as caught:
        pipeline(shape=(3, 8, 8)).edit(image, mask, steps=2, decoder=path)
    assert caught.value.field == "decoder"


def test_samples_depend_on_their_seed_alone(rough: Pipeline) -> None:
    image, mask = picture(8, 14), hole(8, 14)
    both = rough.edit(image, mask, n=2, seed=3, steps=3, prompt="red").images
    single = rough.edit(image, mask, n=1, seed=4, steps=3, prompt="red").images
    assert np.abs(both[1].astype(int) - single[0]).max() <= 1


# -- prompts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["edit", "upscale", "restore"])
def test_a_prompt_is_heeded_and_its_negative_too(rough: Pipeline, verb: str) -> None:
    image = picture(8, 8)

    def made(**words: Any) -> Any:
        if verb == "edit":
            return rough.edit(image, hole(8, 8), steps=3, **words)
        if verb == "upscale":
            return rough.upscale(image[:4, :4], 2, steps=3, **words)
        return rough.restore(image, Blur(1.0), std=0.1, steps=3, **words)

    plain = made()
    assert (plain.prompts, plain.recipe.get("prompt"), plain.recipe["guidance"]) == (None, None, 1.0)
    red, blue = made(prompt="a red heart"), made(prompt="a blue heart")
    away = made(prompt="a red heart", negative="blue")
    assert len({r.images.tobytes() for r in (plain, red, blue, away, made(negative="blue"))}) == 5
    assert red.prompts == ["a red heart"]
    assert red.labels is None
    assert (away.recipe["prompt"], away.recipe["negative"]) == ("a red heart", "blue")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"label": "cat"}, "label"),
        ({"guidance": 2.0}, "guidance"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": "(a:99)"}, "prompt"),
        ({"prompt": "a", "negative": "b", "guidance": 1.0}, "negative"),
        ({"threshold": 0.9}, "threshold"),
    ],
)
def test_what_cannot_be_meant_is_refused(rough: Pipeline, words: dict[str, Any], field: str) -> None:
    with pytest.raises((ConfigError, IncompatibleError)) as caught:
        rough.edit(picture(8, 8), hole(8, 8), steps=2, **words)
    assert caught.value.field == field
    assert caught.value.hint


def test_a_model_without_captions_refuses_a_prompt() -> None:
    for silent in (latent(reads=False), pipeline(shape=(3, 8, 8))):
        with pytest.raises(IncompatibleError, match="without captions"):
            silent.edit(picture(8, 8), hole(8, 8), steps=2, prompt="cat")


# -- on the command line -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("latent")
    latent(exact=False).save(place / "tiny.safetensors")
    return place


@pytest.mark.parametrize(
    "line",
    [
        "edit in.png mask=mask.png prompt='a red, (big:1.3) heart' negative='blue, green' guidance=2",
        "edit in.png strength=0.5 prompt=42",
        "upscale in.png scale=2 prompt=true tile=6",
        "restore in.png operator=jpeg:quality=20 prompt='x=y'",
    ],
)
def test_a_recipe_makes_the_same_picture_again(
    line: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.safetensors").symlink_to(folder / "tiny.safetensors")
    Image.fromarray(picture(10, 9)).save("in.png")
    Image.fromarray(hole(10, 9)).save("mask.png")
    verb, *rest = shlex.split(line)
    assert main([verb, "tiny.safetensors", *rest, "steps=2", "out=out.png", "-q"]) == 0
    recipe = read_recipe(Path("out.png"))
    assert isinstance(recipe["prompt"], str)
    assert main([*shlex.split(remake(recipe))[1:], "-q"]) == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()


def test_a_dry_run_says_the_prompt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(10, 9)).save("in.png")
    words = ["upscale", str(folder / "tiny.safetensors"), "in.png", "prompt=a red heart", "--dry-run"]
    assert main(words) == 0
    assert "a red heart" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert '"prompt": "a red heart"' in capsys.readouterr().out
