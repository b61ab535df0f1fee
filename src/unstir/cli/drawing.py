"""What `edit`, `upscale` and `restore` share: their inputs, what a pipeline is told, and what is said and written."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import settings_of
from ..config import Layer, build, read_file, settings
from ..errors import ConfigError
from .common import model_and_input, require_writable, say, show, split, table

if TYPE_CHECKING:
    import numpy as np

    from ..data.picture import Picture
    from ..pipeline import Pipeline
    from ..pipeline.restoration import Drawing, Restored, Wish

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One call of such a verb.

    Args:
        model: as it was given.
        verb: which of them it is.
        input: the path of the picture or array.
        request: the verb's settings, a `recipes.editing.Drawing`.
        given: those of them that were asked for, as plain data.
        out: the path of the result.
        dry_run: draw nothing, say what would be drawn.
        as_json: print it as JSON.
        quiet: say nothing else.
    """

    model: str
    verb: str
    input: str
    request: Any
    given: Mapping[str, Any]
    out: str
    dry_run: bool
    as_json: bool
    quiet: bool

    @classmethod
    def of(
        cls,
        verb: str,
        arguments: Sequence[str] | None,
        config: Path | None,
        dry_run: bool,
        as_json: bool,
        quiet: bool,
    ) -> Job:
        """What a command line asks for, checked as far as that goes without the model."""
        subjects, pairs = split(arguments)
        model, source = model_and_input(subjects, f"unstir {verb} runs/photos in.png")
        layers = [read_file(config)] if config else []
        chosen = settings(verb, [*layers, Layer("command line", pairs)])

        request = build(verb, chosen.values)  # type: ignore[call-overload]
        if _is_input(model) and not _is_input(source):
            say(f"{model} is no model: taken as the input, and {source} as the model", quiet)
            model, source = source, model
        source = os.path.expanduser(source)
        if request.out is not None and not request.out.strip():
            raise ConfigError("out= is empty", field="out", hint="leave it out, or give out=FILE.png")
        out = os.path.expanduser(request.out or f"{Path(source).stem}-{verb.rstrip('e')}ed.png")
        job = cls(model, verb, source, request, chosen.values, out, dry_run, as_json, quiet)
        job._check()
        return job

    def _check(self) -> None:
        ending = "" if self._is_folder else Path(self.out).suffix.lower()
        if ending not in ("", ".png", ".npz"):
            reason = "there is no movie of it" if ending == ".gif" else f"unknown ending '{ending}'"
            raise ConfigError(
                f"cannot write {self.out}: {reason}",
                field="out",
                hint="use .png (a sheet of several), .npz (arrays) or a folder/",
            )
        named = (getattr(self.request, word, None) for word in ("mask", "kernel", "reference"))
        inputs = [self.input, *(os.path.expanduser(path) for path in named if path is not None)]
        taken = {os.path.realpath(path) for path in inputs}
        results = self._results()
        if lost := next((path for path in results if os.path.realpath(path) in taken), None):
            raise ConfigError(f"{lost} is an input and would be lost", field="out", hint="give another out=")
        if folder := next((path for path in results if path.is_dir()), None):
            raise ConfigError(f"{folder} is a folder", field="out", hint=f"write into it with out={folder}/")
        require_writable(results[0])
        if self.request.uncertainty and self.request.n == 1:
            raise ConfigError(
                "uncertainty=1 with n=1: one sample does not show how much samples differ",
                field="uncertainty",
                hint="ask for several: n=8 uncertainty=1",
            )

    @property
    def _is_folder(self) -> bool:
        return self.out.endswith("/") or not Path(self.out).suffix

    def _results(self) -> list[Path]:
        """Every file that is going to be written."""
        from ..modalities.image import single_name

        words = ["mean.png", "uncertainty.png"] * self.request.uncertainty
        words += ["measured.npy", "measured.png"] * getattr(self.request, "simulate", False)
        if self._is_folder:
            seeds = range(self.request.seed, self.request.seed + self.request.n)
            return [Path(self.out) / name for name in [*map(single_name, seeds), *words]]
        return [Path(self.out), *map(self._beside, words)]

    def _beside(self, word: str) -> Path:
        out = Path(self.out)
        return out / word if self._is_folder else out.with_name(f"{out.stem}-{word}")

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
        return self.converted(path, self.read(path, field), 1 if pipe.config.size[0] == 1 else 3)

    def mask(self, size: tuple[int, ...], meaning: str) -> np.ndarray:
        """The mask that was asked for, bool (H, W), true where it is painted; how it was read is said aloud."""
        from ..data.picture import read_mask

        found, notes = read_mask(os.path.expanduser(self.request.mask), size, meaning)
        for note in notes:
            self.tell(note)
        return found

    # -- what a pipeline is told -----------------------------------------------------------------------------
    def wish(self, pipe: Pipeline, strength: float | None = None) -> Wish:
        """What `Pipeline.edit`, `upscale` and `restore` have in common."""
        from ..recipes.keywords import wish_of

        return wish_of(self.request, pipe, strength)

    # -- drawing ---------------------------------------------------------------------------------------------
    def draw(self, drawing: Drawing) -> Restored | None:
        """What comes of it; None where this is a dry run."""
        plan = drawing.words() | {"steps": len(drawing.plan.nodes) - 1}
        if self.dry_run:
            self._show_plan(drawing.pipe.describe(), plan)
            return None
        on_step = _every_few_seconds(self.tell, plan["steps"])
        return replace(drawing, wish=replace(drawing.wish, on_step=on_step)).draw()

    def _show_plan(self, model: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        asked = {word: value for word, value in self.given.items() if word not in ("sampling", "out")}
        asked |= self.given.get("sampling", {})
        height, width = plan["size"]
        rows = {
            "model": f"{model['name']}, {model['parameters']:,} parameters",
            "input": self.input,
            "settings": " ".join(settings_of(asked, self.verb)) or "none",
            "size": f"{width}x{height}",
            "method": f"{plan['method']}: {plan['reason']}",
            "steps": plan["steps"],
            "windows": plan["windows"],
            "out": self.out,
        }
        data = {**model} | {"input": self.input, "request": self.given, "plan": plan, "out": self.out}
        show(table(("", ""), rows.items()).strip("\n"), data, self.as_json)

    # -- results ---------------------------------------------------------------------------------------------
    def _write(self, word: str, content: bytes) -> Path:
        """Writes a further result beside `out`, or into it where it is a folder."""
        from ..files import write_atomic

        path = self._beside(word)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
        return path

    def report(
        self,
        restored: Restored,
        measured: tuple[np.ndarray, np.ndarray | None] | None = None,
        **about: Any,
    ) -> None:
        """Writes the results and says how they came to be.

        Args:
            restored: what came of it.
            measured: where it was simulated, y and the same as pictures (1, H, W, C), where it is one.
            about: what the recipe says besides, such as the names of files as they were given; None: nothing.
        """
        import numpy as np

        from ..modalities.image import encode_png, with_scale

        about |= {"input": self.input, "uncertainty": self.request.uncertainty or None}
        about |= {"simulate": measured is not None or None}
        recipe = restored.recipe | {word: value for word, value in about.items() if value is not None}
        whole = replace(restored, recipe=recipe)
        if measured is not None and self._is_folder:  # each alone is made of the same y, whatever its seed
            of_y = {word: value for word, value in recipe.items() if word != "simulate"}
            whole.recipe = of_y | {"input": str(self._beside("measured.npy"))}
        files = {"out": whole.save(self.out)}
        pictures: dict[str, np.ndarray] = {}
        if measured is not None:
            content = io.BytesIO()
            np.save(content, measured[0])
            files["y"] = self._write("measured.npy", content.getvalue())
            pictures |= {} if measured[1] is None else {"measured": measured[1]}
        if self.request.uncertainty:
            assert restored.mean is not None
            assert restored.uncertainty is not None
            shown = with_scale(restored.uncertainty, "grey levels")
            pictures |= {"mean": restored.mean[None], "uncertainty": shown[None]}
        for word, picture in pictures.items():
            files[word] = self._write(f"{word}.png", encode_png(picture, recipe | {"part": word}))
        for line in _lines(restored):
            self.tell(line)
        paths = {word: str(path) for word, path in files.items()}
        words = ("method", "reason", "consistency", "psnr", "ssim", "noise", "evaluations", "seconds")
        told = {"recipe": recipe} | {word: getattr(restored, word) for word in words}
        show("\n".join(paths.values()), paths | told, self.as_json)


def _is_input(path: str) -> bool:
    """Whether it is a file, and none that a model is kept in."""
    path = os.path.expanduser(path)
    return os.path.isfile(path) and not path.endswith(".safetensors")


def _every_few_seconds(
    tell: Callable[[str], None], steps: int, interval: float = 5.0
) -> Callable[[Any], None]:
    """What says how far work is; samples that do not fit in memory at once take as many steps once more."""
    begin = shown = time.monotonic()
    count = 0

    def on_step(_: Any) -> None:
        nonlocal count, shown
        count += 1
        now = time.monotonic()
        if now - shown >= interval:
            shown = now
            rounds, step = divmod(count - 1, steps)
            again = f", round {rounds + 1}" if rounds else ""
            tell(f"step {step + 1:,} of {steps:,}{again}  {now - begin:.0f} s")

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
        noise = f"; the noise alone is {restored.noise:.2f}" if restored.noise else ""
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
