"""`unstir evaluate`: what a model is worth, in numbers that say how sure they are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import settings_of
from ..config import Layer, build, read_file, settings
from ..errors import ConfigError, UnstirError
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
    table,
)
from .sample import read_prompts

if TYPE_CHECKING:
    from ..assessment import Assessment, Sweep
    from ..evaluate import Number

__all__ = ["evaluate"]


def evaluate(
    arguments: Arguments = None,
    config: SettingsFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how good a model's samples are.

    Samples are drawn once, kept, and compared with what the model was trained on. Every number comes with its
    95% interval, and with how many samples it rests on. The model is a run, RUN@STEP or a .safetensors file;
    in its place may stand samples from elsewhere, an .npz file or a folder, with data=. metrics=fid,prdc:k=3
    measures these alone; sweep=guidance, steps or ema compares variants of a model. The results go to
    RUN/eval and into RUN/report.html. All keys: unstir config evaluate

    \b
    Examples:
      unstir evaluate runs/digits
      unstir evaluate runs/digits n=10000 metrics=fid,kid,prdc:k=3 --json
      unstir evaluate runs/digits sweep=guidance values=1,2,4
      unstir evaluate theirs.npz data=photos/ features=inception.onnx
    """
    subjects, pairs = split(arguments)
    model = one_subject(subjects, "model", "unstir evaluate runs/digits")
    layers = [read_file(config)] if config else []
    request = build("evaluate", settings("evaluate", [*layers, Layer("command line", pairs)]).values)
    if request.out is not None:
        require_writable(Path(request.out).expanduser() / "results")
    if len(prompts := read_prompts(request.prompt)) > 1:
        raise ConfigError(
            f"prompt= names {len(prompts)} prompts, and one is evaluated at a time",
            field="prompt",
            hint="give one; without prompt= samples are of the data's own captions",
        )
    request = replace(request, prompt=prompts[0] if prompts else None)

    from ..assessment import on_bench

    tell = partial(say, quiet=quiet)
    bench = on_bench(model, request, tell, lambda n: progress(n, tell))
    if dry_run:
        plan = bench.plan()
        show(_of_plan(plan), plan, as_json)
        return
    if bench.folder is not None:
        require_writable(bench.folder / "results")
    found = bench.sweep() if request.sweep else bench.assess()
    files = found.save(bench.folder) if bench.folder else []
    run = bench.subject.run
    if run is not None and bench.folder == bench.subject.folder:
        _report(run, tell)
    text = _of_sweep(found) if request.sweep else _of_one(found)  # type: ignore[arg-type]
    written = {"files": [str(path) for path in files]}
    show(text + "".join(f"\nwritten    {path}" for path in files), found.to_dict() | written, as_json)


def _report(run: Path, tell: Any) -> None:
    """The run's page, with the new numbers in it."""
    from ..report import write_report

    try:
        tell(f"report     {write_report(run)}")
    except UnstirError as error:  # the numbers are there all the same
        tell(f"report     is not written: {error.message}")


def _of_plan(plan: dict[str, Any]) -> str:
    data, skipped = plan["data"], plan["skipped"]
    lines = {
        "data": f"{data['source']}, {data['real']}: {data['against']:,} items, {data['heldout']:,} held out",
        "features": plan["features"],
        "measure": ", ".join(plan["metrics"]),
        "results in": plan["out"],
    }
    lines |= {"leave out": ", ".join(skipped)} if skipped else {}
    if "seeds" in plan:
        first, last = plan["seeds"]
        own = {word: value for word, value in plan["sampling"].items() if word != "others"}
        lines["samples"] = f"{plan['n']:,}, seeds {first} to {last}; {plan['kept']:,} were drawn before"
        lines["sampling"] = " ".join(settings_of(own))
        lines["drawing"] = f"about {plan['seconds']:,.0f} s, {plan['evaluations']} evaluations each"
    if plan.get("sweep"):
        ((over, values),) = plan["sweep"].items()
        lines["sweep"] = f"{over} " + ", ".join(f"{value:g}" for value in values)
    return "\n".join(f"{word:<11}{text}" for word, text in lines.items())


def _of_one(found: Assessment) -> str:
    rows = [_row(metric, number) for metric, finding in found.findings.items() for number in finding.numbers]
    lines = [table(("metric", "value", "95%", "n", "against", "better", ""), rows), ""]
    lines += [f"note       {text}" for text in found.words]
    lines += [f"left out   {metric}: {why}" for metric, why in found.skipped.items()]
    lines += [_about(found)]
    return "\n".join(lines)


def _row(metric: str, number: Number) -> tuple[object, ...]:
    return (
        number.name,
        number.value,
        "" if number.low is None or number.high is None else f"{number.low:.4g} to {number.high:.4g}",
        f"{number.n:,}",
        f"{number.against:,}" if number.against else "",
        "" if number.better == "neither" else number.better,
        number.note,
    )


def _of_sweep(found: Sweep) -> str:
    first = next(iter(found.variants.values()))
    names = list(first.numbers)
    rows = [
        (
            f"{value:g}" + " *" * (value == found.best) + " (default)" * (value == found.default),
            *(_short(each.numbers.get(name)) for name in names),
        )
        for value, each in found.variants.items()
    ]
    lines = [table((found.over, *names), rows), "", *found.words, _about(first)]
    return "\n".join(lines)


def _short(number: Number | None) -> str:
    if number is None or number.low is None or number.high is None:
        return "-" if number is None else f"{number.value:.4g}"
    return f"{number.value:.4g} ± {(number.high - number.low) / 2:.2g}"


def _about(found: Assessment) -> str:
    seeds = f", seeds {found.seeds[0]} to {found.seeds[1]}" if found.seeds else ""
    drawn = f"{found.n:,} samples{seeds}, against {found.data['real']}: " if found.n else ""
    features = f"\nfeatures   {found.encoder} ({found.features})" if found.n else ""
    return f"compared   {drawn}{found.data['against']:,} items of {found.data['source']}{features}"
