"""Every screen opens, without an error, a foreign request or a broken policy."""

from __future__ import annotations

from playwright.sync_api import expect

from browsing import SCREENS, Visitor


def test_screens_open(visitor: Visitor) -> None:
    page = visitor.open()
    for screen in (*SCREENS, "generate"):
        page.get_by_test_id(f"tab-{screen}").click()
        expect(page).to_have_title(f"{screen.capitalize()} · unstir")
        expect(page.get_by_test_id(f"tab-{screen}")).to_have_attribute("aria-current", "page")
        expect(page.locator("main .loading")).to_have_count(0)
        expect(page.locator("main")).not_to_contain_text("broke")
    page.go_back()
    expect(page).to_have_title("Understand · unstir")
    page.reload()
    expect(page).to_have_title("Understand · unstir")


def test_there_is_no_such_screen(visitor: Visitor) -> None:
    page = visitor.open("nowhere")
    page.get_by_role("link", name="To Generate").click()
    expect(page).to_have_title("Generate · unstir")


def test_without_the_key(visitor: Visitor) -> None:
    page = visitor.watched(visitor.context(known=False))
    page.goto(visitor.studio.base)
    expect(page.get_by_role("heading", name="This page needs its key")).to_be_visible()
    visitor.forgive("401")
