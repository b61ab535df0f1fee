"""A trained model as one object and one file: codec + embedder + denoiser + sampling defaults."""

from __future__ import annotations

import math
import time
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from .. import times
from ..classifier import NoisyClassifier
from ..codecs import Codec, Latent
from ..condition import Condition
from ..denoiser import Denoiser, Preconditioned
from ..embedders import Label, LowResolution, Masked, Prompt, Spatial
from ..embedders.weighting import parse
from ..errors import CheckpointError, ConfigError, IncompatibleError, did_you_mean
from ..files import sha256, write_atomic
from ..guidance import (
    Autoguidance,
    ClassifierFree,
    ClassifierGuided,
    PerturbedAttention,
    Rule,
    SkipLayers,
    Threshold,
)
from ..layers import cropped
from ..model import Defaults, Model, ModelConfig, Module, find_model, read_model, write_model
from ..networks.base import count_parameters
from ..operators import Operator
from ..process import Gaussian
from ..rng import Rng
from ..sampling import sample
from ..sizes import read_size, resolution_shift, written
from ..solvers.base import Solver, Step
from ..spec import choices, dump
from .asked import Asked, Texts, rows_of

if TYPE_CHECKING:
    from .restoration import Restored

__all__ = ["Pipeline", "Samples", "load"]

SELF = {"attention": PerturbedAttention, "layers": SkipLayers}
"""The weaker opinions that a network has of itself, with a part of it switched off."""

RESTORES: Mapping[type[Spatial], tuple[str, str]] = {
    LowResolution: ("makes a picture larger", "unstir upscale {} small.png"),
    Masked: ("fills in what is unknown of a picture", "unstir edit {} picture.png mask=mask.png"),
}
"""What models do that are told of a picture, and by which command."""


@dataclass
class Results(ABC):
    """What a pipeline makes.

    `images` is uint8 (N, H, W, C); for points it is float32 (N, D). `labels` are class numbers or None,
    `recipe` is everything needed to make the same bytes again. In a notebook it shows itself as a grid.
    """

    images: np.ndarray
    seeds: list[int]
    labels: list[int] | None
    recipe: dict[str, Any]
    evaluations: int
    seconds: float
    frames: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list, repr=False)
    """With record=True: x_t and the denoiser's x_0 after each step, each like `images`."""
    prompts: list[str] | None = None
    """What each was asked to be, of a model that reads."""

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: str | Path) -> Path:
        """Write a grid (.png; one sample: the bare picture), arrays (.npz), a movie (.gif) or a folder of files."""
        from ..modalities import write_samples

        return write_samples(self, path)

    def _repr_png_(self) -> bytes:
        from ..modalities import grid_png

        return grid_png(self)


@dataclass
class Samples(Results):
    """What `Pipeline.sample` returns."""


class Pipeline:
    """A model that samples, a classifier of noisy data that guides one, or an autoencoder in whose space one works.

    Args:
        config: everything but the weights.
        module: the denoiser, classifier or autoencoder built from it, with weights.
        digest: sha256 of the model file, "" for a model in memory.
        name: what the user calls it.
        codec: the one built from the config, with weights; None: one that has none.
    """

    def __init__(
        self,
        config: ModelConfig,
        module: Module,
        digest: str = "",
        name: str = "model",
        codec: Codec | None = None,
    ) -> None:
        self.config, self.module, self.digest, self.name = config, module, digest, name
        self.codec: Codec = codec or config.codec.build()
        self._exact: dict[tuple[str, int, tuple[int, ...]], int] = {}
        self._others: dict[str, Pipeline] = {}

    # -- files --------------------------------------------------------------------------------------------
    @classmethod
    def load(cls, path: str | Path, device: str | torch.device | None = None) -> Pipeline:
        """The pipeline in a model file (.safetensors).

        Raises:
            CheckpointError: the file is missing, damaged, not ours or newer than this unstir.
        """
        path = Path(path)
        name, config, module, codec = read_model(path)
        module.to(device or "cpu").eval()
        return cls(config, module, sha256(path), name, codec.to(device or "cpu").eval())

    def write(self, path: Path, *, half: bool = False) -> None:
        """Write weights and config at `path`; not atomic, for use inside one atomic write."""
        write_model(path, Model(self.name, self.config, self.module, self.codec), half=half)

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write one file that samples, exports and serves by itself; `half` keeps its weights in float16."""
        write_atomic(path, lambda file: self.write(file, half=half))
        return Path(path)

    # -- use ----------------------------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def denoiser(self) -> Preconditioned:
        """E[x_0 | x_t]; raises IncompatibleError where this is a classifier."""
        if isinstance(self.module, NoisyClassifier):
            raise IncompatibleError(
                f"{self.name} is a classifier and generates nothing",
                field="model",
                hint=f"let it guide a model: unstir sample MODEL classifier={self.name} label=... guidance=2",
            )
        if isinstance(self.module, Latent):
            raise IncompatibleError(
                f"{self.name} is an autoencoder and generates nothing by itself",
                field="model",
                hint=f"train a model in its latent space: unstir train DATA codec={self.name}",
            )
        return self.module

    @property
    def classifier(self) -> NoisyClassifier:
        """log p(y | x_t); raises IncompatibleError where this is a denoiser."""
        if not isinstance(self.module, NoisyClassifier):
            raise IncompatibleError(
                f"{self.name} is no classifier",
                field="classifier",
                hint="train one on the same data: unstir train DATA task=classifier",
            )
        return self.module

    @property
    def autoencoder(self) -> Latent:
        """The learned codec: this itself, or the one in whose space it works; raises IncompatibleError without one."""
        found = self.module if isinstance(self.module, Latent) else self.codec
        if not isinstance(found, Latent):
            raise IncompatibleError(
                f"{self.name} is no autoencoder and has none",
                field="codec",
                hint="train one: unstir train DATA task=autoencoder",
            )
        return found

    @property
    def data(self) -> Codec:
        """Data as it is stored <-> values around zero, from -1 to 1 of pictures, whatever space x_0 is in."""
        return self.codec.data if isinstance(self.codec, Latent) else self.codec

    def values(self, x_0: Tensor, decoder: str = "") -> Tensor:
        """The data of x_0 as values around zero, differentiable; by another decoder than the model's own, if given."""
        codec = self._decoder(decoder) if decoder else self.codec
        return codec.values(x_0) if isinstance(codec, Latent) else x_0

    def check_decoder(self, decoder: str) -> None:
        """Raises IncompatibleError unless that model, "" for none, decodes the latents of this one."""
        if decoder:
            self._decoder(decoder)

    def space(self, values: Tensor) -> Tensor:
        """x_0 of data given as values around zero."""
        return self.codec.encode(self.data.decode(values)) if isinstance(self.codec, Latent) else values

    def sample(
        self,
        n: int = 16,
        steps: int | None = None,
        seed: int | Sequence[int] = 0,
        solver: str | Solver | None = None,
        guidance: float | None = None,
        label: int | str | Sequence[int | str] | None = None,
        size: int | str | None = None,
        grid: str | None = None,
        *,
        prompt: str | Sequence[str] | None = None,
        negative: int | str | None = None,
        exact: bool | None = None,
        record: bool = False,
        on_batch: Callable[[int], None] | None = None,
        on_step: Callable[[Step, slice], None] | None = None,
        **more: Any,
    ) -> Samples:
        """n samples; sample i depends on seed + i, its label and the settings alone.

        Args:
            n: how many, >= 1.
            steps: solver steps, >= 1.
            seed: of the first sample, >= 0, or one per sample.
            solver: a name of `unstir solvers` or a solver.
            guidance: how far from the weaker opinion, the unconditional one at first, >= 0; 1 = not at all.
            label: a class number or name, or one per sample; None draws it as often as in training.
            size: of the pictures in pixels, where not that of training: 96, or "96x64", width x height.
            grid: where the steps fall: a name of `unstir.times`, or optimised.
            prompt: what they are to show, for a model trained on captions: one text, or one per sample; `(word:1.3)`
                makes a word count more, None = anything.
            negative: the label, or the text, that guidance moves away from, in place of none.
            exact: fixed padded micro-batches, so that neighbours cannot change a bit; None: on a CPU only.
            record: keep x_t and x_0 of every step.
            on_batch: called with the number of samples that are done, after each micro-batch.
            on_step: called after each step with it and the samples that it was of; what it raises ends the work.
            more: `times`, `shift`, `interval`, `rule`, `weaker`, `classifier`, `threshold`: see `Defaults`.

        Raises:
            ConfigError: an argument is unknown or out of range; it names the field.
            NumericError: the result is not finite.
        """
        chosen = self.chosen(more | {"steps": steps, "solver": solver, "guidance": guidance, "grid": grid})
        self._require_effect(chosen, more)
        label, negative, prompt = plain(label), plain(negative), plain(prompt)
        _ = self.denoiser  # raises where it is none
        if not isinstance(n, int) or n < 1:
            raise ConfigError(f"n is {n!r}", field="n", hint="ask for 1 sample or more")
        data_shape = self.data_shape(size)
        shape = self.codec.shape(data_shape)
        chosen = replace(chosen, shift=self.shift(chosen, shape))
        seeds = _seeds(seed, n)
        rng = Rng(seeds)
        asked = self.asked(label, prompt, rng, chosen)
        against = self.negative(chosen, negative)
        self.check(chosen)
        counted = [self.denoiser, *self._worse_of(chosen)]
        if exact is None:
            exact = self.device.type == "cpu"
        free = min(n, self._at_once(max(chosen.micro_batch, 64), shape))
        micro = self.micro_batch(shape) if exact else free
        nodes = self.grid(chosen)
        calls: list[int] = []
        parts = []
        handles = [d.network.register_forward_hook(lambda *_: calls.append(1)) for d in counted]
        start = time.perf_counter()
        try:
            for i in range(0, n, micro):
                rows = slice(i, min(i + micro, n))
                parts.append(
                    self._run(chosen, nodes, asked, against, rng, data_shape, rows, micro, record, on_step)
                )
                if on_batch is not None:
                    on_batch(rows.stop)
        finally:
            for handle in handles:
                handle.remove()
        frames = [
            (np.concatenate([p[1][k][0] for p in parts]), np.concatenate([p[1][k][1] for p in parts]))
            for k in range(len(parts[0][1]))
        ]
        return Samples(
            images=np.concatenate([p[0] for p in parts]),
            seeds=list(seeds),
            labels=asked.tolist() if isinstance(asked, Tensor) else None,
            prompts=list(asked) if isinstance(asked, Texts) else None,
            recipe={
                "unstir": version(),
                "model": self.name,
                "model_sha256": self.digest,
                "n": n,
                "seed": seed if isinstance(seed, int) else list(seed),
                **words(chosen, self.config.defaults, negative),
                "label": label,
                **({} if prompt is None else {"prompt": prompt}),
                "size": None if size is None else written(*read_size(size)),
                "exact": exact,
            },
            evaluations=len(calls) // len(parts),
            seconds=time.perf_counter() - start,
            frames=frames,
        )

    def edit(
        self,
        image: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        extend: str | Mapping[str, int] | None = None,
        strength: float | None = None,
        feather: float | None = None,
        **wish: Any,
    ) -> Restored:
        """The picture with a part of it made anew; every other pixel keeps its bytes.

        Args:
            image: uint8 (H, W, C), of any size.
            mask: (H, W), true or above 127 = repaint.
            extend: borders to add and to paint, in pixels, as "right:16" or {"left": 8, "right": 8}.
            strength: above 0 to 1: how much of the old picture is given up where it is repainted, all by default; on
                its own, without a mask, the whole picture is varied.
            feather: pixels over which a difference in colour at the mask's border fades; None: to the middle of it.
            wish: what edit, upscale and restore have in common, n to overlap; see `restore`. A `prompt` says what is
                to be in the part made anew, to a model trained on captions.

        A model of latents is told of those positions of the picture's latent that the mask does not reach, and of
        scattered pixels through its decoder.

        Raises:
            ConfigError: nothing is to be edited, sizes that do not agree, a setting out of range.
            IncompatibleError: a label for a model that reads prompts, or the other way round.
        """
        from .restoration import Wish, edit

        return edit(self, image, mask, extend, feather, Wish.of(wish, strength)).draw()

    def upscale(
        self,
        image: np.ndarray,
        scale: int | None = None,
        *,
        kernel: Literal["box", "bicubic"] | None = None,
        reference: np.ndarray | None = None,
        **wish: Any,
    ) -> Restored:
        """The picture `scale` times as large, with the detail that the model expects; made small, it is the given one.

        Args:
            image: uint8 (H, W, C), of any size.
            scale: a whole number, 2 or more; None: what the model was trained for, or 2.
            kernel: how the small picture came from a large one: averages of blocks, or bicubic.
            reference: the true large picture, to be measured against.
            wish: what edit, upscale and restore have in common, n to overlap; see `restore`.

        Raises:
            ConfigError: sizes that do not agree, a setting out of range.
        """
        from .restoration import Wish, upscale

        return upscale(self, image, scale, kernel, reference, Wish.of(wish)).draw()

    def restore(
        self,
        y: np.ndarray | Tensor,
        operator: Operator,
        *,
        std: float = 0.0,
        peak: float | None = None,
        reference: np.ndarray | None = None,
        **wish: Any,
    ) -> Restored:
        """Samples of x given y = A x + n, x a picture with values from -1 to 1, whatever space the model works in.

        Args:
            y: a picture uint8 (H, W, C), or floats (*T) in the units of x.
            operator: A.
            std: of Gaussian noise, in the units of x; 0 = none.
            peak: Poisson noise in its place: the expected count at white.
            reference: the true picture, to be measured against.
            wish: `n` samples from `seed` on, of a `label`, or of a `prompt` for a model that reads, away from the
                `negative` one; the `method`, "auto", a name or a `guidance.Method`; `solver`, `steps`, `grid` and all
                other settings of sampling; `tile`, the side in pixels of the windows in which larger pictures are
                made, and their `overlap`; `on_step`, which sees every step.

        Raises:
            ConfigError: sizes that do not agree, a setting out of range.
            IncompatibleError: the method is not made for this operator, noise or solver.
        """
        from .restoration import Wish, restore

        return restore(self, y, operator, std, peak, reference, Wish.of(wish)).draw()

    @torch.no_grad()
    def _run(
        self,
        chosen: Defaults,
        nodes: Tensor,
        asked: Asked | None,
        negative: int | str | None,
        rng: Rng,
        data_shape: tuple[int, ...],
        rows: slice,
        micro: int,
        record: bool,
        on_step: Callable[[Step, slice], None] | None,
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Samples `rows` of this shape, in a batch padded to `micro` by repeating the last one."""
        index = torch.arange(rows.start, rows.start + micro).clamp(max=rows.stop - 1)
        count, keys = rows.stop - rows.start, rng[index].to(self.device)
        denoiser, cond = self.guided(chosen, rows_of(asked, index), negative)
        process: Gaussian = self.denoiser.process
        shape = (micro, *self.codec.shape(data_shape))
        x = process.prior(shape, keys.fork("prior"), torch.float32, self.device)
        frames: list[tuple[np.ndarray, np.ndarray]] = []

        def decoded(
            x: Tensor,
        ) -> np.ndarray:  # all of the batch: a learned decoder's kernels depend on its size too
            return self.decode(x, data_shape, chosen.decoder)[:count]

        def see(step: Step) -> None:
            if record:
                frames.append((decoded(step.x), decoded(step.x_0)))
            if on_step is not None:
                on_step(step, rows)

        x = sample(denoiser, chosen.solver, nodes, x, cond=cond, rng=keys.fork("solver"), on_step=see)
        return decoded(x), frames

    def guided(
        self,
        chosen: Defaults,
        asked: Asked | None,
        negative: int | str | None = None,
        spatial: Tensor | None = None,
        seen: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
    ) -> tuple[Denoiser, Condition | None]:
        """The denoiser that the settings ask for and its condition; `seen` is how models look at x_t: in windows."""
        denoiser = seen(self.denoiser)
        if chosen.classifier:
            denoiser = self._by_classifier(denoiser, chosen, asked)
        elif chosen.guidance != 1:
            denoiser = self._contrast(denoiser, chosen, asked, negative, spatial, seen)
        if chosen.threshold != 0:
            if isinstance(self.codec, Latent):
                raise IncompatibleError(
                    f"threshold={chosen.threshold:g} keeps pictures within black and white, and {self.name} makes "
                    "latents, which have no such bounds",
                    field="threshold",
                    hint="leave it out, or set threshold=0",
                )
            denoiser = Threshold(denoiser, chosen.threshold)
        return denoiser, self.condition(asked, spatial)

    def _contrast(
        self,
        denoiser: Denoiser,
        chosen: Defaults,
        asked: Asked | None,
        negative: int | str | None,
        spatial: Tensor | None,
        seen: Callable[[Denoiser], Denoiser],
    ) -> Denoiser:
        """The denoiser moved away from the weaker opinion that the settings name."""
        scale, rule, interval = chosen.guidance, chosen.rule, chosen.interval
        kind, _, blocks = chosen.weaker.partition(":")
        if kind in SELF:
            return SELF[kind](denoiser, scale, _blocks(blocks), rule=rule, interval=interval)
        if kind != "unconditional":
            worse = self._worse(chosen.weaker)
            cond = worse.condition(asked, spatial)
            return Autoguidance(denoiser, seen(worse.denoiser), scale, cond, rule=rule, interval=interval)
        if asked is None:
            raise IncompatibleError(
                f"guidance={scale:g} needs a condition and this model has none",
                field="guidance",
                hint="leave guidance out, train on labelled data, or guide by weaker=layers or a worse model",
            )
        nothing: Asked
        if isinstance(asked, Texts):
            nothing = Texts([str(negative or "")] * len(asked))
        else:
            nothing = torch.full_like(asked, len(self.config.classes) if negative is None else int(negative))
        cond = self.condition(nothing, spatial)
        return ClassifierFree(denoiser, scale, cond, rule=rule, interval=interval)

    def _by_classifier(self, denoiser: Denoiser, chosen: Defaults, labels: Asked | None) -> Denoiser:
        """The denoiser moved toward the labels as a classifier sees them."""
        assert isinstance(labels, Tensor), "a classifier has classes"
        told = self._labelled(chosen).classifier
        # it knows x_t up to a factor and log-SNR, so it serves any Gaussian process
        told = NoisyClassifier(told.network, self.denoiser.process, told.sigma_data, told.dtype)
        scale, interval = chosen.guidance, chosen.interval
        return ClassifierGuided(denoiser, told, labels.to(self.device), scale, interval=interval)

    def _labelled(self, chosen: Defaults) -> Pipeline:
        """Whose classes labels are: the classifier's that guides, or this model's own."""
        if not chosen.classifier:
            return self
        hint = "train one on the same data: unstir train DATA task=classifier"
        parts = ("shape", "codec", "classes") if self.config.classes else ("shape", "codec")
        other = self._other(chosen.classifier, parts, "classifier", hint)
        _ = other.classifier  # raises where it is none
        return other

    def nothing(self, n: int) -> Asked | None:
        """What asks for nothing: the label that stands for none, (n,) int64, or empty prompts."""
        if self.config.prompt is not None:
            return Texts([""] * n)
        classes = self.config.classes
        return torch.full((n,), len(classes)) if classes else None

    def condition(self, asked: Asked | None, spatial: Tensor | None = None) -> Condition | None:
        """What the network is told of the classes or prompts, and of a picture that it restores.

        Raises:
            IncompatibleError: it has to be told of a picture, and there is none.
        """
        if self.config.spatial is not None and spatial is None:
            verb, hint = RESTORES[type(self.config.spatial)]
            raise IncompatibleError(
                f"{self.name} {verb}, and there is none",
                field="model",
                hint=hint.format(self.name),
            )
        embedder = self.denoiser.embedder
        cond = None
        if isinstance(embedder, Label) and isinstance(asked, Tensor):
            cond = embedder(asked.to(self.device))
        elif isinstance(embedder, Prompt) and isinstance(asked, Texts):
            cond = embedder(asked)
        return cond if spatial is None else replace(cond or Condition(), spatial=spatial)

    def _worse(self, model: str) -> Pipeline:
        """The model that autoguidance moves away from."""
        hint = "give an earlier checkpoint, RUN@STEP, another average, RUN@ema:0.2, or a smaller model of the data"
        try:
            other = self._other(model, ("shape", "schedule", "codec", "classes", "spatial"), "weaker", hint)
        except CheckpointError as error:
            known = ", ".join(("unconditional", *SELF))
            hint = f"weaker= takes {known}, or a model" + f"; {error.hint}" * bool(error.hint)
            raise CheckpointError(error.message, field="weaker", hint=hint) from error
        if (other.config.prompt is None) != (self.config.prompt is None):
            reads, deaf = (self.name, model) if self.config.prompt else (model, self.name)
            raise IncompatibleError(f"{reads} reads prompts and {deaf} does not", field="weaker", hint=hint)
        return other

    def _other(self, model: str, parts: Sequence[str], field: str, hint: str) -> Pipeline:
        """A second model, loaded once, that has these parts of the config in common with this one."""
        if model not in self._others:
            self._others[model] = load(model, self.device)
        other = self._others[model]
        for part in parts:
            if getattr(self.config, part) != (found := getattr(other.config, part)):
                raise IncompatibleError(
                    f"{model} differs from {self.name} in its {part}: {found or 'none'}",
                    field=field,
                    hint=hint,
                )
        return other

    def decode(self, x: Tensor, shape: tuple[int, ...] | None = None, decoder: str = "") -> np.ndarray:
        """x_0 as it is stored: pictures uint8 (N, H, W, C), points float32 (N, D).

        Args:
            x: (N, C, *S).
            shape: (C, *S) of the data, which a codec of blocks may have padded; None: that of training, where x is of
                that shape, else as it comes.
            decoder: a model that decodes in place of this one's codec, see `Defaults`.
        """
        data = (self._decoder(decoder) if decoder else self.codec).decode(x).cpu()
        if shape is None and tuple(x.shape[1:]) == self.config.shape:
            shape = self.config.size
        if shape is not None:
            data = cropped(data, shape[1:])
        return (data.movedim(1, -1) if data.ndim > 2 else data).contiguous().numpy()

    def _decoder(self, model: str) -> Latent:
        """Another decoder of the same latents, loaded once."""
        other, own = self._other(model, (), "decoder", "").module, self.codec
        if not (isinstance(own, Latent) and isinstance(other, Latent)):
            which = (
                f"{model} is no decoder"
                if isinstance(own, Latent)
                else f"{self.name} has no latents to decode"
            )
            raise IncompatibleError(
                which, field="decoder", hint="leave decoder out, or name a run of task=decoder"
            )
        if not own.shares_latents(other):
            raise IncompatibleError(
                f"{model} decodes the latents of another autoencoder than that of {self.name}",
                field="decoder",
                hint="train one for these: unstir train DATA task=decoder codec=RUN, of the run that this model names",
            )
        return other

    def check(self, chosen: Defaults) -> None:
        """Raises what sampling with these settings would raise for them, before any work."""
        if chosen.decoder:
            self._decoder(chosen.decoder)
        self.guided(chosen, self._labelled(chosen).nothing(1))[0].check(chosen.solver)
        self.grid(chosen)

    def chosen(self, given: Mapping[str, Any]) -> Defaults:
        """The model's defaults with what is given, and not None, in their place."""
        known = [f.name for f in fields(Defaults) if f.name != "micro_batch"]
        if unknown := next((word for word in given if word not in known), None):
            raise ConfigError(
                f"unknown setting {unknown!r}", field=unknown, hint=did_you_mean(unknown, known, "setting")
            )
        wanted = {word: value for word, value in given.items() if value is not None}
        for word, kind in (("solver", Solver), ("rule", Rule)):
            if isinstance(wanted.get(word), str):
                wanted[word] = component(wanted[word], kind, word)
            if word in wanted and not isinstance(wanted[word], kind):
                raise ConfigError(
                    f"{word} is {wanted[word]!r}",
                    field=word,
                    hint=f"give a name or an object: {_example(kind)}",
                )
        for word in ("guidance", "threshold", "shift", "times", "interval"):
            if word in wanted:
                wanted[word] = _numbers(word, wanted[word])
        if len(wanted.get("interval", (0, 1))) != 2:
            raise ConfigError("interval is no pair of times", field="interval", hint="as interval=0.2,0.8")
        if "times" in wanted:
            if wanted.get("grid", "optimised") != "optimised":
                raise ConfigError(
                    f"times are given, and grid={wanted['grid']}", field="times", hint="leave one of them out"
                )
            wanted = {"grid": "optimised", "steps": max(len(wanted["times"]) - 1, 1)} | wanted
        return replace(self.config.defaults, **wanted)

    def _worse_of(self, chosen: Defaults) -> list[Preconditioned]:
        """The other models that guidance asks."""
        if (
            chosen.classifier
            or chosen.guidance == 1
            or chosen.weaker.partition(":")[0] in ("unconditional", *SELF)
        ):
            return []
        return [self._worse(chosen.weaker).denoiser]

    def grid(self, chosen: Defaults) -> Tensor:
        """The times at which these settings step."""
        known = [*times.__all__, "optimised"]
        if chosen.grid not in known:
            raise ConfigError(
                f"unknown grid {chosen.grid!r}", field="grid", hint=did_you_mean(chosen.grid, known, "grid")
            )
        schedule = self.denoiser.process.schedule
        if chosen.grid == "optimised":
            nodes = times.optimised(chosen.steps, chosen.times)
        else:
            nodes = getattr(times, chosen.grid)(chosen.steps, schedule)
        return nodes if chosen.shift is None else times.moved(nodes, schedule, chosen.shift)

    def shift(self, chosen: Defaults, shape: tuple[int, ...]) -> float | None:
        """By how much the noise grows for samples x_0 of this shape: what is asked for, or what their size needs.

        None at the size of training, where nothing is asked for.
        """
        if chosen.shift is not None or math.prod(shape[1:]) == math.prod(self.config.shape[1:]):
            return chosen.shift
        return resolution_shift(math.prod(shape[1:]), math.prod(self.config.shape[1:]))

    def data_shape(self, size: int | str | None) -> tuple[int, ...]:
        """(C, *S) of samples of this size, as they are stored; raises ConfigError where there is no such size."""
        if size is None:
            return self.config.size
        if self.config.kind != "image":
            raise ConfigError(
                f"size is {size!r}, but this model makes {self.config.kind}",
                field="size",
                hint="leave size out",
            )
        return (self.config.size[0], *read_size(size))

    def asked(self, label: Any, prompt: Any, rng: Rng, chosen: Defaults) -> Asked | None:
        """What each sample is asked to be: its prompt, or its class; None where the model is told of neither."""
        if self.config.prompt is None:
            if prompt is not None:
                raise IncompatibleError(
                    f"prompt={prompt!r}, but this model was trained without captions",
                    field="prompt",
                    hint="use label=, or train on captioned data: a .txt beside each picture, or captions.jsonl"
                    if self.config.classes
                    else "leave it out, or train on captioned data: a .txt beside each picture, or captions.jsonl",
                )
            return self.labels(label, rng, chosen)
        if label is not None:
            raise IncompatibleError(
                f"label={label!r}, but this model reads prompts",
                field="label",
                hint=f'say it in words: prompt="{label}"',
            )
        if prompt is None or isinstance(prompt, str):
            _ = parse(prompt or "")  # raises for weights out of range
            return Texts([prompt or ""] * len(rng))
        if not (isinstance(prompt, list) and all(isinstance(text, str) for text in prompt)):
            raise ConfigError(
                f"prompt is {prompt!r}",
                field="prompt",
                hint="give one text, or a list of them, one per sample",
            )
        if len(prompt) != len(rng):
            raise ConfigError(
                f"{len(prompt)} prompts for n={len(rng)}",
                field="prompt",
                hint="give one text, or one per sample",
            )
        for text in set(prompt):
            _ = parse(text)
        return Texts(prompt)

    def labels(self, label: Any, rng: Rng, chosen: Defaults) -> Tensor | None:
        """The class of each sample, (N,) int64: as asked for, or drawn; None where there are no classes."""
        config = self._labelled(chosen).config
        classes, n = config.classes, len(rng)
        if not classes:
            if label is not None:
                raise IncompatibleError(
                    f"label={label!r}, but this model was trained without labels",
                    field="label",
                    hint="leave label out, or train on data with sub-folders per class",
                )
            return None
        if label is None:
            share = torch.tensor(config.class_counts, dtype=torch.float64).cumsum(0)
            u = rng.fork("label").uniform((n, 1), torch.float64)
            return (u > share / share[-1]).sum(1).clamp(max=len(classes) - 1)
        if not isinstance(label, list):
            return torch.full((n,), _class(label, classes))
        if len(label) != n:
            raise ConfigError(
                f"{len(label)} labels for n={n}", field="label", hint="give one label, or one per sample"
            )
        return torch.tensor([_class(x, classes) for x in label])

    def _require_effect(self, chosen: Defaults, given: Mapping[str, Any]) -> None:
        """Refuses what would be passed over in silence."""
        if chosen.guidance != 1 and not chosen.classifier:
            return
        for word in ("weaker", "rule"):
            usual = (getattr(Defaults(), word), getattr(self.config.defaults, word))
            if given.get(word) is not None and getattr(chosen, word) not in usual:
                raise ConfigError(
                    f"{word}={given[word]} has no effect here",
                    field=word,
                    hint="it says how guidance acts: give a guidance other than 1, as guidance=2, and no classifier",
                )

    def negative(self, chosen: Defaults, label: Any) -> int | str | None:
        """The class, or text, that guidance moves away from; raises ConfigError where there is no such guidance."""
        if label is None:
            return None
        without = chosen.guidance == 1 or chosen.classifier or chosen.weaker != "unconditional"
        reads = self.config.prompt is not None
        if without or not (self.config.classes or reads):
            why = " with guidance=1" if chosen.guidance == 1 else " here"
            raise ConfigError(
                f"negative={label} has no effect{why}",
                field="negative",
                hint="it stands for no label or prompt: it needs such a model, a guidance other than 1, no weaker and "
                "no classifier",
            )
        if not isinstance(label, (int, str)):
            what = "one text" if reads else "one class, by number or name"
            raise ConfigError(
                f"negative is {label!r}", field="negative", hint=f"give {what}, the same for all samples"
            )
        if reads:
            _ = parse(str(label))
            return str(label)
        return _class(label, self.config.classes, "negative")

    @torch.no_grad()
    def micro_batch(self, shape: tuple[int, ...] | None = None) -> int:
        """The fixed batch in which each row is bit for bit independent of its place and of its neighbours.

        Smaller where x_0 of this shape (None: that of training) is larger than in training, so that it needs no more
        memory. Verified once per device and shape with this network and, where the kernels do not keep it, 1.
        """
        shape = self.config.shape if shape is None else shape
        size = self._at_once(self.config.defaults.micro_batch, shape)
        key = (str(self.device), size, shape)
        if key not in self._exact:
            rows = Rng.of(0, size).to(self.device).normal((size, *shape), torch.float32)
            cond = self.condition(self.nothing(size))
            t = torch.tensor(0.5, dtype=torch.float64)
            alike = (
                torch.equal(work(rows), work(rows.flip(0)).flip(0))
                for work in (lambda x: self.denoiser(x, t, cond), self.codec.decode)
            )
            self._exact[key] = size if all(alike) else 1
        return self._exact[key]

    def _at_once(self, batch: int, shape: tuple[int, ...]) -> int:
        """The batch, halved until it holds no more values than a batch of the shape of training, or one sample.

        Halved, not cut to measure: kernels that treat all rows alike do so at powers of two.
        """
        most = batch * math.prod(self.config.shape)
        while batch > 1 and batch * math.prod(shape) > most:
            batch //= 2
        return batch

    def describe(self) -> dict[str, Any]:
        """The model in a few JSON-able words."""
        return {
            "name": self.name,
            "sha256": self.digest,
            "kind": self.config.kind,
            "data": self.config.source,
            "shape": list(self.config.size),
            "classes": list(self.config.classes),
            "parameters": count_parameters(self.module),
            "config": dump(self.config, ModelConfig),
        }


def _example(kind: type) -> str:
    word, component = next(iter(choices(kind).items()))
    return f"{word.lower()!r}, {component.__name__}()"


def _seeds(seed: int | Sequence[int], n: int) -> Sequence[int]:
    """The seed of each of n samples."""
    if isinstance(seed, int):
        return range(seed, seed + n)
    if len(seed) != n:
        raise ConfigError(
            f"{len(seed)} seeds for n={n}", field="seed", hint="give one seed, or one per sample"
        )
    return seed


def _numbers(field: str, given: Any) -> float | tuple[float, ...]:
    one = field in ("guidance", "threshold", "shift")
    try:
        return float(given) if one else tuple(float(number) for number in given)
    except (TypeError, ValueError):
        hint = "give a number" if one else "give several numbers, as (1, 0.5, 0) or (0.2, 0.8)"
        raise ConfigError(f"{field} is {given!r}", field=field, hint=hint) from None


def component(name: str, kind: type, field: str) -> Any:
    """The component of that name with its defaults."""
    known = {word.lower(): component for word, component in choices(kind).items()}
    if name.lower() not in known:
        raise ConfigError(f"unknown {field} {name!r}", field=field, hint=did_you_mean(name, known, field))
    return known[name.lower()]()


def _blocks(text: str) -> tuple[int, ...] | None:
    """Numbers of blocks, "3,4" -> (3, 4); "" -> None, which leaves the choice to the network."""
    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(
            f"blocks {text!r} are no numbers", field="weaker", hint="for example weaker=layers:3,4"
        )
    return tuple(map(int, words)) or None


def words(chosen: Defaults, defaults: Defaults, negative: int | str | None) -> dict[str, Any]:
    """The settings as a recipe says them, without those that have no effect."""
    idle = {"micro_batch"}
    idle |= {"times"} if chosen.grid != "optimised" else set()
    idle |= {"decoder"} if not chosen.decoder else set()
    idle |= {"shift"} if chosen.shift is None else set()
    idle |= {"threshold"} if chosen.threshold == defaults.threshold == 0 else set()
    if chosen.classifier:
        idle |= {"rule", "weaker"}
    else:
        idle |= {"classifier", "interval", "rule", "weaker"} if chosen.guidance == 1 else {"classifier"}
    found = {key: value for key, value in dump(chosen, Defaults).items() if key not in idle}
    return found if negative is None else found | {"negative": negative}


def _class(label: int | str, classes: Sequence[str], field: str = "label") -> int:
    """The number of a class, given by number or name."""
    if isinstance(label, str):
        if label in classes:
            return classes.index(label)
        if not label.isdecimal():
            raise ConfigError(
                f"unknown {field} {label!r}", field=field, hint=did_you_mean(label, classes, field)
            )
        label = int(label)
    if not isinstance(label, int) or not 0 <= label < len(classes):
        raise ConfigError(
            f"{field} is {label}",
            field=field,
            hint=f"accepted: 0 to {len(classes) - 1}, or a name: {', '.join(classes[:12])}",
        )
    return label


def plain(label: Any) -> Any:
    """A label, a text or a list of them, free of the types of numpy and torch, and of bytes that are no text."""
    label = label.tolist() if hasattr(label, "tolist") else label
    if isinstance(label, (list, tuple)):
        return [plain(one) for one in label]
    # a command line may hold such bytes; files of ours are UTF-8
    return label.encode("utf-8", "replace").decode() if isinstance(label, str) else label


def version() -> str:
    from .. import __version__

    return __version__


def load(model: str | Path, device: str | torch.device | None = None) -> Pipeline:
    """The pipeline of a run directory, a run's name, RUN@STEP, RUN@best, RUN@ema:0.05 or a .safetensors file.

    Raises:
        CheckpointError: there is no such model, or its file is damaged.
    """
    path = find_model(model)
    pipe = Pipeline.load(path, device)
    pipe.name = str(model)
    return pipe
