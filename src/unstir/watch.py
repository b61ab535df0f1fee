"""What looks at a run while it trains: held-out loss, previews, measured samples, the best step, an early end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .assessment import draw, prompts_of
from .assessment.autoencoding import decode
from .codecs import Latent
from .data import Dataset, spread
from .embedders.weighting import escape
from .errors import CheckpointError, ConfigError, NumericError, UnstirError, did_you_mean
from .evaluate import (
    FID,
    KID,
    PRDC,
    Drawn,
    Encoder,
    Evidence,
    Memorisation,
    Metric,
    Raw,
    embedded,
    encoder_for,
    heldout_loss,
    similarities,
)
from .files import remove_leftovers, write_atomic
from .layers import cropped
from .modalities.image import encode_png, per_class
from .pipeline import Pipeline
from .recipes import Recipe
from .rng import Rng
from .sampling import sample
from .train import MetricsLog, Trainer, Training
from .train.checkpoint import go_back, mark_best

if TYPE_CHECKING:
    from .runs import Job

__all__ = [
    "BETTER",
    "Examination",
    "Judge",
    "Measured",
    "Watch",
    "check",
    "end_early",
    "ended",
    "judged",
    "read_metrics",
    "restored",
]

_log = logging.getLogger(__name__)

METRICS: dict[Metric, dict[str, str]] = {
    FID(): {"fid": "low"},
    KID(): {"kid": "low"},
    PRDC(): {"precision": "high", "recall": "high", "density": "high", "coverage": "high"},
    Memorisation(): {"copied": "low", "memorised": "low"},
}
"""What is measured of samples while a model trains: the numbers of each metric, and which way they are better."""
LOSS = "heldout_loss"
BETTER = {LOSS: "low", **{name: way for names in METRICS.values() for name, way in names.items()}}
"""The numbers that a step can be the best in."""
LOOKED_AT = 200
"""Held-out items that an autoencoder decodes while it trains."""
SEED = 2000
"""Of the samples that are measured: the same at each step, so that steps can be compared."""


# -- the log -----------------------------------------------------------------------------------------------
def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a line torn by a crash is passed over."""
    try:
        lines = (run / "metrics.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        with suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


class Measured(NamedTuple):
    """A step and what was measured there."""

    step: int
    value: float
    copied: float | None
    """The share of samples that copy training items, where it was measured."""


class Judge:
    """Which step is the best, and whether training should end.

    Both follow from the records of metrics.jsonl alone, so a resumed run knows what one never stopped knows. With
    `copies`, only steps whose samples were looked at count, and only those within the limit can be the best.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.number = training.best or LOSS
        """The name of the number that the best step is best in."""
        self.best: Measured | None = None
        self.stale = 0
        """Measurements since the best one."""
        self.reason = ""
        """Why training should end; "" = it should not."""
        self.back: int | None = None
        """The step to go back to then."""
        self._known: dict[str, Any] = {}

    def __call__(self, record: Mapping[str, Any]) -> bool:
        """Take in the next record; whether it makes its step the best so far."""
        training, name = self.training, self.number
        if record.get("extended"):
            self.stale, self.reason, self.back = 0, "", None
        if record.get("step") != self._known.get("step"):
            self._known = {}
        self._known |= record
        if (name if training.copies is None else "copied") not in record:
            return False
        step, value, copied = self._known["step"], self._known.get(name), self._known.get("copied")
        least = self._known.get("copied_low", copied)
        if training.copies is not None and (least or 0) > training.copies:
            self._copies(step, copied)
            return False
        if value is not None and (self.best is None or _better(name, value, self.best.value)):
            self.best, self.stale = Measured(step, value, copied), 0
            return True
        self.stale += 1
        if training.patience is not None and self.stale >= training.patience:
            than = f" than {self.best.value:.4g} at step {self.best.step}" if self.best else ""
            self.reason = f"at step {step}: {self.stale} measurements of {name} in a row were no better{than}"
        return False

    def _copies(self, step: int, copied: float | None) -> None:
        share, limit = copied or 0, self.training.copies
        self.reason = f"at step {step}: {share:.0%} of the samples copy training items (limit {limit:.0%})"
        if self.best is None:
            self.reason += "; no step before was within the limit"
        else:
            self.back = self.best.step
            self.reason += f"; back to step {self.back}, {self.best.copied or 0:.0%}"


def judged(training: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> Judge:
    """The judge of a run with these settings, as its config.yaml has them, after these records."""
    chosen = {key: training[key] for key in ("best", "patience", "copies") if training.get(key) is not None}
    judge = Judge(Training(**chosen))
    for record in records:
        judge(record)
    return judge


def _better(name: str, value: float, than: float) -> bool:
    return value > than if BETTER.get(name) == "high" else value < than


# -- before training ---------------------------------------------------------------------------------------
def check(recipe: Recipe, heldout: Dataset) -> None:
    """Raises ConfigError where the training settings ask for numbers that nothing will measure."""
    training = recipe.training
    best, every = training.best or LOSS, "evaluate_every is not set"
    if best not in BETTER:
        raise ConfigError(
            f"no number is called best={best!r}",
            field="training.best",
            hint=did_you_mean(best, BETTER, "number"),
        )
    if training.evaluate_every is not None and recipe.task != "generate":
        raise ConfigError(
            f"evaluate_every looks at free samples, and task={recipe.task} draws none",
            field="training.evaluate_every",
            hint="leave it out; the held-out loss is measured anyway",
        )
    if training.evaluate_every is None and training.copies is not None:
        raise ConfigError(
            f"copies={training.copies:g} is measured on samples, and {every}",
            field="training.copies",
            hint="add evaluate_every=1000, or leave copies out",
        )
    if training.evaluate_every is None and best != LOSS:
        raise ConfigError(
            f"best={best} is measured on samples, and {every}",
            field="training.best",
            hint=f"add evaluate_every=1000, or leave best out: {LOSS} needs no samples",
        )
    if training.patience is not None and best == LOSS and not len(heldout):
        raise ConfigError(
            "patience waits for a held-out loss, and no items are held out",
            field="training.patience",
            hint="use heldout=0.1, or evaluate_every=1000 with best=fid",
        )


class Examination:
    """Measures a model by its samples, the same way each time: fixed seeds, one encoder, all training items."""

    def __init__(self, job: Job, encoder: Encoder) -> None:
        self.job, self.encoder = job, encoder
        self._memory: dict[tuple[str, ...], Any] = {}
        training, example = job.recipe.training, self._evidence(Drawn(np.asarray(job.train_set.x[:2])))
        lacks = {metric: metric.lacks(example) for metric in METRICS}
        for field, number in (
            ("best", training.best or LOSS),
            ("copies", "copied" if training.copies is not None else ""),
        ):
            if why := next((lacks[metric] for metric in METRICS if number in METRICS[metric]), None):
                raise ConfigError(
                    f"{number} cannot be measured here: {why}", field=f"training.{field}", hint="leave it out"
                )
        self.metrics = [metric for metric, why in lacks.items() if why is None]

    @classmethod
    def of(cls, job: Job, say: Callable[[str], None]) -> Examination | None:
        """The one that the settings ask for, its encoder chosen; None where they ask for none."""
        if job.recipe.training.evaluate_every is None:
            return None
        cls(job, Raw())  # what cannot be measured is refused before an encoder is trained
        return cls(job, encoder_for(None, job.train_set, job.heldout, say=say))

    def __call__(self, pipe: Pipeline) -> dict[str, Any]:
        """Numbers by name, with the ends of their intervals, as they are logged."""
        n = self.job.recipe.training.evaluate_n
        prompts = prompts_of(self.job.train_set, SEED, n) if pipe.config.prompt else None
        evidence = self._evidence(draw(pipe, n, seed=SEED, prompts=prompts))
        found: dict[str, Any] = {"evaluated": n, "features": self.encoder.digest}
        for metric in self.metrics:
            for number in metric.measure(evidence).numbers:
                found |= {number.name: number.value}
                found |= {f"{number.name}_low": number.low, f"{number.name}_high": number.high}
        return found

    def _evidence(self, drawn: Drawn) -> Evidence:
        data = self.job.train_set, self.job.heldout
        return Evidence(*data, self.encoder, drawn, embed=embedded, memory=self._memory)


# -- while it trains ---------------------------------------------------------------------------------------
class Watch:
    """Looks at the trained module between two steps, and writes what it sees to the log and to samples/.

    Args:
        job: what is trained.
        trainer: how far it is.
        run: its directory; the link `best` and samples/ in it are set right, should a crash have come between.
        metrics: its log, which holds what was measured so far.
        examination: how samples are measured; None: they are not.
    """

    def __init__(
        self, job: Job, trainer: Trainer, run: Path, metrics: MetricsLog, examination: Examination | None
    ) -> None:
        self.job, self.trainer, self.run, self.metrics = job, trainer, run, metrics
        self.examination, self.judge = examination, Judge(job.recipe.training)
        self.loss: float | None = None
        self.psnr: float | None = None
        for record in read_metrics(run):
            self.judge(record)
        best = self.judge.best
        if best is not None and not (run / f"checkpoints/step-{best.step}").is_dir():
            self.judge.best = best = None  # lost: the best is one that can be used
        mark_best(run, best.step if best else None)
        remove_leftovers(run / "samples")  # of a writer that was killed

    def __call__(self, step: int) -> bool:
        """Measure and draw what is due after `step`; whether it is the best so far."""
        training, last = self.job.recipe.training, self.trainer.finished

        def due(every: int | None) -> bool:
            return every is not None and (last or step % every == 0)

        evaluate = self.examination is not None and due(training.evaluate_every)
        improved = False
        if evaluate or due(training.heldout_every):
            improved |= self._heldout()
        if due(training.preview_every):
            self._preview()
        if evaluate:
            improved |= self._evaluate()
        return improved

    def extend(self) -> None:
        """Go on although training had ended early: patience begins anew."""
        self._write({"extended": True})

    def _write(self, record: Mapping[str, Any]) -> bool:
        record = {"step": self.trainer.step, **record}
        self.metrics(record)
        return self.judge(record)

    def _pipeline(self) -> Pipeline:
        return self.job.named(self.run.name)

    def _heldout(self) -> bool:
        job, objective = self.job, self.job.recipe.objective
        if not len(job.heldout) or objective is None:
            return False
        with self.trainer.ema.average():
            result = heldout_loss(
                job.module, objective, job.batches(job.heldout, training=False), len(job.heldout)
            )
        self.loss = result.loss
        levels = [round(x, 6) for x in result.levels]
        return self._write({"heldout_loss": result.loss, "heldout_levels": levels} | self._decoded())

    def _decoded(self) -> dict[str, float]:
        """PSNR and SSIM of held-out items that an autoencoder encodes and decodes; {} where none is trained."""
        data = self.job.heldout
        if not isinstance(self.job.module, Latent):
            return {}
        some = Dataset(data.info.source, data.items, data.rows[:LOOKED_AT])
        try:
            with self.trainer.ema.average():
                found = decode(self._pipeline(), some)
        except NumericError as error:
            _log.warning("no PSNR at step %d: %s", self.trainer.step, error)
            return {}
        near, alike = similarities(found.x, found.again)
        self.psnr = float(near.mean())
        return {"psnr": self.psnr, "ssim": float(alike.mean())}

    def _evaluate(self) -> bool:
        assert self.examination is not None
        training = self.job.module.training
        self.job.module.eval()
        try:
            with self.trainer.ema.average():
                return self._write(self.examination(self._pipeline()))
        except UnstirError as error:  # as with a picture
            _log.warning("no evaluation at step %d: %s", self.trainer.step, error)
            return False
        finally:
            self.job.module.train(training)

    def _preview(self) -> None:
        """Pictures with fixed seeds, so that those of different steps can be compared; a classifier has none."""
        job = self.job
        if job.recipe.task == "classifier":
            return
        training = job.module.training
        job.module.eval()
        try:
            with self.trainer.ema.average():
                path = self.run / "samples" / f"step-{self.trainer.step:06d}.png"
                if job.recipe.task in ("autoencoder", "decoder"):
                    _reconstruct(job, self._pipeline(), path)
                elif job.recipe.spatial is None:
                    self._pipeline().sample(n=16, seed=0, prompt=_prompts(job, 16)).save(path)
                else:
                    _compare(job, self._pipeline(), path)
        except (CheckpointError, NumericError) as error:  # a picture less is no reason to lose the run
            _log.warning("no preview at step %d: %s", self.trainer.step, error)
        finally:
            job.module.train(training)


def _prompts(job: Job, n: int) -> list[str] | None:
    """Captions that are kept aside, or of the training data; None where the model does not read."""
    if job.pipeline.config.prompt is None:
        return None
    texts = [text for text in (job.heldout if len(job.heldout) else job.train_set).texts or () if text]
    return [escape(texts[k * len(texts) // n]) for k in range(n)] if texts else None


def _reconstruct(job: Job, pipe: Pipeline, path: Path, n: int = 12) -> None:
    """A sheet of pictures, and what is left of them after encoding and decoding."""
    data = job.heldout if len(job.heldout) else job.train_set
    x, _ = data.take(spread(len(data), n))
    codec = pipe.autoencoder
    with torch.no_grad():
        again = cropped(codec.decode(codec.encode(x.to(pipe.device))).cpu(), x.shape[2:])
    pictures = {name: y.movedim(1, -1).numpy() for name, y in (("true", x), ("decoded", again))}
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, encode_png(per_class(pictures)[None]))


def _compare(job: Job, pipe: Pipeline, path: Path, n: int = 12) -> None:
    """A sheet of pictures: what the model is told of them, what it makes of it, and what they are."""
    data = job.heldout if len(job.heldout) else job.train_set
    batch = job.batches(data, training=False)(0, min(n, len(data)))
    spatial = batch.cond.spatial if batch.cond else None
    assert spatial is not None, "this task has it"
    rows = {"given": spatial[:, : job.info.shape[0]], "restored": restored(pipe, spatial), "true": batch.x_0}
    pictures = {name: pipe.decode(x) for name, x in rows.items()}
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, encode_png(per_class(pictures)[None]))


@torch.no_grad()
def restored(pipe: Pipeline, spatial: Tensor, **settings: Any) -> Tensor:
    """x_0 of seed 0, 1, ... for what is told of pictures (B, C, H, W); of their class nothing is."""
    n, chosen = len(spatial), pipe.chosen(settings)
    denoiser, cond = pipe.guided(chosen, pipe.nothing(n), spatial=spatial)
    denoiser.check(chosen.solver)
    keys, shape = Rng.of(0, n).to(pipe.device), (n, *pipe.config.shape)
    x = pipe.denoiser.process.prior(shape, keys.fork("prior"), torch.float32, pipe.device)
    return sample(denoiser, chosen.solver, pipe.grid(chosen), x, cond=cond, rng=keys.fork("solver"))


# -- an early end ------------------------------------------------------------------------------------------
def end_early(run: Path, watch: Watch) -> Path | None:
    """Write why training ends, then go back where that is called for: to this checkpoint.

    In this order a crash between the two leaves a log that says what is still to be done: see `ended`.
    """
    judge = watch.judge
    watch.metrics({"step": watch.trainer.step, "stopped": judge.reason, "back": judge.back})
    watch.metrics.sync()
    return _go_back(run, judge.back)


def ended(run: Path) -> str:
    """Why the run ended early, "" where it did not; going back is finished, should a crash have come between."""
    records = read_metrics(run)
    if not records or not records[-1].get("stopped"):
        return ""
    _go_back(run, records[-1].get("back"))
    return str(records[-1]["stopped"])


def _go_back(run: Path, step: int | None) -> Path | None:
    if step is None:
        return None
    try:
        return go_back(run, step)
    except CheckpointError as error:  # the last one still samples
        _log.warning("%s\nthe run does not go back to step %d", error.message, step)
        return None
