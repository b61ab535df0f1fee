"""What an import costs, and what it must not bring along."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import unstir

TORCH_FREE = [
    "unstir",
    *(f"unstir.{name}" for name in ("errors", "files", "limits", "schema", "spec", "config", "cli")),
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


def processor_seconds(*arguments: str) -> float:
    """User + system time of the best of 5 runs of `python arguments`: busy neighbours do not lengthen it."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    costs = []
    for _ in range(5):
        before = spent()
        run(*arguments)
        costs.append(spent() - before)
    return min(costs)


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_is_not_imported(module: str) -> None:
    run("-c", f"import sys, {module}; sys.exit('torch' in sys.modules)")


def test_help_does_not_import_torch() -> None:
    # -X importtime lists every module imported, on stderr
    assert "torch" not in run("-X", "importtime", "-m", "unstir", "--help").stderr


def test_import_is_quick() -> None:
    assert processor_seconds("-c", "import unstir") < 0.15


def test_help_is_quick() -> None:
    assert processor_seconds("-m", "unstir", "--help") < 0.4


def test_public_names_exist() -> None:
    for name in unstir.__all__:
        assert getattr(unstir, name) is not None
        assert name in dir(unstir)
    assert not hasattr(unstir, "no_such_name")


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse(Path(unstir.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(names) == unstir.__all__


def test_version_is_that_of_the_installed_package() -> None:
    assert importlib.metadata.version("unstir") == unstir.__version__


def test_tests_run_on_one_thread() -> None:
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert run("-c", "import torch; print(torch.get_num_threads())").stdout == "1\n"
