"""One long story: reload, a second page, kill -9 and a restart lose nothing and ask for nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from browsing import Studio, Visitor, drop
from serving import eventually

GONE = ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED", "ERR_NETWORK")
"""What a browser logs of a server that was killed."""


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """One that may be killed."""
    running = Studio(tmp_path)
    try:
        yield running
    finally:
        running.close()


def ask(page: Page, prompt: str) -> None:
    page.get_by_test_id("prompt").fill(prompt)
    page.get_by_test_id("prompt").press("Control+Enter")


def group(page: Page, name: str) -> Locator:
    """What came of the job of this prompt."""
    return page.get_by_test_id("group").filter(has=page.get_by_role("heading", name=name, exact=True))


def states(studio: Studio) -> dict[str, str]:
    return {job["settings"]["prompt"]: job["state"] for job in studio.get("/api/jobs")["jobs"]}


def test_nothing_is_lost(browser: Browser, studio: Studio, tmp_path: Path) -> None:
    visitor = Visitor(browser, studio)
    try:
        story(visitor, studio, tmp_path)
    finally:
        visitor.close()
        visitor.studio.close()
    visitor.forgive(*GONE)
    assert visitor.faults == []


def story(visitor: Visitor, studio: Studio, folder: Path) -> None:
    # the printed link lets the browser in, once
    context = visitor.context(known=False)
    page = visitor.watched(context)
    page.goto(studio.link)
    expect(page.get_by_test_id("connection")).to_have_text("connected")
    late = visitor.watched(visitor.context(known=False))
    late.goto(studio.link)
    expect(late.get_by_role("heading", name="This page needs its key")).to_be_visible()
    visitor.forgive("401")

    # generate: previews, then pictures
    ask(page, "red heart --n 2 --seed 7 --steps 60")
    hearts = group(page, "red heart")
    expect(hearts.get_by_test_id("preview").first).to_be_visible()
    expect(hearts.get_by_test_id("card")).to_have_count(2)

    # a long one, and two that wait, of which one is called off
    ask(page, "fox --n 4 --seed 1 --steps 5000")
    expect(page.get_by_test_id("queue-job")).to_have_count(1)
    ask(page, "owl --n 1 --steps 3")
    expect(page.get_by_test_id("queue-job")).to_have_count(2)
    ask(page, "panda --n 1 --seed 3 --steps 5")
    expect(page.get_by_test_id("queue-job")).to_have_count(3)
    page.get_by_role("button", name="Cancel Generate owl").click()
    expect(page.get_by_test_id("queue-job")).to_have_count(2)
    expect(group(page, "owl")).to_have_attribute("data-state", "cancelled")

    # after a reload, and on another page, it all stands there again
    page.reload()
    expect(page.get_by_test_id("prompt")).to_have_value("panda --n 1 --seed 3 --steps 5")
    other = visitor.open()
    for each in (page, other):
        expect(each.get_by_test_id("queue-job")).to_have_count(2)
        expect(group(each, "red heart").get_by_test_id("card")).to_have_count(2)
        expect(each.get_by_test_id("prompt")).to_have_value("panda --n 1 --seed 3 --steps 5")
    pictures = pictures_of(studio, "red heart")
    assert len(pictures) == 2

    # kill -9: the pages say so, and keep what is typed and asked for meanwhile
    studio.kill()
    for each in (page, other):
        expect(each.get_by_test_id("banner")).to_be_visible()
    ask(page, "snowman --n 1 --seed 4 --steps 5")
    expect(page.get_by_test_id("generate")).to_be_disabled()
    visitor.studio = again = eventually(lambda: restarted(studio))
    for each in (page, other):
        expect(each.get_by_test_id("banner")).to_be_hidden()
        expect(each.get_by_test_id("queue-job")).to_have_count(3)
        expect(group(each, "red heart").get_by_test_id("card")).to_have_count(2)
    expect(page.get_by_test_id("prompt")).to_have_value("snowman --n 1 --seed 4 --steps 5")

    # what ran begins anew and can be called off; what waited is made
    page.get_by_role("button", name="Cancel Generate fox").click()
    expect(group(other, "panda").get_by_test_id("card")).to_have_count(1)
    expect(group(other, "snowman").get_by_test_id("card")).to_have_count(1)
    done = {"red heart": "done", "fox": "cancelled", "owl": "cancelled", "panda": "done", "snowman": "done"}
    assert states(again) == done
    assert len(again.get("/api/jobs")["jobs"]) == len(done)
    assert pictures_of(again, "red heart") == pictures

    # the settings of a picture come back, from the picture and from its file
    heart = group(page, "red heart").get_by_test_id("card").nth(1)
    heart.hover()
    heart.get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name="Restore settings").click()
    restored(page)
    with page.expect_download() as download:
        heart.hover()
        heart.get_by_role("button", name="More actions").click()
        page.get_by_role("menuitem", name="Download").click()
    file = folder / "heart.png"
    download.value.save_as(file)
    assert file.read_bytes() in pictures.values()
    page.get_by_test_id("prompt").fill("something else")
    page.get_by_test_id("seed").fill("1")
    page.get_by_test_id("seed").blur()
    drop(page, file.read_bytes(), file.name)
    expect(page.get_by_test_id("toasts")).to_contain_text("Settings of heart.png restored")
    restored(page)

    # and make the same picture again
    page.get_by_test_id("prompt").press("Control+Enter")
    expect(group(page, "red heart")).to_have_count(2)
    expect(group(page, "red heart").first.get_by_test_id("card")).to_have_count(1)
    newest = again.get("/api/items", limit=1)["items"][0]
    assert pixels(again.image(newest["id"])) == pixels(file.read_bytes())


def restarted(studio: Studio) -> Studio | None:
    """On the same port and folder; None while the port is not free yet."""
    try:
        return Studio(studio.folder, studio.port)
    except AssertionError:
        return None


def pictures_of(studio: Studio, prompt: str) -> dict[str, bytes]:
    """Id and file of all pictures of a prompt."""
    items: list[dict[str, Any]] = studio.get("/api/items", q=prompt)["items"]
    return {item["id"]: studio.image(item["id"]) for item in items}


def restored(page: Page) -> None:
    expect(page.get_by_test_id("prompt")).to_have_value("red heart")
    expect(page.get_by_test_id("seed")).to_have_value("8")
    expect(page.get_by_test_id("n")).to_have_value("1")
    page.locator("details.drawer:not([open]) > summary").click()
    expect(page.locator("[name='sampling.steps']")).to_have_value("60")
    page.locator("details.drawer > summary").click()


def pixels(content: bytes) -> bytes:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(content)).tobytes()
