"""What `edit`, `upscale` and `restore` share: their inputs, what a pipeline is told, and what is said and written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Layer, build, read_file, settings
from ..errors import ConfigError
from .common import model_and_input, require_writable, say, show, split

if TYPE_CHECKING:
    import numpy as np

    from ..data.picture import Picture
    from ..pipeline import Pipeline
    from ..pipeline.restoration import Restored

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One call of such a verb.

    Args:
        model: as it was given.
        input: the path of the picture or array.
        request: the verb's settings, a `recipes.editing.Drawing`.
        out: the path of the result.
        as_json: print it as JSON.
        quiet: say nothing else.
    """

    model: str
    input: str
    request: Any
    out: str
    as_json: bool
    quiet: bool

    @classmethod
    def of(
        cls, verb: str, arguments: Sequence[str] | None, config: Path | None, as_json: bool, quiet: bool
    ) -> Job:
        """What a command line asks for, checked as far as that goes without the model."""
        subjects, pairs = split(arguments)
        model, source = model_and_input(subjects, f"unstir {verb} runs/photos in.png")
        layers = [read_file(config)] if config else []
        chosen = settings(verb, [*layers, Layer("command line", pairs)])

        request = build(verb, chosen.values)  # type: ignore[call-overload]
        source = os.path.expanduser(source)
        out = os.path.expanduser(request.out or f"{Path(source).stem}-{verb.rstrip('e')}ed.png")
        job = cls(model, source, request, out, as_json, quiet)
        job._check()
        return job

    def _check(self) -> None:
        from ..modalities import check_path

        if Path(self.out).suffix.lower() == ".gif":
            raise ConfigError(
                f"cannot write {self.out}: there is no movie of it", field="out", hint="use .png or .npz"
            )
        check_path(self.out)
        named = (getattr(self.request, word, None) for word in ("mask", "kernel", "reference"))
        inputs = [self.input, *(os.path.expanduser(path) for path in named if path is not None)]
        taken = {os.path.realpath(path) for path in inputs}
        if lost := next((path for path in self._results() if os.path.realpath(path) in taken), None):
            raise ConfigError(f"{lost} is an input and would be lost", field="out", hint="give another out=")
        require_writable(Path(self.out))
        if self.request.uncertainty and self.request.n == 1:
            raise ConfigError(
                "uncertainty=1 with n=1: one sample does not show how much samples differ",
                field="uncertainty",
                hint="ask for several: n=8 uncertainty=1",
            )

    def _results(self) -> list[Path]:
        words = ["mean.png", "uncertainty.png"] * self.request.uncertainty
        words += ["measured.npy", "measured.png"] * getattr(self.request, "simulate", False)
        return [Path(self.out), *map(self._beside, words)]

    def _beside(self, word: str) -> Path:
        out = Path(self.out)
        inside = self.out.endswith("/") or not out.suffix
        return out / word if inside else out.with_name(f"{out.stem}-{word}")

    def tell(self, text: str) -> None:
        say(text, self.quiet)

    # -- inputs ----------------------------------------------------------------------------------------------
    def read(self, path: str, field: str) -> Picture:
        """The picture of a file; what was converted is said aloud."""
        from ..data.picture import read_picture

        found = read_picture(os.path.expanduser(path), field)
        for note in found.notes:
            self.tell(note)
        return found

    def converted(self, path: str, found: Picture, channels: int) -> np.ndarray:
        """The picture in so many channels; a change of colour is said aloud."""
        if channels == 1 and not found.grey:
            self.tell(f"{path}: in colour, converted to grey as the model needs it")
        if channels == 3 and found.grey:
            self.tell(f"{path}: grey, taken as colour as the model needs it")
        return found.of(channels)

    def picture(self, path: str, pipe: Pipeline, field: str = "input") -> np.ndarray:
        """The picture of a file with the model's channels, uint8 (H, W, C)."""
        return self.converted(path, self.read(path, field), 1 if pipe.config.shape[0] == 1 else 3)

    def mask(self, size: tuple[int, ...]) -> np.ndarray:
        """The mask that was asked for, bool (H, W), true where it is white."""
        from ..data.picture import read_mask

        found, notes = read_mask(os.path.expanduser(self.request.mask), size)
        for note in notes:
            self.tell(note)
        return found

    # -- what a pipeline is told -----------------------------------------------------------------------------
    def keywords(self, pipe: Pipeline) -> dict[str, Any]:
        """What `Pipeline.edit`, `upscale` and `restore` have in common."""
        from ..spec import complete

        request, sampling = self.request, self.request.sampling
        given = {f.name: getattr(sampling, f.name) for f in fields(sampling)}
        given = {word: value for word, value in given.items() if value is not None}
        for word in given.keys() & {"solver", "rule"}:
            given[word] = complete(given[word], getattr(pipe.config.defaults, word))
        method = "auto" if request.method is None else complete(request.method, None)
        shared = {
            word: getattr(request, word) for word in ("n", "seed", "label", "negative", "tile", "overlap")
        }
        return shared | given | {"method": method, "on_step": _every_few_seconds(self.tell)}

    def show_plan(self, pipe: Pipeline, shape: tuple[int, ...]) -> None:
        """What would be done to an input of this shape."""
        from ..spec import dump

        request = dump(self.request, type(self.request))
        plan = pipe.describe() | {"input": f"{self.input} {shape}", "request": request, "out": self.out}
        text = "\n".join(f"{word:<11}{value}" for word, value in plan.items() if word != "config")
        show(text, plan, self.as_json)

    # -- results ---------------------------------------------------------------------------------------------
    def write(self, word: str, content: bytes) -> Path:
        """Writes a further result beside `out`, or into it where it is a folder; returns its path."""
        from ..files import write_atomic

        path = self._beside(word)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
        return path

    def report(self, restored: Restored, more: dict[str, Path] | None = None, **about: Any) -> None:
        """Writes the results and says how they came to be.

        Args:
            restored: what came of it.
            more: further files that have been written, by what they hold.
            about: what the recipe says besides, such as the names of files as they were given; None: nothing.
        """
        from ..modalities.image import encode_png, with_scale

        about |= {"input": self.input, "uncertainty": self.request.uncertainty or None}
        recipe = restored.recipe | {word: value for word, value in about.items() if value is not None}
        restored = replace(restored, recipe=recipe)
        files = {"out": restored.save(self.out)} | (more or {})
        if self.request.uncertainty:
            assert restored.mean is not None
            assert restored.uncertainty is not None
            shown = with_scale(restored.uncertainty, "grey levels")
            for word, image in (("mean", restored.mean), ("uncertainty", shown)):
                files[word] = self.write(f"{word}.png", encode_png(image[None], recipe))
        for line in _lines(restored):
            self.tell(line)
        paths = {word: str(path) for word, path in files.items()}
        words = ("method", "reason", "consistency", "psnr", "ssim", "evaluations", "seconds")
        told = {"recipe": recipe} | {word: getattr(restored, word) for word in words}
        show("\n".join(paths.values()), paths | told, self.as_json)


def _every_few_seconds(tell: Callable[[str], None], interval: float = 5.0) -> Callable[[Any], None]:
    """What says at steps that work goes on."""
    begin = shown = time.monotonic()
    count = 0

    def on_step(_: Any) -> None:
        nonlocal count, shown
        count += 1
        now = time.monotonic()
        if now - shown >= interval:
            shown = now
            tell(f"step {count:,}  {now - begin:.0f} s")

    return on_step


def _lines(restored: Restored) -> list[str]:
    height, width = restored.images.shape[1:3]
    n, first, last = len(restored.images), restored.seeds[0], restored.seeds[-1]
    lines = [
        f"method       {restored.method}: {restored.reason}",
        f"drawn        {n} of {width}x{height}, {restored.recipe['steps']} steps, {restored.evaluations} denoiser "
        f"calls, {restored.seconds:.1f} s, seed {first}" + (f"..{last}" if n > 1 else ""),
    ]
    if restored.consistency:
        noise = f"; the noise alone is {127.5 * std:.2f}" if (std := restored.recipe.get("std")) else ""
        lines.append(
            f"consistency  |A x - y| {_spread(restored.consistency, '.2f')} grey levels of 255{noise}"
        )
    if restored.psnr and restored.ssim:
        lines.append(
            f"quality      PSNR {_spread(restored.psnr, '.2f')} dB, SSIM {_spread(restored.ssim, '.3f')}"
        )
    if (deviation := restored.uncertainty) is not None:
        lines.append(
            f"uncertainty  {deviation.mean():.1f} grey levels on average, {deviation.max():.1f} at most"
        )
    return lines


def _spread(values: Sequence[float], form: str) -> str:
    """The mean, and of several also the ends."""
    mean = format(sum(values) / len(values), form)
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"
