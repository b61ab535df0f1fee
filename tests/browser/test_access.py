"""For everybody: names for screen readers, keys alone, a phone's width, dark and light."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import PHONE, SCREENS, Studio, Visitor

ROLES = {
    "button",
    "checkbox",
    "combobox",
    "link",
    "menuitem",
    "radio",
    "searchbox",
    "slider",
    "spinbutton",
    "switch",
    "tab",
    "textbox",
}
READABLE = """
() => {
    const channel = (x) => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const over = ([r, g, b, a = 1], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
    const ground = (one) => {
        if (!one) return [255, 255, 255];
        const own = parse(getComputedStyle(one).backgroundColor);
        return (own[3] ?? 1) >= 1 ? own : over(own, ground(one.parentElement));
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.data.trim();
        const one = walker.currentNode.parentElement;
        const style = getComputedStyle(one);
        const hidden = !one.checkVisibility({opacityProperty: true, visibilityProperty: true})
            || one.closest(".sr-only, .skip, :disabled, [aria-hidden=true], svg, .card, canvas, option");
        if (!text || hidden || style.color.startsWith("color(") || style.color.startsWith("oklab")) continue;
        const under = ground(one);
        const [high, low] = [light(over(parse(style.color), under)), light(under)].sort((a, b) => b - a);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < 4.5) found.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return found;
}
"""
FOCUSED = """
() => {
    const one = document.activeElement;
    const all = [...document.querySelectorAll("*")];
    const style = getComputedStyle(one);
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== "none";
    const near = one.matches("input.sr-only") && getComputedStyle(one.parentElement);
    const {left, top, width, height} = one.getBoundingClientRect();
    return {
        place: all.indexOf(one),
        body: one === document.body,
        name: `${one.tagName} ${one.className} ${one.ariaLabel ?? one.textContent.slice(0, 30)}`,
        seen: seen || Boolean(near) && near.outlineStyle !== "none",
        inside: left + width > 0 && top + height > 0,
    };
}
"""


@pytest.fixture(scope="module", autouse=True)
def _content(studio: Studio) -> None:
    """Something to see on every screen."""
    studio.make("red heart", steps=4, n=3, seed=7)
    settings = {"base": {"prompt": "red heart", "steps": 2}, "x": {"setting": "seed", "values": [1, 2]}}
    studio.ended(studio.submit({"kind": "plot", "model": "emoji", "settings": settings}))


def places(studio: Studio) -> list[str]:
    [item] = studio.get("/api/items", limit=1, kind="sample")["items"]
    return [*SCREENS, f"edit?item={item['id']}", "understand?what=distribution"]


def settled(page: Page) -> None:
    """What the screen shows at first is there."""
    expect(page.locator(".spinner, .loading")).to_have_count(0)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def test_everything_has_a_name(visitor: Visitor, studio: Studio) -> None:
    page = visitor.open()
    for place in places(studio):
        visitor.go(page, place)
        settled(page)
        for summary in page.locator("details:not([open]) > summary").all():
            summary.click()
        nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        assert len(nodes) > 30
        assert [describe(node) for node in nodes if nameless(node)] == [], place
    for picture in page.locator("img").all():
        assert picture.get_attribute("alt") is not None
    expect(page.locator("html")).to_have_attribute("lang", "en")


def nameless(node: dict[str, Any]) -> bool:
    role = node.get("role", {}).get("value")
    return not node["ignored"] and role in ROLES and not node.get("name", {}).get("value", "").strip()


def describe(node: dict[str, Any]) -> Any:
    return node["role"]["value"], node.get("description", {}).get("value"), node.get("value", {}).get("value")


def test_by_keyboard_alone(visitor: Visitor, studio: Studio) -> None:
    for place in places(studio):
        page = visitor.open(place)
        settled(page)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="To the content")).to_be_focused()
        seen = [page.evaluate(FOCUSED)]
        for _ in range(30):
            page.keyboard.press("Tab")
            focused = page.evaluate(FOCUSED)
            if focused["body"]:
                break
            if focused["place"] != seen[-1]["place"]:  # a date has three parts
                seen.append(focused)
        assert len(seen) > 9
        order = [one["place"] for one in seen]
        assert order == sorted(set(order)), (place, [one["name"] for one in seen])
        assert [one["name"] for one in seen if not one["seen"]] == [], place
        assert [one["name"] for one in seen if not one["inside"]] == [], place


def test_windows_keep_the_focus(page: Page) -> None:
    """A window that opens takes it, Escape gives it back."""
    picker = page.get_by_test_id("model-picker")
    picker.press("Enter")
    window = page.get_by_role("dialog", name="Choose a model")
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "() => document.activeElement === document.body || "
            "document.querySelector('dialog').contains(document.activeElement)"
        )
    page.keyboard.press("Escape")
    expect(window).to_have_count(0)
    expect(picker).to_be_focused()


def test_on_a_phone(visitor: Visitor, studio: Studio) -> None:
    page = visitor.open(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    wide = """() => [...document.querySelectorAll("html, body, main, .panel, .panel-scroll")]
        .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.tagName + one.className)"""
    for place in places(studio):
        visitor.go(page, place)
        settled(page)
        assert page.evaluate("() => innerWidth") == PHONE["width"], place
        assert page.evaluate(wide) == [], place
        for tab in page.get_by_role("navigation", name="Screens").get_by_role("link").all():
            box = tab.bounding_box()
            assert box is not None
            assert box["x"] >= 0, place
            assert box["x"] + box["width"] <= PHONE["width"], place


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(visitor: Visitor, studio: Studio, scheme: Any) -> None:
    page = visitor.open(color_scheme=scheme)
    expect(page.locator("html")).to_have_attribute("data-theme", scheme)
    for place in places(studio):
        visitor.go(page, place)
        settled(page)
        assert page.evaluate(READABLE) == [], place


def test_the_theme_is_kept(page: Page) -> None:
    page.get_by_test_id("theme").click()
    page.get_by_test_id("theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_test_id("theme")).to_have_accessible_name("Theme: dark")
