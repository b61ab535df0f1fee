"""Gallery: a thousand pictures, looked through, searched, sorted into boards."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import Studio, Visitor
from serving import eventually

COUNT = 1000
WORDS = ("red heart", "green apple", "panda", "snowman")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One that has made a thousand pictures, all of them the same one."""
    folder = tmp_path_factory.mktemp("full")
    first = Studio(folder)
    try:
        first.make("red heart", steps=1)
        assert first.stop() == 0
    finally:
        first.close()
    fill(folder / "unstir.sqlite")
    again = Studio(folder)
    try:
        yield again
    finally:
        again.close()


def fill(path: Any) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM items").fetchone())
        about = json.loads(row["about"])
        del row["number"]
        for k in range(1, COUNT):
            prompt = WORDS[k % len(WORDS)]
            told = json.dumps(about | {"prompt": prompt, "seed": k})
            fresh = {
                "id": f"{k:024x}",
                "about": told,
                "words": f"{prompt} {k} emoji",
                "created": row["created"] + k,
            }
            values = row | fresh
            places = ", ".join("?" * len(values))
            db.execute(f"INSERT INTO items({', '.join(values)}) VALUES ({places})", tuple(values.values()))


@pytest.fixture
def page(visitor: Visitor) -> Page:
    page = visitor.open("gallery")
    page.get_by_test_id("tile").first.wait_for()
    return page


def seeds(page: Page) -> list[int]:
    """Of all tiles, from first to last."""
    names = page.locator("[data-testid=tile] .picture").evaluate_all("all => all.map(one => one.ariaLabel)")
    return [int(name.rpartition(" ")[2]) for name in names]


def test_page_after_page(page: Page) -> None:
    expect(page.get_by_test_id("tile")).to_have_count(60)
    scroll = "() => { const main = document.querySelector('main'); main.scrollTo(0, main.scrollHeight); }"
    while len(seen := seeds(page)) < COUNT:
        page.evaluate(scroll)
        page.wait_for_function(
            "count => document.querySelectorAll('[data-testid=tile]').length > count", arg=len(seen)
        )
    assert seen == list(range(COUNT - 1, -1, -1))  # each once, the newest first
    # what is out of sight is neither laid out nor painted
    drawn = "all => all.filter(one => one.checkVisibility({contentVisibilityAuto: true})).length"
    assert page.get_by_test_id("tile").evaluate_all(drawn) < COUNT / 4
    assert page.locator(".tile img").evaluate_all("all => all.filter(one => one.complete).length") < COUNT


def test_search(page: Page) -> None:
    search = page.get_by_test_id("search")
    search.fill("PANDA 10")
    page.wait_for_function("() => document.querySelectorAll('[data-testid=tile]').length < 60")
    wanted = [k for k in range(COUNT - 1, -1, -1) if WORDS[k % 4] == "panda" and "10" in str(k)]
    eventually(lambda: seeds(page) == wanted)
    search.fill("unicorn")
    expect(page.get_by_text("No picture is like that")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_test_id("tile")).to_have_count(60)
    expect(search).to_have_value("")
    page.get_by_test_id("filter-model").select_option("emoji")
    expect(page.get_by_test_id("tile")).to_have_count(60)
    page.get_by_test_id("to").fill("2001-01-01")
    expect(page.get_by_test_id("tile")).to_have_count(0)


def test_boards(page: Page, studio: Studio) -> None:
    page.get_by_test_id("new-board").click()
    page.get_by_test_id("board-name").fill("Best")
    page.get_by_role("button", name="Create").click()
    board = page.locator("[data-board]").filter(has_text="Best")
    expect(board).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("tile")).to_have_count(0)
    page.get_by_role("button", name="All pictures").click()
    tiles = page.get_by_test_id("tile")
    tiles.nth(1).locator(".picture").click(modifiers=["Control"])
    tiles.nth(4).locator(".picture").click(modifiers=["Shift"])
    bar = page.get_by_test_id("selection")
    expect(bar).to_contain_text("4 selected")
    bar.get_by_role("button", name="Move to a board").click()
    page.get_by_role("menuitem", name="Best").click()
    expect(board).to_contain_text("4")
    board.click()
    eventually(lambda: seeds(page) == [998, 997, 996, 995])
    page.get_by_role("button", name="Remove the board Best").click()
    expect(board).to_have_count(0)
    assert studio.get("/api/items", q="998")["items"][0]["board"] is None


def test_by_keys(page: Page, studio: Studio) -> None:
    first = page.locator(".tile .picture").first
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    eventually(lambda: studio.get("/api/items", q="998")["items"][0]["starred"])
    page.keyboard.press(" ")
    expect(page.get_by_test_id("selection")).to_contain_text("1 selected")
    page.get_by_role("button", name="Clear the selection").click()
    page.get_by_test_id("filter-starred").click()
    eventually(lambda: seeds(page) == [998])
    page.locator(".tile .picture").first.focus()
    page.keyboard.press("Delete")
    expect(page.get_by_test_id("tile")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_test_id("tile")).to_have_count(1)


def test_many_go_at_once(page: Page, studio: Studio) -> None:
    tiles = page.get_by_test_id("tile")
    tiles.nth(0).get_by_role("checkbox").check()
    tiles.nth(2).get_by_role("checkbox").check()
    page.get_by_test_id("delete-selected").click()
    eventually(lambda: seeds(page)[:2] == [998, 996])
    page.get_by_role("button", name="Undo").click()
    eventually(lambda: seeds(page)[:4] == [999, 998, 997, 996])
