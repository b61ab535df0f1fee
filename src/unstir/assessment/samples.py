"""Samples of a model, kept on the disk so that they are drawn once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..embedders.weighting import escape, parse
from ..errors import CheckpointError, DataError
from ..evaluate import Drawn
from ..files import sha256, write_atomic
from ..modalities.image import encode_npz, read_recipe
from ..model import Defaults, find_model
from ..pipeline import Pipeline, Samples, load
from ..pipeline.base import SELF, words
from ..recipes import Evaluation
from ..recipes.base import Sampling
from ..rng import Rng
from ..spec import complete
from .result import key_of, values_of

__all__ = ["Draws", "draw", "prompts_of"]

USUAL = 1000
"""Samples, unless told otherwise."""


def draw(
    pipe: Pipeline,
    n: int,
    *,
    seed: int = 0,
    label: int | str | None = None,
    prompts: Sequence[str] | None = None,
    exact: bool = False,
    micro_batch: int = 100,
    on_batch: Callable[[int], None] | None = None,
    **sampling: Any,
) -> Drawn:
    """n samples of seeds seed, seed + 1, ..., `micro_batch` at once; `sampling` is what `Pipeline.sample` takes.

    Args:
        prompts: one for each, for a model that reads; captions of data by `prompts_of`.
    """

    def prompt(first: int, count: int) -> Sequence[str] | None:
        return None if prompts is None else prompts[first - seed : first - seed + count]

    drawn = _joined([*_parts(pipe, n, seed, label, prompt, exact, micro_batch, on_batch, sampling)])
    return drawn if prompts is None else replace(drawn, prompts=_plain(prompts))


def prompts_of(data: Dataset, seed: int, n: int) -> tuple[str, ...]:
    """n captions of the data, as often as training draws them, as prompts; the i-th depends on seed + i alone.

    Of items without a caption it is the empty prompt.
    """
    keys = Rng.of(seed, n).fork("prompt")
    items = keys.fork("item").integers(len(data), (n, 1))[:, 0].numpy()
    return tuple(map(escape, data.caption(items, keys.fork("caption"))))


class Draws:
    """What samples of a model are drawn with.

    Args:
        pipe: the model.
        request: how many, from which seed on, of which label.
        sampling: other settings of sampling than the request's.
        captions: what prompts are taken from, where the model reads.
    """

    def __init__(
        self,
        pipe: Pipeline,
        request: Evaluation,
        sampling: Sampling | None = None,
        captions: Dataset | None = None,
    ) -> None:
        self.pipe, self.request, self.n = pipe, request, request.n or USUAL
        self._captions = captions
        given, defaults = values_of(sampling or request.sampling), pipe.config.defaults
        components = {word: complete(given[word], getattr(defaults, word)) for word in ("solver", "rule")}
        self.given: dict[str, Any] = given | components
        """Keywords of `Pipeline.sample`."""

    @cached_property
    def chosen(self) -> Defaults:
        """Every setting of sampling; raises what sampling would raise for them."""
        chosen = self.pipe.chosen(self.given)
        self.pipe.check(chosen)
        return chosen

    def check(self) -> None:
        """Raises what drawing would raise, by drawing one."""
        request = self.request
        wish: dict[str, Any] = {
            "label": request.label,
            "prompt": request.prompt or self.prompt(request.seed, 1),
        }
        self.pipe.sample(n=1, seed=request.seed, exact=False, **wish, **self.given)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What labels of samples stand for."""
        return (load(self.chosen.classifier) if self.chosen.classifier else self.pipe).config.classes

    @property
    def label(self) -> str | None:
        """The class that was asked for; raises ConfigError where there is no such class."""
        if self.request.label is None:
            return None
        number = self.pipe.labels(self.request.label, Rng.of(0, 1), self.chosen)
        assert number is not None, "where there are no classes, none can be asked for"
        return self.classes[int(number)]

    @property
    def labels(self) -> np.ndarray | None:
        """(n,) int64: of which class each sample will be."""
        if self.pipe.config.prompt is not None:
            return None
        found = self.pipe.labels(self.request.label, Rng.of(self.request.seed, self.n), self.chosen)
        return None if found is None else found.numpy()

    def prompt(self, first: int, count: int) -> Sequence[str] | None:
        """The prompts of seeds first, first + 1, ...; None: the model reads none."""
        if self.pipe.config.prompt is None:
            return None
        if self.request.prompt is not None:
            return [self.request.prompt] * count
        return [""] * count if self._captions is None else prompts_of(self._captions, first, count)

    @cached_property
    def texts(self) -> tuple[str, ...] | None:
        """What each sample will be asked to show, in plain words."""
        prompts = self.prompt(self.request.seed, self.n)
        return None if prompts is None else _plain(prompts)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that samples depend on, besides the model and their seeds."""
        request, chosen = self.request, self.chosen
        own: dict[str, Any] = {
            "exact": request.exact,
            "micro_batch": chosen.micro_batch if request.exact else request.micro_batch,
        }
        if request.label is not None:
            own["label"] = request.label
        if request.prompt is not None:
            own["prompt"] = request.prompt
        elif self.pipe.config.prompt is not None and self._captions is not None:
            own["prompts"] = f"{request.prompts} {self._captions.info.fingerprint[:12]}"
        if others := _others(chosen):  # their files may change under the same name
            own["others"] = {name: sha256(find_model(name)) for name in others}
        return words(chosen, self.pipe.config.defaults, None) | own

    def path(self, folder: Path | None) -> Path | None:
        """The file in the folder that keeps such samples, however many; None: a model in memory has none."""
        depends = (self.pipe.digest, self.request.seed, self.settings)
        return folder / f"samples-{key_of(depends)[:12]}.npz" if folder and self.pipe.digest else None

    def kept(self, path: Path | None) -> Samples | None:
        """What the file keeps; None: nothing; raises DataError where it is damaged."""
        if path is None or not path.is_file():
            return None
        try:
            recipe = read_recipe(path)
            with np.load(path, allow_pickle=False) as arrays:
                x, seeds = arrays["x"], arrays["seed"].tolist()
                labels = arrays["y"].tolist() if "y" in arrays else None
        except Exception as error:  # what a damaged file makes numpy raise has no end
            raise DataError(f"{path} cannot be read: {error}", field="out", hint="remove it") from error
        if recipe.get("model_sha256") != self.pipe.digest or len(seeds) != len(x):
            raise DataError(f"{path} holds something else", field="out", hint="remove it")
        return Samples(x, seeds, labels, recipe, 0, 0.0)

    def draw(
        self,
        folder: Path | None,
        say: Callable[[str], None],
        progress: Callable[[int], Callable[[int], None]],
    ) -> Drawn:
        """n samples of seeds seed, seed + 1, ...: those kept from another time, and the rest drawn now."""
        path, parts = self.path(folder), []
        try:
            found = self.kept(path)
        except DataError as error:
            say(f"samples    {error.message}; they are drawn again")
            found = None
        if found is not None:
            say(f"samples    {min(len(found), self.n):,} were drawn before: {path}")
            parts.append(found)
        have, request = len(found or ()), self.request
        if have < self.n:
            say(f"draw       {self.n - have:,} samples")
        try:
            for part in _parts(
                self.pipe,
                self.n - have,
                request.seed + have,
                request.label,
                self.prompt,
                request.exact,
                request.micro_batch,
                progress(max(self.n - have, 1)),
                self.given,
            ):
                parts.append(part)
        finally:  # an hour's work is not lost to Ctrl-C
            if path is not None and sum(map(len, parts)) > have:
                _keep(path, parts, self.settings, say)
        drawn = _joined(parts)
        y = None if drawn.y is None else drawn.y[: self.n]
        return Drawn(drawn.x[: self.n], y, (request.seed, request.seed + self.n - 1), self.texts)


def _parts(
    pipe: Pipeline,
    n: int,
    seed: int,
    label: int | str | None,
    prompt: Callable[[int, int], Sequence[str] | None],
    exact: bool,
    micro_batch: int,
    on_batch: Callable[[int], None] | None,
    given: Mapping[str, Any],
) -> Iterator[Samples]:
    if not exact:  # then the model's own micro-batch is nothing that samples depend on
        defaults = replace(pipe.config.defaults, micro_batch=micro_batch)
        pipe = Pipeline(
            replace(pipe.config, defaults=defaults), pipe.module, pipe.digest, pipe.name, pipe.codec
        )
    for first in range(0, n, micro_batch):
        count = min(micro_batch, n - first)
        wish: dict[str, Any] = {"label": label, "prompt": prompt(seed + first, count)}
        yield pipe.sample(n=count, seed=seed + first, exact=exact, **wish, **given)
        if on_batch is not None:
            on_batch(first + count)


def _joined(parts: Sequence[Samples]) -> Drawn:
    x = np.concatenate([part.images for part in parts])
    y = [np.asarray(part.labels, np.int64) for part in parts if part.labels is not None]
    return Drawn(x, np.concatenate(y) if y else None, (parts[0].seeds[0], parts[-1].seeds[-1]))


def _plain(prompts: Sequence[str]) -> tuple[str, ...]:
    """Prompts in plain words, without weights."""
    return tuple(parse(prompt).text for prompt in prompts)


def _keep(
    path: Path, parts: Sequence[Samples], settings: Mapping[str, Any], say: Callable[[str], None]
) -> None:
    """Writes the samples with their recipe; a disk that refuses them costs only the next time."""
    drawn, seeds = _joined(parts), [seed for part in parts for seed in part.seeds]
    recipe = parts[0].recipe | {"n": len(drawn), "seed": seeds[0]}
    if "prompts" in settings:  # which they were follows from the data; a list of them all may be long
        recipe |= {"prompt": None, "prompts": settings["prompts"]}
    labels = None if drawn.y is None else drawn.y.tolist()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, encode_npz(drawn.x, recipe, seeds, labels))
    except (OSError, CheckpointError) as error:
        say(f"samples    are not kept: {error}")


def _others(chosen: Defaults) -> list[str]:
    """The models that are asked besides: by guidance, and to decode."""
    decoder = [chosen.decoder] if chosen.decoder else []
    if chosen.classifier:
        return [chosen.classifier, *decoder]
    own = chosen.weaker.partition(":")[0] in ("unconditional", *SELF)
    return decoder if chosen.guidance == 1 or own else [chosen.weaker, *decoder]
