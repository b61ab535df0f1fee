"""A user's own encoder: a network in an ONNX file, such as Inception, DINOv2 or CLIP."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import ConfigError, DataError, IncompatibleError, NumericError
from ..spec import Count, validate
from .encoder import Encoder

__all__ = ["OnnxEncoder", "Reading"]

LARGEST = 2**31 - 1  # bytes: what one protobuf message may have
WIDEST = 16_384  # numbers a picture: their covariance has already 2 GiB
BATCH = 32
TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
LUMA = (0.299, 0.587, 0.114)

SCALES = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "signed": ((0.5,) * 3, (0.5,) * 3),
    "bytes": ((0.0,) * 3, (1 / 255,) * 3),
}
"""(mean, std) of the channels: a network is fed (v / 255 - mean) / std."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a network is fed and understood."""

    scale: Literal["imagenet", "clip", "unit", "signed", "bytes"] | None = None
    """The values it takes: unit 0..1, signed -1..1, bytes 0..255; imagenet and clip: unit, less the mean of those
    pictures, over their spread. None: bytes where it takes uint8, else imagenet."""
    size: Count | None = None
    """Pixels a side; None: what the file says, else 224."""
    classes: Literal["logits", "probabilities"] | None = None
    """What its output is where it is a classifier's; None: features, which tell nothing apart."""

    def __post_init__(self) -> None:
        validate(self)


class OnnxEncoder(Encoder):
    """A network with one input, pictures, one output of which is taken for features.

    Pictures are resized, whole, to its size by antialiased bicubic interpolation; grey ones become three equal
    channels, coloured ones their luma where it takes one. The features are the first output (N, D); where there is
    none, the mean over places of the first (N, C, H, W) or (N, L, D). It runs on the processor, from the very bytes
    that the digest is of; the digest changes with `scale` and the size too.

    Args:
        path: a file of the ONNX format, weights inside.
        reading: how it is fed and understood.
        names: what the classes are called, where it gives as many; else they are numbered.

    Raises:
        ConfigError: onnxruntime is not installed, or there is no such file.
        DataError: the file is no ONNX, is larger than 2 GiB, keeps weights in other files, or cannot be run.
        IncompatibleError: it takes no pictures, or gives no features.
        NumericError: its features are not finite.
    """

    def __init__(
        self, path: str | os.PathLike[str], reading: Reading = Reading(), names: tuple[str, ...] = ()
    ) -> None:
        self.path = Path(path)
        data = _bytes(self.path)
        self._session = _session(self.path, data)
        self._input = _input(self.path, self._session.get_inputs(), reading.size)
        scale = reading.scale or ("bytes" if self._input.dtype is np.uint8 else "imagenet")
        if self._input.dtype is np.uint8 and scale != "bytes":
            raise _unfit(self.path, f"takes bytes, not scale={scale}", "leave scale out")
        self._mean, self._std = (torch.tensor(v)[:, None, None] for v in SCALES[scale])
        self._output, self._width, words = self._choose()
        self._classes = reading.classes
        if reading.classes:
            self.classes = names if len(names) == self._width else tuple(map(str, range(self._width)))
        file, size = hashlib.sha256(data).hexdigest(), "x".join(map(str, self._input.size))
        self.digest = hashlib.sha256(f"{file} {scale} {size}".encode()).hexdigest()[:12]
        self.about = (
            f"{self.path.name} (sha256 {file[:12]}), {words} of {self._width:,} numbers, "
            f"pictures as {size} pixels, scale={scale}"
        )

    def embed(self, x: np.ndarray) -> np.ndarray:
        if x.ndim != 4 or x.dtype != np.uint8:
            raise _unfit(self.path, f"was given an array {list(x.shape)}, no pictures", "use features=pixels")
        features = np.empty((len(x), self._width), np.float32)
        size = self._input.batch or BATCH
        for k in range(0, len(x), size):
            features[k : k + size] = _pooled(self._run(x[k : k + size], [self._output])[0])
        if broken := int((~np.isfinite(features)).any(1).sum()):
            raise NumericError(
                f"{self.path.name} gave NaN or infinity for {broken:,} of {len(x):,} pictures",
                field="features",
                hint="check that scale= is what it was trained with; a file of float32 weights may help",
            )
        return features

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        if self._classes is None:
            return super().probabilities(x)
        values = self.embed(x).astype(np.float64)
        if self._classes == "logits":
            values = np.exp(values - values.max(1, keepdims=True))
        elif values.min() < 0 or abs(values.sum(1) - 1).max() > 1e-2:
            raise _unfit(self.path, "gives no probabilities", "use classes=logits, or leave classes out")
        return values / values.sum(1, keepdims=True)

    def _choose(self) -> tuple[str, int, str]:
        """The output that is taken: its name, its numbers a picture, and what is done to it, in words."""
        names = [output.name for output in self._session.get_outputs()]
        probe = np.full((self._input.batch or 2, *self._input.size, 1), 128, np.uint8)
        outputs = dict(zip(names, self._run(probe, names), strict=True))
        shapes = {name: out.shape for name, out in outputs.items() if out.shape[:1] == probe.shape[:1]}
        for ranks, words in (((2,), "output"), ((3, 4), "mean over places of output")):
            for name, shape in shapes.items():
                if len(shape) in ranks:
                    width = _pooled(outputs[name]).shape[1]
                    if not 2 <= width <= WIDEST:
                        raise _unfit(
                            self.path, f"gives {width:,} numbers a picture", f"accepted: 2 to {WIDEST:,}"
                        )
                    return name, width, f"{words} '{name}'"
        given = ", ".join(f"{name} {list(out.shape)}" for name, out in outputs.items())
        raise _unfit(
            self.path,
            f"gives no features for {len(probe)} pictures, but {given}",
            "export it with an output (N, D), (N, L, D) or (N, C, H, W)",
        )

    def _run(self, x: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
        """Outputs for pictures (n, H, W, C); a fixed batch is filled up with the last one and cut again."""
        n, batch = len(x), self._input.batch or len(x)
        fed = self._fed(np.concatenate([x, np.repeat(x[-1:], batch - n, axis=0)]))
        try:
            found = self._session.run(outputs, {self._input.name: fed})
        except Exception as error:  # the runtime's errors have no base class of their own
            raise _broken(self.path, f"cannot be run: {_first_line(error)}") from error
        return [np.asarray(out)[:n] if np.ndim(out) else np.asarray(out) for out in found]

    def _fed(self, x: np.ndarray) -> np.ndarray:
        """The pictures as the network takes them."""
        wants = self._input
        values = torch.tensor(x).permute(0, 3, 1, 2).float()
        if values.shape[2:] != wants.size:
            values = F.interpolate(values, wants.size, mode="bicubic", antialias=True).clamp(0, 255)
        values = (values.expand(-1, 3, -1, -1) / 255 - self._mean) / self._std
        if wants.channels == 1:
            values = (values * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        if wants.dtype is np.uint8:
            values = values.round()
        fed = values.permute(0, 2, 3, 1) if wants.last else values
        return np.ascontiguousarray(fed.numpy().astype(wants.dtype))


class _Input(NamedTuple):
    """What a network takes."""

    name: str
    batch: int | None  # None: any
    channels: int
    size: tuple[int, int]
    last: bool  # (N, H, W, C)
    dtype: type[np.generic]


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ConfigError(f"{path} is no file", field="features", hint="give an .onnx file")
        if size > LARGEST:
            raise _broken(path, f"has {size:,} bytes, at most {LARGEST:,} are accepted")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", field="features", hint="give the path of an .onnx file"
        ) from error


def _session(path: Path, data: bytes) -> Any:
    """The runtime's session of the file's bytes; weights elsewhere could change under the digest."""
    try:
        import onnx
        import onnxruntime  # type: ignore[import-untyped]
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(
            f"features={path.name} needs onnxruntime, which is not installed",
            field="features",
            hint='run: pip install "unstir[onnx]"',
        ) from error
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise _broken(path, "is no ONNX file") from error
    if not model.graph.node:
        raise _broken(path, "is no ONNX file, or an empty one")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise _broken(
            path, "keeps weights in other files", "save it as one, with save_as_external_data=False"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch works in between
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no base class of their own
        raise _broken(path, f"cannot be run: {_first_line(error)}") from error


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor in a protobuf message, at any depth: of initializers, attributes, sub-graphs, functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(part)


def _input(path: Path, inputs: list[Any], size: int | None) -> _Input:
    if len(inputs) != 1:
        names = ", ".join(f"{i.name} {i.shape}" for i in inputs) or "none"
        raise _unfit(path, f"has {len(inputs)} inputs, {names}", "export the part that takes pictures alone")
    name, shape, kind = inputs[0].name, inputs[0].shape, inputs[0].type
    known = [length if isinstance(length, int) and length > 0 else None for length in shape]
    if len(known) != 4 or kind not in TYPES:
        raise _unfit(
            path, f"takes {name} {shape} of {kind}", "accepted: (N, C, H, W) or (N, H, W, C), float or uint8"
        )
    last = known[3] in (1, 3) and known[1] not in (1, 3)
    channels = known[3 if last else 1] or 3
    if channels not in (1, 3):
        raise _unfit(path, f"takes {channels} channels, {name} {shape}", "accepted: 1 or 3")
    sides = known[1:3] if last else known[2:]
    if size is not None and any(side not in (None, size) for side in sides):
        raise _unfit(path, f"takes {name} {shape}, not size={size}", "leave size out")
    height, width = (side or size or 224 for side in sides)
    return _Input(name, known[0], channels, (height, width), last, TYPES[kind])


def _pooled(output: np.ndarray) -> np.ndarray:
    """(N, D), (N, L, D) or (N, C, H, W) -> (N, D) float32."""
    values = output.astype(np.float32)
    return values if values.ndim == 2 else values.mean((2, 3) if values.ndim == 4 else 1)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _broken(
    path: Path, what: str, hint: str = "export it again, or take the file from a good copy"
) -> DataError:
    return DataError(f"{path} {what}", field="features", hint=hint)


def _unfit(path: Path, what: str, hint: str) -> IncompatibleError:
    return IncompatibleError(f"{path} {what}", field="features", hint=hint)
