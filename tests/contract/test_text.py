"""Texts: split, weighted, encoded, hidden; each on its own, whatever its neighbours."""

from __future__ import annotations

import copy
import logging
import random
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from unstir import spec
from unstir.condition import Condition
from unstir.embedders import Prompt, PromptConfig, Tokenizer, TransformerConfig, learn
from unstir.embedders.tokenizer import normalise
from unstir.embedders.weighting import Weighted, escape, parse
from unstir.errors import ConfigError
from unstir.rng import Rng

CAPTIONS = (
    "a red heart",
    "Smiling face with sunglasses",
    "a blue heart, with a star!",
    "red star on a blue heart",
    "family 👨‍👩‍👧",
    "grüßendes Gesicht",
    "قلب أحمر",
)
STRANGE = (
    "",
    " \t\n",
    "\0",
    "x" * 10_000,
    "😀" * 2_500,
    "word " * 2_000,
    "שלום עולם, ‏(לב)",
    "👩🏽‍🚀🏳️‍🌈",
    "é" + "e\u0301" + "\u212b\u2126\u1e9e\u0130",
    "ΟΔΟΣ Σ",
    "=\u0338 \u037e \u1fef",
    "\u2000\u3000\x1c\x85",
    "ﬁ ｆｕｌｌ ① ½",
)
MERGES = learn(CAPTIONS, 400)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def build(*encoders: TransformerConfig, width: int = 24, training: bool = False) -> Prompt:
    """With weights everywhere, zeros of a fresh one included."""
    torch.manual_seed(0)
    prompt = PromptConfig(encoders or (small(),), width, MERGES).build()
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return prompt.train(training)


def small(**changes: object) -> TransformerConfig:
    return TransformerConfig(**{"width": 16, "depth": 2, "heads": 2, "length": 12} | changes)


def same(one: Condition, other: Condition) -> bool:
    pairs = ((one.vector, other.vector), (one.tokens, other.tokens), (one.mask, other.mask))
    return all(torch.equal(a, b) for a, b in pairs)


# -- tokens ------------------------------------------------------------------------------------------------
@given(TEXTS)
@settings(max_examples=300)
def test_any_text_comes_back(text: str) -> None:
    for tokenizer in (Tokenizer(), Tokenizer(MERGES)):
        assert tokenizer.decode(tokenizer.encode(text)) == normalise(text)
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize("text", STRANGE, ids=lambda text: ascii(text[:8]))
def test_strange_texts_come_back(text: str) -> None:
    tokenizer = Tokenizer(MERGES)
    assert tokenizer.decode(tokenizer.encode(text)) == normalise(text)
    pieces = list(tokenizer.pieces(text))
    assert [piece.start for piece in pieces] == sorted(piece.start for piece in pieces)
    assert all(0 <= piece.start < piece.end <= len(text) for piece in pieces)


def test_half_a_surrogate_is_a_question_mark() -> None:
    assert Tokenizer(MERGES).decode(Tokenizer(MERGES).encode("a\ud83d")) == "a?"
    assert torch.equal(build()(["a\ud83d"]).vector, build()(["a?"]).vector)


def test_case_space_and_composition_do_not_matter() -> None:
    tokenizer = Tokenizer(MERGES)
    assert tokenizer.encode(" A  Red\nHEART ") == tokenizer.encode("a red heart")
    assert tokenizer.encode("Cafe\u0301") == tokenizer.encode("CAFÉ")


def test_a_word_is_the_same_wherever_it_stands() -> None:
    tokenizer = Tokenizer(MERGES)
    heart = tokenizer.encode("heart")
    assert len(heart) == 1
    for text in ("heart red", "red heart", "red heart, blue", "RED HEART!"):
        assert heart[0] in tokenizer.encode(text)


def test_unseen_bytes_have_tokens_and_all_of_them_are_texts() -> None:
    tokenizer = Tokenizer(MERGES)
    assert tokenizer.encode("z") == [ord(" "), ord("z")]
    assert "�" in tokenizer.decode([0xFF])
    assert len(tokenizer) == 256 + len(MERGES)


def test_the_most_frequent_pair_is_joined_first() -> None:
    assert learn(["ab ab cab"], 257) == ("a b",)
    assert learn(["ab ab cab"], 258) == ("a b", "Ġ ab")
    assert learn(["ab cd", "cd ab"], 257) == ("Ġ a",)  # of equals the first by its bytes
    assert learn(["abc"], 999) == ()  # nothing comes twice
    assert learn([], 999) == learn(["anything anything"], 256) == ()


def test_merges_do_not_depend_on_the_order_of_captions() -> None:
    assert {learn(order, 300) for order in permutations(CAPTIONS[:4])} == {learn(CAPTIONS[:4], 300)}


def test_counts_kept_up_to_date_are_the_counts() -> None:
    """Against the definition: all pairs counted anew before each merge."""
    r = random.Random(0)
    texts = ["".join(r.choices("aabbc ", k=30)) for _ in range(20)]
    words = [[bytes([b]) for b in (" " + word).encode()] for text in texts for word in text.split()]
    merges: list[str] = []
    while len(merges) < 60:
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < 2:
            break
        merges.append(" ".join(part.decode().replace(" ", "Ġ") for part in best))
        words = [joined(word, best) for word in words]
    assert len(merges) > 20
    assert learn(texts, 10_000)[: len(merges)] == tuple(merges)


def joined(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    out: list[bytes] = []
    for token in word:
        if out and (out[-1], token) == pair:
            out[-1] += token
        else:
            out.append(token)
    return out


def test_ten_thousand_captions_are_learned_from_in_seconds() -> None:
    r = random.Random(0)
    words = ["".join(r.choices("etaoinshrdlu", range(12, 0, -1), k=r.randint(2, 9))) for _ in range(3000)]
    texts = [" ".join(r.choices(words, k=6)) for _ in range(10_000)]
    begun = time.process_time()
    merges = learn(texts, 2048)
    assert time.process_time() - begun < 10
    assert len(merges) == 2048 - 256
    tokenizer = Tokenizer(merges)
    assert sum(len(tokenizer.encode(text)) for text in texts) < 0.6 * sum(len(text) for text in texts)


@pytest.mark.parametrize("merge", ["ab", "a  b", "xy z", " a", "a b c", "", "日 本"])
def test_a_merge_of_nothing_is_refused(merge: str) -> None:
    with pytest.raises(ConfigError, match="joins no two tokens"):
        Tokenizer((merge,))


# -- weights -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("prompt", "text", "weights"),
    [
        ("a (red:1.5) b", "a red b", [1, 1, 1.5, 1.5, 1.5, 1, 1]),
        ("((a:2)b:1.5)", "ab", [3, 1.5]),
        ("(a(b:0):.5)", "ab", [0.5, 0]),
        (r"\(a:1.5\)", "(a:1.5)", [1] * 7),
        (r"(\(:2)", "(", [2]),
        ("(a: 2 )", "a", [2]),
        ("(a:10)(b:0)", "ab", [10, 0]),
        ("(a b)", "(a b)", [1] * 5),
        ("(a:b)", "(a:b)", [1] * 5),
        ("(a:1e-1)(:3)", "a(:3)", [0.1, 1, 1, 1, 1]),
        ("(a", "(a", [1] * 2),
        ("a:2)", "a:2)", [1] * 4),
        ("((a:2)", "(a", [1, 2]),
        (":) :(", ":) :(", [1] * 5),
        ("a\\b\\", "a\\b\\", [1] * 4),
        ("", "", []),
    ],
)
def test_what_a_prompt_means(prompt: str, text: str, weights: list[float]) -> None:
    assert parse(prompt) == Weighted(text, tuple(weights))


@given(st.text("ab(:2.)\\ ", max_size=30))
def test_an_escaped_text_means_itself(text: str) -> None:
    assert parse(escape(text)) == Weighted.plain(text)


@given(st.text("ab(:1.)\\ -", max_size=30) | TEXTS)
def test_any_prompt_is_a_text_or_refused_for_its_weight(text: str) -> None:
    found = Weighted.plain("")
    with suppress(ConfigError):
        found = parse(text)
    assert len(found.text) == len(found.weights)
    assert all(0 <= weight <= 10 for weight in found.weights)


@pytest.mark.parametrize(
    "prompt",
    ["(a:11)", "(a:-1)", "((a:4):3)", "(" * 9 + "a" + ":2)" * 9, "(a:1e9)", "(a:NaN)", "(a:inf)", "(a:1,3)"],
)
def test_weights_out_of_range_are_refused(prompt: str) -> None:
    with pytest.raises(ConfigError, match=r"outside 0\.\.10|is no number") as caught:
        build()([prompt])
    assert caught.value.field == "prompt"


def test_ten_thousand_parentheses_take_no_time() -> None:
    begun = time.process_time()
    assert parse("(" * 5000 + ")" * 5000).text == "(" * 5000 + ")" * 5000
    assert time.process_time() - begun < 1


def test_weights_of_one_change_no_bit() -> None:
    prompt = build()
    assert same(prompt(["(a (red:1.0) heart:1)", "blue"]), prompt(["a red heart", "blue"]))
    weighted = prompt(["a red heart", "(blue:2)"])
    assert torch.equal(weighted.tokens[0], prompt(["a red heart", "blue"]).tokens[0])
    assert torch.equal(weighted.vector[0], prompt(["a red heart", "blue"]).vector[0])


def test_weights_of_zero_pool_to_the_empty_prompt() -> None:
    found = build()(["(a red, heart:0)", ""]).vector
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


def test_weights_are_the_formula() -> None:
    encoder = build().encoders[0]
    plain, empty = encoder(["a red heart"]), encoder([""])
    found = encoder(["a (red:1.5) (heart:0.5)"])
    assert (plain.mask == found.mask).all()
    ids = encoder.read("a red heart").ids
    assert len(ids) == 4
    w = torch.tensor([(1 + 1.5 + 0.5) / 3, 1, 1.5, 0.5])[:, None]
    e, z = empty.tokens[0, 0], plain.tokens[0, :4]
    expected = e + w * (z - e)
    torch.testing.assert_close(found.tokens[0, :4], expected)
    torch.testing.assert_close(
        found.pooled[0], expected.mean(0)
    )  # the pooled vector is the mean of the tokens
    assert (found.tokens[0, 4:] == 0).all()


def test_a_heavier_word_pulls_the_pooled_vector_towards_it() -> None:
    encoder = build().encoders[0]
    x = encoder(["a red heart", "a (red:2) heart", "a (red:4) heart"]).pooled
    torch.testing.assert_close(x[2] - x[0], 3 * (x[1] - x[0]), rtol=1e-4, atol=1e-5)
    assert (x[1] - x[0]).norm() > 0.05 * x[0].norm()


def test_a_weight_counts_for_its_words_and_for_no_punctuation_beside_them() -> None:
    encoder = build(small(length=24)).encoders[0]
    weights = encoder.read("(Red:2), Ärger (İX:3) e\u0301(b:5)").weights[1:]
    tokens = [encoder.tokenizer.decode([i]) for i in encoder.read("Red, Ärger İX e\u0301b").ids[1:]]
    assert weights[0] == 2
    assert tokens[1] == ","
    assert weights[1] == 1
    assert 3 in weights  # a word whose length changes in lower case
    assert weights[-1] == pytest.approx(7 / 3)  # part of a word whose letters are joined: its mean


def test_captions_in_training_mean_their_parentheses() -> None:
    prompt = build(training=True)
    assert same(prompt(["(a:99)"]), prompt(["(A:99)"]))
    assert prompt.encoders[0].read("(a:99)", literal=True).weights == (1.0,) * 8
    assert not same(prompt(["(a:2)"]), prompt(["a"]))


# -- conditions --------------------------------------------------------------------------------------------
def test_shapes_and_the_empty_prompt() -> None:
    prompt = build(small(), small(width=32, length=9))
    cond = prompt(["", "a red heart"])
    assert prompt.width == 48
    assert cond.vector.shape == (2, 48)
    assert prompt.token_width == 24
    assert cond.tokens.shape == (2, 21, 24)
    assert cond.mask.sum(1).tolist() == [2, 8]
    assert not prompt([]).vector.numel()


@pytest.mark.parametrize("text", ["", "a red heart", "a (red:1.7) heart", "word " * 50])
def test_no_neighbour_changes_a_bit(text: str) -> None:
    prompt = build()
    batches = (["", "", text], ["x " * 90, "(a:3)", text], ["blue", "a b c d e f g", text])
    first, *others = (prompt(batch)[2:] for batch in batches)
    assert all(same(first, other) for other in others)


def test_padding_changes_nothing_but_rounding() -> None:
    """In training the longest text of the batch decides."""
    prompt = build()
    long = prompt.train()(["a red heart"])
    n = long.mask.shape[1]
    assert n == 4
    padded = prompt.eval()(["a red heart"])
    torch.testing.assert_close(padded.tokens[:, :n], long.tokens)
    torch.testing.assert_close(padded.vector, long.vector)


def test_tokens_that_do_not_count_cannot_change_a_bit() -> None:
    """Their embedding made huge: what is padded is token 0, which no text here has."""
    prompt = build()
    before = prompt(["a red heart"])
    with torch.no_grad():
        prompt.encoders[0].table.weight[0] = 1e6
    after = prompt(["a red heart"])
    assert torch.equal(before.vector, after.vector)
    assert torch.equal(before.tokens[before.mask], after.tokens[after.mask])


def test_the_order_of_words_matters() -> None:
    vector = build()(["red heart, blue star", "blue heart, red star"]).vector
    assert (vector[0] - vector[1]).norm() > 0.01 * vector[0].norm()


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    prompt = build(training=True)
    cond = prompt(list(CAPTIONS))
    (cond.vector.square().sum() + (cond.tokens[cond.mask] ** 3).sum()).backward()
    for name, parameter in prompt.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_fresh_encoder_is_a_bag_of_words_of_unit_states() -> None:
    torch.manual_seed(0)
    prompt = PromptConfig(merges=MERGES).build().eval()
    encoded = prompt.encoders[0](["a red heart, with a blue star"])
    z = encoded.tokens[encoded.mask]
    torch.testing.assert_close(z.square().mean(1), torch.ones(len(z)), rtol=1e-3, atol=0)
    assert prompt(["a red heart"]).tokens[0, :4].square().mean().item() == pytest.approx(1, abs=0.1)


# -- several encoders, hidden texts ------------------------------------------------------------------------
def test_a_text_hidden_from_one_encoder_is_whole_to_the_other() -> None:
    prompt = build(small(), small(width=32, depth=1), small(depth=1))
    texts = ["a red heart", "a (blue:1.4) star", "x"]
    shown = prompt(texts)
    for k, (begin, end) in enumerate(((0, 16), (16, 48), (48, 64))):
        hidden = torch.zeros(3, 3, dtype=torch.bool)
        hidden[:2, k] = True
        cond, empty = prompt(texts, hidden), prompt([""] * 3)
        mine = slice(12 * k, 12 * (k + 1))
        for i in range(3):
            of_tokens = empty if i < 2 else shown
            assert torch.equal(cond.tokens[i, mine], of_tokens.tokens[i, mine])
            assert torch.equal(cond.mask[i, mine], of_tokens.mask[i, mine])
            assert torch.equal(cond.vector[i, begin:end], of_tokens.vector[i, begin:end])
        rest = torch.ones(36, dtype=torch.bool)
        rest[mine] = False
        assert torch.equal(cond.tokens[:, rest], shown.tokens[:, rest])
        assert torch.equal(cond.vector[:, :begin], shown.vector[:, :begin])
        assert torch.equal(cond.vector[:, end:], shown.vector[:, end:])


def test_all_hidden_is_the_empty_prompt() -> None:
    prompt = build(small(), small(width=32))
    texts = ["a red heart", "(x:2)"]
    assert same(prompt(texts, torch.ones(2, 2, dtype=torch.bool)), prompt(["", ""]))
    assert same(prompt(texts, torch.ones(2, 1, dtype=torch.bool)), prompt(["", ""]))
    assert same(prompt(texts, torch.zeros(2, 2, dtype=torch.bool)), prompt(texts))


def test_hidden_texts_are_drawn_with_the_share_of_each_encoder() -> None:
    prompt = build(small(drop=0.0), small(drop=0.25), small(drop=1.0))
    hidden = prompt.draw_hidden(Rng.of(0, 4000))
    assert hidden.shape == (4000, 3)
    assert hidden.dtype == torch.bool
    assert hidden.float().mean(0).tolist() == [0, pytest.approx(0.25, abs=0.03), 1]
    assert torch.equal(prompt.draw_hidden(Rng.of(7, 5)), hidden[7:12])


# -- settings ----------------------------------------------------------------------------------------------
def test_settings_survive_a_round_trip() -> None:
    config = PromptConfig((small(), small(drop=0.3, vocabulary=300)), 48).learned(CAPTIONS)
    assert config.merges == learn(CAPTIONS, 2048)
    assert spec.load(spec.dump(config, PromptConfig), PromptConfig) == config
    assert spec.load({"merges": ["a b"], "encoders": ["transformer"]}, PromptConfig).merges == ("a b",)
    assert hash(config) == hash(replace(config))


def test_weights_survive_a_round_trip_and_copies_agree() -> None:
    prompt = build()
    other = PromptConfig((small(),), 24, MERGES).build().eval()
    other.load_state_dict(prompt.state_dict())
    assert same(prompt(CAPTIONS), other(CAPTIONS))
    assert same(prompt(CAPTIONS), copy.deepcopy(prompt)(CAPTIONS))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"width": 10, "heads": 3}, "heads"),
        ({"length": 1}, "length"),
        ({"vocabulary": 255}, "vocabulary"),
        ({"drop": 1.5}, "drop"),
        ({"depth": 0}, "depth"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small(**changes)
    assert caught.value.field == field


def test_a_prompt_needs_an_encoder() -> None:
    with pytest.raises(ConfigError, match="without encoders"):
        PromptConfig(())


# -- long texts --------------------------------------------------------------------------------------------
def test_long_prompts_are_cut_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    prompt, text = build(), "a red heart, with a (star:1.2) on a blue heart with a great Bow"
    with caplog.at_level(logging.WARNING):
        found = prompt([text])
        prompt([text, "a red heart"])
    assert len(caplog.records) == 1
    words = caplog.records[0].getMessage().partition("does not see: ")[2]
    kept = prompt.encoders[0].tokenizer.decode(prompt.encoders[0].read(text).ids[1:])
    assert words.endswith("great Bow")
    clean = parse(text).text.lower()
    assert clean.startswith(kept)
    assert clean.endswith(words.lower())
    assert found.mask.all()


def test_a_thousand_long_prompts_are_not_a_thousand_warnings(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        build()([f"{k} " * 20 for k in range(50)])
    assert len(caplog.records) == 21
    assert "other texts" in caplog.messages[-1]


def test_captions_in_training_are_cut_in_silence_but_can_be_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prompt = build(training=True)
    with caplog.at_level(logging.WARNING):
        assert prompt(["word " * 50]).tokens.shape[1] == 12
    assert not caplog.records
    assert prompt.too_long(["a red heart", "word " * 50, ""]) == ["word " * 50]
