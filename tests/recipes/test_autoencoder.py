"""Autoencoders from the first line to models in their space: training, judging, decoding otherwise, faults."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unstir
from tiny import outcome, records, resume, tensors
from unstir import runs
from unstir.cli import main
from unstir.codecs import VAE, VQVAE, Consistency
from unstir.data import open_data, spread
from unstir.data.latents import encoded
from unstir.evaluate.trained import trained
from unstir.model import find_model
from unstir.pipeline import load
from unstir.tensors import load_tensors

EVERY = "preview_every=4 heldout_every=4 checkpoint_every=4"
SMALL = f"network.widths=8,16 network.blocks=1 batch=8 threads=1 steps=8 {EVERY}"
DECODER = "network.denoiser=unet network.denoiser.widths=8,16 network.denoiser.unshuffle=1"
LATENT = "network=unet widths=8 network.blocks=1 network.attention=0 network.unshuffle=1 sampling.steps=2"


def run(task: str, out: Path, *more: str, source: str = "digits", say: str = "-q") -> int:
    """The exit code of `unstir train SOURCE task=TASK`, small."""
    own = {"autoencoder": "", "decoder": DECODER, "generate": LATENT}[task].split()
    words = [w for w in SMALL.split() if task == "autoencoder" or not w.startswith("network.")]
    keys = {word.partition("=")[0] for word in more}
    words = [w for w in [*words, *own] if w.partition("=")[0] not in keys]
    return main(["train", source, f"task={task}", *words, *more, f"out={out}", *filter(None, [say])])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder of digits."""
    out = tmp_path_factory.mktemp("plain") / "run"
    assert run("autoencoder", out) == 0
    return out


@pytest.fixture(scope="module")
def latent(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in its space, from a copy of it that is gone by now."""
    folder = tmp_path_factory.mktemp("latent")
    shutil.copytree(plain, folder / "codec", symlinks=True)
    assert run("generate", folder / "run", f"codec={folder / 'codec'}") == 0
    shutil.rmtree(folder / "codec")
    return folder / "run"


@pytest.fixture(scope="module")
def decoder(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("decoder") / "run"
    assert run("decoder", out, f"codec={plain}") == 0
    return out


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder whose training is short."""
    monkeypatch.setattr(
        runs, "encoder_for", lambda _, a, b, say: partial(trained, samples=256)(a, b, say=say)
    )


# -- a run -------------------------------------------------------------------------------------------------


def test_a_run_measures_its_latents_and_how_near_it_comes(plain: Path) -> None:
    pipe = load(plain)
    codec = pipe.autoencoder
    assert isinstance(codec, VAE)
    train_set, _ = open_data("digits")
    x = train_set.take(spread(len(train_set), 1000))[0]  # what it was measured on
    with torch.no_grad():
        z = codec.encode(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(4), atol=0.02, rtol=0)
    logged = [r for r in records(plain) if "psnr" in r]
    assert [r["step"] for r in logged] == [4, 8]
    assert all(0 < r["ssim"] < 1 for r in logged)
    assert {p.name for p in (plain / "samples").iterdir()} == {"step-000004.png", "step-000008.png"}


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_with_a_critic_and_features_it_goes_on_bit_for_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly(monkeypatch)
    whole = tmp_path / "a" / "run"
    more = [
        "adversarial=0.5",
        "critic_from=24",
        "critic_width=4",
        "objective.features=0.1",
        f"network={kind}",
    ]
    assert run("autoencoder", whole, *more, *(["codes=8"] if kind == "vqvae" else [])) == 0
    again = tmp_path / "b" / "run"
    shutil.copytree(whole, again, symlinks=True)
    for name in ("last", "best"):
        (again / "checkpoints" / name).unlink()
    shutil.rmtree(again / "checkpoints/step-8")
    (again / "samples/step-000008.png").unlink()
    assert resume(again) == 0
    assert outcome(again) == outcome(whole)
    state = {name for name in tensors(whole) if "critic" in name}
    assert any(name.startswith("weights.critic") for name in state)
    assert any(name.startswith("ema.0.critic") for name in state)
    assert not any(name.startswith("model.") for name in state)
    assert not any("maps" in name for name in tensors(whole))
    assert isinstance(load(whole).module, VQVAE if kind == "vqvae" else VAE)
    assert main(["inspect", f"{whole}@ema:0.03"]) == 0  # averages leave the critic out as well


def test_it_says_what_it_is_for(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("autoencoder", tmp_path / "run", say="") == 0
    err = capsys.readouterr().err
    for word in ("4 x 2 x 2, 4.0 times fewer values", "PSNR", "unstir train DATA codec="):
        assert word in err
    assert main(["inspect", str(plain), "--json"]) == 0
    words = json.loads(capsys.readouterr().out)
    assert (words["latents"], words["ratio"]) == ([4, 2, 2], 4.0)
    assert words["psnr"] == pytest.approx(records(plain)[-1]["psnr"], abs=1e-3)
    assert len(words["scale"]) == 4
    assert main(["sample", str(plain)]) == 2
    assert "is an autoencoder and generates nothing by itself" in capsys.readouterr().err


@pytest.mark.parametrize("side", [9, 10])
def test_sizes_that_blocks_do_not_divide_and_tiny_data(side: int, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(6):
        pixels = np.random.default_rng(k).integers(0, 255, (side, side, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    out = tmp_path / "run"
    assert run("autoencoder", out, "batch=2", "steps=2", source=str(folder)) == 0
    assert run("generate", tmp_path / "g", f"codec={out}", "steps=2", "batch=2", source=str(folder)) == 0
    assert unstir.load(tmp_path / "g").sample(n=2, steps=2).images.shape == (2, side, side, 3)


def test_a_decoder_that_is_not_finite_draws_no_preview_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(VAE, "decoded", lambda self, z: torch.full((len(z), 1, 8, 8), torch.nan) * z.sum())
    out = tmp_path / "run"
    assert run("autoencoder", out, "steps=4") == 0
    assert "no preview at step 4" in caplog.text
    assert not list((out / "samples").glob("*.png")) if (out / "samples").exists() else True


# -- judged ------------------------------------------------------------------------------------------------


def test_evaluate_says_how_near_it_comes_and_what_latents_are_like(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(plain, tmp_path / "run", symlinks=True)
    assert main(["evaluate", str(copy), "features=pixels", "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    numbers = {n["name"]: n for n in found["numbers"]}
    assert numbers.keys() >= {"psnr", "ssim", "rfid", "kl", "ratio", "apart", "tails", "correlation"}
    assert numbers["psnr"]["value"] == pytest.approx(records(plain)[-1]["psnr"], abs=0.1)
    assert numbers["psnr"]["n"] == 174
    page = (copy / "report.html").read_text()
    for word in ("Decoded while it trained", "Fidelity", "Latents", "N(0, 1)"):
        assert word in page
    for word in ("metrics=fid", "label=1", "sweep=steps", "steps=3"):
        assert main(["evaluate", str(copy), word]) == 2
        assert "is an autoencoder" in capsys.readouterr().err
    assert main(["evaluate", str(copy), "--dry-run"]) == 0
    assert "Fidelity, Latents" in capsys.readouterr().out


def test_of_a_book_it_says_how_much_is_used(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("autoencoder", out, "network=vqvae", "codes=8") == 0
    numbers = unstir.assess(out, features="pixels").numbers
    assert numbers["codes"].value == 8
    assert 1 <= numbers["perplexity"].value <= 8
    assert "kl" not in numbers


# -- another decoder ---------------------------------------------------------------------------------------


def test_a_decoder_learns_while_its_encoder_stays(plain: Path, decoder: Path) -> None:
    own, other = load(plain), load(decoder)
    assert isinstance(other.module, Consistency)
    assert own.autoencoder.shares_latents(other.autoencoder)
    fresh = other.config.build()
    assert any(
        not torch.equal(a, b)
        for a, b in zip(fresh.decoder.parameters(), other.module.decoder.parameters(), strict=True)
    )
    again = shutil.copytree(decoder, decoder.parent / "again" / "run", symlinks=True)
    shutil.rmtree(again / "checkpoints/step-8")
    for name in ("last", "best"):
        (again / "checkpoints" / name).unlink()
    (again / "samples/step-000008.png").unlink()
    assert resume(again) == 0
    assert outcome(again) == outcome(decoder)


def test_it_decodes_the_latents_of_a_model_that_was_trained_before(
    latent: Path, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    assert main(["sample", str(latent), "n=2", f"out={a}"]) == 0
    assert main(["sample", str(latent), "n=2", f"decoder={decoder}", f"out={b}"]) == 0
    assert a.read_bytes() != b.read_bytes()
    capsys.readouterr()
    assert main(["inspect", str(b)]) == 0
    assert f"decoder={decoder}" in capsys.readouterr().out
    for wrong, why in ((latent, "is no decoder"), (decoder, "")):
        code = main(["sample", str(latent), "n=1", f"decoder={wrong}", f"out={a}"])
        assert (code == 2) == bool(why)
        assert why in capsys.readouterr().err


def test_models_are_trained_in_the_space_of_a_decoder_as_well(decoder: Path, tmp_path: Path) -> None:
    assert run("generate", tmp_path / "run", f"codec={decoder}", "steps=2") == 0
    pipe = unstir.load(tmp_path / "run")
    assert isinstance(pipe.codec, Consistency)
    assert pipe.sample(n=2, steps=2).images.shape == (2, 8, 8, 1)


def test_a_decoder_of_other_latents_is_refused(
    latent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("autoencoder", tmp_path / "other", "seed=1") == 0
    assert main(["sample", str(latent), "n=1", f"decoder={tmp_path / 'other'}"]) == 2
    assert "latents of another autoencoder" in capsys.readouterr().err
    assert run("decoder", tmp_path / "d") == 2
    assert "codec=RUN" in capsys.readouterr().err


# -- codec=RUN ---------------------------------------------------------------------------------------------


def test_a_model_samples_when_its_autoencoder_is_gone(latent: Path, plain: Path) -> None:
    found = unstir.load(latent).sample(n=2, steps=2)
    assert found.images.shape == (2, 8, 8, 1)
    codec = {k for k in load_tensors(find_model(latent)) if k.startswith("codec.")}
    assert {k.removeprefix("codec.") for k in codec} == load(plain).module.state_dict().keys()


def test_what_is_no_autoencoder_of_this_data_is_refused(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = tmp_path / "pixels"
    assert run("generate", pixels) == 0
    cases = {
        f"codec={pixels}": "is no autoencoder",
        f"codec={tmp_path / 'nothing'}": "there is no model",
    }
    for word, why in cases.items():
        assert run("generate", tmp_path / "x", word) != 0
        assert why in capsys.readouterr().err
    assert run("generate", tmp_path / "y", f"codec={plain}", "channels=3") != 0
    assert "this autoencoder takes data of 1 channels" in capsys.readouterr().err
    assert run("autoencoder", tmp_path / "z", f"codec={plain}") != 0
    assert "does not go with codec" in capsys.readouterr().err
    assert run("autoencoder", tmp_path / "p", source="points:moons") != 0
    assert "too small to be encoded" in capsys.readouterr().err


def test_latents_are_encoded_once_and_again_where_the_cache_is_damaged(plain: Path, tmp_path: Path) -> None:
    pipe, (train_set, _) = load(plain), open_data("digits")
    said: list[str] = []

    @torch.no_grad()
    def encode(x: torch.Tensor) -> torch.Tensor:
        return pipe.autoencoder.encode(x)

    def again(digest: str = "a") -> np.ndarray:
        said.clear()
        return np.array(encoded(train_set, encode, digest, cache=tmp_path / "c", say=said.append).x)

    first = again()
    assert len(said) == 1
    assert np.array_equal(again(), first)
    assert not said
    for path in (tmp_path).rglob("*.npy"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    assert np.array_equal(again(), first)
    assert any("encode" in line for line in said)
    again("another codec")
    assert any("encode" in line for line in said)


def test_a_mirrored_picture_has_a_latent_of_its_own(plain: Path, tmp_path: Path) -> None:
    pipe, (train_set, _) = load(plain), open_data("digits")

    @torch.no_grad()
    def encode(x: torch.Tensor) -> torch.Tensor:
        return pipe.autoencoder.encode(x)

    both = encoded(train_set, encode, "a", flip=True, cache=tmp_path / "c")
    rows, flipped = np.arange(4), np.array([False, True, False, True])
    found, _ = both.take(rows, flipped)
    expected, turned = encode(train_set.take(rows)[0]), encode(train_set.take(rows)[0].flip(-1))
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], turned[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[1], expected[1].flip(-1), atol=1e-3)
