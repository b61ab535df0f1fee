"""The embedders: what a prompt or a measurement is -> `Condition`."""

from __future__ import annotations

from .augmentation import Augmentation
from .base import Encoded, Spatial, TextEncoder, TextEncoderConfig
from .label import Label, LabelConfig
from .low_resolution import LowResolution
from .masked import Masked
from .minilm import MiniLMConfig
from .patches import Patches
from .pretrained import PretrainedConfig
from .prompt import Prompt, PromptConfig
from .tokenizer import Tokenizer, learn
from .transformer import Transformer, TransformerConfig

__all__ = [
    "Augmentation",
    "Encoded",
    "Label",
    "LabelConfig",
    "LowResolution",
    "Masked",
    "MiniLMConfig",
    "Patches",
    "PretrainedConfig",
    "Prompt",
    "PromptConfig",
    "Spatial",
    "TextEncoder",
    "TextEncoderConfig",
    "Tokenizer",
    "Transformer",
    "TransformerConfig",
    "learn",
]
