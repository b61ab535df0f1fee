"""What a model file holds, how it is written and read, and where a name finds it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from .addresses import find_checkpoint, find_file, read_address
from .classifier import NoisyClassifier
from .codecs import Codec, IdentityConfig, Latent, LatentConfig, ScaleConfig
from .denoiser import Preconditioned
from .embedders import Augmentation, Label, LabelConfig, Patches, Prompt, PromptConfig, Spatial
from .errors import CheckpointError, IncompatibleError
from .files import MANIFEST, read_header, sha256, verify_file, write_atomic
from .guidance import Linear, Rule
from .guidance.base import check_interval
from .layers import memory_format
from .networks import ClassifierConfig
from .networks.base import NetworkConfig
from .networks.draft import untold
from .parameterization import Parameterization
from .process import Gaussian, Schedule
from .solvers import DPMpp2M
from .solvers.base import Solver
from .spec import dump, load as read_settings
from .tensors import load_tensors, save_tensors
from .train import Averages

__all__ = [
    "FORMAT",
    "Defaults",
    "Model",
    "ModelConfig",
    "Module",
    "ema_addresses",
    "find_model",
    "read_model",
    "run_of",
    "write_model",
]

Module: TypeAlias = Preconditioned | NoisyClassifier | Latent
"""What a model file holds the weights of."""

FORMAT = 1
"""Version of the model file; a newer one is refused."""


@dataclass(frozen=True)
class Defaults:
    """How a model is sampled unless asked otherwise."""

    solver: Solver = DPMpp2M()
    """The method that steps from noise to data."""
    grid: str = "uniform"
    """Where the steps fall: a name of `unstir.times`, or optimised: through `times`."""
    steps: int = 20
    times: tuple[float, ...] = ()
    """From 1 to 0, what `unstir tune` found; another number of steps is interpolated between them."""
    shift: float | None = None
    """How many times larger sigma/alpha is at every step; None: as the size asked for needs, by that of training."""
    guidance: float = 1.0
    """How far from the weaker opinion: 1 = not at all."""
    interval: tuple[float, float] = (0.0, 1.0)
    """The times between which guidance acts."""
    rule: Rule = Linear()
    """How guidance combines the two opinions."""
    weaker: str = "unconditional"
    """Whose opinion guidance moves away from: the model's own without the condition, without "attention", without
    "layers" (or "layers:3,4"), or that of a worse model: RUN@STEP, or a model file."""
    classifier: str = ""
    """A classifier of noisy data, RUN@STEP or a file, whose gradient guidance follows in place of a weaker opinion."""
    decoder: str = ""
    """Another decoder for the latents, RUN@STEP or a file; "" = that of the model's autoencoder."""
    threshold: float = 0.0
    """Percentile of dynamic thresholding, 0 = off."""
    micro_batch: int = 16
    """Samples per network call in exact mode: always this many, padded, so that no neighbour changes a bit."""

    def __post_init__(self) -> None:
        check_interval(self.interval)

    @classmethod
    def of(cls, sampling: Any) -> Defaults:
        """From an object with fields of the same names; what it leaves None stays as it is here."""
        given = {f.name: getattr(sampling, f.name, None) for f in fields(cls)}
        return cls(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class ModelConfig:
    """Everything but the weights: what the header of a model file holds."""

    network: NetworkConfig | ClassifierConfig | LatentConfig
    """A classifier's network makes it a classifier of noisy data, which guides, an autoencoder's a codec, in whose
    space others generate; neither generates by itself."""
    schedule: Schedule
    parameterization: Parameterization
    sigma_data: float
    codec: ScaleConfig | IdentityConfig | LatentConfig
    """A learned one's weights are in the same file."""
    shape: tuple[int, ...]
    """(C, *S) of x_0."""
    data_shape: tuple[int, ...] = ()
    """(C, *S) of the data where the codec makes another shape of it; () = that of x_0."""
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    embedder: LabelConfig | None = None
    prompt: PromptConfig | None = None
    """How it reads prompts; None: it was trained without captions."""
    spatial: Spatial | None = None
    """What it is told of a picture that it restores; None: it generates freely."""
    augment: Augmentation | None = None
    """What was done to pictures in training, and told; samples are of pictures as they are."""
    patches: Patches | None = None
    """In what parts it saw pictures in training; samples are of whole ones."""
    variance: bool = False
    """Whether the network also says how uncertain x_0 is: twice the channels of output."""
    defaults: Defaults = Defaults()
    kind: str = "image"
    source: str = ""
    """The name of the data it was trained on."""

    @property
    def size(self) -> tuple[int, ...]:
        """(C, *S) of the data as it is stored."""
        return self.data_shape or self.shape

    def build(self, dtype: torch.dtype | None = None) -> Module:
        """The denoiser, the classifier or the codec, with fresh weights."""
        if isinstance(self.network, LatentConfig):
            codec = self.network.build()
            codec.to(memory_format=memory_format(self.network.axes))  # type: ignore[call-overload]
            codec.dtype = dtype
            return codec
        process = Gaussian(self.schedule.build())
        if isinstance(self.network, ClassifierConfig):
            classifier = self.network.build(self.shape[0], self.shape[1:], len(self.classes))
            return NoisyClassifier(classifier, process, self.sigma_data, dtype)
        embedder: Label | Prompt | None = None
        if self.prompt is not None:
            embedder = self.prompt.build()
        elif self.embedder and self.classes:
            embedder = self.embedder.build(len(self.classes))
        if self.network.draft and embedder is None:
            raise untold()
        augmentation = self.augment.width if self.augment else 0
        width = (embedder.width if embedder else 0) + augmentation
        tokens = embedder.token_width if isinstance(embedder, Prompt) else 0
        out = self.shape[0] * (2 if self.variance else 1)
        network = self.network.build(self.shape[0], self.shape[1:], width, out, tokens)
        network.to(memory_format=network.memory_format)  # type: ignore[call-overload]
        return Preconditioned(
            network,
            process,
            self.parameterization,
            self.sigma_data,
            dtype,
            embedder,
            self.variance,
            augmentation,
            self.patches is not None,
        )


class Model(NamedTuple):
    """What is in a model file."""

    name: str
    config: ModelConfig
    module: Module
    codec: Codec


def write_model(path: Path, model: Model, *, half: bool = False) -> None:
    """Write weights and config at `path`; not atomic, for use inside one atomic write.

    With `half`, weights are kept in float16: half the size, rounded by 1 part in 2048. They compute in float32.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "name": model.name,
        "config": dump(model.config, ModelConfig),
    }
    tensors = _weights(model)
    if half:
        document["half"] = True
        tensors = _halved(tensors)
    save_tensors(path, tensors, {"unstir": document})


def _halved(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: x.half() if x.dtype == torch.float32 else x for k, x in tensors.items()}


def _weights(model: Model) -> dict[str, torch.Tensor]:
    """The tensors of the file: the module's without what only its training needs, and those of a learned codec."""
    of_training = ("critic.",)
    module = {k: x for k, x in model.module.state_dict().items() if not k.startswith(of_training)}
    return module | {f"codec.{k}": x for k, x in model.codec.state_dict().items()}


def read_model(path: Path) -> Model:
    """The model in a file.

    Raises:
        CheckpointError: the file is missing, damaged, not ours or newer than this unstir.
    """
    model, half = _described(path)
    if problem := verify_file(path):
        raise CheckpointError(problem, field=str(path), hint="use an earlier checkpoint: RUN@STEP")
    tensors = load_tensors(path, _halved(_weights(model)) if half else _weights(model))
    model.module.load_state_dict({k: x for k, x in tensors.items() if not k.startswith("codec.")})
    codec = {k.removeprefix("codec."): x for k, x in tensors.items() if k.startswith("codec.")}
    model.codec.load_state_dict(codec)
    return model


def _described(path: Path) -> tuple[Model, bool]:
    """The model from the header of its file, without its weights yet, and whether these are kept in float16."""
    text = read_header(path).metadata.get("unstir")
    if text is None:
        raise CheckpointError(
            f"{path} was not written by unstir",
            field=str(path),
            hint="give a run directory or a model.safetensors of one",
        )
    try:
        document = json.loads(text)
        version, name, settings = int(document["format"]), str(document["name"]), document["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is damaged", field=str(path)) from error
    if version > FORMAT:
        raise IncompatibleError(
            f"{path} has model format {version}, this unstir reads up to {FORMAT}",
            field=str(path),
            hint="install a newer unstir",
        )
    try:
        config = read_settings(settings, ModelConfig)
        model = Model(name, config, config.build(), config.codec.build())
        return model, bool(document.get("half"))
    except Exception as error:  # settings of a strange file may make any part object in its own way
        raise CheckpointError(
            f"{path}: its settings describe no model: {error}",
            field=str(path),
            hint=getattr(error, "hint", None),
        ) from error


def find_model(model: str | Path, root: Path = Path("runs")) -> Path:
    """The model file that a name means: RUN, a checkpoint's folder, a .safetensors file or a shipped model's name.

    RUN@STEP, RUN@last (which RUN is short for) and RUN@best are its checkpoints; RUN@ema:0.05 and RUN@STEP,ema:0.05
    hold another average of the weights, in a file that is made when it is first asked for.

    Raises:
        CheckpointError: there is no such model, checkpoint or average.
        ConfigError: the length of the average is no number, or out of range.
    """
    found = find_file(model, root)
    if found is not None:
        return found
    address = read_address(model, root)
    checkpoint = find_checkpoint(address, root)
    return checkpoint / "model.safetensors" if address.ema is None else _averaged(checkpoint, address.ema)


def run_of(path: Path) -> Path | None:
    """The run that a model file is in; None where it is in none."""
    path = path.resolve()
    if path.parent.name == "averages":
        return path.parents[1]
    return path.parents[2] if path.parents[1].name == "checkpoints" else None


def ema_addresses(model: str | Path, root: Path = Path("runs")) -> dict[float, str]:
    """Names of all lengths of averages at the checkpoint that a name means: {0.05: "RUN@STEP,ema:0.05", ...}, rising.

    Raises `CheckpointError`: there is no such run, or it kept no averages.
    """
    path = Path(model).expanduser()
    if path.is_file():
        run, checkpoint = str(run_of(path)), path.resolve().parent
    else:
        address = read_address(model, root)
        run, checkpoint = address.run, find_checkpoint(address, root)
    checkpoint = _of_a_run(checkpoint)
    step = checkpoint.name.removeprefix("step-")
    return {length: f"{run}@{step},ema:{length:g}" for length in Averages(checkpoint).lengths()}


def _averaged(checkpoint: Path, length: float) -> Path:
    """The model file of the checkpoint with another average of its weights; what is no average comes from there.

    Its name holds the beginning of the checkpoint's digest, so that it is never taken for one of another checkpoint.
    """
    checkpoint = _of_a_run(checkpoint)
    folder = checkpoint.parents[1] / "averages"
    path = folder / f"ema-{length:g}-{checkpoint.name}-{_seal(checkpoint)}.safetensors"
    if path.is_file():
        return path
    average = Averages(checkpoint).average(length)
    source = checkpoint / "model.safetensors"
    plain = load_tensors(source)
    tensors = plain | {name: x.to(plain[name].dtype) for name, x in average.items() if name in plain}
    about = json.loads(read_header(source).metadata["unstir"])
    write_atomic(path, lambda file: save_tensors(file, tensors, {"unstir": about}))
    seals = {_seal(one) for one in checkpoint.parent.glob("step-*") if (one / MANIFEST).is_file()}
    for other in folder.glob("ema-*.safetensors"):
        if other.stem.rpartition("-")[2] not in seals:  # its checkpoint is gone
            other.unlink(missing_ok=True)
    return path


def _of_a_run(checkpoint: Path) -> Path:
    """The checkpoint itself where `last` or `best` lead to it."""
    if not (checkpoint / "state.json").is_file():
        raise CheckpointError(
            f"{checkpoint} is no checkpoint of a run, and only runs keep averages",
            field="model",
            hint="give the run that it came from: RUN@ema:0.05",
        )
    return checkpoint.parent / checkpoint.resolve().name


def _seal(checkpoint: Path) -> str:
    return sha256(checkpoint / MANIFEST)[:8]
