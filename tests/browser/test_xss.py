"""A hundred strings that would like to be more than text, everywhere where text of others is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image, PngImagePlugin
from playwright.sync_api import Page, expect

from browsing import Studio, Visitor, drop
from serving import eventually

RUN = "globalThis.broken=1;alert(1)"
EVENTS = (
    "onload",
    "onerror",
    "onclick",
    "onfocus",
    "onmouseover",
    "ontoggle",
    "onanimationstart",
    "onpointerenter",
)
TAGS = (
    "img src=x",
    "svg",
    "body",
    "input autofocus",
    "details open",
    "video src=x",
    "iframe src=x",
    "marquee",
)
LINKS = (
    "javascript:",
    "JaVaScRiPt:",
    "java\tscript:",
    "data:text/html,<script>",
    "vbscript:",
    " javascript:",
)
STRINGS = [
    *(f"<{tag} {event}={RUN}>" for tag in TAGS for event in EVENTS),
    *(f"<a href='{link}{RUN}'>go</a>" for link in LINKS),
    *(f"{link}{RUN}" for link in LINKS),
    f"<script>{RUN}</script>",
    f"<ScRiPt>{RUN}</sCrIpT>",
    f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    f"</title><script>{RUN}</script>",
    f"</textarea><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"'><script>{RUN}</script>",
    f'"><script>{RUN}</script>',
    f'" onmouseover="{RUN}',
    f"' onfocus='{RUN}' autofocus='",
    f"`${{{RUN}}}`",
    f"${{{RUN}}}",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f"';{RUN};//",
    f'";{RUN};//',
    f"\\';{RUN};//",
    f"<math><mtext></p><style><img src=x onerror={RUN}>",
    f"<template><script>{RUN}</script></template>",
    f"<style>@import 'javascript:{RUN}';</style>",
    f"<div style='background:url(javascript:{RUN})'>",
    f"<object data='javascript:{RUN}'>",
    f"<meta http-equiv=refresh content='0;url=javascript:{RUN}'>",
    f"<base href='javascript:{RUN}//'>",
    f"<form action='javascript:{RUN}'><button>go",
]
assert len(set(STRINGS)) == 100
CARRIED = """
() => {
    const bad = "script:not([src='app.js']), iframe, object, embed, base, form[action], [style*=url], "
        + "a[href^='javascript' i], meta[http-equiv], marquee, video";
    const listens = (one) => one.getAttributeNames().some((name) => /^on/i.test(name));
    const found = [...document.querySelectorAll("*")].filter((one) => one.matches(bad) || listens(one));
    return found.map((one) => one.outerHTML);
}
"""
"""What a page would hold that took text for more."""


def harmless(page: Page) -> None:
    assert page.evaluate("() => globalThis.broken") is None
    assert page.evaluate(CARRIED) == []


def texts(page: Page, where: str) -> list[str]:
    found: list[str] = page.locator(where).evaluate_all("all => all.map(one => one.textContent)")
    return found


@pytest.fixture
def queued(studio: Studio) -> Any:
    """A job for every string, behind one that takes its time; all of them are called off."""
    long = {"kind": "sample", "model": "emoji", "settings": {"prompt": "fox", "steps": 9000}}
    jobs = [studio.submit(long)]
    jobs += [
        studio.submit({"kind": "sample", "model": "emoji", "settings": {"prompt": text}}) for text in STRINGS
    ]
    yield jobs
    for job in reversed(jobs):
        studio.client.post(f"/api/jobs/{job}/cancel")
    studio.ended(jobs[0])


def test_prompts(visitor: Visitor, queued: list[str]) -> None:
    page = visitor.open()
    expect(page.get_by_test_id("queue-job")).to_have_count(101)
    shown = [" ".join(text.split()) for text in texts(page, ".queue-title")]
    assert shown[1:] == [" ".join(f"Generate {text}emoji".split()) for text in STRINGS]
    headings = [" ".join(text.split()) for text in texts(page, ".group-of-job h3")]
    assert headings[: len(STRINGS)] == [" ".join(text.split()) for text in reversed(STRINGS)]
    harmless(page)


def test_prompts_that_are_typed(page: Page) -> None:
    for text in STRINGS[::5]:
        page.get_by_test_id("prompt").fill(text + " --no " + text)
        expect(page.locator("[data-flag=no]")).to_contain_text(text.split("\t")[0][:40])
    harmless(page)


def test_pictures(visitor: Visitor, studio: Studio) -> None:
    """Drawn from such prompts: as a caption, in their commands, in the window about them."""
    made = [studio.make(text, size="8x8", steps=1)[0] for text in STRINGS[::16]]
    page = visitor.open("gallery")
    for item, text in zip(made, STRINGS[::16], strict=True):
        tile = page.locator(f"[data-item='{item['id']}']")
        expect(tile.get_by_role("img")).to_have_attribute("alt", text)
        tile.locator(".picture").click()
        detail = page.get_by_test_id("detail")
        expect(detail.get_by_role("heading")).to_have_text(text)
        harmless(page)
        page.keyboard.press("Escape")


def test_boards(visitor: Visitor, studio: Studio) -> None:
    made = [
        studio.client.post("/api/boards", json={"name": text}).json()["id"]
        for text in STRINGS
        if len(text) <= 100
    ]
    page = visitor.open("gallery")
    expect(page.locator("[data-board]")).to_have_count(len(made) + 1)
    names = set(texts(page, "[data-board]"))
    assert names >= {text + "0" for text in STRINGS if len(text) <= 100}
    page.locator("[data-board]").nth(3).click()
    page.get_by_role("button", name="Remove the board").click()
    expect(page.locator("[data-board]")).to_have_count(len(made))
    harmless(page)
    for board in made:
        studio.client.delete(f"/api/boards/{board}")


def test_data_sets(visitor: Visitor, studio: Studio) -> None:
    """Their names, and those of their folders and files."""
    for text in STRINGS[::4]:
        answer = studio.client.post("/api/datasets", json={"name": text})
        assert answer.status_code in (201, 422), answer.text
        if answer.status_code == 201:
            place = f"/api/datasets/{answer.json()['id']}/files"
            studio.client.post(place, params={"path": f"{text.replace('/', '')}.png"}, content=b"none")
    page = visitor.open("train")
    names = {data["name"] for data in studio.get("/api/datasets")["datasets"] if data["count"]}
    assert names
    eventually(lambda: names <= set(texts(page, "[data-source] strong")))
    harmless(page)
    page.locator("[data-source]").filter(has_text=sorted(names & set(STRINGS))[0]).click()
    expect(page.get_by_role("alert")).to_be_visible()  # no picture in it can be read
    harmless(page)


def test_names_in_addresses(visitor: Visitor) -> None:
    page = visitor.open()
    for text in STRINGS[::20]:
        for place in (
            "generate?model=",
            "train?run=",
            "train?job=",
            "edit?item=",
            "edit?file=",
            "understand?what=",
            "",
        ):
            page.evaluate("hash => { location.hash = hash; }", f"#/{place}{quote(text, safe='')}")
            page.evaluate("() => new Promise(requestAnimationFrame)")
            harmless(page)
    visitor.forgive("404", "400", "422")


def test_files_that_are_dropped(page: Page, tmp_path: Path) -> None:
    """A recipe is whatever somebody wrote into a file, its name whatever they called it."""
    for number, text in enumerate(STRINGS[::16]):
        about = PngImagePlugin.PngInfo()
        recipe = {"verb": "sample", "model": text, "prompt": text, "seed": 1, "label": text, "negative": text}
        about.add_text("unstir", json.dumps(recipe))
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (8, 8)).save(path, pnginfo=about)
        drop(page, path.read_bytes(), f"{text}.png")
        expect(page.get_by_test_id("toasts")).to_contain_text(
            f"Its model, {' '.join(text.split())}, is not here"
        )
        expect(page.get_by_test_id("generate")).to_be_disabled()
        harmless(page)


def test_the_policy(studio: Studio, visitor: Visitor) -> None:
    """Whatever slipped through would still not run."""
    answer = studio.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = visitor.open()
    page.evaluate("text => { document.body.insertAdjacentHTML('beforeend', text); }", STRINGS[1])
    expect(page.locator("body > img")).to_be_attached()
    assert page.evaluate("() => globalThis.broken") is None
    for _ in range(100):  # what is refused is reported a little later
        if any("Content Security Policy" in fault for fault in visitor.faults):
            break
        page.wait_for_timeout(100)
    assert any("Content Security Policy" in fault for fault in visitor.faults)
    page.wait_for_timeout(1000)
    visitor.forgive("Content Security Policy", "404", f"{studio.base}/x")
