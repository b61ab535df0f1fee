"""What a model is judged on, and what a metric says of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from torch import Tensor

from ..data import Dataset
from ..spec import validate
from .encoder import Encoder
from .shares import wilson

if TYPE_CHECKING:
    from .two_towers import TwoTowers

__all__ = ["Drawn", "Evidence", "Finding", "Metric", "Need", "Number"]

T = TypeVar("T")
Need = Literal["drawn", "labels", "prompts", "heldout", "denoiser", "pictures", "classes", "captions"]
"""Samples; samples of labels, or of prompts, that were asked for; held-out items; the denoiser itself; pictures, not
points; an encoder that tells classes apart; data with captions."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A measured number, and how sure it is."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    """The 95% interval; None: unknown."""
    n: int
    """How many samples, or items, it was measured on."""
    against: int = 0
    """How many real items they were compared with."""
    better: Literal["low", "high", "neither"] = "neither"
    features: str = ""
    """The digest of the encoder whose features were compared; "" = none."""
    note: str = ""

    @classmethod
    def share(cls, name: str, hits: np.ndarray, others: float = 0.0, **words: Any) -> Number:
        """The share of `hits`, bool (n,), that are true, with Wilson's interval.

        Args:
            others: what the choice of the items that they were held against adds to the share's variance; Wilson's n
                is made smaller by as much.
        """
        p, n = float(hits.mean()), len(hits)
        own = p * (1 - p) / n
        low, high = wilson(p, n * own / (own + others) if own else n)
        return cls(name=name, value=p, low=float(low), high=float(high), n=n, **words)

    @classmethod
    def within(cls, name: str, value: float, error: float, **words: object) -> Number:
        """value +- 1.96 standard errors."""
        return cls(name=name, value=value, low=value - 1.96 * error, high=value + 1.96 * error, **words)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a metric found."""

    numbers: tuple[Number, ...] = ()
    words: tuple[str, ...] = ()
    """Sentences with numbers in them, where something is wrong or not as it seems."""
    sheets: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Pictures to look at, uint8 (H, W, C), by their captions."""
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    """(x, y) by name."""
    rows: tuple[Mapping[str, object], ...] = ()
    """A table: one mapping a row, with the same keys."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples: x like the items of a data set, uint8 (N, H, W, C) or float32 (N, 2); y the labels asked for."""

    x: np.ndarray
    y: np.ndarray | None = None
    seeds: tuple[int, int] = (0, 0)
    """The first and the last."""
    prompts: tuple[str, ...] | None = None
    """The texts asked for, without weights of their words."""

    def __len__(self) -> int:
        return len(self.x)


class Evidence:
    """All that a model is judged on. What is dear is computed once, when a metric first asks for it.

    Args:
        train: what it learned from.
        heldout: more of the same, which it never saw; may be empty.
        encoder: whose features are compared.
        drawn: its samples; None where no metric needs them.
        real: what samples are compared with; None: `train`.
        losses: (data set, n) -> squared errors of n items, spread evenly, at ten noise levels, (n, 10); None: there is
            no denoiser.
        bits: n -> bits per dimension of held-out items, and their standard errors, both (n,).
        embed: (encoder, data set) -> features of all its items, (N, D); a cache on the disk may sit here.
        towers: gives the model that says how well a picture agrees with a text; None: one trained on `train`.
        memory: what is known of the data alone, see `once`; the same for all that is judged by the same data.
    """

    def __init__(
        self,
        train: Dataset,
        heldout: Dataset,
        encoder: Encoder,
        drawn: Drawn | None = None,
        *,
        real: Dataset | None = None,
        losses: Callable[[Dataset, int], Tensor] | None = None,
        bits: Callable[[int], tuple[Tensor, Tensor]] | None = None,
        embed: Callable[[Encoder, Dataset], np.ndarray] | None = None,
        towers: Callable[[], TwoTowers] | None = None,
        memory: dict[tuple[str, ...], Any] | None = None,
    ) -> None:
        self.train, self.heldout, self.encoder, self._drawn = train, heldout, encoder, drawn
        self.real = train if real is None else real
        self.losses, self.bits = losses, bits
        self._embed = embed or (lambda encoder, data: encoder.embed(data.x))
        self._towers = towers or partial(_two_towers, train, heldout)
        self._memory = {} if memory is None else memory

    def once(self, what: str, make: Callable[[], T]) -> T:
        """What `make` gives, computed once for this data and this encoder, however many models are judged."""
        data = (self.train, self.heldout, self.real)
        key = (what, self.encoder.digest, *(part.info.fingerprint for part in data))
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    @property
    def drawn(self) -> Drawn:
        assert self._drawn is not None, "a metric that looks at samples says that it needs them"
        return self._drawn

    @cached_property
    def drawn_features(self) -> np.ndarray:
        """(n, D) float32."""
        return self.encoder.embed(self.drawn.x)

    @cached_property
    def drawn_probabilities(self) -> np.ndarray:
        """p(class | sample), (n, K); for encoders that know classes."""
        return self.encoder.probabilities(self.drawn.x)

    @property
    def real_features(self) -> np.ndarray:
        """(N, D) float32, of all of `real`."""
        if self.real is self.train:
            return self.train_features
        return self.once("features of the real", lambda: self._embed(self.encoder, self.real))

    @property
    def train_features(self) -> np.ndarray:
        return self.once("features of training", lambda: self._embed(self.encoder, self.train))

    @property
    def heldout_features(self) -> np.ndarray:
        return self.once("features held out", lambda: self._embed(self.encoder, self.heldout))

    @property
    def towers(self) -> TwoTowers:
        """Pictures and texts in one space; trained when it is first asked for."""
        return self.once("two towers", self._towers)

    def lacks(self, need: Need) -> str | None:
        """Why there is no such thing; None where there is."""
        match need:
            case "drawn" if self._drawn is None:
                return "there are no samples"
            case "labels" if self._drawn is None or self._drawn.y is None:
                return "the samples have no labels"
            case "prompts" if self._drawn is None or self._drawn.prompts is None:
                return "the samples have no prompts"
            case "captions" if not self.train.info.captions:
                return "the data has no captions"
            case "heldout" if not len(self.heldout):
                return "no items were held out"
            case "denoiser" if self.losses is None:
                return "there is no model, only its samples"
            case "pictures" if self.train.info.kind != "image":
                return "these are no pictures"
            case "classes" if not self.encoder.classes:
                return "the encoder knows no classes"
        return None


def _two_towers(train: Dataset, heldout: Dataset) -> TwoTowers:
    from .two_towers import two_towers

    return two_towers(train, heldout)


class Metric(ABC):
    """One way to judge a model: a frozen dataclass, whose fields are its settings."""

    needs: ClassVar[tuple[Need, ...]] = ()
    dear: ClassVar[bool] = False
    """Whether it is measured only when asked for by name."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    @abstractmethod
    def measure(self, evidence: Evidence) -> Finding: ...

    def lacks(self, evidence: Evidence) -> str | None:
        """Why it cannot be measured here; None where it can."""
        return next((why for need in self.needs if (why := evidence.lacks(need))), None)
