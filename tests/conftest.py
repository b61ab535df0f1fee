"""What every test gets: one thread, a cache of its own, no luck. Quick tests run first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ORDER = ("contract", "analytic", "parity", "recipes", "serve", "browser", "faults", "docs")

# Set before torch is imported, and inherited by every command the tests start.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("unstir", deadline=None, derandomize=True)
settings.load_profile("unstir")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders in the order of `ORDER`, any other folder last; the order within a folder stays.

    The tests of a file go to one worker, so that what they share is made once; pages of documentation share nothing.
    """
    here = Path(__file__).parent
    rank = {folder: place for place, folder in enumerate(ORDER)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(here).parts[0], len(ORDER)))
    for item in items:
        alone = item.path.parent.name == "docs"
        item.add_marker(pytest.mark.xdist_group(item.nodeid if alone else str(item.path)))


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded data goes to a temporary folder, shared by the tests of one worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSTIR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A test that raised the number of threads does not leave it to the next."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
