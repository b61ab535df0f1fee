"""Edit: what is painted is made anew, and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Locator, Page, expect

from browsing import Studio, Visitor, fill_advanced

Job = dict[str, Any]


@pytest.fixture(scope="module")
def apple(studio: Studio) -> Job:
    return studio.make("green apple", steps=4, seed=2)[0]


@pytest.fixture
def page(visitor: Visitor, apple: Job) -> Page:
    page = visitor.open(f"edit?item={apple['id']}")
    page.get_by_text("64 × 64", exact=True).wait_for()
    return page


def desk(page: Page) -> Locator:
    return page.get_by_role("application")


def stroke(page: Page, *places: tuple[float, float]) -> None:
    """With the mouse, from place to place; a picture is in the middle, (0, 0) to (1, 1)."""
    box = desk(page).bounding_box()
    assert box is not None
    side = 64 * int(min(box["width"] - 24, box["height"] - 24) / 64)
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    for number, (x, y) in enumerate(places):
        page.mouse.move(left + x * side, top + y * side, steps=8)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def few_steps(page: Page) -> None:
    fill_advanced(page, "[name='sampling.steps']", "3")


def ended(studio: Studio, kind: str) -> Job:
    """The newest job."""
    [job] = studio.get("/api/jobs", limit=1)["jobs"]
    assert job["kind"] == kind
    return studio.ended(job["id"])


def picture(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def test_painted_and_made_anew(page: Page, studio: Studio, apple: Job) -> None:
    expect(page.get_by_test_id("edit-go")).to_be_disabled()
    page.get_by_label("Prompt").fill("red apple")
    stroke(page, (0.3, 0.3), (0.7, 0.3), (0.5, 0.7))
    painted = page.get_by_text("% painted")
    expect(painted).to_be_visible()
    page.reload()  # the mask is kept
    expect(painted).to_be_visible()
    few_steps(page)
    page.get_by_test_id("edit-go").click()
    result = page.get_by_role("region", name="Result")
    expect(result.locator("img.after")).to_be_visible()

    job = ended(studio, "edit")
    [item] = job["result"]["items"]
    assert job["parent"] == item["parent"] == apple["id"]
    assert job["settings"]["prompt"] == "red apple"
    mask = Image.open(io.BytesIO(studio.client.get(f"/api/files/{job['inputs']['mask']}").content)).convert(
        "L"
    )
    assert mask.size == (64, 64)
    assert mask.getbbox() is not None
    assert mask.getbbox() != (0, 0, 64, 64)
    changed = ImageChops.difference(picture(studio.image(apple["id"])), picture(studio.image(item["id"])))
    outside = Image.composite(Image.new("RGB", mask.size), changed, mask)
    assert changed.getbbox() is not None
    assert outside.getbbox() is None  # byte for byte

    result.get_by_role("slider").press("Home")
    result.get_by_role("button", name="Use as input").click()
    expect(page).to_have_url(f"{studio.base}/#/edit?item={item['id']}")


def test_tools(page: Page) -> None:
    painted = page.locator(".edit-foot")

    def share() -> int:
        return int(painted.locator("span").nth(1).inner_text().partition("%")[0] or 0)

    stroke(page, (0.2, 0.5), (0.8, 0.5))
    first = share()
    assert 5 < first < 40
    page.keyboard.press("]")
    stroke(page, (0.2, 0.8), (0.8, 0.8))
    second = share()
    assert second > first
    page.keyboard.press("Control+z")
    assert share() == first
    page.keyboard.press("Control+Shift+z")
    assert share() == second
    page.keyboard.press("i")
    assert share() in (99 - second, 100 - second, 101 - second)
    page.get_by_role("button", name="Undo").click()
    page.keyboard.press("e")
    expect(page.get_by_role("button", name="Eraser")).to_have_attribute("aria-pressed", "true")
    stroke(page, (0.2, 0.8), (0.8, 0.8))
    assert share() == pytest.approx(first, abs=1)
    page.get_by_role("button", name="Clear the mask").click()
    assert share() == 0

    # without a mouse
    desk(page).focus()
    page.keyboard.press("b")
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert share() > 0

    page.mouse.wheel(0, -400)
    for key in ("+", "-", "0"):
        page.keyboard.press(key)


MODES = {
    "Image to image": ("edit", {"strength": 0.6}, (64, 64)),
    "Outpaint": ("edit", {"extend": "right:16"}, (80, 64)),
    "Restore": ("restore", {"operator": {"name": "Blur"}}, (64, 64)),
}


def test_modes(page: Page, studio: Studio, apple: Job) -> None:
    for mode, (kind, settings, size) in MODES.items():
        page.get_by_role("tab", name=mode).click()
        few_steps(page)
        page.get_by_test_id("edit-go").click()
        expect(page.get_by_role("region", name="Result").locator("img.after")).to_be_visible()
        job = ended(studio, kind)
        [item] = job["result"]["items"]
        assert job["settings"].items() >= settings.items()
        assert (item["width"], item["height"]) == size
        assert item["parent"] == apple["id"]
        page.get_by_role("button", name="Back to the picture").click()


def test_a_picture_of_ones_own(visitor: Visitor, studio: Studio, tmp_path: Path) -> None:
    page = visitor.open("edit")
    own = tmp_path / "own.png"
    Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(own)
    page.get_by_label("Choose a picture").set_input_files(own)
    expect(page.get_by_text("48 × 32", exact=True)).to_be_visible()
    page.get_by_role("tab", name="Image to image").click()
    page.get_by_label("Prompt").fill("sunset")
    few_steps(page)
    page.get_by_label("Prompt").press("Control+Enter")
    expect(page.get_by_role("region", name="Result").locator("img.after")).to_be_visible()
    [item] = ended(studio, "edit")["result"]["items"]
    assert (item["width"], item["height"]) == (48, 32)


def test_what_is_gone_is_said(visitor: Visitor) -> None:
    page = visitor.open("edit?item=0123456789abcdef01234567")
    expect(page.get_by_role("alert")).to_contain_text("there is no picture")
    expect(page.get_by_label("Choose a picture")).to_be_attached()
    visitor.forgive("404")
