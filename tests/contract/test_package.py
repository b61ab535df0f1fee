"""Rules every module of the package keeps."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from abc import ABC
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import pytest

import unstir

SOURCE = Path(unstir.__file__).parent
MODULES = sorted(
    ".".join(("unstir", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.name != "__main__.py"
)


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_names_that_exist(name: str) -> None:
    module = import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public), f"{name}.__all__ names {public}, which {name} does not have"


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_classes_are_abstract_or_final(name: str) -> None:
    """Nothing inherits from a concrete class (exceptions apart): wrap it instead."""
    module = import_module(name)
    for cls in vars(module).values():
        if not (inspect.isclass(cls) and cls.__module__ == name):
            continue
        for base in cls.__bases__:
            ours = base.__module__.partition(".")[0] == "unstir"
            if ours and not issubclass(base, Exception):
                abstract = inspect.isabstract(base) or ABC in base.__bases__
                assert abstract, f"{cls.__qualname__} inherits from the concrete {base.__qualname__}"


def test_wheel_holds_every_file(tmp_path: Path) -> None:
    """Data files too: one forgotten pattern and the installed package has no digits."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=SOURCE.parents[1], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packed == {path.relative_to(SOURCE.parent).as_posix() for path in files}
