"""One studio for all tests of the page that one worker runs, one browser for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

import browsing
from browsing import Studio, Visitor


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    browsing.chromium()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        running = Studio(tmp_path_factory.mktemp("studio"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: while it is open, other tests cannot use asyncio."""
    with browsing.browser() as opened:
        yield opened


@pytest.fixture
def visitor(browser: Browser, studio: Studio) -> Iterator[Visitor]:
    """Whatever a test does, no page may log an error, break the policy, open a dialog or ask another server."""
    studio.forget()
    visiting = Visitor(browser, studio)
    try:
        yield visiting
    finally:
        visiting.close()
    assert visiting.faults == []


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """Generate, in a browser that has been let in."""
    return visitor.open()
