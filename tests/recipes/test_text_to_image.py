"""From captions to pictures: an autoencoder, a model in its latent space that reads, prompts, one file of it all."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import unstir
from unstir import config
from unstir.addresses import SHIPPED
from unstir.cli import main
from unstir.cli.sample import read_prompts
from unstir.command import remake
from unstir.data import Loader, open_data
from unstir.data.latents import encoded
from unstir.embedders import Patches, PromptConfig, TransformerConfig
from unstir.errors import CheckpointError, ConfigError, DataError, IncompatibleError
from unstir.modalities.image import read_recipe, to_grid
from unstir.networks import MMDiTConfig, UNetConfig
from unstir.parameterization import Eps, Velocity
from unstir.process import BetaLinear, Linear
from unstir.recipes import Recipe, resolve
from unstir.recipes.base import Data
from unstir.tune import _prompts

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220)}
CODEC = "network=vae widths=8,16 blocks=1"
READER = (
    "network=unet widths=32,32 unshuffle=1 attention=1 network.embedding=16 text=transformer:width=16,depth=1"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 squares of three colours, with captions."""
    path = tmp_path_factory.mktemp("squares")
    lines = []
    for k in range(24):
        word, colour = list(COLOURS.items())[k % 3]
        picture = np.full((16, 16, 3), 255, np.uint8)
        picture[4 + k % 4 : 12, 4:12] = colour
        Image.fromarray(picture).save(path / f"{k}.png")
        text = [f"a {word} square", word]
        lines.append(json.dumps({"file_name": f"{k}.png", "text": text, "weight": [3, 1]}))
    (path / "captions.jsonl").write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def codec(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("codec") / "codec"
    assert (
        main(
            [
                "train",
                str(folder),
                "task=autoencoder",
                *CODEC.split(),
                "steps=4",
                "batch=8",
                f"out={out}",
                "-q",
            ]
        )
        == 0
    )
    return out


@pytest.fixture(scope="module")
def run(folder: Path, codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reader") / "reader"
    assert tiny.train(folder, out, f"codec={codec}", *READER.split(), "steps=6", "small_data=off") == 0
    return out


# -- training ----------------------------------------------------------------------------------------------
def test_a_model_of_captions_reads_and_works_on_latents(run: Path) -> None:
    pipe = unstir.load(run)
    assert pipe.config.shape == (4, 4, 4)
    assert pipe.config.size == (3, 16, 16)
    assert pipe.config.prompt is not None
    assert pipe.config.classes == ()
    assert pipe.config.codec.shift  # type: ignore[union-attr]
    assert pipe.config.defaults.guidance == 3.0


def test_resuming_is_as_if_it_had_never_stopped(folder: Path, codec: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "resumed"
    words = [f"codec={codec}", *READER.split(), "small_data=off"]
    assert tiny.train(folder, out, *words, "steps=3") == 0
    assert tiny.resume(out, "steps=6") == 0
    # the rate was planned for three steps at first, so the weights differ from `run`; a twin must not
    twin = tmp_path / "twin"
    assert tiny.train(folder, twin, *words, "steps=3") == 0
    assert tiny.resume(twin, "steps=6") == 0
    assert tiny.tensors(out) == tiny.tensors(twin)


@pytest.mark.parametrize("fate", ["gone", "trained on"])
def test_a_run_goes_on_with_the_codec_it_began_with(
    folder: Path, codec: Path, tmp_path: Path, fate: str
) -> None:
    own = tmp_path / "codec"
    shutil.copytree(codec, own, symlinks=True)
    out = tmp_path / "run"
    assert tiny.train(folder, out, f"codec={own}", *READER.split(), "small_data=off", "steps=3") == 0
    before = unstir.load(out).codec.state_dict()
    if fate == "gone":
        shutil.rmtree(own)
    else:
        assert tiny.resume(own, "steps=6") == 0
        assert not torch.equal(
            unstir.load(own).module.state_dict()["decoder.leave.weight"], before["decoder.leave.weight"]
        )
    assert tiny.resume(out, "steps=5") == 0
    after = unstir.load(out).codec.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before.items())


def test_its_file_alone_draws(run: Path, codec: Path, tmp_path: Path) -> None:
    pipe = unstir.load(run)
    path = pipe.save(tmp_path / "whole.safetensors")
    moved = codec.with_name("moved")
    shutil.move(codec, moved)
    try:
        drawn = unstir.load(path).sample(n=2, prompt="a red square", steps=2)
    finally:
        shutil.move(moved, codec)
    assert np.array_equal(drawn.images, pipe.sample(n=2, prompt="a red square", steps=2).images)


def test_half_precision_is_half_the_size_and_draws_nearly_the_same(run: Path, tmp_path: Path) -> None:
    pipe = unstir.load(run)
    whole, half = pipe.save(tmp_path / "a.safetensors"), pipe.save(tmp_path / "b.safetensors", half=True)
    weights = sum(p.numel() for p in [*pipe.module.parameters(), *pipe.codec.parameters()])
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(2 * weights, rel=0.01)
    a, b = (unstir.load(path).sample(n=4, prompt="red", steps=3).images.astype(int) for path in (whole, half))
    assert np.abs(a - b).max() <= 3


def test_mirrored_pictures_are_encoded_and_latents_not_mirrored(
    folder: Path, codec: Path, tmp_path: Path
) -> None:
    pipe = unstir.load(codec)
    data, _ = open_data(folder, heldout=0)
    latents = encoded(data, pipe.autoencoder.encode, pipe.digest, flip=True, cache=tmp_path)
    assert latents.info.shape == (4, 4, 4)
    assert latents.texts == data.texts
    rows = np.arange(6)
    x, _ = data.take(rows, np.ones(6, bool))
    z, _ = latents.take(rows, np.ones(6, bool))
    assert np.allclose(z.numpy(), pipe.autoencoder.encode(x).detach().numpy(), atol=1e-5)
    again = encoded(data, lambda _: pytest.fail("encoded twice"), pipe.digest, flip=True, cache=tmp_path)
    pairs = [(Loader(d, 3, 8, flip=True).batch(5)[0].numpy()) for d in (latents, again)]
    assert np.array_equal(*pairs)


def test_captions_can_be_left_unread(folder: Path) -> None:
    data, _ = open_data(folder, heldout=0)
    recipe = Recipe(data=Data(source=str(folder), captions=False))
    assert resolve(recipe, data, torch.device("cpu")).text == ()


@pytest.mark.parametrize(("system", "network", "parameterization", "schedule"), [
    ("stable-diffusion", UNetConfig, Eps, BetaLinear),
    ("stable-diffusion-3", MMDiTConfig, Velocity, Linear),
])  # fmt: skip
def test_a_system_is_a_word(
    folder: Path, codec: Path, system: Any, network: type, parameterization: type, schedule: type
) -> None:
    pipe, (data, _) = unstir.load(codec), open_data(folder, heldout=0)
    latents = encoded(data, pipe.autoencoder.encode, pipe.digest)
    recipe = Recipe(data=Data(source=str(folder)), codec=str(codec), system=system)
    found = resolve(recipe, latents, torch.device("cpu"))
    assert isinstance(found.network, network)
    assert isinstance(found.parameterization, parameterization)
    assert isinstance(found.schedule, schedule)
    assert found.sampling.guidance == 5.0
    given = resolve(replace(recipe, network=UNetConfig(attention=1)), latents, torch.device("cpu"))
    assert given.network == UNetConfig(attention=1)  # what is given counts most


# -- prompts -----------------------------------------------------------------------------------------------
def test_a_sample_depends_on_its_prompt_and_seed_alone(run: Path) -> None:
    pipe = unstir.load(run)
    texts = ["a red square", "blue", "a rather long text about a green square and a red one"]
    together = pipe.sample(n=3, prompt=texts, seed=5, steps=3)
    for k, text in enumerate(texts):
        alone = pipe.sample(n=1, prompt=text, seed=5 + k, steps=3)
        assert np.array_equal(alone.images[0], together.images[k])
    assert together.prompts == texts
    assert together.labels is None


def test_no_prompt_an_empty_one_and_guidance_1_to_nothing_agree(run: Path) -> None:
    pipe = unstir.load(run)
    free, empty = (pipe.sample(n=2, prompt=prompt, steps=2, guidance=5.0) for prompt in (None, ""))
    assert np.array_equal(free.images, empty.images)
    # guidance away from the prompt itself is no guidance
    same = pipe.sample(n=2, prompt="red", negative="red", steps=2, guidance=5.0)
    plain = pipe.sample(n=2, prompt="red", steps=2, guidance=1.0)
    assert np.abs(same.images.astype(int) - plain.images.astype(int)).max() <= 1


def test_weights_of_one_change_nothing_and_others_do(run: Path) -> None:
    pipe = unstir.load(run)
    plain, one, more = (
        pipe.sample(n=1, prompt=prompt, steps=2, guidance=1.0).images
        for prompt in ("red square", "(red:1.0) square", "(red:9) square")
    )
    assert np.array_equal(plain, one)
    assert not np.array_equal(plain, more)


def test_what_models_are_not_told_is_refused(run: Path) -> None:
    reader, labelled = unstir.load(run), tiny.pipeline()
    with pytest.raises(IncompatibleError, match="reads prompts") as caught:
        reader.sample(n=1, label="red")
    assert caught.value.hint == 'say it in words: prompt="red"'
    with pytest.raises(IncompatibleError, match="without captions"):
        labelled.sample(n=1, prompt="red")
    with pytest.raises(ConfigError, match="2 prompts for n=3"):
        reader.sample(n=3, prompt=["a", "b"])
    with pytest.raises(ConfigError, match=r"0\.\.10|0 to 10"):
        reader.sample(n=1, prompt="(red:11)")


@pytest.mark.parametrize("kind", ["network", "codec", "captions"])
def test_what_does_not_go_together_is_refused_before_training(
    folder: Path, codec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words = {
        "network": [f"codec={codec}", "network=mlp"],
        "codec": ["system=stable-diffusion"],
        "captions": ["captions=yes"],
    }[kind]
    source = "digits" if kind == "captions" else str(folder)
    refused = main(["train", source, *words, "steps=1", f"out={tmp_path / 'x'}", "-q"])
    assert refused == (3 if kind == "captions" else 2)
    error = capsys.readouterr().err
    assert {"network": "mlp", "codec": "task=autoencoder", "captions": "has no captions"}[
        kind
    ] in error.lower()


def test_a_codec_is_no_generator_and_a_model_of_latents_lends_its_own(
    folder: Path, codec: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(codec), f"out={tmp_path / 'a.png'}"]) == 2
    assert f"unstir train DATA codec={codec}" in capsys.readouterr().err
    lent = tmp_path / "lent"
    assert tiny.train(folder, lent, f"codec={run}", *READER.split(), "steps=6", "small_data=off") == 0
    assert tiny.tensors(lent) == tiny.tensors(run)


def test_a_model_that_reads_makes_a_draft_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless a published system, few pictures, or parts of pictures leave no room for one."""

    def draft(**more: Any) -> int:
        data = open_data(str(folder), heldout=0)[0]
        recipe = Recipe(data=Data(source=str(folder)), **{"small_data": False} | more)
        network = resolve(recipe, data, torch.device("cpu")).network
        assert isinstance(network, UNetConfig)
        return network.draft

    assert draft() == 0  # there are few
    monkeypatch.setattr("unstir.recipes.text.FEW", 10)
    assert draft() > 0
    assert draft(small_data=True) == draft(patches=Patches()) == 0
    assert draft(system="stable-diffusion", codec="some") == 0
    out = tmp_path / "drafted"
    assert tiny.train(folder, out, *READER.split(), "network.draft=8", "steps=4", "small_data=off") == 0
    pipe = unstir.load(out)
    assert pipe.denoiser.network.draft is not None
    one = pipe.sample(n=1, prompt="red", seed=1, steps=2).images
    assert (pipe.sample(n=2, prompt=["blue", "red"], steps=2).images[1] == one[0]).all()
    assert pipe.sample(n=1, prompt="red", steps=2, size="24x12").images.shape == (1, 12, 24, 3)
    for words, why in (
        (["network=unet", "patches=patches"], "a draft is of a whole picture"),
        (["captions=no"], "this network is told none"),  # though small_data tells it of augmentation
        (["captions=no", "task=autoencoder"], "draft is no setting of VAE"),
    ):
        given = [*words, "network.draft=8", "steps=1", f"out={tmp_path / 'no'}", "-q"]
        assert main(["train", str(folder), *given]) == 2
        assert why in capsys.readouterr().err


# -- the command line --------------------------------------------------------------------------------------
def test_several_prompts_are_taken_in_turn_and_stand_under_their_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "two.png"
    assert (
        main(["sample", str(run), "prompt=red | a blue \\| square", "n=4", "steps=2", f"out={out}", "-q"])
        == 0
    )
    recipe = read_recipe(out)
    assert recipe["prompt"] == ["red", "a blue | square"] * 2
    plain = to_grid(np.zeros((4, 16, 16, 3), np.uint8))
    with Image.open(out) as sheet:
        assert sheet.height > plain.shape[0]
    words = remake(recipe)
    assert "n=4" not in words  # as many as there are prompts
    capsys.readouterr()
    again = tmp_path / "again.png"
    given = ["prompt=red | a blue \\| square | red | a blue \\| square", "steps=2", f"out={again}", "-q"]
    assert main(["sample", str(run), *given]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_one_prompt_is_one_picture_and_a_folder_has_its_own_recipes(run: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.png"
    assert main(["sample", str(run), "prompt=red", "steps=2", f"out={one}", "-q"]) == 0
    with Image.open(one) as picture:
        assert picture.size == (16, 16)
    assert main(["sample", str(run), "prompt=red | blue", "steps=2", f"out={tmp_path / 'many'}/", "-q"]) == 0
    recipes = [read_recipe(path) for path in sorted((tmp_path / "many").glob("*.png"))]
    assert [(r["prompt"], r["seed"], r["n"]) for r in recipes] == [("red", 0, 1), ("blue", 1, 1)]
    assert (tmp_path / "many/000000.png").read_bytes()[:8] == one.read_bytes()[:8]


def test_one_prompt_is_evaluated_at_a_time(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "prompt=red | blue", "n=16"]) == 2
    assert "prompt= names 2 prompts" in capsys.readouterr().err
    (tmp_path / "one.txt").write_text("red\n")
    assert main(["evaluate", str(run), f"prompt=@{tmp_path / 'one.txt'}", "n=16", "--dry-run", "--json"]) == 0
    assert '"red"' in capsys.readouterr().out


def test_who_reads_is_not_guided_by_who_does_not(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = tmp_path / "deaf"
    words = [f"codec={run}", "network=unet", "widths=16", "network.blocks=1", "unshuffle=1", "captions=no"]
    assert tiny.train(folder, deaf, *words, "steps=1") == 0
    for model, wanted in ((str(deaf), "and " + str(deaf)), ("nobody", "unconditional, attention, layers")):
        given = ["prompt=red", "guidance=2", f"weaker={model}", "n=1", "steps=1", f"out={tmp_path / 'x.png'}"]
        assert main(["sample", str(run), *given]) != 0
        assert wanted in capsys.readouterr().err


def test_a_model_that_reads_says_so_where_it_is_told_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in (([], True), (["prompt=red"], False)):
        assert main(["sample", str(run), *words, "n=1", "steps=1", f"out={tmp_path / 'x.png'}"]) == 0
        assert ("reads prompts and was given none" in capsys.readouterr().err) == told


def test_prompts_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("red heart\n\n  a | b  \n", encoding="utf-8-sig")
    assert read_prompts(f"@{path}") == ["red heart", "a | b"]
    assert read_prompts(None) == []
    assert read_prompts("") == [""]
    path.write_text("\n")
    for broken in (f"@{path}", f"@{tmp_path / 'none.txt'}"):
        with pytest.raises(DataError, match="prompts"):
            read_prompts(broken)


def test_words_under_pictures_are_wrapped_and_never_wider() -> None:
    images = np.zeros((3, 16, 16, 3), np.uint8)
    texts = ["a", "a long caption that takes several lines to say", "x" * 60]
    sheet = to_grid(images, columns=3, captions=texts)
    assert sheet.shape[1] == to_grid(np.zeros((3, 96, 96, 3), np.uint8), columns=3).shape[1]
    assert sheet.shape[0] > 96
    assert to_grid(images[:1], captions=texts[:1]).shape == (16, 16, 3)  # the bare picture of one


# -- the model in the package ------------------------------------------------------------------------------
def test_a_run_of_the_same_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    monkeypatch.setattr("unstir.addresses.SHIPPED", tmp_path)
    unstir.load(run).save(tmp_path / "poet.safetensors", half=True)
    monkeypatch.chdir(tmp_path)
    assert unstir.load("poet").sample(n=1, prompt="red", steps=1).images.shape == (1, 16, 16, 3)
    (tmp_path / "runs/poet").mkdir(parents=True)
    (tmp_path / "runs/poet/config.yaml").write_text("")
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        unstir.load("poet")
    with pytest.raises(CheckpointError, match="there is no model 'poe'") as caught:
        unstir.load("poe")
    assert "poet" in str(caught.value.hint)


@pytest.mark.skipif(not (SHIPPED / "emoji.safetensors").is_file(), reason="the model is not in this tree")
def test_the_shipped_model_draws_what_it_is_asked_for() -> None:
    path = SHIPPED / "emoji.safetensors"
    assert path.stat().st_size <= 25e6
    red, blue = (
        unstir.load("emoji").sample(n=2, prompt=["red heart", "blue heart"], seed=1).images.astype(int)
    )
    inside = (slice(20, 40), slice(24, 40))
    assert red[inside][..., 0].mean() > red[inside][..., 2].mean() + 60
    assert blue[inside][..., 2].mean() > blue[inside][..., 0].mean() + 60


def test_the_small_preset_suits_captions_too(capsys: pytest.CaptureFixture[str]) -> None:
    """It leaves open what captions need: attention."""
    code = main(["train", "emoji", "preset=cpu-small", "size=16", "steps=1", "--dry-run", "--json"])
    network = json.loads(capsys.readouterr().out)["recipe"]["network"]
    assert code == 0
    assert network["widths"] == [48, 96]
    assert network["attention"] > 0


def test_prompt_settings_are_in_the_schema() -> None:
    known = config.paths("train")
    assert {"text", "codec", "system", "data.captions"} <= known.keys()
    assert "prompt" in config.paths("sample")
    learned = PromptConfig(encoders=(TransformerConfig(width=16, heads=4),)).learned(
        ["red red red", "blue blue"]
    )
    assert learned.merges


# -- what cannot be meant -----------------------------------------------------------------------------------
@pytest.mark.parametrize("prompt", ["none", "@home", ["@home", "b"], ["a|b", "none"], "a \\| b"])
def test_the_remade_command_says_the_same_prompts(run: Path, prompt: str | list[str]) -> None:
    n = len(prompt) if isinstance(prompt, list) else 1
    samples = unstir.load(run).sample(n=n, prompt=prompt, steps=1)
    words = shlex.split(remake(samples.recipe))
    given = next(word for word in words if word.startswith("prompt="))
    layer = config.Layer("command line", config.parse_pairs([given]))
    again = read_prompts(config.build("sample", config.settings("sample", [layer]).values).prompt)
    assert again == (prompt if isinstance(prompt, list) else [prompt])


def test_bytes_that_are_no_text_do_not_lose_the_result(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    given = ["prompt=\udcff red", "negative=\udcff", "n=1", "steps=1", f"out={out}", "-q"]
    assert main(["sample", str(run), *given]) == 0
    assert read_recipe(out)["prompt"] == "? red"


@pytest.mark.parametrize(
    "wrong", ["prompt=(red:11)", "negative=(red:11)", "label=red", "negative=red guidance=1"]
)
def test_a_dry_run_refuses_what_sampling_would(
    run: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [main(["sample", str(run), *wrong.split(), "steps=1", *dry]) for dry in ([], ["--dry-run"])]
    assert codes == [2, 2]
    capsys.readouterr()


def test_an_autoencoder_that_is_asked_to_draw_says_what_it_is(codec: Path) -> None:
    with pytest.raises(IncompatibleError, match="is an autoencoder"):
        unstir.load(codec).sample(n=1, prompt="red")


def test_readers_without_anything_to_read_are_refused(folder: Path) -> None:
    data = open_data(folder, heldout=0)[0]
    given = Recipe(data=Data(source=str(folder)), text=(TransformerConfig(),))
    with pytest.raises(ConfigError, match="captions=false leaves nothing to read"):
        resolve(replace(given, data=replace(given.data, captions=False)), data, torch.device("cpu"))
    with pytest.raises(ConfigError, match="task=autoencoder reads no captions"):
        resolve(replace(given, task="autoencoder"), data, torch.device("cpu"))
    with pytest.raises(ConfigError, match="names nothing that reads"):
        resolve(replace(given, text=(), data=replace(given.data, captions=True)), data, torch.device("cpu"))
    with pytest.raises(DataError, match="digits has no captions"):
        resolve(given, open_data("digits", heldout=0)[0], torch.device("cpu"))
    assert resolve(replace(given, text=()), data, torch.device("cpu")).text == ()


@pytest.mark.parametrize(
    "wrong",
    [{"prompt": 5}, {"prompt": [5, "a"]}, {"prompt": {"a": 1}}, {"prompt": "a", "negative": ["b", "c"]}],
)
def test_what_is_no_text_is_named(run: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"is (5|\[|\{)") as caught:
        unstir.load(run).sample(n=2, steps=1, **wrong)
    assert caught.value.hint


def test_prompts_that_are_not_drawn_are_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(run), "prompt=a | b | c", "n=2", "steps=1", f"out={tmp_path / 'a.png'}"]) == 0
    assert "first 2 prompts; 1 more" in capsys.readouterr().err


def test_tuning_takes_captions_of_data_of_which_much_is_bad(run: Path, folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    with (broken / "captions.jsonl").open("a") as file:
        file.write("\n{" * 9)
    pipe = unstir.load(run)
    pipe.config = replace(pipe.config, source=str(broken))
    assert len(_prompts(pipe, None, 3, 0) or ()) == 3
