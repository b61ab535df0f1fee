"""What a model is told by words: one or several text encoders -> `Condition`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..condition import Condition
from ..errors import ConfigError
from ..layers import linear
from ..rng import Rng
from ..spec import Count, validate
from .base import TextEncoder, TextEncoderConfig
from .frozen import FrozenEncoder
from .tokenizer import learn
from .transformer import TransformerConfig

__all__ = ["Prompt", "PromptConfig"]


@dataclass(frozen=True)
class PromptConfig:
    """The settings of `Prompt`."""

    encoders: tuple[TextEncoderConfig, ...] = (TransformerConfig(),)
    """What reads the text; several read it side by side, as in Stable Diffusion 3."""
    width: Count = 256
    """Channels of a token that the network attends to."""
    merges: tuple[str, ...] = ()
    """How the encoders that are trained split words; learned from the captions, () = bytes."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)
        if not self.encoders:
            raise ConfigError("a prompt without encoders", field="encoders", hint="use encoders=transformer")

    def learned(self, captions: Iterable[str]) -> PromptConfig:
        """The same with what is found out before training: the merges that these captions give to encoders that are
        trained, and the digests of those that are not."""
        sizes = [encoder.vocabulary for encoder in self.encoders if isinstance(encoder, TransformerConfig)]
        merges = learn(captions, max(sizes)) if sizes else ()
        return replace(self, encoders=tuple(encoder.sealed() for encoder in self.encoders), merges=merges)

    def build(self) -> Prompt:
        return Prompt(self)


class Prompt(nn.Module):
    """texts -> Condition(vector = [p_1, ..., p_K], tokens = [W_1 z_1, ..., W_K z_K], mask), of encoders 1..K.

    z_k (B, L_k, .) and p_k are the states and the pooled vector of encoder k. What the empty text gives is the
    unconditional condition: a text hidden from an encoder, in training or for guidance, is "" to that encoder, so
    there is nothing else to learn for it (Ho & Salimans 2022, arXiv:2207.12598, algorithm 1; each encoder on its
    own: Esser et al. 2024, arXiv:2403.03206, section 5.2).

    Weights of fresh parts are drawn from torch's global generator. Encoders that are not trained have no
    parameters and nothing in the state.
    """

    def __init__(self, config: PromptConfig) -> None:
        super().__init__()
        self.drops = tuple(encoder.drop for encoder in config.encoders)
        encoders = [encoder.build(config.merges) for encoder in config.encoders]
        self.width = sum(encoder.width for encoder in encoders)
        """Of `Condition.vector`."""
        self.token_width = config.width
        """Of `Condition.tokens`."""
        self.encoders: Sequence[TextEncoder] = nn.ModuleList(encoders)  # type: ignore[assignment]
        self.enter = nn.ModuleList(linear(encoder.width, config.width) for encoder in encoders)

    def forward(self, texts: Sequence[str], hidden: Tensor | None = None) -> Condition:
        """The condition of B texts; hidden (B, K) bool: which is hidden from which encoder, (B, 1): from all.

        Raises ConfigError for a weight `(word:11)` outside 0..10.
        """
        shape = (len(texts), len(self.encoders))
        blind = torch.zeros(shape, dtype=torch.bool) if hidden is None else hidden.expand(shape)
        tokens, masks, vectors = [], [], []
        for encoder, enter, blank in zip(self.encoders, self.enter, blind.T.tolist(), strict=True):
            encoded = encoder(["" if empty else text for text, empty in zip(texts, blank, strict=True)])
            tokens.append(enter(encoded.tokens))
            masks.append(encoded.mask)
            vectors.append(encoded.pooled)
        return Condition(vector=torch.cat(vectors, 1), tokens=torch.cat(tokens, 1), mask=torch.cat(masks, 1))

    def too_long(self, captions: Iterable[str]) -> list[str]:
        """Those captions of which some encoder does not see the end."""

        def cut(caption: str) -> bool:
            return any(len(list(encoder.split(caption))) > encoder.room for encoder in self.encoders)

        return [caption for caption in captions if cut(caption)]

    def remember(self, captions: Iterable[str], folder: Path | None = None) -> None:
        """Lets the encoders that are not trained read all captions now, once; kept in files of the folder, if given."""
        known = list(captions)
        for encoder in self.encoders:
            if isinstance(encoder, FrozenEncoder):
                encoder.remember(known, folder)

    def draw_hidden(self, rng: Rng) -> Tensor:
        """Which texts of a training batch are hidden from which encoder, (B, K) bool: each with its own `drop`."""
        u = rng.fork("hidden").uniform((len(rng), len(self.drops)), torch.float64)
        return u < torch.tensor(self.drops, dtype=torch.float64)
