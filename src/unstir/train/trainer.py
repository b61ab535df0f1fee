"""The training loop, as a generator."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..condition import Batch
from ..errors import CheckpointError, ConfigError, DeviceError, NumericError
from ..rng import Rng
from ..tensors import differences, first_lines
from .ema import EMA
from .optim import AdamW, Muon
from .settings import Training

__all__ = ["TrainState", "TrainStep", "Trainer", "flushing", "network_dtype"]

_log = logging.getLogger(__name__)


class _Objective(Protocol):
    def loss(self, denoiser: Any, batch: Batch, rng: Rng) -> Tensor: ...


class TrainState(NamedTuple):
    """Everything a run needs to go on."""

    tensors: dict[str, Tensor]
    """weights.<name>, ema.<index>.<parameter>, optimizer.<parameter>.<quantity>."""
    counters: dict[str, Any]
    """step, samples, seconds, ...: exact in JSON."""


@dataclass(frozen=True)
class TrainStep:
    """What one step did. Times are of training alone: what the consumer does between steps is not counted."""

    step: int
    """Steps so far, this one included."""
    samples: int
    """Samples seen so far."""
    loss: float
    """Mean loss of the step's batch, before its update."""
    grad_norm: float
    """Norm of the whole gradient before clipping."""
    lr: float
    """Learning rate of the step."""
    skipped: int
    """Steps so far whose loss or gradient was not finite; they changed no weight."""
    seconds: float
    """Training time so far."""
    per_second: float
    """Samples per second, over the last 20 steps or so."""
    progress: float
    """Part of the run that is done, 0..1."""

    @property
    def eta(self) -> float:
        """Seconds of training to come, if it goes on as it did."""
        return self.seconds * (1 - self.progress) / self.progress if self.progress else math.inf


class Trainer:
    """Minimises E[objective.loss] over the parameters of `denoiser`; `steps()` is the loop.

    Every number drawn has the key (seed, "train", sample counter), so micro-batches and resuming change no
    noise: load_state_dict after k steps continues bit for bit as if the run had never stopped (same torch,
    device and thread count; with `steps`, for under `time` the clock decides).

    Args:
        denoiser: the module to train, embedders included, on its device; what requires no gradient stays.
        objective: `objective.loss(denoiser, batch, rng)` gives the (B,) losses of a batch.
        batches: (first, n) -> the batch of samples first..first+n-1, on that device; a pure function.
        optimizer: the optimizer's settings.
        settings: with `batch` and one of `steps` and `time` chosen.

    Raises:
        ConfigError: `batch`, or both of `steps` and `time`, are None; nothing to train.
    """

    PATIENCE = 10  # skipped steps in a row before giving up

    def __init__(
        self,
        denoiser: nn.Module,
        objective: _Objective,
        batches: Callable[[int, int], Batch],
        optimizer: AdamW | Muon,
        settings: Training,
    ) -> None:
        for name, value in (("batch", settings.batch), ("steps", settings.steps or settings.time)):
            if value is None:
                raise ConfigError(f"{name} is not chosen", field=f"training.{name}", hint=f"give {name}=")
        self.denoiser, self.objective, self.batches, self.settings = denoiser, objective, batches, settings
        self._parameters = {name: p for name, p in denoiser.named_parameters() if p.requires_grad}
        if not self._parameters:
            raise ConfigError("the denoiser has no parameter to train", field="network")
        self._device = next(iter(self._parameters.values())).device
        self._batch = settings.batch or 1
        self._optimizers = _with_state(optimizer.build(self._parameters.items()))
        self._peaks = [[group["lr"] for group in o.param_groups] for o in self._optimizers]
        self.ema = EMA(denoiser, settings.ema)
        self.step = self.samples = self.skipped = self._skipped_in_row = 0
        self.seconds = self._typical = 0.0  # training time so far and of one step

    # -- the loop -----------------------------------------------------------------------------------------
    def steps(self) -> Iterator[TrainStep]:
        """Train until the run's end, a `TrainStep` after each step; stopping early is breaking the loop.

        Raises:
            NumericError: the loss or the gradient was not finite `PATIENCE` times in a row.
            DeviceError: the device ran out of memory. Weights and optimizer are those of the step before.
        """
        while not self.finished:
            start = time.monotonic()
            with flushing():
                step = self._train_step()
            elapsed = time.monotonic() - start
            self.seconds += elapsed
            # a running mean without the first step, which may compile
            self._typical += (elapsed - self._typical) * max(1 / max(self.step - 1, 1), 0.05)
            yield TrainStep(
                **step,
                step=self.step,
                samples=self.samples,
                skipped=self.skipped,
                seconds=self.seconds,
                per_second=self._batch / max(self._typical, 1e-9),
                progress=min(1.0, self._progress()),
            )
            if self._skipped_in_row >= self.PATIENCE:
                first = self.samples - self.PATIENCE * self._batch
                raise NumericError(
                    f"loss or gradient was NaN or infinite in {self.PATIENCE} steps in a row, up to step"
                    f" {self.step} (samples {first}..{self.samples - 1} of seed {self.settings.seed})",
                    field="training",
                    hint="resume from the last checkpoint with a lower lr=, or precision=fp32",
                )

    def _train_step(self) -> dict[str, float]:
        """One step; the counters move whether or not it could be used."""
        factor = self._rate()
        for optimizer, peaks in zip(self._optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        self.denoiser.train()
        loss, norm = self._gradient()
        self.step += 1
        self.samples += self._batch
        if math.isfinite(loss) and math.isfinite(norm):
            self._skipped_in_row = 0
            for optimizer in self._optimizers:
                optimizer.step()
            self.ema.update(self.step - self.skipped)
        else:
            self.skipped += 1
            self._skipped_in_row += 1
            _log.warning("step %d skipped: loss %s, gradient norm %s", self.step, loss, norm)
        self._drop_gradient()
        return {"loss": loss, "grad_norm": norm, "lr": self._peaks[0][0] * factor}

    def _gradient(self) -> tuple[float, float]:
        """Leave the clipped gradient of the batch's mean loss in place; return the loss and the raw norm."""
        micro = self.settings.micro_batch or self._batch
        total = torch.zeros((), device=self._device)
        with self._memory_advice(micro), self._torch_seed():
            for first in range(self.samples, self.samples + self._batch, micro):
                losses = self._losses(first, min(micro, self.samples + self._batch - first))
                loss = losses.sum() / self._batch
                loss.backward()
                total += loss.detach()
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        norm = get_total_norm(gradients)
        if self.settings.clip is not None:
            clip_grads_with_norm_(self._parameters.values(), self.settings.clip, norm)
        values = torch.stack((total, norm.to(total))).tolist()  # the step's only wait for the device
        return values[0], values[1]

    def _losses(self, first: int, n: int) -> Tensor:
        rng = Rng(torch.full((n,), self.settings.seed)).fork("train", torch.arange(first, first + n))
        return self.objective.loss(self.denoiser, self.batches(first, n), rng.to(self._device))

    def _drop_gradient(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    @contextmanager
    def _torch_seed(self) -> Iterator[None]:
        """Give torch's own generators, which nn.Dropout draws from, a state that resuming finds again."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.random.manual_seed((self.settings.seed + self.samples) % 2**63)
            yield

    @contextmanager
    def _memory_advice(self, micro: int) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            self._drop_gradient()
            if not (isinstance(error, MemoryError) or re.search("out of memory|allocate memory", str(error))):
                raise
            raise DeviceError(
                f"{self._device} ran out of memory in step {self.step + 1} with {micro} samples at a time",
                field="training.micro_batch",
                hint=f"micro_batch={micro // 2} trains the same in less memory"
                if micro > 1
                else "train a smaller network or smaller images (size=)",
            ) from error

    # -- the plan -----------------------------------------------------------------------------------------
    def _progress(self) -> float:
        """Part of the run that is done: of the steps, or of the time."""
        if self.settings.time is not None:
            return self.seconds / self.settings.time
        return self.step / (self.settings.steps or 1)

    @property
    def finished(self) -> bool:
        """Whether the steps are done, or the next step would end after the time."""
        if self.settings.time is not None:
            return self.step > 0 and self.seconds + self._typical > self.settings.time
        return self.step >= (self.settings.steps or 1)

    def _rate(self) -> float:
        """The factor of the peak rate for the next step: the rise times the decay."""
        progress, warmup = min(1.0, self._progress()), self.settings.warmup
        if warmup is None:
            rise = max((self.step + 1) / 100, progress / 0.05)
        else:
            rise = (self.step + 1) / max(warmup, 1)
        decay = {
            "cosine": (1 + math.cos(math.pi * progress)) / 2,
            "linear": 1 - progress,
            "constant": 1.0,
        }[self.settings.decay]
        return min(1.0, rise) * decay

    # -- the state ----------------------------------------------------------------------------------------
    def state_dict(self) -> TrainState:
        """The state, tensors by reference: write or copy them before the next step."""
        optimizer = {
            f"optimizer.{name}.{key}": value
            for name, parameter in self._parameters.items()
            for o in self._optimizers
            for key, value in o.state.get(parameter, {}).items()
        }
        weights = {f"weights.{name}": x for name, x in self.denoiser.state_dict().items()}
        averages = {f"ema.{name}": x for name, x in self.ema.state_dict().items()}
        counters = {
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "skipped_in_row": self._skipped_in_row,
            "steps": self.settings.steps,
            "time": self.settings.time,
        }
        return TrainState(weights | averages | optimizer, counters)

    @torch.no_grad()
    def load_state_dict(self, state: TrainState) -> None:
        """Go on from `state`. With other `steps` or `time` than it had, plan the rate anew and say so.

        Raises `CheckpointError` naming the first 10 differences when it is of another network or optimizer.
        """
        tensors, counters = state
        own = self.state_dict().tensors
        if found := differences(tensors, own):
            raise CheckpointError(
                "the state does not fit this model and optimizer:\n" + first_lines(found),
                field="network",
                hint="resume with the settings the run was started with",
            )
        for name, tensor in own.items():  # in place: memory layouts stay
            tensor.copy_(tensors[name])
        self.step, self.samples = counters["step"], counters["samples"]
        self.skipped, self._skipped_in_row = counters["skipped"], counters["skipped_in_row"]
        self.seconds = counters["seconds"]
        self._typical = self.seconds / max(self.step, 1)
        for name in ("steps", "time"):
            before, now = counters[name], getattr(self.settings, name)
            if before != now:
                _log.warning(
                    "%s was %s and is %s: the learning rate is planned anew, from step %d on it is %.3g",
                    name, before, now, self.step + 1, self._peaks[0][0] * self._rate(),
                )  # fmt: skip


@contextmanager
def flushing() -> Iterator[None]:
    """While it lasts a CPU takes numbers below 1e-38 for 0; threads that are started in it go on so.

    Attention that is sure of itself has gradients full of them, and a processor may compute them many times
    slower than others: a U-Net of text that learned 68 pictures a second came down to 39 within 500 steps.
    """
    before = bool((torch.full((1,), 1e-30) * 1e-10).item() == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def network_dtype(precision: str, device: torch.device | str) -> torch.dtype | None:
    """The dtype to run a network in, None for float32; "auto" is bf16 where the hardware computes in it."""
    if precision == "auto":
        kind = torch.device(device).type
        fast = {
            "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
            "cpu": lambda: torch.cpu.get_capabilities().get("amx_bf16", False),
        }
        return torch.bfloat16 if kind in fast and fast[kind]() else None
    return torch.bfloat16 if precision == "bf16" else None


def _with_state(optimizers: list[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """The optimizers with all of their state allocated and zero, so that it has its names from the start."""
    for optimizer in optimizers:
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        for quantities in optimizer.state.values():
            for value in quantities.values():
                value.zero_()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
    return optimizers
