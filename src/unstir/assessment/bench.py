"""A model on the bench: its samples drawn, compared with data, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .. import config
from ..codecs import Latent
from ..data import Dataset
from ..errors import (
    CheckpointError,
    ConfigError,
    DataError,
    IncompatibleError,
    NumericError,
    UnstirError,
)
from ..evaluate import (
    Drawn,
    Encoder,
    Evidence,
    Finding,
    Metric,
    Raw,
    TwoTowers,
    embedded,
    encoder_for,
    two_towers,
)
from ..model import ema_addresses
from ..pipeline import Pipeline, load
from ..recipes import Evaluation
from ..spec import choices, name as name_of
from .losses import bits_of, losses_of
from .result import Assessment, Sweep, values_of
from .samples import Draws
from .subject import open_subject

__all__ = ["Bench"]

SWEPT = ("FID", "PRDC", "Accuracy", "Agreement", "Memorisation")
"""What is measured of each variant of a sweep, unless told otherwise."""
SCALES = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Guidance scales that a sweep tries."""
READING_SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""The same for a model that reads: words need more of it than classes."""
EXAMPLES = {"ema": "0.03,0.05,0.1", "guidance": "1,1.5,2", "steps": "5,10,20"}
"""Values of sweeps, for those who mistyped theirs."""
PACE = 4
"""Samples that are drawn to estimate how long all will take."""


class Bench:
    """A model, or samples, the data that they are compared with, and what is measured.

    Args:
        model: a run, RUN@STEP, a model's file, a pipeline; or samples: an .npz file or a folder of pictures.
        request: the settings.
        say: told what goes on.
        progress: n -> what is told how many of n samples are drawn.

    Raises:
        CheckpointError, DataError: there is no such model, or its data cannot be read.
        ConfigError: what was asked for cannot be measured here; it says why.
    """

    def __init__(
        self,
        model: str | Path | Pipeline,
        request: Evaluation,
        say: Callable[[str], None] = lambda _: None,
        progress: Callable[[int], Callable[[int], None]] = lambda n: lambda done: None,
    ) -> None:
        if request.metrics == ():
            raise ConfigError(
                "metrics is empty", field="metrics", hint="leave it out, or name some: fid,prdc"
            )
        if request.values is not None and request.sweep is None:
            raise ConfigError(
                f"values={_listed(request.values)}, and nothing to sweep over",
                field="values",
                hint="say which setting takes them: sweep=guidance, steps or ema",
            )
        self.request, self.say, self.progress = request, say, progress
        self.seconds: dict[str, float] = {}
        self._memory: dict[tuple[str, ...], Any] = {}
        with self._timed("data"):
            self.subject, self.train, self.heldout = open_subject(model, request)
        pipe = self.subject.pipe
        self._check_prompts()
        self.draws = None if pipe is None else Draws(pipe, request, captions=self._captions)
        if self.draws is not None:
            self.draws.check()  # before an encoder is trained
        self._check_classes()
        self.real, self.compared = self._real()

    # -- data ----------------------------------------------------------------------------------------------------
    @property
    def _captions(self) -> Dataset | None:
        """Where the prompts of samples are from; None: there are no captions."""
        data = self.heldout if self.request.prompts == "heldout" else self.train
        return data if data.info.captions else None

    def _check_prompts(self) -> None:
        """Raises ConfigError where prompts are asked for that there are none of."""
        pipe, request = self.subject.pipe, self.request
        if request.prompts == "train":
            return
        why = "no captioned items were held out" if self._captions is None else ""
        if pipe is None or pipe.config.prompt is None:
            why = f"{self.subject.name} reads none"
        elif request.prompt is not None:
            why = "prompt= is given"
        if why:
            raise ConfigError(
                f"prompts={request.prompts}, and {why}", field="prompts", hint="leave prompts out"
            )

    def _check_classes(self) -> None:
        """Raises IncompatibleError where labels of samples stand for other classes than the data's."""
        found, known = self.draws.classes if self.draws else (), self.train.info.classes
        if found and known and set(found) != set(known):
            raise IncompatibleError(
                f"the classes of {self.train.info.source} are {', '.join(known)}",
                field="data",
                hint=f"those of the model are {', '.join(found)}",
            )

    def _real(self) -> tuple[Dataset, str]:
        """What samples are compared with, and what it is called."""
        data = self.heldout if self.request.real == "heldout" else self.train
        if not len(data):
            raise ConfigError(
                "real=heldout, and no items were held out", field="real", hint="give heldout=0.1"
            )
        label, known, y = self.draws and self.draws.label, self.train.info.classes, data.items.labels
        if self.request.prompt is not None and data.captions is not None:
            asked = ((self.draws and self.draws.texts) or ("",))[0]
            rows = data.rows[[asked in (caption.text for caption in some) for some in data.captions]]
            if len(rows) > 1:
                return Dataset(data.info.source, data.items, rows), f"{self.request.real}, of this caption"
        if label is None or y is None:
            return data, self.request.real
        rows = data.rows[y[data.rows] == known.index(label)]
        if len(rows) < 2:
            raise DataError(
                f"{data.info.source} has {len(rows)} items of class {label}",
                field="label",
                hint="leave label out",
            )
        return Dataset(data.info.source, data.items, rows), f"{self.request.real}, class {label}"

    @cached_property
    def encoder(self) -> Encoder:
        """Whose features are compared."""
        with self._timed("encoder"):
            return encoder_for(self.request.features, self.train, self.heldout, say=self.say)

    def _two_towers(self) -> TwoTowers:
        """What tells how well samples agree with their prompts."""
        with self._timed("two towers"):
            return two_towers(self.train, self.heldout, say=self.say)

    def _embed(self, encoder: Encoder, data: Dataset) -> np.ndarray:
        with self._timed("features"):
            return embedded(encoder, data)

    @property
    def n(self) -> int:
        if self.draws is not None:
            return self.draws.n
        assert self.subject.drawn is not None, "where there is no model there are samples"
        return len(self.subject.drawn)

    # -- what is measured ------------------------------------------------------------------------------------------
    def metrics(self, encoder: Encoder | None = None) -> tuple[dict[str, Metric], dict[str, str], Encoder]:
        """What is measured, why the rest is not, and in whose features.

        Args:
            encoder: stands for the one there will be; None: it is made, where a metric looks at samples.
        """
        request, known = self.request, choices(Metric)
        usual = [known[word]() for word in (SWEPT if request.sweep else known) if word in known]
        wanted: dict[str, Metric] = {_spelled(metric): metric for metric in request.metrics or usual}
        if encoder is None:
            encoder = self.encoder if any(map(_samples, wanted.values())) else Raw()
        evidence, skipped = self._evidence(encoder, self._imagined()), {}
        for word, metric in wanted.items():
            if why := metric.lacks(evidence):
                skipped[word] = why
            elif metric.dear and request.metrics is None:
                skipped[word] = f"it takes long; ask for it: metrics={word.lower()}"
        if request.metrics is not None and skipped:
            word, why = next(iter(skipped.items()))
            raise ConfigError(
                f"{word} cannot be measured: {why}",
                field="metrics",
                hint="leave metrics out to measure all that can be",
            )
        return {word: metric for word, metric in wanted.items() if word not in skipped}, skipped, encoder

    def _imagined(self) -> Drawn:
        """Samples like those that there will be, of the same labels, but all zero, which takes no memory."""
        if self.draws is None:
            assert self.subject.drawn is not None, "where there is no model there are samples"
            return self.subject.drawn
        pixels = self.train.items.pixels
        x = np.broadcast_to(pixels.dtype.type(0), (self.n, *pixels.shape[1:]))
        return self._numbered(Drawn(x, self.draws.labels, prompts=self.draws.texts), self.draws)

    def _evidence(self, encoder: Encoder, drawn: Drawn | None, pipe: Pipeline | None = None) -> Evidence:
        pipe = pipe or self.subject.pipe
        return Evidence(
            self.train,
            self.heldout,
            encoder,
            drawn,
            real=self.real,
            losses=None if pipe is None else losses_of(pipe, self.request.micro_batch),
            bits=_bits(pipe, self.train, self.heldout),
            embed=self._embed,
            towers=self._two_towers,
            memory=self._memory,
        )

    # -- one model -------------------------------------------------------------------------------------------------
    def assess(self, draws: Draws | None = None, name: str | None = None) -> Assessment:
        """Draws and measures: the model as it was asked for, or a variant of it, with its name."""
        draws = draws or self.draws
        metrics, skipped, encoder = self.metrics()
        sampled = frozenset(word for word, metric in metrics.items() if _samples(metric))
        drawn = self.subject.drawn
        if sampled and draws is not None:
            with self._timed("drawing"):
                drawn = self._numbered(draws.draw(self.folder, self.say, self.progress), draws)
        evidence = self._evidence(encoder, drawn, None if draws is None else draws.pipe)
        findings: dict[str, Finding] = {}
        for word, metric in metrics.items():
            self.say(f"measure    {word}")
            try:
                with self._timed(word):
                    findings[word] = metric.measure(evidence)
            except Exception as error:
                if self.request.metrics is not None:
                    raise _named(word, error) from error
                skipped[word] = f"it failed: {error}"
        seen = drawn if sampled else None
        return Assessment(
            model=name or self.subject.name,
            digest=draws.pipe.digest if draws else self.subject.digest,
            step=self.subject.step,
            data=self._data(),
            n=0 if seen is None else len(seen),
            seeds=seen.seeds if seen and draws else None,
            sampling=draws.settings if seen and draws else {},
            features=encoder.digest,
            encoder=encoder.about,
            findings=findings,
            skipped=skipped,
            notes=(*self.subject.notes, *self._notes()),
            seconds=dict(self.seconds),
            sampled=sampled,
        )

    @property
    def folder(self) -> Path | None:
        """Where results go; None: nowhere, the model is in memory."""
        return Path(self.request.out).expanduser() if self.request.out else self.subject.folder

    def _numbered(self, drawn: Drawn, draws: Draws) -> Drawn:
        """The samples with their labels as the data numbers its classes."""
        known = self.train.info.classes
        if drawn.y is None or not known:
            return replace(drawn, y=None)
        return replace(drawn, y=np.array([known.index(name) for name in draws.classes])[drawn.y])

    def _data(self) -> dict[str, Any]:
        info = self.train.info
        return {
            "source": info.source,
            "fingerprint": info.fingerprint,
            "count": info.count,
            "heldout": len(self.heldout),
            "real": self.compared,
            "against": len(self.real),
        }

    def _notes(self) -> Iterator[str]:
        """What the numbers are to be read with in mind."""
        learned, info = self.subject.fingerprint, self.train.info
        if learned is not None and learned != info.fingerprint:
            yield (
                f"{info.source} is not what {self.subject.name} was trained on; of what is held out here it may have "
                "learned some"
            )
        if self.draws and self.draws.classes and not info.classes:
            yield f"{info.source} has no classes, so the labels of samples count for nothing"
        if self.draws and self.draws.texts is not None:
            if self.request.prompt is None and self._captions is None:
                yield f"{info.source} has no captions, so samples are of the empty prompt"
            elif self.request.prompt is not None and self.real in (self.train, self.heldout):
                yield "samples of one prompt are compared with all items"

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    # -- several variants of it --------------------------------------------------------------------------------------
    def sweep(self) -> Sweep:
        """One assessment for each of `values`, all of the same seeds."""
        over, usual = self.request.sweep, self.usual
        found: dict[float, Assessment] = {}
        failed: dict[float, UnstirError] = {}
        if over != "ema":
            for value in self.values():  # what sampling would refuse is refused before the first is drawn
                _ = self._variant(value)[0].chosen
        for value in self.values():
            self.say(f"{over:<10} {value:g}")
            try:
                found[value] = self.assess(*self._variant(value))
            except (CheckpointError, NumericError) as error:  # no such average; a scale that diverges
                failed[value] = error
            reasons = {value: error.message for value, error in failed.items()}
            if found:
                swept = Sweep(over=over or "", variants=found, default=usual, failed=reasons)
                _ = swept.judged  # raises before the rest is drawn
        if not found:
            raise next(iter(failed.values()))
        return swept

    def _variant(self, value: float) -> tuple[Draws, str]:
        pipe, name, sampling = self.subject.pipe, self.subject.name, self.request.sampling
        assert pipe is not None, "samples have no variants"
        match self.request.sweep:
            case "guidance":
                sampling = replace(sampling, guidance=value)
            case "steps":
                sampling = replace(sampling, steps=int(value))
            case "ema":
                name = self._averages.get(value) or self._average(value)
                pipe = load(name, pipe.device)
        return Draws(pipe, self.request, sampling, self._captions), name

    @property
    def usual(self) -> float:
        """The variant that the model is sampled with unless told otherwise."""
        assert self.draws is not None, "samples have no variants"
        if self.request.sweep != "ema":
            return float(getattr(self.draws.chosen, self.request.sweep or ""))
        if self.subject.run is None:
            raise ConfigError(
                f"{self.subject.name} is no run, and only a run keeps averages of the weights",
                field="sweep",
                hint="give the run that it came from",
            )
        return float(config.read_file(self.subject.run / "config.yaml").values["training"]["ema"][0])

    @property
    def _scales(self) -> tuple[float, ...]:
        pipe = self.subject.pipe
        return SCALES if pipe is None or pipe.config.prompt is None else READING_SCALES

    @cached_property
    def _averages(self) -> dict[float, str]:
        """The averages of the weights that the run can make, by their lengths."""
        return ema_addresses(self.subject.name)

    def _average(self, length: float) -> str:
        """Another one, of the same step."""
        return next(iter(self._averages.values())).rpartition("ema:")[0] + f"ema:{length:g}"

    def values(self) -> tuple[float, ...]:
        """The variants of a sweep, rising, its default among them."""
        over, usual = self.request.sweep, self.usual
        given = self.request.values
        if given is None and over == "steps":
            given = tuple(float(max(1, round(usual * share))) for share in (0.25, 0.5, 1, 2))
        elif given is None:
            given = tuple(self._scales if over == "guidance" else self._averages)
        accepted, fits = {
            "steps": ("whole numbers, 1 or more", lambda x: x >= 1 and x % 1 == 0),
            "ema": ("fractions of the run, above 0 to 0.28", lambda x: 0 < x <= 0.28),
        }.get(over or "", ("numbers, 0 or more", lambda x: x >= 0))
        if not given or not all(map(fits, given)):
            raise ConfigError(
                f"values={_listed(given)}: a sweep over {over} takes {accepted}",
                field="values",
                hint=f"as in values={EXAMPLES[over or 'guidance']}, or leave values out",
            )
        return tuple(sorted({*given, usual}))

    # -- nothing but a plan --------------------------------------------------------------------------------------------
    def plan(self) -> dict[str, Any]:
        """What would be drawn and measured, and about how long drawing takes; nothing is trained or written."""
        request, stand_in = self.request, Raw()
        if request.features in (None, "auto") and self.train.info.kind == "image":
            stand_in.classes = self.train.info.classes  # the encoder will be a classifier
        metrics, skipped, _ = self.metrics(stand_in)
        plan: dict[str, Any] = {
            "model": self.subject.name,
            "sha256": self.subject.digest,
            "data": self._data(),
            "n": self.n,
            "metrics": list(metrics),
            "skipped": skipped,
            "features": request.features or "auto",
            "out": None if self.folder is None else str(self.folder),
        }
        if self.draws is None:
            return plan
        values = self.values() if request.sweep else ()
        wish: dict[str, Any] = {"label": request.label, "prompt": self.draws.prompt(request.seed, PACE)}
        found = self.draws.pipe.sample(n=PACE, seed=request.seed, exact=False, **wish, **self.draws.given)
        kept = len(self.draws.kept(self.draws.path(self.folder)) or ())
        left = max(self.n - kept, 0) + self.n * max(len(values) - 1, 0)
        return plan | {
            "seeds": [request.seed, request.seed + self.n - 1],
            "sampling": self.draws.settings,
            "evaluations": found.evaluations,
            "kept": min(kept, self.n),
            "seconds": float(f"{found.seconds / PACE * left:.2g}"),
            "sweep": {request.sweep: list(values)} if request.sweep else None,
        }


def _bits(
    pipe: Pipeline | None, train: Dataset, heldout: Dataset
) -> Callable[[int], tuple[Tensor, Tensor]] | None:
    """Of a model of the data itself: those of latents are not those of what they stand for."""
    return None if pipe is None or isinstance(pipe.codec, Latent) else bits_of(pipe, train, heldout)


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _samples(metric: Metric) -> bool:
    """Whether it looks at samples."""
    return bool({"drawn", "labels", "prompts", "classes"} & set(metric.needs))


def _spelled(metric: Metric) -> str:
    """PRDC, or with settings of its own PRDC:k=3."""
    usual = values_of(type(metric)())
    own = [f"{word}={value}" for word, value in values_of(metric).items() if value != usual[word]]
    return name_of(type(metric)) + (":" + ",".join(own) if own else "")


def _named(word: str, error: Exception) -> UnstirError:
    """The error with the metric's name in front."""
    if isinstance(error, UnstirError):
        return type(error)(f"{word}: {error.message}", field=error.field, hint=error.hint)
    return UnstirError(f"{word}: {type(error).__name__}: {error}", field="metrics", hint="name other metrics")
