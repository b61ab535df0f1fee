"""What every learned codec keeps: shapes in 1 to 3 dimensions, precision, its file, no picture of NaN."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import pipeline
from unstir.codecs import ConsistencyConfig, Latent, LatentConfig, VAEConfig, VQVAEConfig
from unstir.condition import Batch
from unstir.errors import ConfigError, IncompatibleError, NumericError
from unstir.evaluate import fidelity, latent_law, similarities
from unstir.evaluate.encoder import Raw
from unstir.layers import cropped
from unstir.model import ModelConfig
from unstir.networks import MLPConfig, UNetConfig
from unstir.objectives import Consistency, Denoising, Objective, Reconstruction
from unstir.pipeline import Pipeline
from unstir.rng import Rng
from unstir.spec import dump, load
from unstir.tensors import load_tensors

CONFIGS: dict[str, LatentConfig] = {
    "vae": VAEConfig(widths=(8, 16), blocks=1),
    "vq": VQVAEConfig(widths=(8, 16), blocks=1, codes=8),
    "consistency": ConsistencyConfig(widths=(8, 16), blocks=1, denoiser=UNetConfig(widths=(8, 16))),
}
SIZES = {1: (45,), 2: (13, 8), 3: (5, 9, 8)}


def built(kind: str, **changes: object) -> Latent:
    config = replace(CONFIGS[kind], **changes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return config.build().eval()


def objective(codec: Latent) -> Objective:
    return Consistency() if hasattr(codec, "consistent") else Reconstruction()


@pytest.mark.parametrize("axes", SIZES)
@pytest.mark.parametrize("kind", CONFIGS)
def test_sound_pictures_and_video_pass_through_at_any_size(kind: str, axes: int) -> None:
    codec = built(kind, axes=axes, data_channels=2, stored="numbers", shift=(1.0,) * 4, scale=(2.0,) * 4)
    x = Rng.of(0, 3).normal((3, 2, *SIZES[axes]))
    z = codec.encode(x)
    assert tuple(z.shape[1:]) == codec.shape(tuple(x.shape[1:]))
    again = codec.decode(z)
    assert again.shape[2:] == tuple(4 * n for n in z.shape[2:])
    assert cropped(again, x.shape[2:]).shape == x.shape
    torch.testing.assert_close(
        codec.encode(x[1:2]), z[1:2], atol=1e-5, rtol=1e-4
    )  # of its neighbours nothing
    loss = objective(codec).loss(codec, Batch(x, index=torch.arange(3)), Rng.of(0, 3))
    assert loss.shape == (3,)
    loss.sum().backward()
    assert any(p.grad is not None for p in codec.decoder.parameters())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_come_back_as_bytes(kind: str, channels: int) -> None:
    codec = built(kind, data_channels=channels)
    x = (Rng.of(0, 2).uniform((2, channels, 9, 4)) * 255).to(torch.uint8)
    again = codec.decode(codec.encode(x))
    assert again.dtype == torch.uint8
    assert again.shape == (2, channels, 12, 4)


@pytest.mark.parametrize("kind", CONFIGS)
def test_settings_survive_a_round_trip(kind: str) -> None:
    assert load(dump(CONFIGS[kind]), LatentConfig) == CONFIGS[kind]


def test_the_names_and_shapes_of_an_autoencoder_stay_as_files_have_them() -> None:
    names = {name: tuple(p.shape) for name, p in VAEConfig().build().state_dict().items()}
    assert len(names) == 44
    assert names["encoder.enter.weight"] == (64, 12, 3, 3)
    assert names["encoder.levels.1.1.second.bias"] == (128,)
    assert names["encoder.leave.weight"] == (8, 128, 3, 3)
    assert names["decoder.grow.0.weight"] == (64, 128, 1, 1)
    assert names["decoder.leave.bias"] == (12,)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"widths": ()}, "widths"),
        ({"latent_channels": 0}, "latent_channels"),
        ({"shift": (0.0,)}, "shift"),
        ({"scale": (0.0,) * 4}, "scale"),
        ({"kl": -1.0}, "kl"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        VAEConfig(**changes)  # type: ignore[arg-type]
    assert field in str(error.value.field) or field in error.value.message


@pytest.mark.parametrize("levels", [(), (1.0, 1.0), (1.0, 2.0), (0.001,)])
def test_levels_of_a_decoder_fall(levels: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="levels"):
        ConsistencyConfig(levels=levels)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8), (3, 8, 8, 8)])
def test_data_of_another_kind_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(IncompatibleError) as error:
        built("vae").shape(shape)
    assert error.value.field == "codec"


# -- precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_float16_is_refused_whichever_way_it_comes(kind: str) -> None:
    codec, z = built(kind), Rng.of(0, 1).normal((1, 4, 2, 2))
    with pytest.raises(ConfigError, match="float16"):
        codec.dtype = torch.float16
    exact = codec.decode(z)
    with torch.autocast("cpu", torch.float16):  # whoever is around it
        assert torch.equal(codec.decode(z), exact)
    assert torch.equal(codec.decode(z.half().float()), codec.decode(z.half()))
    with pytest.raises(ConfigError, match="float16"):
        built(kind).half().decode(z)


@pytest.mark.parametrize("kind", CONFIGS)
def test_bfloat16_is_near_float32_and_its_results_are_float32(kind: str) -> None:
    codec = built(kind, stored="numbers")
    z = Rng.of(0, 2).normal((2, 4, 2, 2))
    exact = codec.decode(z)
    codec.dtype = torch.bfloat16
    assert codec.decode(z).dtype == codec.encode(exact).dtype == torch.float32
    assert (codec.decode(z) - exact).abs().mean().item() < 0.05 * exact.abs().mean().item()


# -- what is not finite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_an_error_and_no_black_picture(kind: str, bad: float) -> None:
    codec, z = built(kind), torch.zeros(2, 4, 2, 2)
    z[1, 0, 0, 0] = bad
    with pytest.raises(NumericError, match="the latents it was given are not"):
        codec.decode(z)
    with torch.no_grad():
        next(p for p in codec.decoder.parameters() if p.ndim == 1).fill_(bad)
    with pytest.raises(NumericError, match="not finite"):
        codec.decode(torch.zeros(1, 4, 2, 2))


def test_a_model_whose_decoder_fails_writes_no_picture(tmp_path: Path) -> None:
    pipe = latent_model()
    assert pipe.sample(n=1, steps=1).images.shape == (1, 8, 8, 1)
    assert isinstance(pipe.codec, Latent)
    with torch.no_grad():
        pipe.codec.decoder.leave.bias.fill_(torch.nan)
    path = tmp_path / "x.png"
    with pytest.raises(NumericError):
        pipe.sample(n=1, steps=1).save(path)
    assert not path.exists()


# -- files -------------------------------------------------------------------------------------------------


def latent_model() -> Pipeline:
    """A model in the latent space of a small autoencoder, which its own file holds."""
    config = VAEConfig(widths=(8, 16), blocks=1, data_channels=1)
    pipe = pipeline(
        (), codec=config, shape=(4, 2, 2), data_shape=(1, 8, 8), network=UNetConfig(widths=(8,), unshuffle=1)
    )
    return pipe


def test_a_models_file_holds_its_codec_and_no_critic(tmp_path: Path) -> None:
    pipe = latent_model()
    again = Pipeline.load(pipe.save(tmp_path / "m.safetensors"))
    assert np.array_equal(again.sample(n=2, steps=2).images, pipe.sample(n=2, steps=2).images)
    settings = {"schedule": pipe.config.schedule, "parameterization": pipe.config.parameterization}
    network = VAEConfig(widths=(8,), blocks=1, data_channels=1)
    own = ModelConfig(network=network, codec=pipe.config.codec, sigma_data=0.5, shape=(1, 8, 8), **settings)
    module = own.build()
    assert isinstance(module, Latent)
    module.critic = Reconstruction(adversarial=1).critic(2, 1)
    path = Pipeline(own, module).save(tmp_path / "a.safetensors")
    assert not any("critic" in name for name in load_tensors(path))
    assert isinstance(Pipeline.load(path).module, Latent)


def test_other_decoders_are_taken_for_the_same_latents_alone() -> None:
    codec = built("vae", shift=(1.0,) * 4, scale=(1.0,) * 4)
    decoder = ConsistencyConfig(denoiser=UNetConfig(widths=(8, 16))).after(codec).build()
    assert not codec.shares_latents(decoder)
    decoder.adopt(codec)
    assert codec.shares_latents(decoder)
    assert torch.equal(codec.encode(torch.zeros(1, 3, 8, 8)), decoder.encode(torch.zeros(1, 3, 8, 8)))
    assert not replace(codec.config, shift=(0.0,) * 4).build().shares_latents(decoder)
    assert not built("vq").shares_latents(codec)


# -- objectives --------------------------------------------------------------------------------------------


def test_an_objective_for_codecs_refuses_other_networks() -> None:
    module = pipeline().module
    for wrong in (Reconstruction(), Consistency()):
        with pytest.raises(IncompatibleError):
            wrong.loss(module, Batch(torch.zeros(1, 1, 8, 8)), Rng.of(0, 1))  # type: ignore[arg-type]
    with pytest.raises((IncompatibleError, AttributeError)):
        Denoising().loss(built("vae"), Batch(torch.zeros(1, 3, 8, 8)), Rng.of(0, 1))  # type: ignore[arg-type]
    assert MLPConfig()  # what has no axes has no codec either


@pytest.mark.parametrize("field", ["features", "adversarial"])
def test_what_an_objective_needs_and_was_not_given_is_named(field: str) -> None:
    asked = Reconstruction(critic_from=0, **{field: 1.0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as error:
        asked.loss(built("vae").train(), Batch(torch.zeros(1, 3, 8, 8)), Rng.of(0, 1))
    assert error.value.field == f"objective.{field}"


# -- numbers -----------------------------------------------------------------------------------------------


def test_fidelity_of_what_is_unchanged_and_of_what_is_known_to_be_off() -> None:
    x = np.random.default_rng(0).integers(0, 200, (40, 6, 5, 1)).astype(np.uint8)
    same = {n.name: n for n in fidelity(x, x, Raw()).numbers}
    assert same["psnr"].value == 100
    assert same["ssim"].value == pytest.approx(1)
    assert same["rfid"].value == pytest.approx(0, abs=1e-6)
    off = {n.name: n for n in fidelity(x, x + 10, Raw()).numbers}
    assert off["psnr"].value == pytest.approx(20 * np.log10(25.5))
    assert off["rfid"].value == pytest.approx(
        30 * (10 / 127.5) ** 2, rel=1e-3
    )  # the means of 30 values moved
    assert off["psnr"].n == off["rfid"].against == 40
    near, alike = similarities(x, x + 10)
    assert near.shape == alike.shape == (40,)
    one = fidelity(x[:1], x[:1], Raw())
    assert [n.name for n in one.numbers] == ["psnr", "ssim"]


def test_the_law_of_latents_that_are_normal_and_of_some_that_are_not() -> None:
    z = np.random.default_rng(0).normal(size=(2000, 2, 4, 4)).astype(np.float32)
    found = latent_law(z, {"ratio": 12.0})
    numbers = {n.name: n.value for n in found.numbers}
    assert numbers["ratio"] == 12
    assert numbers["apart"] == pytest.approx(0, abs=1e-3)
    assert numbers["tails"] == pytest.approx(6.3e-5, abs=6e-5)
    assert numbers["correlation"] == pytest.approx(0, abs=0.02)
    x, y = found.curves["channel 0"]
    assert np.allclose(y, found.curves["N(0, 1)"][1], atol=0.02)
    assert sum(y) * (x[1] - x[0]) == pytest.approx(1, abs=1e-3)
    z[:, 1] = 2 * z[:, 0] + 1
    moved = {n.name: n.value for n in latent_law(z, {}).numbers}
    assert moved["correlation"] == pytest.approx(1)
    assert moved["apart"] == pytest.approx((1 + 4 - 1 - np.log(4)) / 4, rel=0.03)
    z[:, 1] = 0
    assert "channel 1 of the latents is nearly constant" in latent_law(z, {}).words[0]
