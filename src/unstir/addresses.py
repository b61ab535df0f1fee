"""Where the name of a model leads: RUN, RUN@STEP, RUN@best, a file, or a model that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .errors import CheckpointError, ConfigError, did_you_mean

__all__ = ["SHIPPED", "Address", "find_checkpoint", "find_file", "read_address"]

RUNS = Path("runs")
SHIPPED = Path(__file__).parent / "pretrained"
"""The models that come with the package, NAME.safetensors each."""


def find_file(model: str | Path, root: Path = RUNS) -> Path | None:
    """The file itself, or that of a shipped model where no run is called so; None: it is the address of a run."""
    path = Path(model).expanduser()
    if path.is_file():
        return path
    shipped = SHIPPED / f"{model}.safetensors"
    known = any((place / "config.yaml").is_file() for place in (path, root / model))
    return shipped if shipped.is_file() and not known else None


class Address(NamedTuple):
    """RUN@POINT,ema:LENGTH"""

    run: str
    point: str = ""
    ema: float | None = None


def read_address(model: str | Path, root: Path = RUNS) -> Address:
    """The parts of a name; raises ConfigError where the length of an average is no number."""
    name, at, rest = str(model).rpartition("@")
    if not at or any(place.expanduser().is_dir() for place in (Path(model), root / model)):
        return Address(str(model))  # an @ may be part of the name
    point, comma, average = rest.rpartition(",")
    if not average.startswith("ema:"):
        return Address(name, rest)
    text = average.removeprefix("ema:")
    try:
        return Address(name, point, float(text))
    except ValueError:
        raise ConfigError(
            f"{text!r} is no length of an average",
            field="model",
            hint=f"a fraction of the run, as in {name}@{point}{comma}ema:0.05",
        ) from None


def find_checkpoint(address: Address, root: Path = RUNS) -> Path:
    """The folder of the model file; raises CheckpointError where there is none."""
    name, point, _ = address
    for run in (Path(name).expanduser(), root / name):
        if (run / "model.safetensors").is_file():
            return run
        folder = run / "checkpoints"
        if not folder.is_dir() and not (run / "config.yaml").is_file():
            continue
        found = folder / {"": "last", "last": "last", "best": "best"}.get(point, f"step-{point}")
        if (found / "model.safetensors").is_file():
            return found
        known = sorted(int(p.name[5:]) for p in folder.glob("step-*") if p.name[5:].isdecimal())
        if not known:
            raise CheckpointError(
                f"{run} has no checkpoint yet", field="model", hint="wait for its first one, or train it on"
            )
        if point in ("", "last"):  # the link is missing or dangles: the newest one is what it meant
            return folder / f"step-{known[-1]}"
        hint = "it has " + ", ".join(f"{name}@{k}" for k in known)
        if point == "best":
            raise CheckpointError(
                f"{run} has no best checkpoint yet",
                field="model",
                hint=f"the first measurement on held-out data chooses it; until then {hint}",
            )
        raise CheckpointError(
            f"{run} has no checkpoint of step {point}",
            field="model",
            hint=f"{hint}; and {name}@last, {name}@best, {name}@ema:0.05",
        )
    # a folder of a training that was refused holds no run
    runs = sorted({p.parent.name for word in ("config.yaml", "checkpoints") for p in root.glob(f"*/{word}")})
    runs += [path.stem for path in SHIPPED.glob("*.safetensors")]
    hint = did_you_mean(name, runs, "run") if runs else "give a run directory or a .safetensors file"
    model = name + (f"@{point}" if point else "")
    raise CheckpointError(f"there is no model {model!r}", field="model", hint=hint)
