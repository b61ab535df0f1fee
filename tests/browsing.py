"""The studio and a browser, for the tests of its page."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    TimeoutError as PlaywrightTimeout,
    expect,
    sync_playwright,
)

from serving import Server

SCREENS = ("generate", "edit", "gallery", "plot", "train", "understand")
SUBJECTS = ("forward", "schedule", "distribution", "trajectory", "solvers", "attention")
FORMS = ("generate", "plot", "edit", "edit-mask", "train", *(f"understand-{what}" for what in SUBJECTS))
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 360, "height": 740}
SOON = 30_000.0
"""Milliseconds for anything to appear: other tests run beside."""
expect.set_options(timeout=SOON)


def chromium() -> str:
    """Where it is. Without it the test is skipped, and fails where CI is set."""
    found = shutil.which("chromium")
    if found is None:
        reason = "there is no chromium, which the tests of the page drive: `make browser` installs Debian's"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window. While it is open nothing else in this thread can use asyncio."""
    path = chromium()
    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield opened
        finally:
            opened.close()


class Studio(Server):
    """`unstir studio` in a process of its own, with the shipped models and no runs yet."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        words = ("-m", "unstir", "studio", f"folder={folder}", f"runs={folder / 'runs'}", f"port={port}")
        super().__init__(folder, *words)
        self.base = f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        """What it printed: lets the first browser in that opens it."""
        return self.address

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        answer.raise_for_status()
        return answer.json()

    def image(self, item: str) -> bytes:
        return self.client.get(f"/api/items/{item}/image").content

    def make(self, prompt: str, **settings: Any) -> list[dict[str, Any]]:
        """Pictures, of two steps each."""
        settings = {"prompt": prompt, "steps": 2, "seed": 0} | settings
        job = self.submit({"kind": "sample", "model": "emoji", "settings": settings})
        made: list[dict[str, Any]] = self.ended(job)["result"]["items"]
        return made

    def fill(self, form: str, value: dict[str, Any]) -> None:
        """A form, as if it had been filled in on another page."""
        self.client.put(f"/api/drafts/{form}", json={"value": {"at": time.time() * 1000, "value": value}})

    def forget(self) -> None:
        """Every form is as it was at first."""
        for name in FORMS:
            self.client.put(f"/api/drafts/{name}", json={"value": None})


class Visitor:
    """A person with a browser: opens pages of the studio, and sees what they should not do.

    Args:
        browser: that is used.
        studio: that is visited.
    """

    def __init__(self, browser: Browser, studio: Studio) -> None:
        self.browser, self.studio = browser, studio
        self.contexts: list[BrowserContext] = []
        self.faults: list[str] = []
        """Errors in the console, broken policies among them, dialogs, and requests to elsewhere."""

    def context(self, *, known: bool = True, **options: Any) -> BrowserContext:
        """A browser as if new; `known`: it has been let in."""
        usual = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
        made = self.browser.new_context(**usual | options)
        made.set_default_timeout(SOON)
        if known:
            made.request.get(self.studio.client.post("/api/link").json()["link"])
        self.contexts.append(made)
        return made

    def watched(self, context: BrowserContext) -> Page:
        """A new page; what it does wrong is written down."""
        page = context.new_page()

        def console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.faults.append(f"{message.text} ({message.location.get('url', '')})")

        def request(asked: Request) -> None:
            if not asked.url.startswith((self.studio.base, "data:", "blob:")):
                self.faults.append(f"a request to {asked.url}")

        page.on("console", console)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", request)
        page.on(
            "dialog", lambda dialog: (self.faults.append(f"a dialog: {dialog.message}"), dialog.dismiss())
        )
        return page

    def open(self, place: str = "generate", **options: Any) -> Page:
        """A page of the studio, "edit?item=ID", connected, in a browser of its own."""
        page = self.watched(self.context(**options))
        self.go(page, place)
        return page

    def go(self, page: Page, place: str) -> None:
        page.goto(f"{self.studio.base}/#/{place}")
        page.locator(".connection.on").wait_for()

    def forgive(self, *words: str) -> None:
        """Faults with these words were meant to happen."""
        self.faults = [fault for fault in self.faults if not any(word in fault for word in words)]

    def close(self) -> None:
        for context in self.contexts:
            context.close()


def fill_advanced(page: Page, selector: str, value: str) -> None:
    """Types into a field of Advanced, opened again where the page was drawn anew while it loaded."""
    field = page.locator(selector).first
    for _ in range(5):
        if not field.is_visible():
            page.locator("details.drawer > summary").first.click()
        try:
            field.fill(value, timeout=3_000)
        except PlaywrightTimeout:
            continue
        return
    field.fill(value)


def drop(page: Page, content: bytes, name: str) -> None:
    """A picture's file falls on the page."""
    transfer = page.evaluate_handle(
        """([content, name]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type: "image/png"}));
            return transfer;
        }""",
        [base64.b64encode(content).decode(), name],
    )
    for event in ("dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": transfer})
