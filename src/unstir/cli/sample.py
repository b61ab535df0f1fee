"""`unstir sample`: from a model to pictures."""

from __future__ import annotations

import dataclasses
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Layer, build, read_file, settings
from ..errors import DataError
from .common import (
    Arguments,
    DryRun,
    Json,
    Quiet,
    SettingsFile,
    one_subject,
    progress,
    require_writable,
    say,
    show,
    split,
)

if TYPE_CHECKING:
    from ..pipeline import Pipeline
    from ..recipes import Request

__all__ = ["sample"]

USUAL = 16  # samples, where neither n nor prompts say how many
MANY = 100  # more than this do not fit on a sheet that a person looks at


def sample(
    arguments: Arguments = None,
    config: SettingsFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw samples from a model.

    The model is a run, RUN@STEP or a .safetensors file. out=FILE.png is a sheet (n=1: the bare picture),
    FILE.npz arrays x and seed, FILE.gif with movie=1 the denoising itself, DIR/ single files; left out,
    samples.png, or samples.npz for more than 100. Sample i depends on seed + i alone. Every file carries its
    recipe: unstir inspect FILE. All keys: unstir config sample

    \b
    Examples:
      unstir sample runs/digits
      unstir sample runs/digits n=16 steps=20 seed=7 solver=dpmpp2m guidance=2 label=3 out=threes.png
      unstir sample runs/digits n=4 out=denoise.gif movie=1
      unstir sample runs/digits n=2000 out=many.npz
      unstir sample emoji prompt="red heart" out=heart.png
      unstir sample emoji prompt="blue (heart:1.4) | green apple" negative=face guidance=4
    """
    subjects, pairs = split(arguments)
    model = one_subject(subjects, "model", 'unstir sample emoji prompt="red heart"')
    layers = [read_file(config)] if config else []
    chosen = settings("sample", [*layers, Layer("command line", pairs)])

    from ..modalities import check_path

    request = build("sample", chosen.values)
    prompts = read_prompts(request.prompt)
    n = request.n or len(prompts) or USUAL
    out = os.path.expanduser(request.out or _default_path(request, n))
    check_path(out, request.movie)
    require_writable(Path(out))

    from .. import load
    from ..recipes.keywords import sample_keywords

    pipe = load(model)
    if dry_run:
        plan = pipe.describe() | {"request": _planned(request, prompts, n, pipe), "out": out}
        show("\n".join(f"{k:<11}{v}" for k, v in plan.items() if k != "config"), plan, as_json)
        return
    tell = partial(say, quiet=quiet)
    if (left := len(prompts) - n) > 0:
        tell(f"note     n={n} is for the first {n} prompts; {left} more are left out")
    if pipe.config.prompt is not None and not prompts:
        tell("note     this model reads prompts and was given none: prompt=TEXT says what to draw")
    samples = pipe.sample(**sample_keywords(request, prompts, n, pipe), on_batch=progress(n, tell))
    path = samples.save(out)
    height, width = samples.images.shape[1:3] if samples.images.ndim == 4 else (1, samples.images.shape[1])
    tell(
        f"{len(samples)} of {width}x{height}, {samples.recipe['steps']} steps, {samples.evaluations} denoiser "
        f"calls, {samples.seconds:.1f} s, seed {samples.seeds[0]}..{samples.seeds[-1]}"
    )
    show(str(path), {"out": str(path), "recipe": samples.recipe, "seconds": samples.seconds}, as_json)


def _default_path(request: Request, n: int) -> str:
    if request.movie:
        return "samples.gif"
    return "samples.png" if n <= MANY else "samples.npz"


def read_prompts(text: str | None) -> list[str]:
    """ "one | two" -> both; "@FILE" -> its lines that are not empty; \\| is a bar, None nothing.

    Raises DataError where the file cannot be read or is empty.
    """
    if text is None:
        return []
    if not text.startswith("@"):
        return [part.strip().replace("\\|", "|") for part in re.split(r"(?<!\\)\|", text)]
    path = Path(text[1:]).expanduser()
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DataError(
            f"cannot read the prompts in {path}: {reason}", field="prompt", hint="one prompt a line"
        ) from None
    if not (found := [line for line in lines if line]):
        raise DataError(f"{path} has no prompts", field="prompt", hint="write one prompt a line")
    return found


def _planned(request: Request, prompts: list[str], n: int, pipe: Pipeline) -> dict[str, Any]:
    """The same with every default filled in, as plain data; raises what sampling would."""
    from ..recipes.keywords import sample_keywords
    from ..rng import Rng
    from ..spec import dump

    arguments, kind = sample_keywords(request, prompts, n, pipe), type(pipe.config.defaults)
    names = {f.name for f in dataclasses.fields(kind)}
    chosen = pipe.chosen({word: value for word, value in arguments.items() if word in names})
    pipe.check(chosen)
    pipe.asked(request.label, arguments["prompt"], Rng.of(request.seed, arguments["n"]), chosen)
    pipe.negative(chosen, request.negative)
    pipe.data_shape(request.size)
    return {word: value for word, value in arguments.items() if word not in names} | dump(chosen, kind)
