"""Any CLIP or T5 text encoder of the library `transformers`, from files that are here already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from ..errors import ConfigError, IncompatibleError
from ..spec import Fraction, Range
from .base import TextEncoderConfig
from .frozen import FrozenEncoder, States

__all__ = ["PretrainedConfig"]

CLASSES = {
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""What is read of a kind of model; a CLIP's other half, and a T5's decoder, are left out."""


@dataclass(frozen=True)
class PretrainedConfig(TextEncoderConfig):
    """A CLIP or T5 text encoder, frozen: Radford et al. 2021, arXiv:2103.00020; Raffel et al. 2019, arXiv:1910.10683.

    Pooled are, of CLIP, the state of the token that ends the text, of T5, the mean of the states. Nothing is
    downloaded.
    """

    path: str
    """A folder with config.json, model.safetensors and the tokenizer's files, or the name of a downloaded model."""
    length: Annotated[int, Range(ge=3)] = 77
    """Tokens of a text, those that begin and end it included; what is longer is cut."""
    drop: Fraction = 0.0
    """Share of the texts hidden from it alone in training, besides those hidden from all."""
    digest: str = ""
    """Of the weights that a model was trained with; with others it is refused."""

    def build(self, merges: tuple[str, ...] = ()) -> FrozenEncoder:
        network, tokenizer = _load(self.path)
        most = getattr(network.config, "max_position_embeddings", self.length)
        if self.length > most:
            raise IncompatibleError(
                f"{self.path} reads texts of {most} tokens, not {self.length}",
                field="length",
                hint=f"take length={most}",
            )
        width = network.config.hidden_size
        return FrozenEncoder(self.path, network, width, self.length, tokenizer, self.digest)

    def sealed(self) -> Self:
        return replace(self, digest=self.build().digest)


class Module:
    """A network of `transformers` as a `frozen.Network`."""

    def __init__(self, module: Any) -> None:
        self.module = module.eval().requires_grad_(False).float()
        self.config = module.config

    def weights(self) -> Mapping[str, Tensor]:
        return self.module.state_dict()

    def to(self, device: torch.device) -> Module:
        self.module.to(device)
        return self

    def __call__(self, ids: Tensor) -> States:
        out = self.module(input_ids=ids)
        tokens = out.last_hidden_state
        pooled = getattr(out, "pooler_output", None)
        return States(tokens, tokens.mean(1) if pooled is None else pooled)


@cache
def _load(path: str) -> tuple[Module, Any]:
    """The network and its tokenizer, as the tokenizers library has it."""
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            "pretrained needs transformers, which is not installed",
            field="encoders",
            hint='run: pip install "unstir[diffusers]"',
        ) from error
    folder = Path(path).expanduser()
    place = str(folder) if folder.is_dir() else path
    # as Diffusers keeps them: text_encoder/ beside tokenizer/, text_encoder_2/ beside tokenizer_2/
    beside = folder.with_name(folder.name.replace("text_encoder", "tokenizer"))
    words = str(beside) if beside.is_dir() else place
    try:
        with _quiet(transformers):
            kind = transformers.AutoConfig.from_pretrained(place, local_files_only=True).model_type
            if kind not in CLASSES:
                raise IncompatibleError(
                    f"{path} is a {kind}, not one of {', '.join(CLASSES)}",
                    field="path",
                    hint="give the text encoder of a CLIP, or a T5",
                )
            module = getattr(transformers, CLASSES[kind]).from_pretrained(
                place, local_files_only=True, use_safetensors=True
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(words, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"transformers cannot read {path!r} from this machine: {error}",
            field="path",
            hint="give a folder with config.json, model.safetensors and tokenizer.json, or download it before",
        ) from error
    return Module(module), tokenizer.backend_tokenizer


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without bars and reports about the parts that are left out."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
