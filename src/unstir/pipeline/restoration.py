"""Editing, upscaling and restoring with a pipeline: samples that agree with what is known of them.

All three come down to one thing: y = A x + n is measured, and x is drawn given y, by a model that was trained for
it or, with any other, by a method of `guidance`. What is larger than the model is done in overlapping windows.
A latent model draws z with x = D(z): it is told y of latents, by `pipeline.latents`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from operator import index
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat

import numpy as np
import torch
from torch import Tensor

from ..codecs import Latent
from ..denoiser import Denoiser
from ..embedders import LowResolution, Masked
from ..errors import ConfigError, IncompatibleError
from ..evaluate.similarity import psnr, ssim
from ..guidance import Method, Posterior, Tiled
from ..guidance.choice import choose
from ..limits import LIMITS
from ..model import Defaults
from ..modules import twin
from ..operators import Downsample, GaussianNoise, Mask, Measurement, Operator, Phase, PoissonNoise, Sensing
from ..operators.mask import Selection
from ..rng import Rng
from ..sampling import sample
from ..seam import blend
from ..solvers.base import Step
from ..spec import choices, dump
from .asked import Asked, rows_of
from .base import Results, component, plain, version, words
from .latents import Told, mended, told

if TYPE_CHECKING:
    from .base import Pipeline

__all__ = ["Restored", "edit", "makes_pictures", "measured_channels", "restore", "upscale"]

SIDES = ("left", "right", "top", "bottom")
GREY_LEVELS = 127.5
"""In one unit of x_0."""
ROUNDING = 1 / (GREY_LEVELS * 12**0.5)
"""Standard deviation of what is lost where x_0 is rounded to bytes: what mixes such bytes is never without noise."""


@dataclass
class Restored(Results):
    """Samples given a measurement, and how well they agree with it."""

    method: str = ""
    """What they were drawn by, as settings."""
    reason: str = ""
    """Why by that."""
    consistency: list[float] = field(default_factory=list)
    """Root mean square of A x - y for each sample as it is stored, in grey levels of 255."""
    noise: float = 0.0
    """The same of the noise in y, as far as it is known: what consistency should be."""
    psnr: list[float] | None = None
    """Of each sample against the reference, in dB."""
    ssim: list[float] | None = None
    """Of each sample against the reference, at most 1."""
    mean: np.ndarray | None = None
    """Of several samples, uint8 (H, W, C): the best guess in the least-squares sense."""
    uncertainty: np.ndarray | None = None
    """Standard deviation over the samples, float32 (H, W) in grey levels, over all channels."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the three have in common."""

    n: int = 1
    seed: int = 0
    label: int | str | None = None
    prompt: str | None = None
    negative: int | str | None = None
    method: str | Method = "auto"
    tile: int | None = None
    overlap: int | None = None
    on_step: Callable[[Step], None] | None = None
    strength: float | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `Defaults`."""

    @classmethod
    def of(cls, given: Mapping[str, Any], strength: float | None = None) -> Wish:
        """From keywords: those that are no field are settings of `Defaults`; None leaves one out.

        Raises:
            ConfigError: one has another type, or is out of range.
        """
        own = {f.name for f in fields(cls)} - {"chosen", "strength"}
        known = {key: value for key, value in given.items() if key in own and value is not None}
        lowest = {"n": 1, "seed": 0, "tile": 2, "overlap": 0}
        known |= {key: _whole(key, known[key], least) for key, least in lowest.items() if key in known}
        if not isinstance(known.get("prompt", ""), str):
            raise ConfigError(
                f"prompt is {known['prompt']!r}",
                field="prompt",
                hint="give one text, the same for all samples",
            )
        known |= {key: plain(known[key]) for key in ("prompt", "negative") if key in known}
        if "on_step" in known and not callable(known["on_step"]):
            raise ConfigError(
                f"on_step is {known['on_step']!r}", field="on_step", hint="give a function of a step"
            )
        if strength is not None:
            strength = _number("strength", strength)
        return cls(**known, strength=strength, chosen={k: v for k, v in given.items() if k not in own})


@dataclass(frozen=True)
class Drawing:
    """What edit, upscale or restore are about to do, checked: nothing is drawn yet."""

    pipe: Pipeline
    plan: Plan
    wish: Wish
    finish: Callable[[Drawn], Restored]

    def words(self) -> dict[str, Any]:
        """The plan, JSON-able."""
        plan = self.plan
        return words(plan.chosen, self.pipe.config.defaults, self.wish.negative) | {
            "method": _named(plan.method),
            "reason": plan.reason,
            "size": list(plan.shape[1:]),
            "steps": len(plan.nodes) - 1,
            "windows": plan.windows,
        }

    def draw(self) -> Restored:
        return self.finish(_drawn(self.pipe, self.plan, self.wish))


# -- the three ---------------------------------------------------------------------------------------------
def edit(
    pipe: Pipeline,
    image: np.ndarray,
    mask: np.ndarray | None,
    extend: str | Mapping[str, int] | None,
    feather: float | None,
    wish: Wish,
) -> Drawing:
    """See `Pipeline.edit`."""
    feather = None if feather is None else _number("feather", feather)
    borders = _borders(extend)
    if mask is None and not any(borders.values()) and wish.strength is None:
        raise ConfigError(
            "there is nothing to edit",
            field="mask",
            hint="give a mask (white = repaint), extend=right:16, or strength=0.6 to change all of it",
        )
    picture = _picture(pipe, image)
    repaint = np.zeros(picture.shape[:2], bool) if mask is None else _mask(mask, picture.shape[:2])
    height, width = picture.shape[:2]
    height, width = height + borders["top"] + borders["bottom"], width + borders["left"] + borders["right"]
    _check_size(wish, "extend" if extend else "n", height, width)
    picture, repaint = _extended(picture, repaint, borders)
    if mask is not None and not repaint.any():
        raise ConfigError(
            "the mask is black everywhere",
            field="mask",
            hint="white is what gets repainted: true, or above 127 of 255",
        )
    if not repaint.any():  # image to image: nothing is to be kept
        repaint[:] = True
    x = _values(pipe, picture)
    keep = torch.from_numpy(~repaint).to(x)
    measurement = Measurement(Mask(keep), keep * x, GaussianNoise(0.0)) if (~repaint).any() else None
    plan = _plan(pipe, x.shape[1:], measurement, wish, start=x)
    about = {"verb": "edit", "extend": _words_of(borders), "strength": wish.strength, "feather": feather}
    about |= {"input_sha256": _hash(image)} | ({} if mask is None else {"mask_sha256": _hash(mask)})

    def finish(drawn: Drawn) -> Restored:
        whole = blend(x, drawn.x, keep, feather=feather) if measurement else drawn.x
        images = np.where(repaint[..., None], _stored(pipe, whole), picture)
        return _restored(pipe, images, plan, drawn, measurement, wish, about)

    return Drawing(pipe, plan, wish, finish)


def upscale(
    pipe: Pipeline,
    image: np.ndarray,
    scale: int | None,
    kernel: Literal["box", "bicubic"] | None,
    reference: np.ndarray | None,
    wish: Wish,
) -> Drawing:
    """See `Pipeline.upscale`."""
    trained = pipe.config.spatial if isinstance(pipe.config.spatial, LowResolution) else None
    if scale is None:
        scale = trained.scale if trained else 2
    scale = _whole("scale", scale, 2)
    if trained and (scale, kernel or trained.kernel) != (trained.scale, trained.kernel):
        raise IncompatibleError(
            f"{pipe.name} was trained to upscale {trained.scale} times what kernel={trained.kernel} made small",
            field="scale",
            hint=f"leave scale and kernel out, or use a model trained without task=upscale; {pipe.name} can be "
            "used twice",
        )
    kernel = kernel or (trained.kernel if trained else "bicubic")
    picture = _picture(pipe, image)
    height, width = picture.shape[0] * scale, picture.shape[1] * scale
    _check_size(wish, "scale", height, width)
    low = _values(pipe, picture)
    measurement = Measurement(Downsample(scale, kernel), low, GaussianNoise(0.0))
    truth = None if reference is None else _reference(pipe, reference, (height, width))
    plan = _plan(pipe, (low.shape[1], height, width), measurement, wish)
    about = {"verb": "upscale", "scale": scale, "kernel": kernel, "input_sha256": _hash(image)}

    def finish(drawn: Drawn) -> Restored:
        return _restored(pipe, _stored(pipe, drawn.x), plan, drawn, measurement, wish, about, truth)

    return Drawing(pipe, plan, wish, finish)


def restore(
    pipe: Pipeline,
    y: np.ndarray | Tensor,
    operator: Operator,
    std: float,
    peak: float | None,
    reference: np.ndarray | None,
    wish: Wish,
) -> Drawing:
    """See `Pipeline.restore`."""
    if not isinstance(operator, Operator):
        raise ConfigError(
            f"operator is {operator!r}", field="operator", hint="give one, as unstir.operators.Blur(sigma=2)"
        )
    std = _number("std", std)
    if peak is not None and std:
        raise ConfigError(
            f"std is {std:g} and peak {peak:g}",
            field="std",
            hint="give one of them: Gaussian or Poisson noise",
        )
    noise = GaussianNoise(std) if peak is None else PoissonNoise(_number("peak", peak))
    known, stored = _measured(pipe, y)
    shape = _source(pipe, operator, known)
    _check_size(wish, "n", *shape[1:])
    _check_range(operator, known, shape, float(noise.variance(known).max()) ** 0.5)
    like = known.new_zeros(1, *shape)
    svd = operator.svd(like) if operator.linear else None
    copied = isinstance(svd, Selection)
    if stored and operator.linear and not copied and isinstance(noise, GaussianNoise):
        noise = GaussianNoise(max(std, ROUNDING))
    measurement = Measurement(operator, operator.measured(known), noise)
    truth = None if reference is None else _reference(pipe, reference, shape[1:])
    plan = _plan(pipe, shape, measurement, wish)
    settings = type(operator) in choices(Operator).values()
    about = {
        "verb": "restore",
        "operator": dump(operator) if settings else {"name": type(operator).__name__},
        "std": std,
        "peak": peak,
        "input_sha256": _hash(np.asarray(y)),
    }

    def finish(drawn: Drawn) -> Restored:
        x = drawn.x
        if isinstance(svd, Selection) and measurement.noiseless:  # what is known stays what it is
            x = blend(svd.left(measurement.y), x, svd.s)
        return _restored(pipe, _stored(pipe, x), plan, drawn, measurement, wish, about, truth)

    return Drawing(pipe, plan, wish, finish)


def _source(pipe: Pipeline, operator: Operator, known: Tensor) -> tuple[int, ...]:
    """The shape of x, for this y (1, *T); raises where the two do not go together, or the model makes others."""
    shape, own = operator.source(tuple(known.shape[1:])) or pipe.config.size, pipe.config.size
    if len(shape) != len(own) or shape[0] != own[0] or 0 in shape:
        raise IncompatibleError(
            f"this y is of data with shape {tuple(shape)}, {pipe.name} makes pictures with {own[0]} channels",
            field="operator",
            hint="use a model of such pictures, or convert y; give one y, uint8 (H, W, C) or floats",
        )
    with torch.no_grad():
        seen = tuple(operator.forward(known.new_zeros(1, *shape)).shape)
    if seen != tuple(known.shape):
        raise IncompatibleError(
            f"y has shape {tuple(known.shape[1:])}, {operator.title} gives {seen[1:]}",
            field="y",
            hint="give y as the operator makes it of a picture of the model's size",
        )
    return tuple(shape)


def measured_channels(pipe: Pipeline, operator: Operator, size: tuple[int, ...]) -> int:
    """How many channels a picture y of this size (H, W) has, given those of x.

    Raises:
        IncompatibleError: what the operator makes is no picture.
    """
    if not makes_pictures(operator):
        raise IncompatibleError(
            f"what {operator.title} makes is no picture",
            field="input",
            hint="give its numbers as an .npy file; simulate=1 writes one",
        )
    model = pipe.config.size[0]
    for channels in (1, 3):
        with suppress(IncompatibleError):  # of y with so many channels
            if (operator.source((channels, *size)) or size)[0] == model:
                return channels
    return 1 if model == 1 else 3


def makes_pictures(operator: Operator) -> bool:
    """Whether y is one, too."""
    return not isinstance(operator, (Phase, Sensing))


def _check_range(operator: Operator, y: Tensor, shape: tuple[int, ...], std: float) -> None:
    """ConfigError where no picture, from -1 to 1, could have given such a y."""
    signs = 2.0 * Rng.of(0, 3).integers(2, (3, *shape), y.device) - 1
    with torch.no_grad():
        probes = operator.forward(torch.cat((torch.ones_like(signs[:1]), signs)))
    most = 4 * float(probes.abs().max()) + 10 * std + 1
    if (reached := float(y.abs().max())) > most:
        raise ConfigError(
            f"y reaches {reached:.4g}, and such a measurement of a picture no more than about {most:.2g}",
            field="y",
            hint="give it where black is -1 and white 1, or as uint8",
        )


# -- drawing x_0 given y -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Plan:
    """How x_0 is going to be drawn."""

    shape: tuple[int, ...]
    """(C, H, W) of the result."""
    canvas: tuple[int, ...]
    """The shape of x_0 that is drawn, at least the model's own."""
    seen: Callable[[Denoiser], Denoiser]
    """How models look at it: in windows, where it is larger than one."""
    windows: int
    told: Told | None
    """The measurement as one of x_0."""
    spatial: Tensor | None
    start: Tensor | None
    method: Method | None
    reason: str
    chosen: Defaults
    nodes: Tensor
    asked: Asked | None
    negative: int | str | None


@dataclass(frozen=True)
class Drawn:
    """x given y as values from -1 to 1, (n, *shape), and what that took."""

    x: Tensor
    evaluations: int
    seconds: float


def _plan(
    pipe: Pipeline,
    shape: tuple[int, ...],
    measurement: Measurement | None,
    wish: Wish,
    start: Tensor | None = None,
) -> Plan:
    """How n samples that agree with the measurement are drawn; from `start` on where a strength is given."""
    spatial = _told(pipe, measurement, shape)
    canvas, space = _canvas(pipe, shape)
    window, overlap = _window(pipe, space, wish)
    if canvas != tuple(shape):  # smaller than the model: it sees a margin of which nothing is known
        spatial, start = (x if x is None else _padded(x, canvas) for x in (spatial, start))
    if wish.strength is None:
        start = None
    tiled = Tiled(pipe.denoiser, window, overlap)
    windows = len(tiled.windows(space[1:]))
    seen = None if measurement is None else told(pipe, measurement, shape, canvas, start)
    method, reason = _method(pipe, seen, wish, windows, trained=spatial is not None)
    if seen is not None and method is not None:
        method.check_measurement(seen.measurement)
    chosen = _settings(pipe, method, wish)
    pipe.check_decoder(chosen.decoder)
    nodes = pipe.grid(chosen)
    if wish.strength is not None:
        nodes = _from(nodes, wish.strength)
    return Plan(
        shape=tuple(shape),
        canvas=space,
        seen=lambda denoiser: denoiser if window == space[1:] else twin(tiled, denoiser=denoiser),
        windows=windows,
        told=seen,
        spatial=spatial,
        start=None if start is None else pipe.space(start),
        method=method,
        reason=reason,
        chosen=chosen,
        nodes=method.times(nodes) if method else nodes,
        asked=_asked(pipe, chosen, wish),
        negative=pipe.negative(chosen, wish.negative),
    )


@torch.no_grad()
def _drawn(pipe: Pipeline, plan: Plan, wish: Wish) -> Drawn:
    """The samples of a plan."""
    begin = time.perf_counter()
    particles = plan.method.particles if plan.method else 1
    seeds = Rng.of(wish.seed, wish.n)
    at_once = max(1, 16 * _area(pipe.config.shape) // _area(plan.canvas))
    counted: list[int] = []
    hook = pipe.denoiser.network.register_forward_hook(lambda _, given, __: counted.append(len(given[0])))
    parts = []
    try:
        for first in range(0, wish.n, at_once):
            rows = torch.arange(first, min(first + at_once, wish.n)).repeat_interleave(particles)
            keys = seeds[rows].to(pipe.device)
            if particles > 1:
                keys = keys.fork("particle", torch.arange(particles).repeat(len(rows) // particles))
            told = rows_of(plan.asked, rows)
            spatial = _expanded(plan.spatial, len(rows))
            denoiser, cond = pipe.guided(plan.chosen, told, plan.negative, spatial, plan.seen)
            if plan.told is not None and plan.method is not None:
                denoiser = Posterior(denoiser, plan.told.measurement, plan.method)
            x = _begin(pipe, plan.nodes[0], plan.start, (len(rows), *plan.canvas), keys)
            x = sample(
                denoiser,
                plan.chosen.solver,
                plan.nodes,
                x,
                cond=cond,
                rng=keys.fork("solver"),
                on_step=wish.on_step,
            )
            x = pipe.values(x[::particles], plan.chosen.decoder)[..., : plan.shape[1], : plan.shape[2]]
            parts.append(x if plan.told is None else mended(plan.told, x))
    finally:
        hook.remove()
    return Drawn(torch.cat(parts), sum(counted) // wish.n, time.perf_counter() - begin)


def _begin(pipe: Pipeline, t: Tensor, start: Tensor | None, shape: tuple[int, ...], keys: Rng) -> Tensor:
    """x_t at the first time: pure noise, or a picture with that much noise."""
    process = pipe.denoiser.process
    if t == 1 or start is None:
        return process.prior(shape, keys.fork("prior"), torch.float32, pipe.device)
    return process.corrupt(start.expand(shape).contiguous(), t, keys.fork("prior"))


def _told(pipe: Pipeline, measurement: Measurement | None, shape: tuple[int, ...]) -> Tensor | None:
    """What a model that was trained to restore is told of this measurement; None for all other models."""
    told = pipe.config.spatial
    if told is None:
        return None
    nothing = torch.zeros(1, *shape, device=pipe.device)
    if isinstance(told, Masked) and measurement is None:
        return told.condition(nothing, nothing[:, :1])
    if measurement is not None and (std := float(measurement.variance.max()) ** 0.5) <= told.augmentation:
        operator, y = measurement.operator, measurement.y
        if isinstance(told, LowResolution) and operator == Downsample(told.scale, told.kernel):
            return told.condition(y, std)
        svd = operator.svd(nothing) if operator.linear else None
        if isinstance(told, Masked) and isinstance(svd, Selection):
            return told.condition(svd.left(y), svd.s[None, :1], std)
    raise IncompatibleError(
        f"{pipe.name} was trained for something else: {_said(told)}",
        field="model",
        hint="use it for that, with no more noise than its augmentation, or any model trained without task=",
    )


def _method(
    pipe: Pipeline, seen: Told | None, wish: Wish, windows: int, trained: bool
) -> tuple[Method | None, str]:
    """What to draw by, and why."""
    if not isinstance(wish.method, (str, Method)):
        raise ConfigError(
            f"method is {wish.method!r}", field="method", hint='give "auto", a name, or one as DPS(scale=0.5)'
        )
    if wish.method != "auto":
        if seen is None:
            raise ConfigError(
                f"method={wish.method} has no effect here",
                field="method",
                hint="it says how what is known is heeded, and nothing is: leave it out, or give a mask",
            )
        asked = wish.method
        found = asked if isinstance(asked, Method) else component(asked, Method, "method")
        return found, seen.explain("as asked for")
    if trained:
        return None, f"{pipe.name} was trained for it"
    if seen is None:
        return None, "nothing is to be kept, so there is nothing to agree with"
    method, reason = choose(seen.measurement, windows)
    return method, seen.explain(reason)


def _settings(pipe: Pipeline, method: Method | None, wish: Wish) -> Defaults:
    """The model's defaults, what suits the method in their place, and what is asked for in place of both."""
    given = {word: value for word, value in wish.chosen.items() if value is not None}
    suited: dict[str, Any] = {}
    if method is not None:
        if method.solver is not None:
            suited["solver"] = method.solver
        if method.steps is not None and pipe.config.defaults.steps < method.steps:
            # times that were found for few steps of another solver mean nothing here
            suited |= {} if "times" in given else {"steps": method.steps, "grid": "uniform"}
    if word := _unasked(pipe, wish):
        if given.get("guidance", 1) != 1 and given.get("weaker", "unconditional") == "unconditional":
            raise ConfigError(
                f"guidance={given['guidance']} needs a {word}",
                field="guidance",
                hint=f"give {word}=, or leave it out",
            )
        suited |= {"guidance": 1.0, "classifier": ""}
    chosen = pipe.chosen(suited | given)
    if method is not None:
        method.check_solver(chosen.solver)
    return chosen


def _unasked(pipe: Pipeline, wish: Wish) -> str:
    """What the model could be asked for, and is not: its word; "" where nothing is left out."""
    if pipe.config.prompt is not None:
        return "" if wish.prompt or wish.negative is not None or wish.label is not None else "prompt"
    return "label" if pipe.config.classes and wish.label is None else ""


def _asked(pipe: Pipeline, chosen: Defaults, wish: Wish) -> Asked | None:
    """The label or prompt of every sample: the one asked for, else none."""
    if wish.label is None and wish.prompt is None:
        return pipe.nothing(wish.n)
    return pipe.asked(wish.label, wish.prompt, Rng.of(wish.seed, wish.n), chosen)


def _canvas(pipe: Pipeline, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape of the picture that is drawn, whole blocks of a codec and at least the model's own, and of its x_0."""
    canvas = (shape[0], *map(max, shape[1:], pipe.config.size[1:]))
    space = pipe.codec.shape(canvas)
    return (shape[0], *(_factor(pipe) * n for n in space[1:])), space


def _factor(pipe: Pipeline) -> int:
    """Pixels of a picture for one position of x_0, along each axis."""
    return pipe.codec.config.factor if isinstance(pipe.codec, Latent) else 1


def _window(pipe: Pipeline, space: tuple[int, ...], wish: Wish) -> tuple[tuple[int, ...], int]:
    """The windows' size on each axis, and how far they overlap, in positions of x_0; both are asked for in pixels."""
    own, factor = pipe.config.shape[1:], _factor(pipe)
    least, most = 2 * factor, min(own) * factor
    steps = "" if factor == 1 else f", in steps of {factor}, the pixels of one position in its latent space"
    tile = most if wish.tile is None else wish.tile
    if not least <= tile <= most or tile % factor:
        raise ConfigError(
            f"tile is {tile}",
            field="tile",
            hint=f"accepted: {least} to {most}, the side {pipe.name} was trained with{steps}",
        )
    overlap = tile // factor // 2 * factor if wish.overlap is None else wish.overlap
    if overlap >= tile or overlap % factor:
        raise ConfigError(
            f"overlap is {overlap}", field="overlap", hint=f"accepted: 0 to {tile - factor}{steps}"
        )
    window = own if wish.tile is None else (tile // factor,) * len(own)
    return tuple(map(min, window, space[1:])), overlap // factor


def _from(nodes: Tensor, strength: float) -> Tensor:
    """The grid from t = strength on."""
    if not 0 < strength <= 1:
        raise ConfigError(
            f"strength is {strength:g}",
            field="strength",
            hint="accepted: above 0, slightly changed, to 1, all new",
        )
    later = nodes[nodes < strength - 1e-9]
    return torch.cat((nodes.new_tensor([strength]), later))


# -- pictures ----------------------------------------------------------------------------------------------
def _picture(pipe: Pipeline, image: np.ndarray, field: str = "image") -> np.ndarray:
    """uint8 (H, W, C) with the model's channels; grey becomes colour where the model is of colour."""
    if pipe.config.kind != "image":
        raise IncompatibleError(
            f"{pipe.name} makes {pipe.config.kind}", field="model", hint="use a model of pictures"
        )
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    channels = pipe.config.size[0]
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] not in (1, channels) or 0 in image.shape:
        raise IncompatibleError(
            f"{field} is {image.dtype} of shape {image.shape}",
            field=field,
            hint=f"give uint8 (H, W, {channels}); grey for colour is converted, colour for grey is not",
        )
    return np.repeat(image, channels, 2) if image.shape[2] != channels else image


def _mask(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """bool (H, W), true = repaint."""
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype.kind not in "buif":
        raise ConfigError(
            f"the mask is {mask.dtype} of shape {mask.shape}",
            field="mask",
            hint="give (H, W): true, or above 127 of 255, where it is to be repainted",
        )
    if tuple(mask.shape) != tuple(size):
        height, width = mask.shape
        raise ConfigError(
            f"the mask has {width}x{height} pixels, the picture {size[1]}x{size[0]}",
            field="mask",
            hint="give a grey mask of the picture's size",
        )
    return mask if mask.dtype == bool else mask > 127


def _borders(extend: str | Mapping[str, int] | None) -> dict[str, int]:
    """Pixels to add on every side: "left:8,right:8" -> {"left": 8, "right": 8, "top": 0, "bottom": 0}."""
    refused = ConfigError(
        f"extend is {extend!r}",
        field="extend",
        hint="give each side once, with its pixels, as extend=right:16 or extend=left:8,right:8; sides: "
        + ", ".join(SIDES),
    )
    pairs: list[tuple[str, Any]] = []
    if isinstance(extend, str):
        parts = [part.partition(":")[::2] for part in extend.split(",")]
        if not all(
            width.strip().isascii() and width.strip().isdecimal() and int(width) for _, width in parts
        ):
            raise refused
        pairs = [(side.strip(), int(width)) for side, width in parts]
    elif isinstance(extend, Mapping):
        pairs = list(extend.items())
    elif extend is not None:
        raise refused
    given = {side: _index(width) for side, width in pairs}
    wrong = any(side not in SIDES or width is None or width < 0 for side, width in given.items())
    if wrong or len(given) < len(pairs):
        raise refused
    return {side: given.get(side) or 0 for side in SIDES}


def _words_of(borders: Mapping[str, int]) -> str | None:
    return ",".join(f"{side}:{width}" for side, width in borders.items() if width) or None


def _extended(
    picture: np.ndarray, repaint: np.ndarray, borders: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Both with borders added: the picture's edge repeated, to be repainted."""
    pads = ((borders["top"], borders["bottom"]), (borders["left"], borders["right"]))
    return np.pad(picture, (*pads, (0, 0)), mode="edge"), np.pad(repaint, pads, constant_values=True)


def _check_size(wish: Wish, field: str, height: int, width: int) -> None:
    if wish.n * height * width > LIMITS.pixels:
        raise ConfigError(
            f"the result would be {wish.n} of {width}x{height} pixels",
            field=field,
            hint=f"at most {LIMITS.pixels:,} pixels are made at once; ask for fewer samples, or for parts of it",
        )


def _values(pipe: Pipeline, picture: np.ndarray) -> Tensor:
    """(1, C, H, W), from -1 to 1."""
    return pipe.data.encode(torch.tensor(picture, device=pipe.device).movedim(-1, 0)[None])


def _stored(pipe: Pipeline, x: Tensor) -> np.ndarray:
    """uint8 (N, H, W, C) of values from -1 to 1."""
    return pipe.data.decode(x).cpu().movedim(1, -1).contiguous().numpy()


def _measured(pipe: Pipeline, y: np.ndarray | Tensor) -> tuple[Tensor, bool]:
    """(1, *T), from -1 to 1, and whether it was stored as bytes: uint8 (H, W, C), or (C, H, W) as a tensor."""
    if isinstance(y, Tensor):
        stored = y.dtype == torch.uint8
        known = pipe.data.encode(y[None]) if stored else y[None].float()
    else:
        y = np.asarray(y)
        stored = y.dtype == np.uint8
        if stored:
            known = _values(pipe, y[..., None] if y.ndim == 2 else y)
        elif y.dtype.kind == "f":
            known = torch.tensor(y)[None].float()
        else:
            known = torch.empty(0)
    if not known.numel() or not bool(known.isfinite().all()):
        raise ConfigError(
            f"y is {y.dtype} of shape {tuple(y.shape)}",
            field="y",
            hint="give uint8 (H, W, C), or finite floats of any shape",
        )
    return known.to(pipe.device), stored


def _padded(x: Tensor, canvas: tuple[int, ...]) -> Tensor:
    """x with its last row and column repeated up to the size of the canvas."""
    height, width = (size - now for size, now in zip(canvas[1:], x.shape[2:], strict=True))
    return torch.nn.functional.pad(x, (0, width, 0, height), mode="replicate")


def _expanded(spatial: Tensor | None, n: int) -> Tensor | None:
    return None if spatial is None else spatial.expand(n, *spatial.shape[1:])


def _area(shape: tuple[int, ...]) -> int:
    return shape[1] * shape[2]


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# -- results -----------------------------------------------------------------------------------------------
def _restored(
    pipe: Pipeline,
    images: np.ndarray,
    plan: Plan,
    drawn: Drawn,
    measurement: Measurement | None,
    wish: Wish,
    about: Mapping[str, Any],
    truth: Tensor | None = None,
) -> Restored:
    stored = pipe.data.encode(torch.from_numpy(images).movedim(-1, 1).to(pipe.device))
    consistency, noise = [], 0.0
    if measurement is not None:
        gap = measurement.residual(stored).flatten(1)
        consistency = (gap.square().mean(1).sqrt() * GREY_LEVELS).tolist()
        noise = float(measurement.variance.mean().sqrt()) * GREY_LEVELS
    quality: dict[str, list[float]] = {}
    if truth is not None:
        truth = truth.expand_as(stored)
        quality = {"psnr": psnr(stored, truth).tolist(), "ssim": ssim(stored, truth).tolist()}
    several: dict[str, np.ndarray] = {}
    if len(images) > 1:
        deviation = images.astype(np.float32).std(0, ddof=1)
        several = {
            "mean": images.mean(0).round().astype(np.uint8),
            "uncertainty": np.sqrt((deviation**2).mean(-1)),
        }
    recipe = {
        "unstir": version(),
        "model": pipe.name,
        "model_sha256": pipe.digest,
        "n": wish.n,
        "seed": wish.seed,
        "label": wish.label,
        **({} if wish.prompt is None else {"prompt": wish.prompt}),
        "tile": wish.tile,
        "overlap": wish.overlap,
        **words(plan.chosen, pipe.config.defaults, wish.negative),
        "method": dump(plan.method) if plan.method else "none",
        **about,
    }
    labels = plan.asked.tolist() if wish.label is not None and isinstance(plan.asked, Tensor) else None
    return Restored(
        images=images,
        seeds=list(range(wish.seed, wish.seed + wish.n)),
        labels=labels,
        prompts=None if wish.prompt is None else [wish.prompt] * wish.n,
        recipe=recipe,
        evaluations=drawn.evaluations,
        seconds=drawn.seconds,
        method=_named(plan.method),
        reason=plan.reason,
        consistency=consistency,
        noise=noise,
        **quality,  # type: ignore[arg-type]
        **several,  # type: ignore[arg-type]
    )


def _named(method: Method | None) -> str:
    return _said(method) if method else "none"


def _said(part: Any) -> str:
    """A component as settings: "mmps iterations=2"."""
    words = {key: value for key, value in dump(part).items() if key != "name"}
    return " ".join([type(part).__name__.lower(), *(f"{key}={value}" for key, value in words.items())])


def _reference(pipe: Pipeline, reference: np.ndarray, size: tuple[int, ...]) -> Tensor:
    """(1, C, H, W), the true picture."""
    picture = _picture(pipe, reference, "reference")
    if picture.shape[:2] != tuple(size):
        raise ConfigError(
            f"the reference has {picture.shape[1]}x{picture.shape[0]} pixels, the result {size[1]}x{size[0]}",
            field="reference",
            hint="give the true picture in the size of the result",
        )
    return _values(pipe, picture)


# -- numbers -----------------------------------------------------------------------------------------------
def _index(value: Any) -> int | None:
    """A whole number of any kind, but no truth value, as an int; None for all else."""
    try:
        return None if isinstance(value, (bool, np.bool_)) else index(value)
    except TypeError:
        return None


def _whole(field: str, value: Any, least: int) -> int:
    found = _index(value)
    if found is None or found < least:
        raise ConfigError(
            f"{field} is {value!r}", field=field, hint=f"accepted: a whole number, {least} or more"
        )
    return found


def _number(field: str, value: Any) -> float:
    if isinstance(value, (bool, str)) or not isinstance(value, SupportsFloat):
        raise ConfigError(f"{field} is {value!r}", field=field, hint="give a number")
    return float(value)
