"""Models that read prompts: what captions change in a recipe."""

from __future__ import annotations

import math
from dataclasses import replace

from ..data import Dataset
from ..embedders import TransformerConfig
from ..errors import ConfigError, DataError
from ..networks import UNetConfig
from ..objectives import Denoising, LogitNormal, Target
from .base import Recipe
from .small import FEW

__all__ = ["reads", "text"]

NOISY = LogitNormal(mean=1.0, std=1.5)
"""A fifth of the times are above 0.9: there the words decide what becomes of the noise (docs/decisions.md)."""
DRAFT = 512
"""Hidden width of the draft that a model makes of a text before it sees anything (docs/decisions.md)."""
ENOUGH = 0.5
"""Share of the items that must have a caption for a model to learn from them unasked."""


def reads(recipe: Recipe, data: Dataset) -> bool:
    """Whether the model is to be told captions: what `captions=` or `text=` say, else whether most items have one.

    Raises:
        ConfigError: `text=` names what reads them, and nothing is to be read; or nothing reads what is to be read.
        DataError: captions are asked for and there are none.
    """
    wanted, found = recipe.data.captions, data.info.captions
    if (deaf := recipe.task in ("classifier", "autoencoder", "decoder")) or wanted is False:
        if recipe.text:
            why = f"task={recipe.task} reads no captions" if deaf else "captions=false leaves nothing to read"
            raise ConfigError(f"text= is given, and {why}", field="text", hint="leave one of them out")
        return False
    if recipe.text == ():
        if wanted:
            raise ConfigError(
                "captions=true, and text= names nothing that reads them",
                field="text",
                hint="leave text out, or use text=transformer",
            )
        return False
    wanted = wanted or recipe.text is not None
    if wanted and not found:
        raise DataError(
            f"{data.info.source} has no captions",
            field="data.captions",
            hint="put a .txt beside each picture, or a captions.jsonl into the folder; or leave captions out",
        )
    return bool(wanted) or found > ENOUGH * len(data)


def text(measured: Recipe, data: Dataset) -> Recipe:
    """The measured recipe with an encoder of text, a network that attends to it, and the times at which words count.

    The network first makes a draft of what the text says, but for published systems, parts of pictures, and so few
    of them that it would know them by heart.
    """
    network = measured.network
    if isinstance(network, UNetConfig) and not network.attention:
        head = math.gcd(network.head_width, *network.widths)
        network = replace(network, attention=min(2, len(network.widths)), head_width=head)
    few = len(data) < FEW or measured.small_data
    free = measured.task == "generate" and measured.system is None and measured.patches is None
    if isinstance(network, UNetConfig) and free and not few:
        network = replace(network, draft=DRAFT)
    return replace(
        measured,
        network=network,
        text=(TransformerConfig(),),
        objective=Denoising(weight=Target(), draws=NOISY),
        sampling=replace(measured.sampling, guidance=3.0),
    )
