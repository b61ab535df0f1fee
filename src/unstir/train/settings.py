"""How long, how fast and how carefully to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ..errors import ConfigError
from ..spec import Count, Fraction, Positive, Range, Seconds, validate

__all__ = ["Training"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The settings of a training run. None means: chosen from the data and the device.

    A run is as long as `steps` or as `time`, never both. Raises `ConfigError` for a value out of its range.
    """

    steps: Count | None = None
    """Optimizer steps."""
    time: Seconds | None = None
    """Training time instead of steps; previews, checkpoints and evaluation are not counted."""
    batch: Count | None = None
    """Samples per optimizer step."""
    micro_batch: Count | None = None
    """Samples per forward pass, at most batch; less needs less memory. None: the whole batch."""
    warmup: Annotated[int, Range(ge=0)] | None = None
    """Steps in which the rate rises to its peak. None: 100, or 5% of the run where that is shorter."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """The rate from its peak to the end of the run."""
    clip: Positive | None = 1.0
    """Largest norm of the gradient; a longer one is shortened to it. None: no clipping."""
    drop: Fraction | None = None
    """Share of the labels hidden in training, so that guidance has a model without labels to move away from. None:
    0.1, and half of them where a picture is restored."""
    ema: tuple[Annotated[float, Range(gt=0, le=0.28)], ...] = (0.03, 0.1)
    """Averages of the weights: lengths as fractions of the run so far; the first one samples."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; auto: bf16 where the device has it in hardware."""
    compile: bool = False
    """Compile the network with torch.compile: minutes of warm-up, faster steps."""
    seed: Annotated[int, Range(ge=0, lt=2**63)] = 0
    """Decides weights, order, noise and times."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps."""
    threads: Count | None = None
    """CPU threads; results are reproducible bit for bit only with the same number."""
    checkpoint_every: Count | None = None
    """Steps between checkpoints."""
    preview_every: Count | None = None
    """Steps between previews."""
    heldout_every: Count | None = None
    """Steps between evaluations on held-out data."""
    evaluate_every: Count | None = None
    """Steps between evaluations on samples; None: none while it trains."""
    evaluate_n: Annotated[int, Range(ge=16)] = 256
    """Samples that are drawn for each of them."""
    best: str | None = None
    """The number that decides which checkpoint RUN@best is, heldout_loss or one of evaluations on samples. None: fid
    where `copies` ends the run, else heldout_loss."""
    patience: Count | None = None
    """Training ends when so many measurements of it in a row were no better; None: it does not."""
    copies: Fraction | None = None
    """Training ends, and goes back to its best checkpoint, when a larger share of samples copies training items."""
    snapshots: Annotated[int, Range(ge=0)] = 8
    """States of the averages, at most, that are kept so that RUN@ema:LENGTH can have any length; 0 = none."""
    keep: Count = 2
    """Checkpoints kept besides the best one; more than one survive a disk that corrupts the last."""

    def __post_init__(self) -> None:
        validate(self)
        if self.steps is not None and self.time is not None:
            raise ConfigError(
                f"steps={self.steps} and time={self.time:g} were both given",
                field="time",
                hint="a run is as long as one of them: leave the other out",
            )
        if not self.ema:
            raise ConfigError("ema is empty", field="ema", hint="give one length, e.g. 0.05")
        if self.micro_batch is not None and self.batch is not None and self.micro_batch > self.batch:
            raise ConfigError(
                f"micro_batch={self.micro_batch} is larger than batch={self.batch}",
                field="micro_batch",
                hint=f"choose 1 to {self.batch}",
            )
