"""Everything a folder exports can be built, described, written down and read back."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC

import pytest

from truth import DETERMINISTIC, PARAMETERIZATIONS, SCHEDULES, SOLVERS, STOCHASTIC, exported, label
from unstir import guidance, objectives, operators, parameterization, process, solvers, spec
from unstir.guidance import Rule
from unstir.objectives import Denoising, Draws, Objective, Weight
from unstir.operators import Measurement, Operator
from unstir.parameterization import Parameterization
from unstir.process import Process, Schedule
from unstir.solvers.base import Solver

KINDS = (Schedule, Process, Parameterization, Solver, Objective, Weight, Draws, Rule, Operator)
FOLDERS = (process, parameterization, solvers, objectives, guidance, operators)
GIVEN = (Measurement,)
"""What has no default: it holds what a user has."""
PARTS = (
    *SCHEDULES,
    *exported(process, Process),
    *PARAMETERIZATIONS,
    *SOLVERS,
    *exported(objectives, Objective),
    *exported(objectives, Weight),
    *exported(objectives, Draws),
    *exported(guidance, Rule),
    *exported(operators, Operator),
)


def kind_of(part: object) -> type:
    return next(kind for kind in KINDS if isinstance(part, kind))


def full_name(part: object) -> str:
    return f"{kind_of(part).__name__}-{label(part)}"


@pytest.mark.parametrize("part", PARTS, ids=full_name)
def test_a_part_is_frozen_and_compares_by_value(part: object) -> None:
    twin = dataclasses.replace(part)
    assert twin == part
    assert hash(twin) == hash(part)
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.anything = 1


@pytest.mark.parametrize("part", PARTS, ids=full_name)
def test_a_part_survives_a_round_trip(part: object) -> None:
    """As it is written in the header of a model file."""
    assert spec.load(spec.dump(part), kind_of(part)) == part


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.__name__)
def test_an_exported_class_says_what_it_is(folder: object) -> None:
    for word in folder.__all__:
        part = getattr(folder, word)
        assert inspect.isclass(part)
        assert part.__doc__, word
        assert not part.__doc__.startswith(f"{word}("), f"{word} has only the docstring that dataclass makes"
        public = [f for n, f in vars(part).items() if not n.startswith("_") and inspect.isfunction(f)]
        assert all(f.__annotations__.get("return") for f in public), f"{word} has a method without types"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.__name__)
def test_every_concrete_class_can_be_built_without_arguments(folder: object) -> None:
    for word in folder.__all__:
        part = getattr(folder, word)
        abstract = inspect.isabstract(part) or ABC in part.__bases__
        if dataclasses.is_dataclass(part) and not abstract and part not in GIVEN:
            part()


def test_every_solver_is_in_the_tests() -> None:
    """A new file is tested by being exported."""
    assert {type(s).__name__ for s in SOLVERS} == set(solvers.__all__)
    assert all(s.stochastic for s in STOCHASTIC)
    assert not any(s.stochastic for s in DETERMINISTIC)


def test_defaults_are_shared() -> None:
    assert Denoising() == Denoising(weight=objectives.Target(), draws=objectives.Uniform())
