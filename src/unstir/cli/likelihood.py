"""`unstir likelihood`: how probable a model finds data."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Layer, build, settings
from ..errors import ConfigError, DataError, IncompatibleError, NumericError
from .common import Arguments, Json, Quiet, one_subject, progress, require_writable, say, show, split, table

if TYPE_CHECKING:
    from ..condition import Batch
    from ..data import Dataset
    from ..evaluate import Curve, Scores
    from ..likelihood import Estimate
    from ..pipeline import Pipeline
    from ..recipes import Scoring
    from ..rng import Rng

__all__ = ["likelihood"]

SELECTION = 16  # items of the training data that choose where the decoder takes over


def likelihood(arguments: Arguments = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Measure how probable a model finds data.

    In bits per dimension, fewer are more probable: an upper bound of -log2 p(x)/D by the variational bound
    in continuous time (method=bound) or of a chain (discrete), or by the probability-flow ODE (ode). The
    model is a run, RUN@STEP or a .safetensors file. out=FILE.csv or .npz keeps each item's score.
    against=DATA asks how well the scores tell other data from the first; roc=FILE.svg draws it.
    All keys: unstir config likelihood

    \b
    Examples:
      unstir likelihood runs/digits
      unstir likelihood runs/digits method=all n=50 --json
      unstir likelihood runs/clothes against=digits out=scores.csv roc=roc.svg
    """
    subjects, pairs = split(arguments)
    model = one_subject(subjects, "model", "unstir likelihood runs/digits")
    request = build("likelihood", settings("likelihood", [Layer("command line", pairs)]).values)
    _check(request)

    from .. import load
    from ..evaluate import roc

    pipe, tell = load(model), partial(say, quiet=quiet)
    pipe.condition(None)  # raises where the model has to be told of a picture
    _check_space(pipe)
    if request.variance == "learned" and not pipe.config.variance:
        raise IncompatibleError(
            f"variance=learned: {model} knows the mean of x_0, not its variance",
            field="variance",
            hint="use variance=lower or upper, or a model trained with objective=hybrid",
        )
    training, sets = _open(pipe, request)
    end = _best_end(pipe, request, training) if request.end is None else request.end
    found: dict[str, dict[str, Scores]] = {}
    rows = []
    for role, data in sets.items():
        found[role] = {}
        for method, way in _ways(pipe, request, end).items():
            tell(f"{method} of {data.info.source}")
            start = time.perf_counter()
            scores = found[role][method] = _scores(pipe, request, data, way, tell)
            rows.append(_row(data, method, scores, time.perf_counter() - start))
    curves = {
        method: roc(scores.bits.numpy(), found["against"][method].bits.numpy())
        for method, scores in found["data"].items()
        if "against" in sets
    }
    _write(request, sets, found, curves)
    report = {
        "model": pipe.name,
        "sha256": pipe.digest,
        "end": end,
        "scores": rows,
        "roc": {method: _plain(curve._asdict()) for method, curve in curves.items()},
        "out": request.out,
    }
    show(_text(rows, sets, curves), report, as_json)


def _check(request: Scoring) -> None:
    """Refuses, before anything is read, what cannot work together."""
    every, ode, alone = request.method == "all", request.method == "ode", request.against is None
    wrong = [
        (
            "steps",
            request.steps and (every or request.method == "bound"),
            "is for method=discrete or method=ode",
        ),
        ("draws", request.draws and every, "means another thing to each method"),
        (
            "variance",
            request.variance != "lower" and request.method in ("bound", "ode"),
            "is for method=discrete",
        ),
        (
            "dequantise",
            request.dequantise != "variational" and request.method in ("bound", "discrete"),
            "is for method=ode",
        ),
        ("draws", (request.draws or 0) % 2 and not ode, "is odd, and times come in pairs"),
        ("roc", request.roc and alone, "needs against=DATA"),
        ("roc", request.roc and every, "draws the curve of one method"),
        ("roc", request.roc and not request.roc.lower().endswith(".svg"), "is written as .svg"),
        (
            "out",
            request.out and not request.out.lower().endswith((".csv", ".npz")),
            "is written as .csv or .npz",
        ),
    ]
    for field, refused, reason in wrong:
        if refused:
            raise ConfigError(
                f"{field}={getattr(request, field)} {reason}", field=field, hint="unstir likelihood --help"
            )
    for path in (request.out, request.roc):
        if path is not None:
            require_writable(Path(path).expanduser())


def _check_space(pipe: Pipeline) -> None:
    """Raises IncompatibleError for a model of latents, whose bits are not those of what they stand for."""
    from ..codecs import Latent

    if isinstance(pipe.codec, Latent):
        raise IncompatibleError(
            f"{pipe.name} works in the latent space of an autoencoder: it knows how probable latents are, not pictures",
            field="model",
            hint="score a model of the data itself, trained without codec=; unstir evaluate compares the samples",
        )


# -- data --------------------------------------------------------------------------------------------------


def _open(pipe: Pipeline, request: Scoring) -> tuple[Dataset | None, dict[str, Dataset]]:
    """The model's own training items, where they are needed, and the sets to be scored."""
    own, config = pipe.config.source, pipe.config
    square = config.kind == "image" and config.shape[1] == config.shape[2]
    as_model = partial(
        _open_as, pipe, size=config.shape[1] if square else None, channels=config.shape[0] if square else None
    )
    training, sets = None, {}
    if request.data in (None, own):
        training, heldout = as_model(own, heldout=request.heldout)
        sets["data"] = heldout if len(heldout) else training
    else:
        sets["data"] = as_model(request.data, heldout=0)[0]
        if request.end is None:
            try:
                training = as_model(own, heldout=request.heldout)[0]
            except DataError as error:
                raise ConfigError(
                    f"the data that would choose end= cannot be read: {error}",
                    field="end",
                    hint="give it: end=9",
                ) from error
    if request.against is not None:
        sets["against"] = as_model(request.against, heldout=0)[0]
    for data in sets.values():
        if len(data) < 2:
            raise DataError(
                f"{data.info.source} has {len(data)} item to score", field="data", hint="give 2 or more"
            )
        if request.labels:
            _check_labels(pipe, data)
    return training, sets


def _open_as(pipe: Pipeline, source: str, **wanted: Any) -> tuple[Dataset, Dataset]:
    """Data in the model's own size and channels; raises IncompatibleError where it cannot be had so."""
    from ..data import open_data

    train, heldout = open_data(source, **wanted)
    if (train.info.kind, train.info.shape) != (pipe.config.kind, pipe.config.shape):
        raise IncompatibleError(
            f"{source} is {train.info.kind} of shape {train.info.shape}, the model's data "
            f"{pipe.config.kind} of shape {pipe.config.shape}",
            field="data",
            hint="give data of the model's kind; pictures are resized where the model's are square",
        )
    return train, heldout


def _check_labels(pipe: Pipeline, data: Dataset) -> None:
    """Raises IncompatibleError where the labels of the data are not the model's, or it has no captions for it."""
    names, classes = data.info.classes, pipe.config.classes
    if pipe.config.prompt is not None:
        if data.info.captions:
            return
        raise IncompatibleError(
            f"labels=1: {data.info.source} has no captions",
            field="labels",
            hint=f"{pipe.name} is told captions; leave labels out",
        )
    if not (names and set(names) <= set(classes)):
        raise IncompatibleError(
            f"labels=1: the classes of {data.info.source} are {', '.join(names) or 'none'}",
            field="labels",
            hint=f"those of the model are {', '.join(classes) or 'none'}; leave labels out",
        )


# -- scoring -----------------------------------------------------------------------------------------------


def _ways(pipe: Pipeline, request: Scoring, end: float) -> dict[str, Callable[[Batch, Rng], Estimate]]:
    from ..likelihood import bound, ode
    from ..objectives import Bound

    levels, draws = pipe.codec.levels, request.draws or 32
    continuous = Bound(variable=request.variable, levels=levels, end=end)
    chain = replace(continuous, steps=request.steps or 1000, variance=request.variance)
    ways: dict[str, Callable[[Batch, Rng], Estimate]] = {
        "bound": partial(bound, pipe.denoiser, objective=continuous, draws=draws),
        "discrete": partial(bound, pipe.denoiser, objective=chain, draws=draws),
        "ode": partial(
            ode,
            pipe.denoiser,
            levels=levels,
            end=end,
            dequantise=request.dequantise,
            steps=request.steps or 40,
            draws=request.draws or 2,
        ),
    }
    return {name: way for name, way in ways.items() if request.method in (name, "all")}


def _best_end(pipe: Pipeline, request: Scoring, training: Dataset | None) -> float:
    from ..assessment.losses import batches
    from ..data import spread
    from ..likelihood import best_end
    from ..rng import Rng

    assert training is not None
    rows = spread(len(training), SELECTION)
    batch = batches(pipe, training, rows, request.labels)(0, len(rows))
    rng = Rng.of(request.seed, len(rows)).fork("end").to(pipe.device)
    return best_end(pipe.denoiser, batch, rng, levels=pipe.codec.levels)


def _scores(
    pipe: Pipeline,
    request: Scoring,
    data: Dataset,
    way: Callable[[Batch, Rng], Estimate],
    tell: Callable[[str], None],
) -> Scores:
    from ..assessment.losses import batches
    from ..data import spread
    from ..evaluate import score

    rows = spread(len(data), request.n)
    scores = score(
        way,
        batches(pipe, data, rows, request.labels),
        len(rows),
        seed=request.seed,
        micro_batch=request.micro_batch,
        on_batch=progress(len(rows), tell),
    )
    if not bool(scores.bits.isfinite().all()):
        raise NumericError(
            f"the likelihood of {data.info.source} is not finite",
            field="model",
            hint="the model has diverged",
        )
    return scores


# -- what is told and written --------------------------------------------------------------------------------


def _row(data: Dataset, method: str, scores: Scores, seconds: float) -> dict[str, Any]:
    return {
        "data": data.info.source,
        "items": len(scores.bits),
        "method": method,
        "bits_per_dimension": scores.mean,
        "error": scores.mean_error,
        "draw_error": scores.draw_error,
        "terms": {name: value.mean().item() for name, value in scores.terms.items()},
        "seconds": seconds,
    }


def _text(rows: list[dict[str, Any]], sets: Mapping[str, Dataset], curves: Mapping[str, Curve]) -> str:
    head = ("data", "items", "method", "bits/dim", "± items", "± draws", "s/item", "of which")
    body = [
        (
            row["data"],
            row["items"],
            row["method"],
            f"{row['bits_per_dimension']:.3f}",
            f"{row['error']:.3f}",
            f"{row['draw_error']:.4f}",
            f"{row['seconds'] / row['items']:.3f}",
            ", ".join(f"{name} {value:.3f}" for name, value in row["terms"].items()),
        )
        for row in rows
    ]
    lines = [table(head, body)]
    for method, curve in curves.items():
        usual, strange = (data.info.source for data in sets.values())
        lines.append(
            f"{strange} told from {usual} by {method}: ROC area {curve.area:.3f} ± {curve.error:.3f}"
        )
    return "\n".join(lines)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}


def _write(
    request: Scoring,
    sets: Mapping[str, Dataset],
    found: Mapping[str, Mapping[str, Scores]],
    curves: Mapping[str, Curve],
) -> None:
    if request.roc is not None:
        ((method, curve),) = curves.items()
        _save(request.roc, curve.svg(method).encode())
    if request.out is None:
        return
    from ..data import spread

    columns: dict[str, list[Any]] = {"data": [], "item": []}
    for role, data in sets.items():
        names = data.names
        for row in spread(len(data), request.n):
            columns["data"].append(data.info.source)
            columns["item"].append(names[row])
        for method, scores in found[role].items():
            columns.setdefault(method, []).extend(scores.bits.tolist())
            columns.setdefault(f"{method}_error", []).extend(scores.error.tolist())
    if request.out.lower().endswith(".npz"):
        import numpy as np

        arrays: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
        archive = io.BytesIO()
        np.savez(archive, **arrays)
        _save(request.out, archive.getvalue())
        return
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    _save(request.out, text.getvalue().encode())


def _save(name: str, content: bytes) -> None:
    from ..files import write_atomic

    path = Path(name).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
