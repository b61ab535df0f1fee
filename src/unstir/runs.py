"""The run directory: one folder that holds everything about one training, from first line to last sample.

runs/x/  config.yaml  env.json  cmd.txt  metrics.jsonl  report.jsonl  samples/step-N.png
         checkpoints/step-N/{model.safetensors, state/, state.json, manifest.json}  checkpoints/last, checkpoints/best
         averages/step-N.safetensors
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import __version__, config, recipes
from .codecs import Codec, Consistency, ConsistencyConfig, IdentityConfig, Latent, LatentConfig, ScaleConfig
from .condition import Batch, Condition
from .data import Dataset, Info, Loader, describe, describe_lines, open_data, spread
from .data.cache import cache_folder
from .data.latents import encoded
from .denoiser import Preconditioned
from .embedders import Label, LabelConfig, LowResolution, Prompt, PromptConfig
from .embedders.weighting import escape
from .errors import CheckpointError, ConfigError, DataError, DeviceError
from .evaluate import Trained, encoder_for, feature_maps
from .evaluate.kept import digest_of
from .files import Lock, read_json, require_space, write_atomic
from .layers import memory_format
from .model import Defaults, ModelConfig, Module
from .networks.base import count_parameters
from .objectives import Reconstruction
from .pipeline import Pipeline, load
from .recipes import Recipe
from .recipes.image import mirrors
from .rng import Rng
from .spec import dump, name
from .train import (
    Checkpointer,
    MetricsLog,
    Progress,
    Snapshots,
    StopSignals,
    Trainer,
    TrainStep,
    flushing,
    load_latest,
    network_dtype,
)
from .train.progress import duration
from .watch import Examination, Watch, check, end_early, ended, judged, read_metrics, restored

__all__ = ["Job", "Stopped", "Workload", "fit", "listing", "plan", "read_metrics", "resume", "train"]

_log = logging.getLogger(__name__)

# settings of a finished or stopped run that may change when it goes on; all others would be another run
FREE_ON_RESUME = (
    "training.steps",
    "training.time",
    "training.checkpoint_every",
    "training.preview_every",
    "training.heldout_every",
    "training.evaluate_every",
    "training.evaluate_n",
    "training.best",
    "training.patience",
    "training.copies",
    "training.snapshots",
    "training.keep",
    "training.threads",
    "training.device",
    "training.precision",
    "training.micro_batch",
    "optimizer.lr",
    "sampling",
)

EXTENDS = ("training.steps", "training.time", "training.patience", "training.copies")
"""What of them lets a run go on that has ended."""

STATISTICS = 1_000
"""Items, evenly spread, that the mean and deviation of latents are measured on."""

NEXT = {
    "generate": "sample {}",
    "classifier": "sample MODEL classifier={} label=...",
    "upscale": "upscale {} small.png",
    "inpaint": "edit {} picture.png mask=mask.png",
    "autoencoder": "train DATA codec={}",
    "decoder": "sample MODEL decoder={}",
}
"""What is done with a model of each task."""

Say = Callable[[str], None]


class Stopped(Exception):
    """Training was asked to stop, and did, with a checkpoint."""

    def __init__(self, run: Path, exit_code: int) -> None:
        super().__init__(f"stopped; {run} goes on with: unstir train --resume {run}")
        self.run, self.exit_code = run, exit_code


@dataclass(frozen=True)
class Workload:
    """What a run costs, measured on this machine before it starts."""

    parameters: int
    seconds_per_step: float
    seconds: float
    memory: int
    """Bytes: weights, gradients, optimizer, averages and the activations of one micro-batch."""


@dataclass(frozen=True)
class Job:
    """A recipe with its data, ready to train."""

    recipe: Recipe
    info: Info
    train_set: Dataset
    heldout: Dataset
    pipeline: Pipeline
    device: torch.device
    latents: tuple[Dataset, Dataset] | None = None
    """Both sets in the latent space that the model works in, where there is one."""

    @property
    def module(self) -> Module:
        """What is trained."""
        return self.pipeline.module

    def _seen(self, data: Dataset) -> Dataset:
        """The set as the module sees it."""
        if self.latents is None:
            return data
        return self.latents[0] if data is self.train_set else self.latents[1]

    def named(self, name: str) -> Pipeline:
        """What is trained, as it would be used now."""
        made = self.pipeline
        return Pipeline(made.config, made.module, name=name, codec=made.codec)

    def finished(self, name: str) -> Pipeline:
        """The same, to be written: an autoencoder with the statistics of its latents, which take seconds to measure."""
        pipe = self.named(name)
        if isinstance(pipe.module, Latent) and self.recipe.task == "autoencoder":
            rows = spread(len(self.train_set), STATISTICS)
            parts = np.array_split(rows, max(1, len(rows) // 64))
            shift, scale = pipe.module.statistics(self.train_set.take(some)[0] for some in parts)
            network = replace(pipe.module.config, shift=shift, scale=scale)
            pipe.config = replace(pipe.config, network=network)
        return pipe

    def batches(self, data: Dataset, *, training: bool) -> Callable[[int, int], Batch]:
        """(first, n) -> the batch of samples first..first+n-1: in training order, or as they lie."""
        seed = self.recipe.training.seed
        codec, spatial, device = self.pipeline.codec, self.recipe.spatial, self.device
        augment, patches = self.recipe.augment, self.recipe.patches
        embedder = self.module.embedder if isinstance(self.module, Preconditioned) else None
        batch_size = _chosen(self.recipe.training.batch)
        data, stored = self._seen(data), self.latents is None
        flip, buckets = bool(self.recipe.data.flip), self.recipe.data.buckets
        loader = Loader(data, seed, batch_size, flip, buckets) if training else None
        share = _chosen(self.recipe.training.drop) if training else 0.0

        def hidden(keys: Rng, index: Tensor) -> Tensor:
            """(n,) bool: from which samples the label or caption is hidden."""
            return keys.fork("drop", index).uniform((len(index), 1))[:, 0] < share

        def batch(first: int, n: int) -> Batch:
            index = torch.arange(first, first + n)
            keys = Rng(torch.full((n,), seed))
            x, y = loader.batch(first, n) if loader else data.take(index.numpy())
            cond = label = None
            if self.recipe.task == "classifier":
                label = _required(y).to(device)
            elif isinstance(embedder, Label):
                y = _required(y)
                cond = embedder(embedder.drop(y, hidden(keys, index)).to(device))
            elif isinstance(embedder, Prompt):
                rows = loader.indices(first, n) if loader else index.numpy()
                texts = data.caption(rows, keys.fork("caption", index))
                own = embedder.draw_hidden(keys.fork("drop each", index)) if training else False
                if not embedder.training:  # captions are texts, not prompts with weights
                    texts = [escape(text) for text in texts]
                cond = embedder(texts, hidden(keys, index)[:, None] | own)
            x_0 = _encode(codec, x.to(device)) if stored else x.to(device)
            if training and augment is not None:
                x_0, done = augment(x_0, keys.fork("augmentation", index))
                vector = done if cond is None or cond.vector is None else torch.cat((cond.vector, done), 1)
                cond = replace(cond or Condition(), vector=vector)
            if training and patches is not None:
                step = Rng([seed]).fork("patches", first // batch_size)  # micro-batches agree
                x_0, told = patches(x_0, step, keys.fork("patches", index))
                cond = replace(cond or Condition(), spatial=told)
            if spatial is not None:
                told = spatial.training(x_0, keys.fork("spatial", index))
                cond = replace(cond or Condition(), spatial=told)
            return Batch(x_0, cond, index.to(device), label)

        return batch


def _required(y: Tensor | None) -> Tensor:
    if y is None:
        raise DataError("the data has lost its labels", field="data", hint="train with labels=false")
    return y


def _encode(codec: Codec, x: Tensor) -> Tensor:
    x_0 = codec.encode(x)
    return x_0.contiguous(memory_format=torch.channels_last) if x_0.ndim == 4 else x_0


# -- planning ----------------------------------------------------------------------------------------------
@flushing()  # here the threads are started that are to train
def prepare(recipe: Recipe, report: Path | None, say: Say, run: Path | None = None) -> Job:
    """Open the data, fill the recipe's blanks, build the network; `run` is one that goes on."""
    settings = recipe.data
    train_set, heldout = open_data(
        settings.source,
        size=settings.size,
        channels=settings.channels,
        labels=settings.labels,
        max_bad=settings.max_bad,
        heldout=settings.heldout,
        buckets=settings.buckets,
        report=report,
    )
    info = train_set.info
    device = _device(recipe.training.device)
    codec: Codec | None = None
    latents = None
    base = load(recipe.codec, device).autoencoder if recipe.task == "decoder" and recipe.codec else None
    if recipe.codec and base is None:
        codec, recipe, latents = _latent(recipe, train_set, heldout, run, device, say)
    seen = latents[0] if latents else train_set
    recipe = recipes.resolve(recipe, seen, device)
    check(recipe, heldout)
    if base is not None:
        base.shape(info.shape)  # raises where it is made for other data
        network = _chosen(recipe.network)
        assert isinstance(network, ConsistencyConfig), "the task's own"
        recipe = replace(recipe, network=network.after(base))
    reads = bool(recipe.text)
    labelled = bool(info.classes) and recipe.task not in ("autoencoder", "decoder") and not reads
    model = ModelConfig(
        network=_chosen(recipe.network),
        schedule=_chosen(recipe.schedule),
        parameterization=_chosen(recipe.parameterization),
        sigma_data=round(seen.info.std, 3),
        codec=_codec_config(info, codec),
        shape=seen.info.shape,
        data_shape=info.shape if latents else (),
        variance=_chosen(recipe.objective).learns_variance,
        classes=info.classes if labelled else (),
        class_counts=info.class_counts if labelled else (),
        embedder=LabelConfig() if labelled and recipe.task != "classifier" else None,
        prompt=_prompt(recipe, train_set) if reads else None,
        spatial=recipe.spatial,
        augment=recipe.augment,
        patches=recipe.patches,
        defaults=Defaults.of(recipe.sampling),
        kind=info.kind,
        source=info.source,
    )
    if recipe.training.threads:
        torch.set_num_threads(recipe.training.threads)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(recipe.training.seed)  # of the first weights, nothing else
        module = model.build(network_dtype(recipe.training.precision, device)).to(device)
        if isinstance(module, Latent):
            _equip(module, recipe, train_set, heldout, say)
        if base is not None and isinstance(module, Consistency):
            module.adopt(base)
    pipeline = Pipeline(model, module.eval(), codec=codec)
    if reads:
        _read(pipeline, train_set, heldout, say)
    # what cannot be sampled is refused before it is trained
    if recipe.task == "generate":
        pipeline.sample(n=1, steps=1, exact=False)
    elif recipe.spatial is not None:
        channels = recipe.spatial.channels(info.shape[0])
        restored(pipeline, torch.zeros(1, channels, *info.shape[1:], device=device), steps=1)
    if recipe.training.compile:
        (module if isinstance(module, Latent) else module.network).compile()
    for line in _words(train_set, heldout, recipe):
        say(line)
    return Job(recipe, info, train_set, heldout, pipeline, device, latents)


def _latent(
    recipe: Recipe, train_set: Dataset, heldout: Dataset, run: Path | None, device: torch.device, say: Say
) -> tuple[Codec, Recipe, tuple[Dataset, Dataset]]:
    """The codec, what it settles about the data, and both sets encoded."""
    codec, info = _codec(recipe.codec, run, device), train_set.info
    digest = digest_of(codec)
    codec.shape(info.shape)  # raises where it is made for other data
    codec.requires_grad_(False)
    codec.dtype = network_dtype(recipe.training.precision, device)
    flip = mirrors(train_set) if recipe.data.flip is None else recipe.data.flip
    size = info.shape[1] if info.shape[1] == info.shape[2] else None
    data = replace(recipe.data, flip=flip, size=size, channels=1 if info.shape[0] == 1 else 3)

    @torch.no_grad()
    def encode(x: Tensor) -> Tensor:
        return codec.encode(x.to(device))

    both = (
        encoded(train_set, encode, digest, flip=flip, say=say),
        encoded(heldout, encode, digest, buckets=False, say=say),  # its loss is that of squares
    )
    return codec, replace(recipe, data=data), both


def _codec(name: str, run: Path | None, device: torch.device) -> Latent:
    """The codec that the recipe names; of a run that goes on, the one in its own checkpoint.

    The other run may have learned more since, or be gone.
    """
    if run is not None and (run / "checkpoints").is_dir():
        with suppress(CheckpointError):  # a damaged one: training goes back to the one before
            if isinstance(codec := load(run, device).codec, Latent):
                return codec
    return load(name, device).autoencoder


def _equip(module: Latent, recipe: Recipe, train_set: Dataset, heldout: Dataset, say: Say) -> None:
    """Give an autoencoder what its objective needs besides: a critic, features of a network trained on the data."""
    objective, device = recipe.objective, next(module.parameters()).device
    if not isinstance(objective, Reconstruction):
        return
    axes, channels = module.config.axes, module.config.data_channels
    if (critic := objective.critic(axes, channels)) is not None:
        module.critic = critic.to(device, memory_format=memory_format(axes))  # type: ignore[call-overload]
    if objective.features:
        encoder = encoder_for(None, train_set, heldout, say=say)
        assert isinstance(encoder, Trained), "pictures have one"
        module.maps = feature_maps(encoder, device)


def _codec_config(info: Info, codec: Codec | None) -> ScaleConfig | IdentityConfig | LatentConfig:
    if isinstance(codec, Latent):
        return codec.config
    return ScaleConfig() if info.kind == "image" else IdentityConfig()


def _read(pipeline: Pipeline, train_set: Dataset, heldout: Dataset, say: Say) -> None:
    """Let encoders that are not trained read every caption once, and say which captions are cut."""
    embedder = pipeline.denoiser.embedder
    assert isinstance(embedder, Prompt), "it reads"
    captions = (some for data in (train_set, heldout) for some in data.captions or ())
    known = sorted({caption.text for some in captions for caption in some})
    embedder.remember(known, cache_folder().with_name("texts"))
    if cut := embedder.too_long(known):
        say(
            f"note     {len(cut):,} captions are longer than is read, and are cut, such as {cut[0][:60]!r}..."
        )


def _prompt(recipe: Recipe, data: Dataset) -> PromptConfig:
    """How the model reads, its tokens learned from the captions."""
    captions = (caption.text for some in data.captions or () for caption in some)
    return PromptConfig(encoders=recipe.text or ()).learned(captions)


def _chosen(value: Any) -> Any:
    if value is None:
        raise ConfigError("a setting was left open", field="recipe", hint="this recipe must choose it")
    return value


def _words(train_set: Dataset, heldout: Dataset, recipe: Recipe) -> list[str]:
    task = "class-conditional generation" if train_set.info.classes else "unconditional generation"
    if recipe.text:
        task = "generation from text, read by " + ", ".join(
            name(type(encoder)).lower() for encoder in recipe.text
        )
    if recipe.task == "classifier":
        task = "telling the classes apart at every noise level"
    elif isinstance(recipe.spatial, LowResolution):
        _, height, width = train_set.info.shape
        scale = recipe.spatial.scale
        task = f"upscaling {scale}x, {width // scale}x{height // scale} -> {width}x{height}"
    elif recipe.task == "inpaint":
        task = "inpainting: filling in what a mask hides"
    elif isinstance(recipe.network, LatentConfig):
        network, shape = recipe.network, train_set.info.shape
        size = " x ".join(map(str, network.shape(shape)))
        task = f"autoencoding: {size}, {network.ratio(shape):.1f} times fewer values"
    if recipe.task == "decoder":
        task = f"decoding the latents of {recipe.codec} by a consistency model"
    elif recipe.codec:
        task += f", in the latent space of {recipe.codec}"
    flip = ", mirrored half of the time" if recipe.data.flip else ""
    few = [f"small    {words}" for words in recipes.about_small(recipe, len(train_set))]
    return [*describe_lines(describe(train_set, heldout)), f"task     {task}{flip}", *few]


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}",
            field="training.device",
            hint="leave device out to use the best one there is; unstir doctor lists them",
        ) from error
    return device


def measure(job: Job) -> Workload:
    """Time one small forward and backward pass, count what it keeps, and scale both to the run."""
    training = job.recipe.training
    batch = _chosen(training.batch)
    micro = training.micro_batch or batch
    n = min(16, micro, batch)
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.untyped_storage().nbytes())
        return x

    batches = job.batches(job.train_set, training=True)
    rng = Rng.of(0, n).to(job.device)
    objective, module = _chosen(job.recipe.objective), job.module
    seconds = 0.0
    for _ in range(2):  # the first warms up
        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = objective.loss(module, batches(0, n), rng).mean()
        loss.backward()
        seconds = time.perf_counter() - start
    for parameter in module.parameters():
        parameter.grad = None
    weights = sum(p.nbytes for p in module.parameters())
    memory = weights * (4 + len(training.ema)) + sum(kept) // 2 * micro // n
    per_step = seconds * batch / n
    total = training.time or per_step * _chosen(training.steps)
    return Workload(count_parameters(module), per_step, total, memory)


def plan(recipe: Recipe, say: Say) -> dict[str, Any]:
    """What `--dry-run` prints: the resolved recipe and its cost; nothing is written."""
    job = prepare(recipe, None, say)
    work = measure(job)
    say(_cost(job, work))
    return {
        "recipe": dump(job.recipe, Recipe),
        "parameters": work.parameters,
        "seconds_per_step": round(work.seconds_per_step, 4),
        "seconds": round(work.seconds, 1),
        "memory_bytes": work.memory,
    }


def _cost(job: Job, work: Workload) -> str:
    training = job.recipe.training
    steps = training.steps or max(1, round(work.seconds / work.seconds_per_step))
    return (
        f"model    {name(type(job.recipe.network))} of {work.parameters / 1e6:.2f} M parameters\n"
        f"device   {job.device} ({torch.get_num_threads()} threads), batch {training.batch}, about {steps:,} "
        f"steps in {duration(work.seconds)}, {work.memory / 2**30:.1f} GiB"
    )


# -- training ----------------------------------------------------------------------------------------------
def train(
    recipe: Recipe,
    out: Path | None = None,
    *,
    given: Mapping[str, str] | None = None,
    overwrite: bool = False,
    say: Say = print,
    progress: bool = True,
) -> Path:
    """Train into a new run directory and return it.

    Args:
        recipe: the settings; what is None is chosen from the data.
        out: the run directory; None takes runs/NAME-K, the first free K.
        given: where each setting came from, for config.yaml.
        overwrite: replace a run that is already there, once the new one is sure to start.
        say: where lines for people go.
        progress: show on standard error how far training is.

    Raises:
        ConfigError: `out` holds a run already.
        CheckpointError: `out` cannot be written, or another process trains there.
        Stopped: SIGINT or SIGTERM came; the run can be resumed.
    """
    run = out or _free(Path("runs"), recipe.data.source)
    if (run / "config.yaml").exists() and not overwrite:
        raise ConfigError(
            f"{run} holds a run already",
            field="out",
            hint=f"unstir train --resume {run}, or another out=, or --overwrite",
        )
    _make(run)
    with Lock(run / "lock"):
        job = prepare(recipe, run / "report.jsonl", say)
        trainer, training, work = _trainer(job), job.recipe.training, measure(job)
        examination = Examination.of(job, say)
        averages = len(training.ema) * (_chosen(training.keep) + 2 + training.snapshots)
        require_space(run, ((_chosen(training.keep) + 2) * 4 + averages) * work.parameters * 4)
        if (run / "config.yaml").exists():
            _clear(run)
        environment = _environment() | {"given": dict(given or {})}
        write_atomic(run / "env.json", json.dumps(environment, indent=1).encode())
        write_atomic(run / "cmd.txt", (shlex.join(sys.argv) + "\n").encode())
        _write_config(run, job.recipe, given or {})
        say(_cost(job, work))
        say(f"run      {run}")
        return _loop(job, trainer, run, examination, say, progress)


def fit(source: str | Path, *, out: str | Path | None = None, **settings: Any) -> Path:
    """`unstir train SOURCE key=value ...` from Python: the run directory, for `unstir.load`.

    Settings are those of the command line by their last name, or by a path with two underscores for the dot,
    as in fit("photos/", time="10m", network__dropout=0.1).

    Raises:
        ConfigError: a setting is unknown, of the wrong type or out of range; all of them are named.
    """
    given = {"data.source": str(source)} | {k.replace("__", "."): v for k, v in settings.items()}
    chosen = config.settings("train", [config.Layer("call", given)])
    recipe = config.build("train", chosen.values)
    assert isinstance(recipe, Recipe)
    return train(recipe, None if out is None else Path(out), given=chosen.sources)


def resume(
    run: Path, changes: Mapping[str, Any] | None = None, *, say: Say = print, progress: bool = True
) -> Path:
    """Go on in the same directory, bit for bit where `steps` stays; `changes` may extend it.

    Raises:
        CheckpointError: there is nothing to resume.
        ConfigError: a change would make it another run.
        DataError: the data is not what it was.
        Stopped: SIGINT or SIGTERM came; the run can be resumed again.
    """
    run = next((path for path in (run, Path("runs") / run) if (path / "config.yaml").is_file()), run)
    if not (run / "config.yaml").is_file():
        raise CheckpointError(
            f"{run} is not a run: it has no config.yaml", field="resume", hint="give the directory of a run"
        )
    older = config.Layer("default", {"small_data": False})  # a run from before there was the choice made none
    layers = [older, config.read_file(run / "config.yaml"), config.Layer("command line", dict(changes or {}))]
    if changes:
        refused = [k for k in map(_path, changes) if not k.startswith(FREE_ON_RESUME)]
        if refused:
            raise ConfigError(
                f"a run cannot change {', '.join(refused)} on the way",
                field=refused[0],
                hint="may change: " + ", ".join(FREE_ON_RESUME) + "; start a new run for the rest",
            )
        layers[1] = _without_rival(layers[1], [_path(k) for k in changes])
    settings = config.settings("train", layers)
    recipe = config.build("train", settings.values)
    assert isinstance(recipe, Recipe)
    extended = any(_path(key) in EXTENDS for key in changes or {})
    with Lock(run / "lock"):
        if (reason := ended(run)) and not extended:
            say(f"stopped  {reason}")
            say("         nothing left to do: steps=, time=, patience= or copies= extends it")
            return run
        job = prepare(recipe, run / "report.jsonl", say, run)
        trainer, examination = _trainer(job), Examination.of(job, say)
        say(f"run      {run}, resumed")
        _restore(trainer, job, run, say)
        if changes:
            _write_config(run, job.recipe, _given(run) | dict.fromkeys(map(_path, changes), "command line"))
        return _loop(job, trainer, run, examination, say, progress, extended)


def _path(key: str) -> str:
    found = config.locate(key, "train")
    if not isinstance(found, str):
        raise ConfigError(found.message, field=key, hint=found.hint)
    return found


def _without_rival(layer: config.Layer, changed: list[str]) -> config.Layer:
    """The stored settings less `steps` where `time` is given now, and the other way round."""
    rivals = {"training.steps": "time", "training.time": "steps"}
    values = json.loads(json.dumps(layer.values))
    for key in changed:
        if key in rivals:
            values["training"][rivals[key]] = None
    return config.Layer(layer.source, values)


def _write_config(run: Path, recipe: Recipe, given: Mapping[str, str]) -> None:
    write_atomic(run / "config.yaml", config.to_yaml(dump(recipe, Recipe), given).encode())


def _given(run: Path) -> dict[str, str]:
    """Where the settings came from when the run was started."""
    try:
        return dict(read_json(run / "env.json")["given"])
    except (CheckpointError, KeyError, TypeError, ValueError):  # the run is none the worse without
        return {}


def _trainer(job: Job) -> Trainer:
    recipe, batches = job.recipe, job.batches(job.train_set, training=True)
    return Trainer(job.module, _chosen(recipe.objective), batches, _chosen(recipe.optimizer), recipe.training)


def _restore(trainer: Trainer, job: Job, run: Path, say: Say) -> None:
    """Go back to the last checkpoint, where there is one; it must be of the same data."""
    found = load_latest(run)
    if found is None:
        return
    if found.meta.get("fingerprint") != job.info.fingerprint:
        raise DataError(
            f"the data in {job.info.source} is not what {run} was trained on so far",
            field="data.source",
            hint="bring the old files back, or start a new run",
        )
    trainer.load_state_dict(found.state)
    say(f"         from step {trainer.step}")


def _loop(
    job: Job,
    trainer: Trainer,
    run: Path,
    examination: Examination | None,
    say: Say,
    show: bool,
    extended: bool = False,
) -> Path:
    meta = {"fingerprint": job.info.fingerprint}

    def model_file(path: Path) -> None:
        with trainer.ema.average():
            job.finished(run.name).write(path)

    with ExitStack() as stack:
        metrics = stack.enter_context(MetricsLog(run / "metrics.jsonl", trainer.step))
        save = Checkpointer(run, trainer, model_file, meta=meta, metrics=metrics)
        watch = Watch(job, trainer, run, metrics, examination)
        snapshots = Snapshots(run, trainer)
        if extended:
            watch.extend()
        stop = stack.enter_context(StopSignals())
        unit = "img" if job.info.kind == "image" else "items"
        progress = stack.enter_context(Progress(unit)) if show else _silent
        begun = trainer.step
        for step in _until(watch, trainer):
            # consumers of a step
            metrics(step)
            progress(step)
            snapshots(step.step)
            improved = watch(step.step)
            # a skipped one would push out good checkpoints
            if improved or math.isfinite(step.loss + step.grad_norm):
                save(step.step, improved)
            if stop.exit_code is not None:
                save.save()
                raise Stopped(run, stop.exit_code)
        path, reason = save.save(), watch.judge.reason
        if reason:
            path = end_early(run, watch) or path
            say(f"stopped  {reason}")
    if trainer.step == begun:
        say(f"         nothing left to do: {run} is at its end; steps=N or time=T extends it")
    else:
        text = f", held-out loss {watch.loss:.4f}" if watch.loss is not None else ""
        text += f", PSNR {watch.psnr:.1f} dB" if watch.psnr is not None else ""
        say(f"saved    {path}  step {trainer.step} in {duration(trainer.seconds)}{text}")
    if (best := watch.judge.best) and best.step != trainer.step:
        say(f"best     {run}@best  step {best.step}, {job.recipe.training.best} {best.value:.4g}")
    texts = [text for text in job.train_set.texts or () if text] if job.recipe.text else []
    prompt = f" prompt={shlex.quote(texts[0])}" if texts else ""
    say(f"next     unstir {NEXT[job.recipe.task].format(run)}{prompt}")
    return run


def _until(watch: Watch, trainer: Trainer) -> Iterator[TrainStep]:
    """The steps of the trainer, until there is a reason to end."""
    if not watch.judge.reason:
        for step in trainer.steps():
            yield step
            if watch.judge.reason:
                return


def _silent(step: TrainStep) -> None: ...


# -- directories -------------------------------------------------------------------------------------------
def listing(root: Path = Path("runs")) -> list[dict[str, Any]]:
    """One row per run under `root`: its step, loss, held-out loss, time and data; a broken one says why."""
    runs = sorted(path.parent for path in root.glob("*/config.yaml"))
    return [_row(run) for run in runs]


def _row(run: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run": str(run), "step": 0, "loss": None, "heldout_loss": None, "seconds": 0.0}
    records = read_metrics(run)
    for record in records:
        row |= {k: record[k] for k in row.keys() & record.keys()}
    if records and (back := records[-1].get("back")) is not None:
        row["step"] = back
    row |= {"best": None, "best_step": None, "best_value": None}
    try:
        values = config.read_file(run / "config.yaml").values
        row["data"] = values["data"]["source"]
        row |= _best(values.get("training") or {}, records)
    except (ConfigError, KeyError, TypeError) as error:
        reason = error.message if isinstance(error, ConfigError) else "its config.yaml names no data"
        row["data"] = f"broken: {reason}"
    return row


def _best(training: Mapping[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    judge = judged(training, records)
    if judge.best is None:
        return {}
    return {"best": judge.number, "best_step": judge.best.step, "best_value": judge.best.value}


def _free(root: Path, source: str) -> Path:
    name = Path(source).name or "run"
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "run"
    k = 1
    while (root / f"{name}-{k}").exists():
        k += 1
    return root / f"{name}-{k}"


def _make(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{run} cannot be written: {error.strerror}", field="out", hint="choose another out="
        ) from error


def _clear(run: Path) -> None:
    """Remove what a run left but for the report on the data, which is the next one's already."""
    for part in ("averages", "checkpoints", "eval", "samples"):
        shutil.rmtree(run / part, ignore_errors=True)
    for part in ("metrics.jsonl", "report.html", "config.yaml"):
        (run / part).unlink(missing_ok=True)


def _environment() -> dict[str, Any]:
    return {
        "unstir": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
