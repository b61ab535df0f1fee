"""Diffusion models: a process, a denoiser, a solver, and maps between them.

>>> import unstir
>>> pipe = unstir.load("runs/demo")  # doctest: +SKIP
>>> pipe.sample(n=16, label=3).save("threes.png")  # doctest: +SKIP

The names below are looked up when first used: importing the package costs nothing, torch least of all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for editors and type checkers
    from . import (
        analytic as analytic,
        codecs as codecs,
        data as data,
        embedders as embedders,
        errors as errors,
        evaluate as evaluate,
        guidance as guidance,
        likelihood as likelihood,
        modalities as modalities,
        networks as networks,
        objectives as objectives,
        parameterization as parameterization,
        process as process,
        recipes as recipes,
        solvers as solvers,
        times as times,
        train as train,
    )
    from .assessment import assess as assess
    from .client import Client as Client
    from .condition import Batch as Batch, Condition as Condition
    from .data import open_data as open_data
    from .denoiser import Denoiser as Denoiser, Preconditioned as Preconditioned
    from .errors import UnstirError as UnstirError
    from .pipeline import Pipeline as Pipeline, load as load
    from .process import Gaussian as Gaussian
    from .recipes import Recipe as Recipe
    from .rng import Rng as Rng
    from .runs import fit as fit
    from .sampling import invert as invert, sample as sample, trajectory as trajectory
    from .train import Trainer as Trainer

__version__ = "0.1.0"

_MODULES = (
    "analytic",
    "codecs",
    "data",
    "embedders",
    "errors",
    "evaluate",
    "guidance",
    "likelihood",
    "modalities",
    "networks",
    "objectives",
    "parameterization",
    "process",
    "recipes",
    "solvers",
    "times",
    "train",
)
_HOMES = {
    "Batch": "condition",
    "Client": "client",
    "Condition": "condition",
    "Denoiser": "denoiser",
    "Gaussian": "process",
    "Pipeline": "pipeline",
    "Preconditioned": "denoiser",
    "Recipe": "recipes",
    "Rng": "rng",
    "Trainer": "train",
    "UnstirError": "errors",
    "assess": "assessment",
    "fit": "runs",
    "invert": "sampling",
    "load": "pipeline",
    "open_data": "data",
    "sample": "sampling",
    "trajectory": "sampling",
}

__all__ = sorted([*_MODULES, *_HOMES])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"unstir.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"unstir.{name}")
    raise AttributeError(f"module 'unstir' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
