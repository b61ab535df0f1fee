"""A text encoder of MiniLM's shape with few and arbitrary weights, its files, and what reads its tokenizer."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from unstir.rng import Rng
from unstir.tensors import save_tensors

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "red",
    "blue",
    "heart",
    "star",
    "with",
    "wing",
    "##s",
    ",",
    "the",
)
WIDTH, DEPTH, PLACES = 64, 2, 16


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of a BERT, less those that MiniLM does not use."""
    width, inner = WIDTH, 4 * WIDTH
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), width),
        "embeddings.position_embeddings.weight": (PLACES, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    norms, layers = ["embeddings.LayerNorm"], {}
    for k in range(DEPTH):
        name = f"encoder.layer.{k}"
        layers |= {f"{name}.attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        layers |= {f"{name}.attention.output.dense": (width, width)}
        layers |= {f"{name}.intermediate.dense": (inner, width), f"{name}.output.dense": (width, inner)}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for layer, shape in (layers | dict.fromkeys(norms, (width,))).items():
        found |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
    return found


def weights() -> dict[str, Tensor]:
    """The same on every machine."""
    return {
        name: Rng.of(k, 1).normal((1, *shape))[0] * 0.3 + 1.0 * name.endswith("LayerNorm.weight")
        for k, (name, shape) in enumerate(sorted(shapes().items()))
    }


def tokenizer() -> dict[str, Any]:
    """tokenizer.json: words in lower case, cut to a length and padded, which a reader has to switch off."""
    special = {
        word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]} for word in ("[CLS]", "[SEP]")
    }
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": special,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: k for k, word in enumerate(WORDS)},
        },
    }


def write(folder: Path) -> Path:
    """The two files."""
    folder.mkdir(exist_ok=True)
    save_tensors(folder / "model.safetensors", weights())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    return folder


def have_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library `tokenizers` is not installed, what little of it reads `tokenizer()` takes its place."""
    if importlib.util.find_spec("tokenizers") is None:
        module = ModuleType("tokenizers")
        module.Tokenizer = _Tokenizer  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tokenizers", module)


class _Tokenizer:
    """Of `tokenizers.Tokenizer` what is used: whole words and one ending."""

    @classmethod
    def from_file(cls, path: str) -> _Tokenizer:
        made = cls()
        made.vocab = json.loads(Path(path).read_text())["model"]["vocab"]
        made.cut = True
        return made

    def no_truncation(self) -> None:
        self.cut = False

    def no_padding(self) -> None: ...

    def encode(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        found: list[tuple[int, tuple[int, int]]] = []
        for match in re.finditer(r"\w+|[^\w\s]", text):
            word, place = match.group().lower(), match.span()
            if word not in self.vocab and word.endswith("s") and word[:-1] in self.vocab:
                end = place[1]
                found += [(self.vocab[word[:-1]], (place[0], end - 1)), (self.vocab["##s"], (end - 1, end))]
            else:
                found.append((self.vocab.get(word, self.vocab["[UNK]"]), place))
        if add_special_tokens:
            found = [(self.vocab["[CLS]"], (0, 0)), *found, (self.vocab["[SEP]"], (0, 0))]
        found = found[:8] if self.cut else found
        return SimpleNamespace(ids=[i for i, _ in found], offsets=[o for _, o in found])
