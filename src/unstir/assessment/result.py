"""What was found out about a model, and about several variants of it."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .. import __version__
from ..errors import ConfigError
from ..evaluate import Finding, Number
from ..files import write_atomic
from ..modalities.image import encode_png

__all__ = ["Assessment", "Sweep", "key_of", "values_of"]


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What was found out about a model, and all that the numbers depend on."""

    model: str
    digest: str
    """SHA-256 of the model's file, or of samples that were given."""
    step: int | None
    """Of its training, where it is a run's checkpoint."""
    data: Mapping[str, Any]
    """Its source, fingerprint and counts, and which part of it samples are compared with."""
    n: int
    """Samples; 0: none were needed."""
    seeds: tuple[int, int] | None
    """The first and the last; None: nobody knows."""
    sampling: Mapping[str, Any]
    features: str
    """The encoder's digest."""
    encoder: str
    """What it is, and how good."""
    findings: Mapping[str, Finding]
    """By metric."""
    skipped: Mapping[str, str]
    """Why what was not measured was not."""
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    sampled: frozenset[str] = frozenset()
    """The metrics that look at samples."""

    @property
    def numbers(self) -> dict[str, Number]:
        """By name; of a metric measured twice with different settings, those of the first."""
        found: dict[str, Number] = {}
        for finding in self.findings.values():
            for number in finding.numbers:
                found.setdefault(number.name, number)
        return found

    @property
    def words(self) -> tuple[str, ...]:
        """What is wrong or not as it seems, in sentences."""
        return (*self.notes, *(text for finding in self.findings.values() for text in finding.words))

    @property
    def title(self) -> str:
        """What its files are called: the model's name and 8 digits of all that the numbers depend on."""
        depends = (self.digest, self.data, self.n, self.seeds, self.sampling, self.features, [*self.findings])
        return f"{_slug(self.model)}-{key_of(depends)[:8]}"

    def sheets(self, metric: str) -> dict[str, str]:
        """The files of the metric's pictures to look at, by their captions."""
        start = f"{self.title}-{_slug(metric.lower())}"
        return {caption: f"{start}-{k}.png" for k, caption in enumerate(self.findings[metric].sheets, 1)}

    def to_dict(self) -> dict[str, Any]:
        """The form written by `--json`; every number says on how many samples it rests, and on which features."""
        return _json(
            {
                "unstir": __version__,
                "model": self.model,
                "sha256": self.digest,
                "step": self.step,
                "data": self.data,
                "real": f"{self.data['real']}: {self.data['against']:,} items",
                "n": self.n,
                "seeds": self.seeds,
                "sampling": self.sampling,
                "features": self.features,
                "encoder": self.encoder,
                "numbers": [
                    {
                        "metric": metric,
                        **values_of(number),
                        "seeds": self.seeds if metric in self.sampled else None,
                    }
                    for metric, finding in self.findings.items()
                    for number in finding.numbers
                ],
                "findings": {
                    metric: {
                        "words": finding.words,
                        "rows": finding.rows,
                        "curves": finding.curves,
                        "sheets": self.sheets(metric),
                    }
                    for metric, finding in self.findings.items()
                },
                "skipped": self.skipped,
                "notes": self.notes,
                "seconds": {part: round(seconds, 2) for part, seconds in self.seconds.items()},
            }
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write TITLE.json and the sheets beside it into a folder; the paths, the .json first."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{self.title}.json"]
        for metric, finding in self.findings.items():
            for caption, file in self.sheets(metric).items():
                files.append(folder / file)
                write_atomic(files[-1], encode_png(finding.sheets[caption][None]))
        _write_json(files[0], self.to_dict())
        return files


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One assessment per variant of a model, all of the same seeds."""

    over: str
    variants: Mapping[float, Assessment]
    """At least one."""
    default: float
    """The variant that the model is sampled with unless told otherwise."""
    failed: Mapping[float, str] = field(default_factory=dict)
    """Why variants could not be measured."""

    @property
    def judged(self) -> dict[float, Number]:
        """The number that decides, of each variant: the first that says which way is better.

        Raises ConfigError where none does.
        """
        first = next(iter(self.variants.values())).numbers.values()
        by = next((number.name for number in first if number.better != "neither"), None)
        if by is None:
            raise ConfigError(
                f"none of {', '.join(number.name for number in first) or 'nothing'} says which {self.over} is better",
                field="metrics",
                hint="name another metric first, as metrics=fid,...",
            )
        found = {value: variant.numbers.get(by) for value, variant in self.variants.items()}
        return {value: number for value, number in found.items() if number and not math.isnan(number.value)}

    @property
    def best(self) -> float:
        """The variant with the best value of it."""
        return min(
            self.judged, key=lambda v: self.judged[v].value * (1 if self.judged[v].better == "low" else -1)
        )

    @property
    def words(self) -> tuple[str, ...]:
        """Which is best, and whether that is sure."""
        best, usual = self.judged[self.best], self.judged.get(self.default)
        words = [f"best {self.over}: {self.best:g}, {best.name} {_value(best)}"]
        if usual is not None and usual is not best:
            gap, room = abs(best.value - usual.value), math.hypot(_half(best), _half(usual))
            sure = "more" if gap > room else "no more"
            words[0] += (
                f", against {_value(usual)} at {self.default:g}, the default; they differ by {gap:.3g}, {sure} than "
                f"samples alone may make them ({room:.3g})"
            )
            words.append(
                f"the samples that chose the best of {len(self.variants)} flatter it: another seed= tells more"
            )
        return (*words, *(f"{self.over}={value:g}: {why}" for value, why in self.failed.items()))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One per variant: its value and those of all numbers."""
        return [
            {self.over: value} | {number.name: number.value for number in found.numbers.values()}
            for value, found in self.variants.items()
        ]

    @property
    def title(self) -> str:
        titles = [found.title for found in self.variants.values()]
        return f"{titles[0].rpartition('-')[0]}-{self.over}-{key_of(titles)[:8]}"

    def to_dict(self) -> dict[str, Any]:
        """The form written by `--json`: of the best variant, with the rows of all and each variant's numbers."""
        found = self.variants[self.best].to_dict()
        for word in ("findings", "skipped"):
            found.pop(word)
        return found | _json(
            {
                "sweep": {
                    "over": self.over,
                    "by": self.judged[self.best].name,
                    "best": self.best,
                    "default": self.default,
                    "rows": self.rows,
                    "words": self.words,
                    "variants": [
                        {self.over: value, "numbers": found.to_dict()["numbers"]}
                        for value, found in self.variants.items()
                    ],
                    "failed": [{self.over: value, "why": why} for value, why in self.failed.items()],
                }
            }
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write TITLE.json into a folder; its path."""
        path = Path(folder) / f"{self.title}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(path, self.to_dict())
        return [path]


def _value(number: Number) -> str:
    if number.low is None or number.high is None:
        return f"{number.value:.4g}"
    return f"{number.value:.4g} [{number.low:.4g}, {number.high:.4g}]"


def _half(number: Number) -> float:
    """Half of the interval; 0 where it is not known."""
    return 0.0 if number.low is None or number.high is None else (number.high - number.low) / 2


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_atomic(path, json.dumps(dict(document) | {"date": now}, indent=1, ensure_ascii=False).encode())


def _json(value: Any) -> Any:
    """Plain data that JSON has: NaN and infinity, which it lacks, are null."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        return _json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def values_of(component: Any) -> dict[str, Any]:
    return {f.name: getattr(component, f.name) for f in fields(component)}


def key_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(_json(value), sort_keys=True).encode()).hexdigest()


def _slug(name: str) -> str:
    """A name that a file can have."""
    name = Path(name).name.removesuffix(".npz").removesuffix(".safetensors")
    return re.sub(r"[^\w.=]+", "-", name).strip("-.") or "model"
